package publish_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/publish"
)

// bucket is a bucket in memory. After each change it hands itself to check.
type bucket struct {
	content map[string]string
	header  map[string]map[string]string
	log     []string
	fail    string // the key at which PutFiles fails
	check   func()
}

var errFull = errors.New("the bucket is full")

func newBucket() *bucket {
	return &bucket{content: map[string]string{}, header: map[string]map[string]string{}, check: func() {}}
}

func (b *bucket) List(context.Context) (map[string]string, error) {
	etags := map[string]string{}
	for key, content := range b.content {
		sum := md5.Sum([]byte(content))
		etags[key] = hex.EncodeToString(sum[:])
	}
	return etags, nil
}

func (b *bucket) PutFiles(_ context.Context, paths map[string]string, header func(string) map[string]string) (put []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		if key == b.fail {
			return put, fmt.Errorf("put %s: %w", key, errFull)
		}
		content, err := os.ReadFile(paths[key])
		if err != nil {
			return put, err
		}
		b.content[key], b.header[key] = string(content), header(key)
		b.log, put = append(b.log, "put "+key), append(put, key)
		b.check()
	}
	return put, nil
}

func (b *bucket) Delete(_ context.Context, keys ...string) error {
	for _, key := range keys {
		delete(b.content, key)
		b.log = append(b.log, "delete "+key)
		b.check()
	}
	return nil
}

// write makes a folder hold exactly files.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func mustPublish(t *testing.T, dir string, b *bucket) publish.Report {
	t.Helper()
	r, err := publish.Publish(t.Context(), dir, b, publish.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A page's content names the files it needs. After every single change, each
// page in the bucket must find them.
func TestEveryMomentIsWhole(t *testing.T) {
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	b.check = func() {
		for key, content := range b.content {
			if !strings.HasSuffix(key, ".html") && key != "loader.js" {
				continue
			}
			for _, needed := range strings.Fields(content) {
				if _, ok := b.content[needed]; !ok {
					t.Errorf("after %q: %s needs %s, which is not there", b.log[len(b.log)-1], key, needed)
				}
			}
		}
	}
	write(t, dir, map[string]string{
		"index.html": "about.html main-5QK3ZB7A.js loader.js", "about.html": "main-5QK3ZB7A.js style.css",
		"loader.js": "z-AAAAAAA2.js", "z-AAAAAAA2.js": "z1", "main-5QK3ZB7A.js": "one", "style.css": "blue", "logo.svg": "logo",
	})
	first := mustPublish(t, dir, b)
	if len(first.Put) != 7 || len(first.Deleted)+len(first.Unchanged) != 0 {
		t.Errorf("first: %+v", first)
	}

	b.log = nil
	write(t, dir, map[string]string{
		"index.html": "new.html main-7QK3ZB7C.js loader.js", "new.html": "main-7QK3ZB7C.js style.css",
		"loader.js": "z-AAAAAAA3.js", "z-AAAAAAA3.js": "z2", "main-7QK3ZB7C.js": "two", "style.css": "blue", "logo.svg": "logo",
	})
	second := mustPublish(t, dir, b)
	want := publish.Report{
		Put:       []string{"index.html", "loader.js", "main-7QK3ZB7C.js", "new.html", "z-AAAAAAA3.js"},
		Deleted:   []string{"about.html", "main-5QK3ZB7A.js", "z-AAAAAAA2.js"},
		Unchanged: []string{"logo.svg", "style.css"},
	}
	if !slices.Equal(second.Put, want.Put) || !slices.Equal(second.Deleted, want.Deleted) || !slices.Equal(second.Unchanged, want.Unchanged) {
		t.Errorf("second: %+v\nwant    %+v", second, want)
	}
	invalid := []string{"/", "/about.html", "/index.html", "/loader.js", "/main-5QK3ZB7A.js", "/main-7QK3ZB7C.js", "/new.html", "/z-AAAAAAA2.js", "/z-AAAAAAA3.js"}
	if got := second.Invalid(); !slices.Equal(got, invalid) {
		t.Errorf("invalid paths %v, want %v", got, invalid)
	}

	b.log = nil
	if third := mustPublish(t, dir, b); len(b.log) != 0 || len(third.Unchanged) != 7 {
		t.Errorf("publishing again did %v: %+v", b.log, third)
	}
}

func TestFailedPutDeletesNothing(t *testing.T) {
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	write(t, dir, map[string]string{"index.html": "1", "old.js": "old"})
	mustPublish(t, dir, b)
	write(t, dir, map[string]string{"index.html": "2", "a.js": "a", "b.js": "b"})
	b.fail, b.log = "b.js", nil
	r, err := publish.Publish(t.Context(), dir, b, publish.Options{})
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "b.js") {
		t.Errorf("got %v, want the bucket's error with the key", err)
	}
	if !slices.Equal(b.log, []string{"put a.js"}) || !slices.Equal(r.Put, []string{"a.js"}) || b.content["index.html"] != "1" {
		t.Errorf("did %v, reported %+v, page %q", b.log, r, b.content["index.html"])
	}
	b.fail = ""
	mustPublish(t, dir, b)
	if got := slices.Sorted(maps.Keys(b.content)); !slices.Equal(got, []string{"a.js", "b.js", "index.html"}) {
		t.Errorf("after trying again the bucket holds %v", got)
	}
}

