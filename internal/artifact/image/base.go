package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"makeitso/internal/fault"
)

// pullTimeout is how long a registry may take to name a base's layers; the
// layers themselves take as long as they take.
const pullTimeout = 20 * time.Second

// base is what a binary is laid upon; its layers are in the store.
type base struct {
	from   string // for people
	config v1.ConfigFile
	layers []v1.Descriptor
}

// keptBase is the record of a base that was pulled: the reference stands for
// this digest until the record is removed, so that a build neither needs the
// registry again nor changes because a tag has moved.
type keptBase struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
}

// base finds what spec.Base names.
func (s *Store) base(ctx context.Context, named string) (base, error) {
	switch named {
	case "":
		return base{}, fault.New(fault.Invalid, "the image names no base").
			WithHint("name one: empty, busybox, or an image reference such as docker.io/library/debian:12-slim")
	case "empty":
		return base{from: "empty"}, nil
	case "busybox":
		b, err := s.pulled(ctx, s.options.Busybox)
		if err == nil || context.Cause(ctx) != nil {
			return b, err
		}
		return s.machineBusybox(ctx, err)
	}
	return s.pulled(ctx, named)
}

// pulled gives the base of an image reference, from the store if it was pulled
// before.
func (s *Store) pulled(ctx context.Context, reference string) (base, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return base{}, fault.Wrap(fault.Invalid, err, "the base %q is not an image reference", reference).
			WithHint("allowed are empty, busybox, or a reference such as docker.io/library/debian:12-slim")
	}
	sum := sha256.Sum256([]byte(ref.Name()))
	record := filepath.Join(s.dir, "bases", hex.EncodeToString(sum[:])+".json")
	var kept keptBase
	err = readJSON(record, &kept)
	if errors.Is(err, fs.ErrNotExist) {
		if kept, err = s.pull(ctx, ref); err != nil {
			return base{}, err
		}
		err = writeJSON(ctx, record, kept)
	}
	if err != nil {
		return base{}, fmt.Errorf("keep base %s: %w", reference, err)
	}
	hash, err := parseDigest(kept.Digest)
	if err != nil {
		return base{}, err
	}
	manifest, err := s.manifest(hash)
	if err != nil {
		return base{}, err
	}
	b := base{from: ref.Name() + "@" + kept.Digest, layers: manifest.Layers}
	if strings.Contains(reference, "@") {
		b.from = ref.Name()
	}
	if err := s.readJSONBlob(manifest.Config.Digest, &b.config); err != nil {
		return base{}, fmt.Errorf("read configuration of base %s: %w", reference, err)
	}
	return b, nil
}

// pull fetches an image for this machine's architecture into the store, with
// OCI's media types whatever the registry's are.
func (s *Store) pull(ctx context.Context, ref name.Reference) (keptBase, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	img, err := fetch(ctx, cancel, ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return keptBase{}, pullFault(err, ref)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return keptBase{}, pullFault(err, ref)
	}
	layers, err := img.Layers()
	if err != nil {
		return keptBase{}, pullFault(err, ref)
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, l := range layers {
		d, err := s.pullLayer(ctx, l)
		if err != nil {
			return keptBase{}, pullFault(err, ref)
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	manifest.Config.MediaType = types.OCIConfigJSON
	if manifest.Config.Digest, manifest.Config.Size, err = s.writeJSONBlob(ctx, config); err != nil {
		return keptBase{}, err
	}
	digest, _, err := s.writeJSONBlob(ctx, manifest)
	if err != nil {
		return keptBase{}, err
	}
	return keptBase{Reference: ref.Name(), Digest: digest.String()}, nil
}

// fetch asks a registry for an image, which can be read until ctx ends. cancel
// ends it, if the registry does not answer.
func fetch(ctx context.Context, cancel context.CancelCauseFunc, ref name.Reference, who remote.Option) (v1.Image, error) {
	slow := time.AfterFunc(pullTimeout, func() { cancel(fmt.Errorf("no answer within %s", pullTimeout)) })
	defer slow.Stop()
	return remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}), who)
}

