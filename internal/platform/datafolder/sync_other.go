//go:build !linux

package datafolder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Sync returns when all that was written below a folder is on the disk.
func Sync(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
