package publish

import (
	"cmp"
	"context"
	"crypto/md5" // an ETag is an MD5; nothing is protected by it
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/fault"
)

// Digests remembers the digests of files, so that one that was not touched
// since is not read again. It is for one process; the zero value is ready.
type Digests struct {
	mu      sync.Mutex
	folders map[string]map[string]known // by folder and path
}

// known is a digest and of what.
type known struct {
	stamp stamp
	md5   string
}

// stamp tells one state of a file from another. The time of change is set by
// the system alone: to write the file and to put its times back both move it.
type stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

// tick is more than the time between two ticks of a file system's clock.
const tick = 100 * time.Millisecond

// settled says whether a change of the file from now on will move its stamp. One
// within the same tick of the clock as the last would not.
func (s stamp) settled(now time.Time) bool { return now.Sub(time.Unix(s.changed.Unix())) > tick }

// maxFolders is how many folders are remembered; commits have one each, which
// goes with their run.
const maxFolders = 32

// fill gives each file its digest, several at a time, and remembers those of
// the folder for the next time.
func (d *Digests) fill(ctx context.Context, folder string, files []file) error {
	d.mu.Lock()
	before := d.folders[folder]
	d.mu.Unlock()
	after := make([]known, len(files))
	remember := make([]bool, len(files))
	workers := min(runtime.GOMAXPROCS(0), len(files))
	failures := make([]error, workers)
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			buffer := make([]byte, 64<<10)
			for i := w; i < len(files) && failures[w] == nil; i += workers {
				after[i], remember[i], failures[w] = digest(ctx, files[i].path, before[files[i].path], buffer)
				files[i].md5 = after[i].md5
			}
		})
	}
	working.Wait()
	if err := cmp.Or(failures...); err != nil {
		return err
	}
	next := make(map[string]known, len(files))
	for i, f := range files {
		if remember[i] {
			next[f.path] = after[i]
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.folders == nil || len(d.folders) >= maxFolders {
		d.folders = map[string]map[string]known{}
	}
	d.folders[folder] = next
	return nil
}

// digest gives the digest of a file, which is the one known before if the file
// is as it was, and whether to remember it. The file is read through buffer.
func digest(ctx context.Context, name string, before known, buffer []byte) (now known, remember bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return known{}, false, err
	}
	begun := time.Now()
	info, err := os.Stat(name)
	if err != nil {
		return known{}, false, err
	}
	if !info.Mode().IsRegular() {
		return known{}, false, fault.New(fault.Invalid, "%s is not a regular file", name).WithHint("put files into the site's folder, not links to folders")
	}
	now.stamp = stampOf(info)
	if before.md5 != "" && before.stamp == now.stamp {
		return before, true, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return known{}, false, err
	}
	defer file.Close() // read only: nothing to lose
	sum := md5.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{file}, buffer); err != nil { // of itself a file takes a buffer of its own each time
		return known{}, false, err
	}
	now.md5 = hex.EncodeToString(sum.Sum(nil))
	return now, now.stamp.settled(begun), nil
}

// stampOf gives the stamp of a file; one that the system does not tell is like
// no other, as its time is always too young.
func stampOf(info fs.FileInfo) stamp {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{changed: syscall.NsecToTimespec(time.Now().UnixNano())}
	}
	return stamp{device: s.Dev, inode: s.Ino, size: s.Size, changed: s.Ctim}
}
