package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"makeitso/internal/fault"
)

// Pull fetches an image that somebody has pushed to a registry, byte by byte as
// it is there, so that it has the digest that it has there; of a list, the one
// for this machine. One that is named by a digest and is here is not asked for
// again. fault.NotFound if the registry has not got it.
func (s *Store) Pull(ctx context.Context, reference, user, password string) (Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ref, err := name.ParseReference(reference)
	if err != nil {
		return Image{}, fault.Wrap(fault.Invalid, err, "%q is not an image reference", reference).
			WithHint("write it as REPOSITORY:TAG or REPOSITORY@sha256:…")
	}
	if _, digest, named := strings.Cut(reference, "@"); named {
		if kept, err := s.Get(ctx, digest); !fault.Is(err, fault.NotFound) {
			return kept, err
		}
	}
	if err := s.removeAbandoned(); err != nil {
		return Image{}, fmt.Errorf("clean the image store: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from, err := fetch(ctx, cancel, ref, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	var refused *transport.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return Image{}, fault.Wrap(fault.NotFound, err, "the registry has no image %s", reference).WithHint("push it first: docker push %s", reference)
	}
	if err == nil {
		img, keepErr := s.keep(ctx, ref, from)
		if keepErr == nil {
			return img, nil
		}
		err = keepErr
	}
	if fault.CodeOf(err) != fault.Internal {
		return Image{}, err
	}
	return Image{}, fault.Wrap(fault.Unavailable, err, "cannot pull %s", reference).WithHint("see that its registry runs: makeitso status")
}

// keep stores an image of a registry: its record last, when all else is there.
func (s *Store) keep(ctx context.Context, ref name.Reference, from v1.Image) (Image, error) {
	config, err := from.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	if config.Architecture != "" && config.Architecture != runtime.GOARCH || config.OS != "" && config.OS != "linux" {
		return Image{}, fault.New(fault.Invalid, "image %s is for %s/%s, and instances here are linux/%s", ref, config.OS, config.Architecture, runtime.GOARCH).
			WithHint("build it for this machine: docker build --platform linux/%s", runtime.GOARCH)
	}
	layers, err := from.Layers()
	if err != nil {
		return Image{}, err
	}
	img := Image{Name: ref.Context().RepositoryStr(), Entrypoint: slices.Concat(config.Config.Entrypoint, config.Config.Cmd), Base: ref.Name()}
	for _, l := range layers {
		d, err := s.pullLayer(ctx, l)
		if err != nil {
			return Image{}, err
		}
		img.Size += d.Size
	}
	var digest v1.Hash
	for _, raw := range []func() ([]byte, error){from.RawConfigFile, from.RawManifest} {
		content, err := raw()
		if err != nil {
			return Image{}, err
		}
		var size int64
		digest, size, err = s.writeBlob(ctx, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(content))
			return err
		})
		if err != nil {
			return Image{}, err
		}
		img.Size += size
	}
	img.Digest = digest.String() // of the manifest, which came last
	return img, writeJSON(ctx, s.imagePath(digest), img)
}
