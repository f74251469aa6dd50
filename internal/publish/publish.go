// Package publish brings a folder of files into a bucket, sending only what
// changed, in an order in which no page ever refers to a file that is not
// there. It knows files, content types and caching; it must not know which
// server holds the bucket.
package publish

import (
	"cmp"
	"context"
	"crypto/md5" // an ETag is an MD5; nothing is protected by it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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
	// Put stores the file at path under key with the given HTTP header
	// (Content-Type, Cache-Control). Putting the same again is fine. It is called
	// for several keys at once.
	Put(ctx context.Context, key, path string, header map[string]string) error
	// Delete removes keys; one that is gone is fine.
	Delete(ctx context.Context, keys ...string) error
}

// Options is how publishing differs from the usual.
type Options struct {
	// Keep leaves keys in the bucket that are not in the folder.
	Keep bool
}

// Report is what was done, each list in order of the keys.
type Report struct {
	Put       []string `json:"put"`
	Deleted   []string `json:"deleted"`
	Unchanged []string `json:"unchanged"`
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
	files, err := readFolder(ctx, dir)
	if err != nil {
		return Report{}, err
	}
	there, err := b.List(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("list the bucket: %w", err)
	}
	var r Report
	var changed [ranks][]file
	for _, f := range files {
		if strings.Trim(there[f.key], `"`) == f.md5 {
			r.Unchanged = append(r.Unchanged, f.key)
			continue
		}
		changed[rank(f.key)] = append(changed[rank(f.key)], f)
	}
	for _, files := range changed {
		put, err := putAll(ctx, b, files)
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

// atOnce is how many files are on their way at a time: no more than a client
// keeps connections to one server.
const atOnce = 8

// putAll puts files side by side and gives the keys of those that are there.
// After a failure it begins no other, but waits for those under way: whether
// they came to be must be known, as caches are told of it.
func putAll(ctx context.Context, b Bucket, files []file) (put []string, err error) {
	going, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var mu sync.Mutex // of put
	var putting sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, f := range files {
		places <- struct{}{}
		if going.Err() != nil {
			break
		}
		putting.Go(func() {
			defer func() { <-places }()
			if err := b.Put(ctx, f.key, f.path, header(f.key)); err != nil {
				fail(fmt.Errorf("put %s: %w", f.key, err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			put = append(put, f.key)
		})
	}
	putting.Wait()
	return put, context.Cause(going)
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

// readFolder finds the files of dir and their digests. Links to files are
// followed, as a build may link instead of copy; hidden files are published
// too, since .well-known must be.
func readFolder(ctx context.Context, dir string) ([]file, error) {
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
		sum, err := digest(ctx, name)
		files = append(files, file{key: filepath.ToSlash(rel), path: name, md5: sum})
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

func digest(ctx context.Context, name string) (string, error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fault.New(fault.Invalid, "%s is not a regular file", name).WithHint("put files into the site's folder, not links to folders")
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only: nothing to lose
	sum := md5.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
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
