package watch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/record"
)

// Source is a folder with files of a log group.
type Source struct {
	Folder string
	// Has says which of its files belong to the group; nil for all.
	Has func(name string) bool
}

// positions say how far the files of a group are read, by their identity on the
// disk, so that a file that is renamed goes on.
type positions map[string]position

// position is how far one file is read. The sum of its first bytes tells it
// from one that was truncated, or has taken the place of one that is gone.
type position struct {
	Offset int64  `json:"offset"`
	Head   int64  `json:"head"` // so many bytes
	Sum    string `json:"sum"`
}

// maxHead is how many first bytes tell a file from others.
const maxHead = 1024

// maxRead is how much of a file is read at a time, and how long a line may be:
// a longer one counts as several.
const maxRead = 1 << 20

func followed(records record.Store) record.Collection[positions] {
	return record.Of[positions](records, followedKind)
}

// Begin keeps for a new filter where the files of its group end now: it counts
// what comes after. One that has begun goes on as it was.
func Begin(ctx context.Context, records record.Store, environment, token string, sources []Source) error {
	files, err := list(sources)
	if err != nil {
		return err
	}
	at := positions{}
	for _, f := range files {
		if f.compressed() {
			continue
		}
		if at[f.id], err = f.end(); err != nil {
			return err
		}
	}
	err = followed(records).PutIf(ctx, key(environment, token), at, record.Absent)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// Forget removes what is kept for a filter or a trail.
func Forget(ctx context.Context, records record.Store, environment, token string) error {
	return records.Write(ctx, followed(records).DeleteOp(key(environment, token)), trailsOf(records).DeleteOp(key(environment, token)))
}

// logFile is a file of a group.
type logFile struct {
	path    string
	id      string
	size    int64
	changed time.Time
}

// list gives the files of a group, the oldest first.
func list(sources []Source) ([]logFile, error) {
	var all []logFile
	for _, s := range sources {
		entries, err := os.ReadDir(s.Folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || s.Has != nil && !s.Has(e.Name()) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed or renamed just now
			}
			if err != nil {
				return nil, err
			}
			f := logFile{path: filepath.Join(s.Folder, e.Name()), size: info.Size(), changed: info.ModTime()}
			if on, ok := info.Sys().(*syscall.Stat_t); ok {
				f.id = fmt.Sprintf("%d:%d", on.Dev, on.Ino)
			}
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b logFile) int { return cmp.Or(a.changed.Compare(b.changed), cmp.Compare(a.path, b.path)) })
	return all, nil
}

// compressed says whether a file holds what was a log before.
func (f logFile) compressed() bool {
	return slices.Contains([]string{".gz", ".xz", ".zst", ".bz2"}, filepath.Ext(f.path))
}

// end is the position behind the last whole line.
func (f logFile) end() (position, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return position{}, err
	}
	defer file.Close()
	from := max(0, f.size-maxRead)
	text := make([]byte, f.size-from)
	if _, err := io.ReadFull(io.NewSectionReader(file, from, f.size-from), text); err != nil {
		return position{}, fmt.Errorf("read %s: %w", f.path, err)
	}
	offset := from + int64(bytes.LastIndexByte(text, '\n')) + 1
	return position{Offset: offset}.seen(file)
}

// seen gives the position with the sum of the file's first bytes.
func (p position) seen(file io.ReaderAt) (position, error) {
	if p.Head == min(p.Offset, maxHead) && p.Sum != "" {
		return p, nil
	}
	p.Head = min(p.Offset, maxHead)
	var err error
	p.Sum, err = sum(file, p.Head)
	return p, err
}

// sum tells the first n bytes of a file from others; "" if it has fewer.
func sum(file io.ReaderAt, n int64) (string, error) {
	head := make([]byte, n)
	if _, err := file.ReadAt(head, 0); errors.Is(err, io.EOF) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	of := sha256.Sum256(head)
	return hex.EncodeToString(of[:]), nil
}

// read gives the whole lines after a position, up to maxRead bytes, and the
// position after them. A file that is not the one of the position is read from
// its beginning.
func (f logFile) read(at position) (lines [][]byte, after position, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, at, err
	}
	defer file.Close()
	if is, err := sum(file, at.Head); err != nil {
		return nil, at, err
	} else if is != at.Sum {
		at = position{}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, at, err
	}
	if info.Size() < at.Offset {
		at = position{}
	}
	text := make([]byte, maxRead)
	n, err := file.ReadAt(text, at.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, at, err
	}
	whole := bytes.LastIndexByte(text[:n], '\n') + 1
	if whole == 0 && n == maxRead {
		whole = n
	}
	for line := range bytes.Lines(text[:whole]) {
		lines = append(lines, bytes.TrimRight(line, "\r\n"))
	}
	at.Offset += int64(whole)
	after, err = at.seen(file)
	return lines, after, err
}

// follow counts the lines that are new in the files of a filter's group. How far
// they are read is stored together with what they count: no line counts twice,
// and none is lost, whenever the process ends.
func (w *Watcher) follow(ctx context.Context, f Filter, sources []Source, now time.Time) error {
	key := key(w.o.Environment, f.Token)
	for ctx.Err() == nil {
		at, version, err := w.followed.GetVersion(ctx, key)
		if fault.Is(err, fault.NotFound) { // it was removed just now
			return nil
		}
		if err != nil {
			return fmt.Errorf("find how far it was read: %w", err)
		}
		samples, next, err := f.gather(at, sources)
		if err != nil {
			return err
		}
		if maps.Equal(next, at) {
			return nil
		}
		ops, err := w.count(ctx, samples, now)
		if err != nil {
			return err
		}
		op, err := w.followed.PutOp(key, next, version)
		if err == nil {
			err = w.o.Records.Write(ctx, append(ops, op)...)
		}
		if err != nil && !fault.Is(err, fault.Conflict) { // that is a filter which was removed meanwhile
			return fmt.Errorf("store what was counted: %w", err)
		}
	}
	return ctx.Err()
}

// gather reads on in all files, and gives what the lines count and how far they
// are read then.
func (f Filter) gather(at positions, sources []Source) (samples []metric.Sample, next positions, err error) {
	files, err := list(sources)
	if err != nil {
		return nil, nil, err
	}
	next = positions{}
	for _, file := range files {
		if file.compressed() {
			continue
		}
		lines, after, err := file.read(at[file.id])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, line := range lines {
			samples = append(samples, f.Read(string(line))...)
		}
		next[file.id] = after
	}
	return samples, next, nil
}

// retain empties the files of a group that nobody has written for as long as
// logs are kept, since somebody may still have them open, and removes those
// that stayed empty for as long again. It says when the next is due.
func retain(g Group, now time.Time) (next time.Time, err error) {
	if g.Retention == 0 {
		return next, nil
	}
	var failures []error
	files, err := list(g.Sources)
	for _, f := range files {
		name := filepath.Base(f.path)
		due := f.changed.Add(g.Retention)
		switch {
		case due.After(now):
			next = earlier(next, due)
		case f.size > 0:
			failures = append(failures, os.Truncate(f.path, 0))
			next = earlier(next, now.Add(g.Retention))
		case !g.Streams[name]:
			failures = append(failures, os.Remove(f.path))
		}
	}
	return next, errors.Join(append(failures, err)...)
}
