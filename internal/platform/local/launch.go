package local

import (
	"context"
	"maps"
	"strings"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
)

// launchTemplate makes AWS::EC2::LaunchTemplate, of which every version is kept:
// a group may name an older one.
type launchTemplate struct{ modelled }

func (h launchTemplate) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil {
		return err
	}
	return h.p.checkImage(r, r.Properties["LaunchTemplateData"])
}

func (h launchTemplate) Make(ctx context.Context, r *machine.Resource) error {
	data, _ := r.Properties["LaunchTemplateData"].(map[string]any)
	r.Launches = append(r.Launches[:min(r.Changes, len(r.Launches)):min(r.Changes, len(r.Launches))], data)
	if err := h.p.pin(ctx, r, data); err != nil {
		return err
	}
	return h.modelled.Make(ctx, r)
}

// launchConfiguration makes AWS::AutoScaling::LaunchConfiguration.
type launchConfiguration struct{ modelled }

func (h launchConfiguration) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil {
		return err
	}
	return h.p.checkImage(r, r.Properties)
}

func (h launchConfiguration) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.p.pin(ctx, r, r.Properties); err != nil {
		return err
	}
	return h.modelled.Make(ctx, r)
}

// pushed is an image of this environment's registry.
type pushed struct {
	server     repository.Server
	repository string
	which      string // its tag or digest
}

// pushed takes a reference into this environment's registry apart; it is false
// for everything else.
func (p *Platform) pushed(reference string) (image pushed, is bool, err error) {
	image.server, err = p.ImageRegistry()
	if fault.Is(err, fault.NotFound) {
		return image, false, nil
	}
	rest, is := strings.CutPrefix(reference, image.server.Address()+"/")
	if err != nil || !is {
		return image, false, err
	}
	rest, digest, named := strings.Cut(rest, "@")
	image.repository, image.which, is = strings.Cut(rest, ":")
	if named { // the digest decides, whatever the tag
		image.which = digest
	} else if !is {
		image.which = "latest"
	}
	return image, true, nil
}

// checkImage says in a plan already that the registry has not got what an
// ImageId names.
func (p *Platform) checkImage(r *machine.Resource, data any) error {
	id := machine.TextIn(data, "ImageId")
	image, is, err := p.pushed(id)
	if err != nil || !is || r.Images[id] != "" {
		return err
	}
	if _, err = p.repositories().Digest(image.repository, image.which); fault.Is(err, fault.NotFound) {
		return r.Invalid("ImageId", "is %s: %v; push it first: docker push %s", id, err, id)
	}
	return err
}

// pin fetches what an ImageId names in this environment's registry, and keeps
// its digest with the resource: what ran once runs again after a rollback, though
// its tag has moved or a policy of its repository has let it expire.
func (p *Platform) pin(ctx context.Context, r *machine.Resource, data map[string]any) error {
	id := machine.TextIn(data, "ImageId")
	if _, is, err := p.pushed(id); err != nil || !is || r.Images[id] != "" {
		return err
	}
	digest, err := p.PullImage(ctx, id)
	if err != nil {
		return err
	}
	r.Images = maps.Clone(r.Images)
	if r.Images == nil {
		r.Images = map[string]string{}
	}
	r.Images[id] = digest
	return nil
}

// pinned gives what instances are launched from, with the digest in place of
// what stood for it when it was first named.
func pinned(r machine.Resource, data map[string]any) map[string]any {
	digest := r.Images[machine.TextIn(data, "ImageId")]
	if digest == "" {
		return data
	}
	data = maps.Clone(data)
	data["ImageId"] = digest
	return data
}

// PullImage takes an image out of this environment's registry, so that instances
// can be made from it, and gives its digest.
func (p *Platform) PullImage(ctx context.Context, reference string) (digest string, err error) {
	image, is, err := p.pushed(reference)
	switch {
	case err != nil:
		return "", err
	case !is:
		return "", fault.New(fault.Invalid, "the image %s is not in the registry of environment %s", reference, p.Env).
			WithHint("name one by the RepositoryUri of an %s in a stack: REPOSITORY_URI:TAG or REPOSITORY_URI@sha256:…", repositoryType)
	case p.o.Pull == nil:
		return "", fault.New(fault.Internal, "the local platform was given no way to pull an image")
	}
	return p.o.Pull(ctx, reference, repository.User, image.server.Password)
}
