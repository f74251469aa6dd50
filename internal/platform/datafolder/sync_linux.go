package datafolder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Sync returns when all that was written below a folder is on the disk. It is
// one call, whatever the number of files: the whole file system is written.
func Sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return errors.Join(&os.PathError{Op: "syncfs", Path: dir, Err: err}, f.Close())
	}
	return f.Close()
}
