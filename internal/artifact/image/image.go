// Package image makes OCI images from one binary without a container daemon,
// keeps them by digest in a folder, and unpacks them. It knows OCI's formats
// and what makes an image reproducible; it must not know where images run.
//
// The folder holds blobs/sha256/HEX (layers, configurations, manifests),
// images/HEX.json (one Image for each manifest that was built) and
// bases/HEX.json (the bases that were pulled, by reference). Every file is
// written whole or not at all.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"makeitso/internal/fault"
)

// Busybox is the image that the base "busybox" stands for.
const Busybox = "docker.io/library/busybox:1.37.0"

// Options is how a Store differs from the usual.
type Options struct {
	// Busybox is the image reference that the base "busybox" stands for;
	// the constant Busybox by default.
	Busybox string
}

// Store is the images of one folder. Its methods may be called at once.
type Store struct {
	dir     string
	options Options
	// mu keeps Remove from taking a blob that a Build has just laid down.
	mu sync.RWMutex
}

// New gives the store in dir, which is made when the first image is.
func New(dir string, o Options) *Store {
	if o.Busybox == "" {
		o.Busybox = Busybox
	}
	return &Store{dir: dir, options: o}
}

// Image is a built image.
type Image struct {
	Digest     string   `json:"digest"` // of the manifest, sha256:…
	Name       string   `json:"name"`
	Size       int64    `json:"size"` // manifest, configuration and layers, as they are stored
	Entrypoint []string `json:"entrypoint"`
	// Base says what the binary was laid upon, for people: where the base
	// came from and its digest or version.
	Base string `json:"base"`
}

// Config is what running an image needs beside its files.
type Config struct {
	Entrypoint []string
	Env        []string // NAME=value
	WorkingDir string   // "/" where the image names none
}

// Get gives the image of that digest, fault.NotFound if there is none.
func (s *Store) Get(ctx context.Context, digest string) (Image, error) {
	if err := context.Cause(ctx); err != nil {
		return Image{}, err
	}
	hash, err := parseDigest(digest)
	if err != nil {
		return Image{}, err
	}
	var img Image
	switch err := readJSON(s.imagePath(hash), &img); {
	case errors.Is(err, fs.ErrNotExist):
		return Image{}, fault.New(fault.NotFound, "there is no image %s", digest).
			WithHint("build it again with a run of the pipeline that has its image stage")
	case err != nil:
		return Image{}, fmt.Errorf("read image %s: %w", digest, err)
	}
	return img, nil
}

// List gives all images, ordered by digest.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	return listJSON[Image](ctx, filepath.Join(s.dir, "images"))
}

// Remove takes the image of that digest away, and the blobs that neither
// another image nor a base needs. fault.NotFound if there is no such image.
func (s *Store) Remove(ctx context.Context, digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.Get(ctx, digest); err != nil {
		return err
	}
	hash, err := parseDigest(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(s.imagePath(hash)); err != nil {
		return fmt.Errorf("remove image %s: %w", digest, err)
	}
	return s.removeUnused(ctx)
}

// removeUnused removes every blob that no image and no base refers to.
func (s *Store) removeUnused(ctx context.Context) error {
	used, err := s.usedBlobs(ctx)
	if err != nil {
		return fmt.Errorf("find unused blobs: %w", err)
	}
	entries, err := os.ReadDir(s.blobDir())
	if err != nil {
		return fmt.Errorf("find unused blobs: %w", err)
	}
	for _, e := range entries {
		if used[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(s.blobDir(), e.Name())); err != nil {
			return fmt.Errorf("remove unused blob: %w", err)
		}
	}
	return nil
}

// usedBlobs gives the names of the blobs that images and bases refer to.
func (s *Store) usedBlobs(ctx context.Context) (map[string]bool, error) {
	images, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	bases, err := listJSON[keptBase](ctx, filepath.Join(s.dir, "bases"))
	if err != nil {
		return nil, err
	}
	digests := make([]string, 0, len(images)+len(bases))
	for _, i := range images {
		digests = append(digests, i.Digest)
	}
	for _, b := range bases {
		digests = append(digests, b.Digest)
	}
	used := map[string]bool{}
	for _, d := range digests {
		hash, err := parseDigest(d)
		if err != nil {
			return nil, err
		}
		manifest, err := s.manifest(hash)
		if err != nil {
			return nil, err
		}
		used[hash.Hex], used[manifest.Config.Digest.Hex] = true, true
		for _, l := range manifest.Layers {
			used[l.Digest.Hex] = true
		}
	}
	return used, nil
}

func (s *Store) imagePath(h v1.Hash) string {
	return filepath.Join(s.dir, "images", h.Hex+".json")
}

// parseDigest reads a digest as users and records name it.
func parseDigest(digest string) (v1.Hash, error) {
	hash, err := v1.NewHash(digest)
	if err != nil || hash.Algorithm != "sha256" {
		return v1.Hash{}, fault.New(fault.NotFound, "%q is not an image's digest", digest).
			WithHint("a digest is sha256: and 64 hexadecimal digits")
	}
	return hash, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// listJSON reads every document of a folder, ordered by file name. A folder
// that is not there is empty.
func listJSON[T any](ctx context.Context, dir string) ([]T, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", filepath.Base(dir), err)
	}
	var all []T
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if !strings.HasSuffix(e.Name(), ".json") {
			continue // a file that a killed process did not finish
		}
		var one T
		if err := readJSON(filepath.Join(dir, e.Name()), &one); err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", filepath.Base(dir), e.Name(), err)
		}
		all = append(all, one)
	}
	return all, nil
}
