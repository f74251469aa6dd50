package publish_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"makeitso/internal/publish"
)

// settle waits until the file's last change lies far enough back for its digest
// to be remembered.
func settle(t *testing.T, path string) {
	t.Helper()
	for {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(info.ModTime()) > 300*time.Millisecond {
			return
		}
		time.Sleep(10 * time.Millisecond) // nothing tells that a clock goes on
	}
}

// A change must be seen that leaves size and time of the file as they were.
func TestRememberedDigests(t *testing.T) {
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	write(t, dir, map[string]string{"index.html": "one", "same.txt": "same"})
	page := filepath.Join(dir, "index.html")
	settle(t, page)
	o := publish.Options{Digests: &publish.Digests{}}
	again := func(put ...string) {
		t.Helper()
		r, err := publish.Publish(t.Context(), dir, b, o)
		if err != nil || len(r.Put) != len(put) || len(put) > 0 && r.Put[0] != put[0] {
			t.Errorf("put %v, %v; want %v", r.Put, err, put)
		}
	}
	again("index.html", "same.txt")
	again()
	info, err := os.Stat(page)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(page, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	again("index.html")
	if b.content["index.html"] != "two" {
		t.Errorf("the bucket holds %q", b.content["index.html"])
	}
	// Another file in the place of one is another, whatever its times.
	other := filepath.Join(dir, "..", "other")
	if err := os.WriteFile(other, []byte("six"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(other, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, page); err != nil {
		t.Fatal(err)
	}
	again("index.html")
}
