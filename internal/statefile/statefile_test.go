package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteReplacesWholeAndLeavesNothingBeside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	for _, want := range []string{"first, which is the longer one", "second"} {
		if err := Write(path, want); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := Read(path, &got); err != nil || got != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("folder holds %v, %v; want x.json alone", entries, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestFailedWriteKeepsTheOldValue(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	if err := Write(path, 1); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, func() {}); err == nil {
		t.Fatal("a function was encoded as JSON")
	}
	var got int
	if err := Read(path, &got); err != nil || got != 1 {
		t.Fatalf("read %d, %v; want 1", got, err)
	}
}

func TestReadOfNothingSaysSo(t *testing.T) {
	var got int
	if err := Read(filepath.Join(t.TempDir(), "none"), &got); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v; want fs.ErrNotExist", err)
	}
}
