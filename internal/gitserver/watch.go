package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// Watch tells of every branch of the local repository at dir that moves, until
// ctx ends, which is no error. known is the commits of the branches that were
// told of already, by ref; nil means those of the present, so that only what
// comes is told. old is "" for a new branch, new is "" for one that was deleted.
// A branch that moves several times at once is told of once. An error of
// changed ends it.
func Watch(ctx context.Context, dir string, known map[string]string, changed func(ref, old, new string) error) (err error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, watcher.Close()) }()
	w := refWatch{dir: dir, watcher: watcher, known: maps.Clone(known)}
	if err := w.begin(ctx); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	for {
		if err := w.compare(ctx, changed); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		if err := w.wait(ctx); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// refWatch watches where git keeps branches: a file for each in the folders
// below refs/heads, all others in packed-refs, or all in reftable.
type refWatch struct {
	dir     string
	common  string // the folder that all worktrees share
	watcher *fsnotify.Watcher
	known   map[string]string
}

// begin watches the folders. It is done before the branches are first read,
// so that nothing is missed between.
func (w *refWatch) begin(ctx context.Context) error {
	// A linked worktree has its branches in the main one's folder.
	out, err := git(ctx, w.dir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return notRepository(err, w.dir)
	}
	w.common = strings.TrimSuffix(string(out), "\n")
	if err := w.watcher.Add(w.common); err != nil { // packed-refs
		return err
	}
	for _, folder := range []string{filepath.Join(w.common, "refs", "heads"), filepath.Join(w.common, "reftable")} {
		if err := w.add(folder); err != nil {
			return err
		}
	}
	if w.known == nil {
		w.known, err = Branches(ctx, w.dir)
	}
	return err
}

// add watches a folder and those below. One that is gone is no error: git
// removes folders that are empty.
func (w *refWatch) add(folder string) error {
	return filepath.WalkDir(folder, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.IsDir() {
			return err
		}
		if err := w.watcher.Add(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// wait returns when something that concerns branches has happened, or ctx has
// ended.
func (w *refWatch) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				return nil // some were lost: look
			}
			return err
		case event := <-w.watcher.Events:
			concerns, err := w.handle(event)
			if concerns || err != nil {
				return err
			}
		}
	}
}

// handle watches a folder that is new and says whether branches may have moved.
func (w *refWatch) handle(event fsnotify.Event) (bool, error) {
	name, err := filepath.Rel(w.common, event.Name)
	if err != nil {
		return false, err
	}
	name = filepath.ToSlash(name)
	inside := strings.HasPrefix(name, "refs/heads") || strings.HasPrefix(name, "reftable")
	gone := name == "." && event.Has(fsnotify.Remove)
	if strings.HasSuffix(name, ".lock") || !inside && !gone && name != "packed-refs" {
		return false, nil
	}
	if inside && event.Has(fsnotify.Create) {
		if info, err := os.Stat(event.Name); err == nil && info.IsDir() {
			return true, w.add(event.Name)
		}
	}
	return true, nil
}

// compare tells of the branches that are not as they were known.
func (w *refWatch) compare(ctx context.Context, changed func(ref, old, new string) error) error {
	present, err := Branches(ctx, w.dir)
	if err != nil {
		return err
	}
	for _, m := range moved(w.known, present) {
		if err := changed(m.Ref, m.Old, m.New); err != nil {
			return err
		}
	}
	w.known = present
	return nil
}

// moved gives the refs that differ between two states, in order, those that
// are gone first, since a new one may need the name's place.
func moved(before, now map[string]string) []update {
	var gone, others []update
	for _, ref := range slices.Sorted(maps.Keys(before)) {
		if now[ref] == "" {
			gone = append(gone, update{Ref: ref, Old: before[ref]})
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(now)) {
		if before[ref] != now[ref] {
			others = append(others, update{Ref: ref, Old: before[ref], New: now[ref]})
		}
	}
	return append(gone, others...)
}