// pullLayer stores a layer of a registry as it is.
func (s *Store) pullLayer(ctx context.Context, l v1.Layer) (v1.Descriptor, error) {
	mediaType, err := l.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	switch mediaType {
	case types.DockerLayer, types.OCILayer:
		mediaType = types.OCILayer
	case types.DockerUncompressedLayer, types.OCIUncompressedLayer:
		mediaType = types.OCIUncompressedLayer
	default:
		return v1.Descriptor{}, fault.New(fault.Unsupported, "a layer of media type %s cannot be unpacked", mediaType).
			WithHint("take a base whose layers are compressed by gzip")
	}
	from, err := l.Compressed()
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer from.Close() // read only: nothing to lose
	digest, size, err := s.writeBlob(ctx, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, err
}

func pullFault(err error, ref name.Reference) error {
	if fault.CodeOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "cannot pull the base %s", ref.Name()).
		WithHint("check the name and the network, or take base: empty, which needs neither")
}

// machineBusybox makes a base of this machine's own busybox; pulling is why the
// image could not be had.
func (s *Store) machineBusybox(ctx context.Context, pulling error) (base, error) {
	const hint = "install one: apt-get install busybox-static; or take base: empty"
	program, err := exec.LookPath("busybox")
	if err != nil {
		return base{}, fault.Wrap(fault.Unavailable, pulling, "there is no busybox to build upon: none on this machine, and none to pull").WithHint(hint)
	}
	f, loader, err := checkBinary(program)
	if err != nil {
		return base{}, err
	}
	defer f.Close() // read only: nothing to lose
	if loader != "" {
		return base{}, fault.Wrap(fault.Unavailable, pulling, "there is no busybox to build upon: %s is not statically linked, and none can be pulled", program).WithHint(hint)
	}
	out, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return base{}, fmt.Errorf("ask %s for its applets: %w", program, err)
	}
	info, err := f.Stat()
	if err != nil {
		return base{}, fmt.Errorf("read %s: %w", program, err)
	}
	files := []file{
		{name: "bin/", mode: 0o755},
		{name: "bin/busybox", mode: 0o755, size: info.Size(), body: io.NewSectionReader(f, 0, info.Size())},
	}
	applets := strings.Fields(string(out))
	slices.Sort(applets)
	for _, a := range slices.Compact(applets) {
		if a == "busybox" || path.Base(a) != a {
			continue
		}
		files = append(files, file{name: "bin/" + a, mode: 0o777, link: "busybox"})
	}
	l, err := s.writeLayer(ctx, files)
	if err != nil {
		return base{}, fmt.Errorf("write the busybox layer: %w", err)
	}
	b := base{from: "busybox of this machine, " + program, layers: []v1.Descriptor{l.descriptor}}
	b.config.RootFS.DiffIDs = []v1.Hash{l.diffID}
	b.config.Config.Env = []string{"PATH=/bin"}
	return b, nil
}

// checkLoader refuses a dynamically linked binary whose loader the base lacks:
// it would end with a "no such file" that names the wrong file.
func (s *Store) checkLoader(binary, loader string, b base) error {
	if loader == "" {
		return nil
	}
	for _, d := range b.layers {
		has, err := s.layerHas(d, path.Base(loader))
		if err != nil {
			return fmt.Errorf("look for %s in the base: %w", loader, err)
		}
		if has {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the binary %s is dynamically linked: it needs %s, which the base (%s) does not hold", binary, loader, b.from).
		WithHint("link it statically: CGO_ENABLED=0 go build -trimpath -o %s", binary)
}

// layerHas says whether a layer has a file of that name, in whatever folder:
// the loader's own folder is usually a link.
func (s *Store) layerHas(d v1.Descriptor, file string) (bool, error) {
	found := false
	err := s.readLayer(d, func(h *tar.Header, _ io.Reader) error {
		found = found || path.Base(h.Name) == file
		return nil
	})
	return found, err
}

// readLayer hands every entry of a layer to each. A layer whose digest is wrong
// fails with that, whatever else failed because of it.
func (s *Store) readLayer(d v1.Descriptor, each func(*tar.Header, io.Reader) error) error {
	blob, err := s.openBlob(d.Digest)
	if err != nil {
		return err
	}
	defer blob.Close() // read only: nothing to lose
	err = readTar(blob, d.MediaType, each)
	_, damage := io.Copy(io.Discard, blob) // the digest is checked at the end
	if damage != nil {
		return damage
	}
	return err
}

func readTar(blob io.Reader, mediaType types.MediaType, each func(*tar.Header, io.Reader) error) error {
	if mediaType != types.OCIUncompressedLayer && mediaType != types.DockerUncompressedLayer {
		zip, err := gzip.NewReader(blob)
		if err != nil {
			return err
		}
		blob = zip
	}
	entries := tar.NewReader(blob)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(header, entries); err != nil {
			return err
		}
	}
}
