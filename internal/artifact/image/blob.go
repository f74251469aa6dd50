package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"makeitso/internal/fault"
)

// partial marks the files that are being written.
const partial = ".partial-"

// abandoned is the age at which a partial file is taken for a dead process's.
const abandoned = time.Hour

func (s *Store) blobDir() string { return filepath.Join(s.dir, "blobs", "sha256") }

// writeBlob stores what write writes under its digest. A blob that is there
// already is written over, since that repairs one that was damaged.
func (s *Store) writeBlob(ctx context.Context, write func(io.Writer) error) (v1.Hash, int64, error) {
	var digest v1.Hash
	sum := sha256.New()
	var size counter
	err := writeFile(ctx, s.blobDir(), func(w io.Writer) (string, error) {
		if err := write(io.MultiWriter(w, sum, &size)); err != nil {
			return "", err
		}
		digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
		return digest.Hex, nil
	})
	if err != nil {
		return v1.Hash{}, 0, err
	}
	return digest, int64(size), nil
}

// writeJSONBlob stores v's JSON under its digest.
func (s *Store) writeJSONBlob(ctx context.Context, v any) (v1.Hash, int64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Hash{}, 0, err
	}
	return s.writeBlob(ctx, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeFile writes a file of dir whole or not at all. write gives its name,
// which may depend on what was written.
func writeFile(ctx context.Context, dir string, write func(io.Writer) (name string, err error)) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return storeFault(err)
	}
	f, err := os.CreateTemp(dir, partial)
	if err != nil {
		return storeFault(err)
	}
	defer func() {
		if err != nil { // a renamed file is not there any more
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	name, err := write(contextWriter{ctx, f})
	if err != nil {
		return storeFault(err)
	}
	if err := f.Chmod(0o644); err != nil {
		return storeFault(err)
	}
	if err := f.Sync(); err != nil {
		return storeFault(err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return storeFault(err)
	}
	return f.Close()
}

// storeFault says what to do when the store's folder does not take a file.
func storeFault(err error) error {
	var path *fs.PathError
	if !errors.As(err, &path) || fault.CodeOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "cannot write to the image store").
		WithHint("make room on the disk, or make the folder writable; nothing was stored")
}

// removeAbandoned removes the partial files that killed processes left.
func (s *Store) removeAbandoned() error {
	for _, dir := range []string{s.blobDir(), filepath.Join(s.dir, "images"), filepath.Join(s.dir, "bases")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !strings.HasPrefix(e.Name(), partial) || time.Since(info.ModTime()) < abandoned {
				continue // err: finished or removed by its own writer meanwhile
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// openBlob opens a blob for reading; the reader fails at the end if what was
// read is not what the digest says.
func (s *Store) openBlob(h v1.Hash) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(s.blobDir(), h.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "blob %s of the image is missing", h).WithHint(repair)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", h, err)
	}
	return &verifier{f: f, want: h, sum: sha256.New()}, nil
}

// repair is the next step after a damage of the store.
const repair = "build the image again: that repairs the store"

// readJSONBlob reads a small blob whole, checks it, and parses it into v.
func (s *Store) readJSONBlob(h v1.Hash, v any) error {
	r, err := s.openBlob(h)
	if err != nil {
		return err
	}
	defer r.Close() // read only: nothing to lose
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(data)).Decode(v)
}

// manifest reads and checks an image's manifest.
func (s *Store) manifest(h v1.Hash) (*v1.Manifest, error) {
	var m v1.Manifest
	if err := s.readJSONBlob(h, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return &m, nil
}

// verifier reads a blob and compares its digest at the end.
type verifier struct {
	f    *os.File
	want v1.Hash
	sum  hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.f.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want.Hex {
			return n, fault.New(fault.Failed, "blob %s is damaged: its content has digest sha256:%s", v.want, got).WithHint(repair)
		}
	}
	return n, err
}

func (v *verifier) Close() error { return v.f.Close() }

// contextWriter stops writing when its context ends.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
