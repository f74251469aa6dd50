package datafolder

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file, back := filepath.Join(dir, "data"), filepath.Join(dir, "base.tar"), filepath.Join(dir, "back")
	write(t, filepath.Join(data, "base", "1", "2"), "table")
	write(t, filepath.Join(data, "PG_VERSION"), "15")
	write(t, filepath.Join(data, "postmaster.pid"), "1")
	if err := Pack(data, file); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(file, back, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(back, "base", "1", "2")); err != nil || string(text) != "table" {
		t.Errorf("a file came back as %q, %v", text, err)
	}
	if info, err := os.Stat(back); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(back, "postmaster.pid")); err == nil {
		t.Error("the former server's number came along")
	}
	if err := Pack(filepath.Join(dir, "none"), file); err == nil {
		t.Error("packed a folder that is not there")
	}
	if _, err := os.Stat(file + ".half"); err == nil {
		t.Error("half of a file is left")
	}
	if text, err := os.ReadFile(file); err != nil || len(text) == 0 {
		t.Errorf("the file that was there is gone: %v", err)
	}
}

func TestNothingLiesElsewhere(t *testing.T) {
	t.Parallel()
	for _, header := range []tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg, Mode: 0o600}, {Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := unpack(&archive, filepath.Join(dir, "data"), nil); err == nil {
			t.Errorf("unpacked %s", header.Name)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s lies elsewhere", header.Name)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	if err := Copy(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := WriteLike(path, path+"2", []byte("new")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path: "new", path + "2": "old"} {
		if text, err := os.ReadFile(name); err != nil || string(text) != want {
			t.Errorf("%s holds %q, %v; want %q", name, text, err, want)
		}
	}
}
