package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"makeitso/internal/fault"
)

// level is fixed: another level is another digest. The fastest is taken, since
// images stay on the machine that builds them far more often than they travel.
const level = gzip.BestSpeed

// Spec says how an image is made.
type Spec struct {
	Name   string // the artifact's name; kept with the image and as its title label
	Base   string // empty, busybox, or an image reference
	Binary string // path of the binary; the image runs it
	Labels map[string]string
}

// Build makes the image that spec describes and stores it. The same spec, base
// and binary give the same digest, wherever and whenever it is built. A binary
// that could not run in the image is fault.Invalid; a base that cannot be had
// is fault.Unavailable.
func (s *Store) Build(ctx context.Context, spec Spec) (Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if spec.Name == "" {
		return Image{}, fault.New(fault.Invalid, "the image has no name")
	}
	binary, loader, err := checkBinary(spec.Binary)
	if err != nil {
		return Image{}, err
	}
	defer binary.Close() // read only: nothing to lose
	if err := s.removeAbandoned(); err != nil {
		return Image{}, fmt.Errorf("clean the image store: %w", err)
	}
	base, err := s.base(ctx, spec.Base)
	if err != nil {
		return Image{}, err
	}
	if err := s.checkLoader(spec.Binary, loader, base); err != nil {
		return Image{}, err
	}
	entrypoint := "/app/" + filepath.Base(spec.Binary)
	files, err := binaryFiles(binary, entrypoint)
	if err != nil {
		return Image{}, fmt.Errorf("read the binary: %w", err)
	}
	layer, err := s.writeLayer(ctx, files)
	if err != nil {
		return Image{}, fmt.Errorf("write the image's layer: %w", err)
	}
	return s.assemble(ctx, spec, base, layer, entrypoint)
}

// assemble writes configuration and manifest and records the image.
func (s *Store) assemble(ctx context.Context, spec Spec, base base, l layer, entrypoint string) (Image, error) {
	config := base.config
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()} // the present would be another digest
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: append(slices.Clone(config.RootFS.DiffIDs), l.diffID)}
	config.History = nil // optional, and the base's holds times
	config.Config.Entrypoint, config.Config.Cmd = []string{entrypoint}, nil
	config.Config.Labels = labels(base.config.Config.Labels, spec)
	configDigest, configSize, err := s.writeJSONBlob(ctx, config)
	if err != nil {
		return Image{}, fmt.Errorf("write the image's configuration: %w", err)
	}
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: configSize, Digest: configDigest},
		Layers:        append(slices.Clone(base.layers), l.descriptor),
	}
	digest, size, err := s.writeJSONBlob(ctx, manifest)
	if err != nil {
		return Image{}, fmt.Errorf("write the image's manifest: %w", err)
	}
	img := Image{Digest: digest.String(), Name: spec.Name, Size: size + configSize, Entrypoint: config.Config.Entrypoint, Base: base.from}
	for _, d := range manifest.Layers {
		img.Size += d.Size
	}
	if err := writeJSON(ctx, s.imagePath(digest), img); err != nil {
		return Image{}, fmt.Errorf("record the image: %w", err)
	}
	return img, nil
}

// labels adds the title and the spec's labels to the base's.
func labels(base map[string]string, spec Spec) map[string]string {
	all := map[string]string{}
	maps.Copy(all, base)
	all["org.opencontainers.image.title"] = spec.Name
	maps.Copy(all, spec.Labels)
	return all
}

// writeJSON writes v to path, whole or not at all.
func writeJSON(ctx context.Context, path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(ctx, filepath.Dir(path), func(w io.Writer) (string, error) {
		_, err := w.Write(data)
		return filepath.Base(path), err
	})
}

// file is an entry of a layer that we make: a folder, a symbolic link or a
// regular file.
type file struct {
	name string // no leading slash; a folder ends with one
	mode int64
	link string
	size int64
	body io.Reader
}

// binaryFiles gives the layer of a binary: itself and the folder /tmp, which
// programs take for granted.
func binaryFiles(binary *os.File, entrypoint string) ([]file, error) {
	size, err := binary.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return []file{
		{name: path.Dir(entrypoint)[1:] + "/", mode: 0o755},
		{name: entrypoint[1:], mode: 0o755, size: size, body: io.NewSectionReader(binary, 0, size)},
		{name: "tmp/", mode: 0o1777},
	}, nil
}

// layer is a layer in the store.
type layer struct {
	descriptor v1.Descriptor
	diffID     v1.Hash // digest of what the layer holds uncompressed
}

// writeLayer stores files, in the order given, as a layer. Nothing of where or
// when it is written gets into it: no times, no names of owners, no gzip name.
func (s *Store) writeLayer(ctx context.Context, files []file) (layer, error) {
	plain := sha256.New()
	digest, size, err := s.writeBlob(ctx, func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, level)
		if err != nil {
			return err
		}
		if err := writeTar(io.MultiWriter(zip, plain), files); err != nil {
			return err
		}
		return zip.Close()
	})
	if err != nil {
		return layer{}, err
	}
	return layer{
		descriptor: v1.Descriptor{MediaType: types.OCILayer, Size: size, Digest: digest},
		diffID:     v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))},
	}, nil
}

func writeTar(w io.Writer, files []file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: f.size}
		switch {
		case f.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, f.link
		case f.body == nil:
			header.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if f.body == nil {
			continue
		}
		if _, err := io.Copy(t, f.body); err != nil {
			return err
		}
	}
	return t.Close()
}