func TestHeaders(t *testing.T) {
	const year, minute = "public, max-age=31536000, immutable", "public, max-age=60"
	tests := map[string][2]string{
		"index.html":             {"text/html; charset=utf-8", "no-cache"},
		"deep/page.HTM":          {"text/html; charset=utf-8", "no-cache"},
		"main-5QK3ZB7A.js":       {"text/javascript; charset=utf-8", year},
		"main-ABCDEFGH.js.map":   {"application/json", year},
		"style.d41d8cd9.css":     {"text/css; charset=utf-8", year},
		"main-controls.js":       {"text/javascript; charset=utf-8", minute},
		"photo-20240101.svg":     {"image/svg+xml", minute},
		"12345678.json":          {"application/json", minute},
		"-facadeed.txt":          {"text/plain; charset=utf-8", minute},
		"strange.nobodyknowsit":  {"application/octet-stream", minute},
		"none":                   {"application/octet-stream", minute},
		".well-known/assetlinks": {"application/octet-stream", minute},
	}
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	files := map[string]string{}
	for name := range tests {
		files[name] = name
	}
	write(t, dir, files)
	mustPublish(t, dir, b)
	for name, want := range tests {
		if got := b.header[name]; got["Content-Type"] != want[0] || got["Cache-Control"] != want[1] || len(got) != 2 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestNothingToPublish(t *testing.T) {
	parent := t.TempDir()
	empty, file := filepath.Join(parent, "empty", "deeper"), filepath.Join(parent, "file")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(parent, "missing"): "does not exist",
		filepath.Dir(empty):              "is empty",
		file:                             "is not a folder",
	} {
		b := newBucket()
		b.content["index.html"] = "precious"
		_, err := publish.Publish(t.Context(), dir, b, publish.Options{})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%s: got %v, want invalid with %q and a hint", dir, err, want)
		}
		if len(b.log) != 0 || len(b.content) != 1 {
			t.Errorf("%s: the bucket was changed: %v", dir, b.log)
		}
	}
}

func TestLinks(t *testing.T) {
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	write(t, dir, map[string]string{"index.html": "page"})
	if err := os.Symlink("index.html", filepath.Join(dir, "copy.html")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, dir, b)
	if b.content["copy.html"] != "page" {
		t.Errorf("the link holds %q", b.content["copy.html"])
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "folder")); err != nil {
		t.Fatal(err)
	}
	if _, err := publish.Publish(t.Context(), dir, b, publish.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a link to a folder: %v", err)
	}
}

func TestKeep(t *testing.T) {
	dir, b := filepath.Join(t.TempDir(), "dist"), newBucket()
	write(t, dir, map[string]string{"index.html": "page"})
	b.content["upload"] = "of a user"
	if _, err := publish.Publish(t.Context(), dir, b, publish.Options{Keep: true}); err != nil || len(b.content) != 2 {
		t.Errorf("%v, the bucket holds %v", err, b.content)
	}
}
