package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

const (
	repositoryType  = "AWS::ECR::Repository"
	registryProcess = "_ecr"
)

func (p *Platform) registryFolder() string { return filepath.Join(p.Dir, "ecr") }

func (p *Platform) registryFile() string { return filepath.Join(p.registryFolder(), "ecr.json") }

func (p *Platform) repositories() *repository.Store {
	return repository.Open(filepath.Join(p.registryFolder(), "images"), p.o.Account)
}

// ImageRegistry gives the environment's registry, fault.NotFound before its
// first repository.
func (p *Platform) ImageRegistry() (repository.Server, error) {
	var r repository.Server
	err := p.o.Key.ReadFile(p.registryFile(), "image registry "+p.Env, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fault.New(fault.NotFound, "environment %s has no image repository", p.Env).
			WithHint("declare an %s in a template, and apply it: makeitso up", repositoryType)
	}
	return r, err
}

// runRegistry starts the environment's registry unless it runs.
func (p *Platform) runRegistry(ctx context.Context) (repository.Server, error) {
	p.images.Lock()
	defer p.images.Unlock()
	r, err := p.ImageRegistry()
	if fault.Is(err, fault.NotFound) {
		r, err = p.newRegistry()
	}
	if err != nil {
		return r, err
	}
	settings := filepath.Join(p.registryFolder(), "server.json")
	if err := r.Prepare(settings, p.repositories()); err != nil {
		return r, err
	}
	return r, p.ServeAll(ctx, "ecr", "the image registry", settings, r.Port, func(ctx context.Context) error {
		return machine.Answers(ctx, "http://"+r.Address()+"/v2/", repository.User, r.Password) // it, and not another's
	})
}

// newRegistry chooses a port and a password, and writes them down.
func (p *Platform) newRegistry() (repository.Server, error) {
	p.Ports.Lock()
	defer p.Ports.Unlock()
	r := repository.NewServer()
	if err := os.MkdirAll(filepath.Join(p.registryFolder(), "images"), 0o700); err != nil {
		return r, fmt.Errorf("make the folder of the image registry: %w", err)
	}
	taken, err := p.TakenPorts()
	if err != nil {
		return r, err
	}
	if r.Port, err = machine.FreePort(taken); err != nil {
		return r, err
	}
	return r, p.o.Key.WriteFile(p.registryFile(), "image registry "+p.Env, r)
}

// imageRepository makes AWS::ECR::Repository.
type imageRepository struct{ p *Platform }

// settings gives what the properties of a repository say.
func (h imageRepository) settings(r *machine.Resource) (repository.Settings, error) {
	const property, filters = "ImageTagMutability", "ImageTagMutabilityExclusionFilters"
	mode := r.Properties[property]
	if mode == nil {
		mode = repository.Mutable
	}
	declared, _ := r.Properties[filters].([]any)
	var patterns []string
	for _, filter := range declared {
		if machine.TextIn(filter, "ImageTagMutabilityExclusionFilterType") != "WILDCARD" {
			return repository.Settings{}, r.Invalid(filters, "has %v: allowed are filters of type WILDCARD", filter)
		}
		patterns = append(patterns, machine.TextIn(filter, "ImageTagMutabilityExclusionFilterValue"))
	}
	s, err := repository.ParseMutability(fmt.Sprint(mode), patterns)
	if err != nil {
		return s, r.Invalid(property, "%v", err)
	}
	s.Owner = r.Token
	s.Lifecycle, err = h.lifecycle(r)
	return s, err
}

// lifecycle gives the text of the policy by which images expire.
func (h imageRepository) lifecycle(r *machine.Resource) (string, error) {
	const property = "LifecyclePolicy"
	text := machine.TextIn(r.Properties[property], "LifecyclePolicyText")
	if text == "" || model.Unknown(text) {
		return "", nil
	}
	if _, err := repository.ParsePolicy(text); err != nil {
		return "", r.Invalid(property, "is wrong: LifecyclePolicyText, %v", err)
	}
	return text, nil
}

var hyphens = regexp.MustCompile(`-+`)

