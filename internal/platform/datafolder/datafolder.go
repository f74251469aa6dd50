// Package datafolder packs the folder that a database keeps its data in into one
// file, and makes another of that; and it writes single files of such a folder.
// It knows files; it must not know what a database or a snapshot is.
package datafolder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// Copy makes a file that is like another one.
func Copy(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return Write(to, f)
}

// Write makes a file of what it reads, the whole of it or none.
func Write(to string, from io.Reader) error {
	half := to + ".half"
	f, err := os.OpenFile(half, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", to, errors.Join(err, os.Remove(half)))
	}
	return os.Rename(half, to)
}

// Pack writes a data folder into a file, without what names its last server,
// which must not run.
func Pack(dir, file string) error {
	read, write := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(write, dir)
		packed <- err
		write.CloseWithError(err) // of a pipe it never fails
	}()
	err := Write(file, read)
	read.CloseWithError(err) // so that pack ends
	return errors.Join(err, <-packed)
}

// Unpack makes a data folder of such a file. as is whose it shall be, nil for
// whose it was.
func Unpack(file, dir string, as *process.User) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unpack(f, dir, as)
}

// WriteLike writes a file that belongs to whom another one belongs to.
func WriteLike(path, like string, text []byte) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := statefile.WriteBytes(path, text); err != nil {
		return err
	}
	if as, isUnix := info.Sys().(*syscall.Stat_t); isUnix && os.Geteuid() == 0 {
		return os.Chown(path, int(as.Uid), int(as.Gid))
	}
	return nil
}

// pack writes a data folder as an archive.
func pack(to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(d.Name(), "postmaster.") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	return errors.Join(err, w.Close())
}

// unpack makes a data folder of an archive. Nothing of it lies elsewhere.
func unpack(from io.Reader, dir string, as *process.User) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(from); ; {
		header, err := r.Next()
		if err == io.EOF {
			return Sync(dir) // the whole of it is there before it is called whole
		}
		if err != nil {
			return err
		}
		if err := unpackOne(root, header, r); err != nil {
			return err
		}
		uid, gid := header.Uid, header.Gid
		if as != nil {
			uid, gid = as.UID, as.GID
		}
		if os.Geteuid() == 0 {
			if err := root.Lchown(header.Name, uid, gid); err != nil {
				return err
			}
		}
	}
}

func unpackOne(root *os.Root, header *tar.Header, from io.Reader) error {
	mode := header.FileInfo().Mode()
	switch {
	case header.Name == ".":
		return root.Chmod(".", mode.Perm())
	case mode.IsDir():
		return root.Mkdir(header.Name, mode.Perm())
	case !mode.IsRegular():
		return fault.New(fault.Unsupported, "%s is neither a file nor a folder", header.Name).
			WithHint("a data folder with tablespaces elsewhere cannot be restored: dump and load it by hand, with pg_dump")
	}
	f, err := root.OpenFile(header.Name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode.Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
