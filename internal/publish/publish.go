// Package publish brings a folder of files into a bucket, sending only what
// changed, in an order in which no page ever refers to a file that is not
// there. It knows files, content types and caching; it must not know which
// server holds the bucket.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"makeitso/internal/fault"
)

// Bucket is where files are published.
type Bucket interface {
	// List gives the ETag of every key: the MD5 of the content in lower-case
	// hexadecimal digits. Another form of ETag counts as changed.
	List(ctx context.Context) (map[string]string, error)
	// PutFiles stores files side by side: paths gives the file of each key,
	// header the HTTP header (Content-Type, Cache-Control) of a key. It gives the
	// keys that are there; after a failure, which names a key, it begins with no
	// other and gives those too that may have come to be. Putting the same again
	// is fine.
	PutFiles(ctx context.Context, paths map[string]string, header func(key string) map[string]string) (put []string, err error)
	// Delete removes keys; one that is gone is fine.
	Delete(ctx context.Context, keys ...string) error
}

// Options is how publishing differs from the usual.
type Options struct {
	// Keep leaves keys in the bucket that are not in the folder.
	Keep bool
	// Digests remembers what files held when they were published before, nil
	// for nothing.
	Digests *Digests
}

// Report is what was done, each list in order of the keys. After a failure, Put
// has those too of which nobody knows.
type Report struct {
	Put       []string `json:"put"`
	Deleted   []string `json:"deleted"`
	Unchanged []string `json:"unchanged"`
}

// Summary says in one line how much was done.
func (r Report) Summary() string {
	return fmt.Sprintf("%d put, %d deleted, %d unchanged", len(r.Put), len(r.Deleted), len(r.Unchanged))
}

// Invalid gives the URL paths that caches must forget, in order.
func (r Report) Invalid() []string {
	paths := make([]string, 0, len(r.Put)+len(r.Deleted))
	for _, key := range slices.Concat(r.Put, r.Deleted) {
		paths = append(paths, "/"+key)
		if path.Base(key) == "index.html" {
			paths = append(paths, "/"+strings.TrimSuffix(key, "index.html"))
		}
	}
	slices.Sort(paths)
	return paths
}

// Publish makes the bucket hold the files of dir. Assets go first, pages after
// them, and what is no longer there is deleted at the end; a failure stops it
// there, with the report of what was done until then. A folder that is missing
// or empty is fault.Invalid, and the bucket stays as it is.
func Publish(ctx context.Context, dir string, b Bucket, o Options) (Report, error) {
	files, there, err := compare(ctx, dir, b, cmp.Or(o.Digests, &Digests{}))
	if err != nil {
		return Report{}, err
	}
	r := Report{Put: []string{}, Deleted: []string{}, Unchanged: []string{}} // no list is missing where it is printed
	var changed [ranks][]file
	for _, f := range files {
		if strings.Trim(there[f.key], `"`) == f.md5 {
			r.Unchanged = append(r.Unchanged, f.key)
			continue
		}
		changed[rank(f.key)] = append(changed[rank(f.key)], f)
	}
	for _, files := range changed {
		if len(files) == 0 {
			continue
		}
		paths := map[string]string{}
		for _, f := range files {
			paths[f.key] = f.path
		}
		put, err := b.PutFiles(ctx, paths, header)
		r.Put = append(r.Put, put...)
		if err != nil {
			return r.sorted(), err
		}
	}
	if gone := missing(there, files); len(gone) > 0 && !o.Keep {
		if err := b.Delete(ctx, gone...); err != nil {
			return r.sorted(), fmt.Errorf("delete what is no longer published: %w", err)
		}
		r.Deleted = gone
	}
	return r.sorted(), nil
}

