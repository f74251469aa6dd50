package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"makeitso/internal/fault"
)

// Unpack lays the files of an image into the folder into, which must not exist
// or be empty, and tells what running it needs. The folder is there whole or
// not at all. A digest that is not in the store is fault.NotFound; damage is
// found and is fault.Failed.
func (s *Store) Unpack(ctx context.Context, digest, into string) (_ Config, err error) {
	if _, err := s.Get(ctx, digest); err != nil {
		return Config{}, err
	}
	if entries, err := os.ReadDir(into); err == nil && len(entries) > 0 {
		return Config{}, fault.New(fault.Conflict, "the folder %s is not empty", into).WithHint("unpack into a new folder")
	}
	hash, err := parseDigest(digest)
	if err != nil {
		return Config{}, err
	}
	manifest, err := s.manifest(hash)
	if err != nil {
		return Config{}, err
	}
	var config v1.ConfigFile
	if err := s.readJSONBlob(manifest.Config.Digest, &config); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	if err := s.unpackLayers(ctx, manifest.Layers, into); err != nil {
		return Config{}, fmt.Errorf("unpack image %s: %w", digest, err)
	}
	c := Config{
		Entrypoint: slices.Concat(config.Config.Entrypoint, config.Config.Cmd),
		Env:        config.Config.Env,
		WorkingDir: config.Config.WorkingDir,
	}
	if c.WorkingDir == "" {
		c.WorkingDir = "/"
	}
	return c, nil
}

// unpackLayers unpacks beside into and moves the finished folder there.
func (s *Store) unpackLayers(ctx context.Context, layers []v1.Descriptor, into string) (err error) {
	if err := os.MkdirAll(filepath.Dir(into), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(into), filepath.Base(into)+partial)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	// The image's own root folder is for everybody who is let in to read.
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(temp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	u := unpacker{root: root, dirModes: map[string]fs.FileMode{}, asRoot: os.Geteuid() == 0}
	for _, d := range layers {
		u.layer = map[string]bool{}
		err := s.readLayer(d, func(h *tar.Header, body io.Reader) error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return u.entry(h, body)
		})
		if err != nil {
			return err
		}
	}
	if err := u.finish(); err != nil {
		return err
	}
	// os.Rename replaces no folder, not even the empty one that may be there.
	if err := os.Remove(into); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temp, into)
}

// unpacker lays layers upon one another. It reaches files only through root,
// so that no name and no link in an image leads out of the folder.
type unpacker struct {
	root     *os.Root
	layer    map[string]bool        // what the present layer has made
	dirModes map[string]fs.FileMode // set at the end: a folder may forbid writing
	asRoot   bool
}

// Names by which a layer takes away what lower ones hold.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// entry does what one entry of a layer says.
func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	clean := path.Clean("/" + h.Name)
	if clean == "/" {
		return nil
	}
	dir, err := u.resolve(path.Dir(clean))
	if err != nil {
		return fmt.Errorf("entry %s: %w", h.Name, err)
	}
	base := path.Base(clean)
	switch {
	case base == opaque:
		err = u.clear(dir)
	case strings.HasPrefix(base, whiteout):
		err = u.root.RemoveAll(path.Join(dir, strings.TrimPrefix(base, whiteout)))
	default:
		err = u.place(h, body, path.Join(dir, base))
	}
	if err != nil {
		return fmt.Errorf("entry %s: %w", h.Name, err)
	}
	return nil
}

// place makes the folder, file or link that h describes at name.
func (u *unpacker) place(h *tar.Header, body io.Reader, name string) error {
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	u.mark(name)
	was, err := u.root.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	if err == nil && !(isDir && was.IsDir()) {
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.root.MkdirAll(name, 0o755)
		u.dirModes[name] = mode
	case tar.TypeReg:
		err = u.write(name, mode, body)
	case tar.TypeSymlink:
		err = u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.hardLink(h.Linkname, name)
	default:
		return fault.New(fault.Unsupported, "the image holds a device or pipe, which cannot be unpacked").
			WithHint("take a base without one")
	}
	if err != nil {
		return err
	}
	if u.asRoot {
		if err := u.root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeReg { // after the owner, whose change clears setuid
		return u.root.Chmod(name, mode)
	}
	return nil
}

// mark notes name and the folders above it as made by the present layer.
func (u *unpacker) mark(name string) {
	for ; name != "."; name = path.Dir(name) {
		u.layer[name] = true
	}
}

func (u *unpacker) write(name string, mode fs.FileMode, body io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

func (u *unpacker) hardLink(target, name string) error {
	target = path.Clean("/" + target)
	dir, err := u.resolve(path.Dir(target))
	if err != nil {
		return err
	}
	return u.root.Link(path.Join(dir, path.Base(target)), name)
}

// clear removes what lower layers have put into dir.
func (u *unpacker) clear(dir string) error {
	entries, err := fs.ReadDir(u.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case !u.layer[name]:
			err = u.root.RemoveAll(name)
		case e.IsDir():
			err = u.clear(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resolve follows the links in dir as they would be followed in the unpacked
// image, where the folder is the root. What does not exist stays as it is.
func (u *unpacker) resolve(dir string) (string, error) {
	const maxLinks = 40 // as Linux has it
	todo, done := strings.Split(dir, "/"), "."
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		target, err := u.root.Readlink(next)
		if err != nil { // not a link, or not there
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fault.New(fault.Invalid, "too many symbolic links in %s", dir)
		}
		if path.IsAbs(target) {
			done = "."
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// finish sets the folders' modes, the deepest first.
func (u *unpacker) finish() error {
	names := make([]string, 0, len(u.dirModes))
	for name := range u.dirModes {
		names = append(names, name)
	}
	slices.Sort(names)
	slices.Reverse(names)
	for _, name := range names {
		info, err := u.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue // a later layer took it away
		}
		if err != nil {
			return err
		}
		if err := u.root.Chmod(name, u.dirModes[name]); err != nil {
			return err
		}
	}
	return nil
}