func (h imageRepository) Check(_ context.Context, r *machine.Resource) error {
	name := r.Text("RepositoryName")
	if name != "" && !model.Unknown(name) && !repository.ValidName(name) {
		return r.Invalid("RepositoryName", "%q is not 2 to 255 small letters and digits, with '.', '_', '-' or '/' between them", name)
	}
	policy := r.Properties["RepositoryPolicyText"]
	if _, isObject := policy.(map[string]any); policy != nil && !model.Unknown(policy) && !isObject {
		return r.Invalid("RepositoryPolicyText", "is not a policy document")
	}
	if !model.Unknown(r.Properties["ImageTagMutability"]) {
		if _, err := h.settings(r); err != nil {
			return err
		}
	}
	return nil
}

func (h imageRepository) Named(r *machine.Resource) string { return r.Text("RepositoryName") }

// called gives the name of a repository: declared or generated, and kept for
// ever.
func (h imageRepository) called(r *machine.Resource) string {
	return cmp.Or(r.PhysicalID, r.Text("RepositoryName"), hyphens.ReplaceAllString(strings.ToLower(r.GeneratedName(repository.MaxName)), "-"))
}

func (h imageRepository) Make(ctx context.Context, r *machine.Resource) error {
	settings, err := h.settings(r)
	if err != nil {
		return err
	}
	registry, err := h.p.runRegistry(ctx)
	if err != nil {
		return err
	}
	name := h.called(r)
	if err := h.p.repositories().Make(name, settings); err != nil {
		return err
	}
	r.PhysicalID = name
	r.Attributes = map[string]any{
		"Arn":           fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", h.p.o.Region, h.p.o.Account, name),
		"RepositoryUri": registry.Address() + "/" + name,
	}
	return nil
}

func (h imageRepository) Read(context.Context, *machine.Resource) error {
	return h.p.Running(registryProcess, "the image registry of environment "+h.p.Env)
}

// Tell gives a repository with the mutability of its tags and its policy as the
// registry has them.
func (h imageRepository) Tell(_ context.Context, r *machine.Resource) (map[string]any, error) {
	has, err := h.p.repositories().Get(r.PhysicalID)
	if err != nil {
		return nil, err
	}
	wanted, err := h.settings(r)
	if err != nil {
		return nil, err
	}
	told := maps.Clone(r.Properties)
	switch has.Lifecycle {
	case wanted.Lifecycle:
	case "":
		delete(told, "LifecyclePolicy")
	default:
		told["LifecyclePolicy"] = map[string]any{"LifecyclePolicyText": has.Lifecycle}
	}
	if has.Immutable == wanted.Immutable && slices.Equal(has.Except, wanted.Except) {
		return told, nil
	}
	delete(told, "ImageTagMutabilityExclusionFilters")
	if len(has.Except) > 0 {
		filters := make([]any, len(has.Except))
		for i, pattern := range has.Except {
			filters[i] = map[string]any{
				"ImageTagMutabilityExclusionFilterType": "WILDCARD", "ImageTagMutabilityExclusionFilterValue": pattern,
			}
		}
		told["ImageTagMutabilityExclusionFilters"] = filters
	}
	told["ImageTagMutability"] = has.Mutability()
	return told, nil
}

func (h imageRepository) Remove(ctx context.Context, r *machine.Resource) error {
	// What was never ready has no physical id, but may have been made.
	name := h.called(r)
	withImages := r.Properties["EmptyOnDelete"] == true || r.Properties["EmptyOnDelete"] == "true"
	err := h.p.repositories().Remove(name, r.Token, withImages)
	if fault.Is(err, fault.Conflict) {
		return fault.Wrap(fault.Conflict, err, "delete %s", r.Name()).
			WithHint("delete its images first, or put EmptyOnDelete: true on it, or remove the whole environment with everything in it: makeitso destroy")
	}
	if err != nil {
		return fmt.Errorf("remove repository %s: %w", name, err)
	}
	h.p.images.Lock()
	defer h.p.images.Unlock()
	return h.p.StopAfterLast(ctx, r, registryProcess)
}
