// Package statefile keeps one value in one file so that a crash at any moment
// leaves either the old value or the new one. It knows files and JSON; it must
// not know what is kept.
package statefile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Write puts v as JSON in place of what path holds: it is written beside it,
// synced, and renamed over it. Only the owner may read the file.
func Write(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return WriteBytes(path, append(data, '\n'))
}

// WriteBytes puts data in place of what path holds, as Write does.
func WriteBytes(path string, data []byte) (err error) {
	// CreateTemp makes the file readable by its owner alone.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// Rename puts a file, whole and synced, in place of what path holds, and makes
// that last.
func Rename(file, path string) error {
	if err := os.Rename(file, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Read fills v with what path holds. A file that does not exist is reported
// as an error for which errors.Is(err, fs.ErrNotExist) is true.
func Read(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
