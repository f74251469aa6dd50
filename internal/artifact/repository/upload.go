package repository

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"makeitso/internal/statefile"
)

// validUpload is what rand.Text gives.
var validUpload = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// layer is the file that says that a repository has a blob.
func (s *Store) layer(name, digest string) string {
	return filepath.Join(s.folder(name), "layers", hexOf(digest))
}

// has says whether a repository has a blob, and its size.
func (s *Store) has(name, digest string) (has bool, size int64, err error) {
	for _, path := range []string{s.layer(name, digest), s.blob(digest)} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, 0, nil
		}
		if err != nil {
			return false, 0, err
		}
		size = info.Size() // the blob's at last
	}
	return true, size, nil
}

// give says that a repository has a blob. The lock is held.
func (s *Store) give(name, digest string) error {
	f, err := os.OpenFile(s.layer(name, digest), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return s.touch(name, digest)
}

// touch says that somebody wants a blob of a repository now.
func (s *Store) touch(name, digest string) error {
	now := time.Now()
	return os.Chtimes(s.layer(name, digest), now, now)
}

// mount gives a repository a blob that another has, and says whether it could.
func (s *Store) mount(name, digest, from string) (mounted bool, err error) {
	err = s.locked(func() error {
		if mounted, _, err = s.has(from, digest); err != nil || !mounted {
			return err
		}
		return s.give(name, digest)
	})
	return mounted, err
}

// begin makes an upload and gives its id.
func (s *Store) begin(name string) (string, error) {
	id := rand.Text()
	f, err := os.OpenFile(s.uploadFile(name, id), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	return id, f.Close()
}

func (s *Store) uploadFile(name, id string) string {
	return filepath.Join(s.folder(name), "uploads", id)
}

// drop removes an upload, if it is there still.
func (s *Store) drop(name, id string) error {
	err := os.Remove(s.uploadFile(name, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// upload opens an upload, which nobody else may do until it is closed, and
// gives how much of it has come.
func (s *Store) upload(name, id string) (*os.File, int64, error) {
	unknown := refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "repository %s has no upload %s; begin another", name, id)
	if !validUpload.MatchString(id) {
		return nil, 0, unknown
	}
	path := s.uploadFile(name, id)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, unknown
	}
	if err != nil {
		return nil, 0, err
	}
	if err := lock(f); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	// Whoever had it before may have brought it to its end.
	info, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		now, err = os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, now) {
			err = unknown
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// add appends to an upload, of which size bytes have come. What came before a
// client broke off is kept for it to go on; what a full disk cut off is not.
func add(f *os.File, size int64, body io.Reader) (int64, error) {
	n, err := io.Copy(f, body)
	var file *fs.PathError
	if errors.As(err, &file) {
		return size, errors.Join(err, f.Truncate(size))
	}
	if err != nil {
		err = refuse(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the request ended before its body: %v", err)
	}
	return size + n, err
}

// finish makes an upload the blob of a digest. An upload that is not that is
// dropped.
func (s *Store) finish(name string, f *os.File, digest string) error {
	if !validDigest.MatchString(digest) {
		return invalidDigest(digest)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != hexOf(digest) {
		wrong := refuse(http.StatusBadRequest, "DIGEST_INVALID", "what was sent has digest sha256:%s, not %s", got, digest)
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
		return wrong
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return s.locked(func() error {
		if _, found, err := s.read(name); err != nil {
			return err
		} else if !found {
			return s.unknown(name)
		}
		// In place of a blob that is there already: it may be damaged.
		if err := statefile.Rename(f.Name(), s.blob(digest)); err != nil {
			return err
		}
		return s.give(name, digest)
	})
}
