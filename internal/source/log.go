package source

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// File is up to where one log was read.
type File struct {
	Release string `json:"release"`
	Path    string `json:"path"`
	// ID is the file that the path led to, "" before there was one.
	ID string `json:"id,omitempty"`
	// Aside says that the path leads to another by now; this one may still be
	// written to.
	Aside  bool  `json:"aside,omitempty"`
	Offset int64 `json:"offset"` // of the first line that was not counted
	// Check is of what stands before it, by which a file that was written anew
	// is known.
	Check uint32 `json:"check,omitempty"`
}

// readLogs reads the logs of all instances that there are or were.
func (r Reader) readLogs(ctx context.Context, arms []Arm, out *Reading) error {
	parse, err := r.Source.Log.parser()
	if err != nil {
		return err
	}
	files := slices.Clone(out.Files)
	for _, arm := range arms {
		for _, i := range arm.Instances {
			known := func(f File) bool { return f.Path == i.Log && !f.Aside }
			if i.Log != "" && !slices.ContainsFunc(files, known) {
				files = append(files, File{Release: arm.Release, Path: i.Log})
			}
		}
	}
	out.Files = nil
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		kept, err := f.follow(counter{parse, f.Release, out}, !out.Begun)
		if err != nil {
			return fmt.Errorf("read the log %s: %w", f.Path, err)
		}
		out.Files = append(out.Files, kept...)
	}
	return nil
}

// follow counts what a log has beyond its offset, or at the beginning finds its
// end, and gives it with its new offset. One that was moved aside is read on, and
// what stands in its place from its beginning; one that is gone is not given.
func (f File) follow(c counter, begin bool) ([]File, error) {
	file, err := f.open()
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Aside:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist) && f.ID == "":
		return []File{f}, nil // it is not there yet
	case errors.Is(err, fs.ErrNotExist):
		f.Aside = true
		return f.follow(c, begin)
	case err != nil:
		return nil, err
	}
	defer file.Close() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if f.ID == "" {
		f.ID = identity(info)
		if begin {
			f.Offset, err = lastLine(file, info.Size())
			if err == nil {
				f.Check, err = f.check(file)
			}
			return []File{f}, err
		}
	}
	if f.ID != identity(info) {
		aside := f
		aside.Aside = true
		both, err := aside.follow(c, begin)
		if err != nil {
			return nil, err
		}
		next, err := File{Release: f.Release, Path: f.Path}.follow(c, false)
		return append(both, next...), err
	}
	f, err = f.count(c, file, info.Size())
	return []File{f}, err
}

// count counts the whole lines of the open file from the offset on.
func (f File) count(c counter, file *os.File, size int64) (File, error) {
	check := f.Check
	if size >= f.Offset {
		var err error
		if check, err = f.check(file); err != nil {
			return f, err
		}
	}
	if size < f.Offset || check != f.Check {
		f.Offset = 0
		c.into.Gaps++
	}
	lines := splitter{each: c.add}
	n, err := io.Copy(&lines, io.NewSectionReader(file, f.Offset, size-f.Offset))
	if err != nil {
		return f, err
	}
	f.Offset += n - lines.pending
	f.Check, err = f.check(file)
	return f, err
}

// checked is how much before the offset is known again.
const checked = 256

func (f File) check(file io.ReaderAt) (uint32, error) {
	before := make([]byte, min(checked, f.Offset))
	if n, err := file.ReadAt(before, f.Offset-int64(len(before))); n < len(before) {
		return 0, err // io.EOF: it was cut in this moment, and is looked at again
	}
	return crc32.ChecksumIEEE(before), nil
}

// open opens the file: by its path, or, where it was moved aside, by what it is.
func (f File) open() (*os.File, error) {
	if !f.Aside {
		return os.Open(f.Path)
	}
	folder := filepath.Dir(f.Path)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || identity(info) != f.ID {
			continue // gone in this moment, or another
		}
		file, err := os.Open(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		if now, err := file.Stat(); err != nil || identity(now) != f.ID {
			_ = file.Close() // moved on in this moment
			break
		}
		return file, nil
	}
	return nil, fs.ErrNotExist
}

// identity is what a file is, by whatever name.
func identity(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Name()
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// lastLine gives where the last line of a file begins that is not whole, or its
// end.
func lastLine(file io.ReaderAt, size int64) (int64, error) {
	from := max(0, size-longestLine)
	lines := splitter{each: func([]byte) {}}
	if _, err := io.Copy(&lines, io.NewSectionReader(file, from, size-from)); err != nil {
		return 0, err
	}
	return size - lines.pending, nil
}