// compare gives the files of dir with their digests, and the ETags of the
// bucket, which it reads meanwhile.
func compare(ctx context.Context, dir string, b Bucket, digests *Digests) (files []file, there map[string]string, err error) {
	files, err = readFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	var listErr error
	var listing sync.WaitGroup
	listing.Go(func() { there, listErr = b.List(ctx) })
	err = digests.fill(ctx, dir, files)
	listing.Wait()
	if err != nil {
		return nil, nil, fmt.Errorf("read the site's folder: %w", err)
	}
	if listErr != nil {
		return nil, nil, fmt.Errorf("list the bucket: %w", listErr)
	}
	return files, there, nil
}

func (r Report) sorted() Report {
	slices.Sort(r.Put)
	slices.Sort(r.Unchanged)
	return r
}

// missing gives the keys of the bucket that no file has, in order.
func missing(there map[string]string, files []file) []string {
	published := map[string]bool{}
	for _, f := range files {
		published[f.key] = true
	}
	var gone []string
	for key := range there {
		if !published[key] {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	return gone
}

// file is a file to publish.
type file struct {
	key  string // path in the folder, with slashes
	path string
	md5  string
}

// readFolder finds the files of dir, not yet their digests. Links to files are
// followed, as a build may link instead of copy; hidden files are published
// too, since .well-known must be.
func readFolder(dir string) ([]file, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Invalid, "the folder %s does not exist", dir).
			WithHint("run the build that makes it first, or correct the site's from")
	}
	if err != nil {
		return nil, fmt.Errorf("read the site's folder: %w", err)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Invalid, "%s is not a folder", dir).WithHint("name the folder of the site's files as from")
	}
	var files []file
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files = append(files, file{key: filepath.ToSlash(rel), path: name})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the site's folder: %w", err)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Invalid, "the folder %s is empty", dir).
			WithHint("run the build that fills it first; nothing was deleted from the bucket")
	}
	return files, nil
}

// ranks is how many ranks there are.
const ranks = 4

// rank puts what is referred to before what refers to it: hashed assets, other
// assets (which may load hashed ones), pages, and the pages by which everybody
// enters last. Files of one rank go side by side.
func rank(key string) int {
	switch {
	case path.Base(key) == "index.html":
		return 3
	case isPage(key):
		return 2
	case isHashed(key):
		return 0
	}
	return 1
}

func isPage(key string) bool {
	ext := strings.ToLower(path.Ext(key))
	return ext == ".html" || ext == ".htm"
}

// hash finds what may be a hash in a name, as bundlers put it there:
// main-5QK3ZB7A.js, main.d41d8cd9.css.
var hash = regexp.MustCompile(`[-.]([A-Z0-9]{8,}|[0-9a-f]{8,})\.[A-Za-z0-9.]+$`)

// isHashed says whether a name changes with its content. A date is no hash
// (photo-20240101.jpg), nor is a word that happens to be hexadecimal.
func isHashed(key string) bool {
	found := hash.FindStringSubmatch(path.Base(key))
	if found == nil {
		return false
	}
	if strings.ContainsAny(found[1], "abcdef") {
		return strings.ContainsAny(found[1], "0123456789")
	}
	return strings.ContainsAny(found[1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// header gives the header a key is published with. A page is asked for anew
// each time (and answered with 304 where it is the same); a hashed name never
// changes; the rest is kept for a minute, so that a change is soon seen.
func header(key string) map[string]string {
	cache := "public, max-age=60"
	switch {
	case isPage(key):
		cache = "no-cache"
	case isHashed(key):
		cache = "public, max-age=31536000, immutable"
	}
	return map[string]string{"Content-Type": contentType(key), "Cache-Control": cache}
}

// contentType is by extension, from our own list first: the system's differs
// from machine to machine.
func contentType(key string) string {
	ext := strings.ToLower(path.Ext(key))
	switch ext {
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".svg":
		return "image/svg+xml"
	case ".ico":
		return "image/x-icon"
	case ".txt":
		return "text/plain; charset=utf-8"
	case ".xml":
		return "application/xml"
	case ".woff2":
		return "font/woff2"
	case ".wasm":
		return "application/wasm"
	}
	return cmp.Or(mime.TypeByExtension(ext), "application/octet-stream")
}
