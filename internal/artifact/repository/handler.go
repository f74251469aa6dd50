package repository

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SumOf gives what Handler knows of a password.
func SumOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// Handler serves the repositories to those who know the password of that sum.
// report is told of failures that are the registry's own.
func (s *Store) Handler(passwordSum string, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		user, password, _ := r.BasicAuth()
		if user != User || subtle.ConstantTimeCompare([]byte(SumOf(password)), []byte(passwordSum)) != 1 {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm="http://%s/",service="ecr.amazonaws.com"`, r.Host))
			answer(w, refuse(http.StatusUnauthorized, "UNAUTHORIZED", "the registry wants the user %s and its password: docker login", User))
			return
		}
		if err := s.route(w, r); err != nil && answer(w, err) {
			report(fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
		}
	})
}

// target takes a path apart: the repository, what of it, and which.
var target = regexp.MustCompile(`^/v2/(.+)/(blobs/uploads|blobs|manifests|tags|referrers)/([^/]*)$`)

// call is a request for something of a repository.
type call struct {
	s         *Store
	w         http.ResponseWriter
	r         *http.Request
	name, ref string
}

// calls is what can be done, by method and what it is done to.
func calls() map[string]func(call) error {
	return map[string]func(call) error{
		"GET blobs":            call.getBlob,
		"HEAD blobs":           call.getBlob,
		"POST blobs/uploads":   call.beginUpload,
		"GET blobs/uploads":    call.getUpload,
		"PATCH blobs/uploads":  call.addToUpload,
		"PUT blobs/uploads":    call.endUpload,
		"DELETE blobs/uploads": call.cancelUpload,
		"GET manifests":        call.getManifest,
		"HEAD manifests":       call.getManifest,
		"PUT manifests":        call.putManifest,
		"DELETE manifests":     call.deleteManifest,
		"GET tags":             call.listTags,
		"GET referrers":        call.listReferrers,
	}
}

func (s *Store) route(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Path {
	case "/v2", "/v2/":
		return writeJSON(w, "application/json", map[string]any{})
	case "/v2/_catalog":
		names, err := s.names()
		if err != nil {
			return err
		}
		return page(w, r, "repositories", names, map[string]any{})
	}
	part := target.FindStringSubmatch(r.URL.Path)
	if part == nil {
		return refuse(http.StatusNotFound, "UNSUPPORTED", "the registry has nothing under %s", r.URL.Path)
	}
	c := call{s, w, r, part[1], part[3]}
	if !ValidName(c.name) {
		return refuse(http.StatusBadRequest, "NAME_INVALID", "%q is not a repository's name", c.name)
	}
	if _, err := os.Stat(s.file(c.name)); errors.Is(err, fs.ErrNotExist) {
		return s.unknown(c.name)
	} else if err != nil {
		return err
	}
	do, can := calls()[r.Method+" "+part[2]]
	if !can {
		// Also for blobs, as with ECR: they go when no image needs them.
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the registry does not %s %s", r.Method, part[2])
	}
	return do(c)
}

// path gives the address of something of the call's repository.
func (c call) path(what, which string) string { return "/v2/" + c.name + "/" + what + "/" + which }

func (c call) getBlob() error {
	if !validDigest.MatchString(c.ref) {
		return invalidDigest(c.ref)
	}
	has, _, err := c.s.has(c.name, c.ref)
	if err == nil && has {
		err = c.s.touch(c.name, c.ref)
	}
	var f *os.File
	if err == nil && has {
		f, err = os.Open(c.s.blob(c.ref))
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && !has { // it may go in between
		return unknownBlob(c.name, c.ref)
	}
	if err != nil {
		return err
	}
	defer f.Close() // read only: nothing to lose
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("Docker-Content-Digest", c.ref)
	c.w.Header().Set("ETag", strconv.Quote(c.ref))
	http.ServeContent(c.w, c.r, "", time.Time{}, f)
	return nil
}

func (c call) beginUpload() error {
	query := c.r.URL.Query()
	if mount, from := query.Get("mount"), query.Get("from"); validDigest.MatchString(mount) && ValidName(from) {
		mounted, err := c.s.mount(c.name, mount, from)
		if err != nil {
			return err
		}
		if mounted {
			return c.created("blobs", mount)
		}
	}
	id, err := c.s.begin(c.name)
	if err != nil {
		return err
	}
	c.ref = id
	if query.Get("digest") != "" {
		err := c.endUpload()
		if err != nil { // nobody knows it, to go on
			err = errors.Join(err, c.s.drop(c.name, id))
		}
		return err
	}
	return c.uploaded(http.StatusAccepted, 0)
}

// created answers that something is here now.
func (c call) created(what, digest string) error {
	c.w.Header().Set("Location", c.path(what, digest))
	c.w.Header().Set("Docker-Content-Digest", digest)
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// uploaded answers how much of an upload has come.
func (c call) uploaded(status int, size int64) error {
	c.progress(size)
	c.w.WriteHeader(status)
	return nil
}

func (c call) progress(size int64) {
	c.w.Header().Set("Location", c.path("blobs/uploads", c.ref))
	c.w.Header().Set("Docker-Upload-UUID", c.ref)
	c.w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, size-1)))
}

func (c call) getUpload() error {
	f, size, err := c.s.upload(c.name, c.ref)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.uploaded(http.StatusNoContent, size)
}

func (c call) cancelUpload() error {
	f, _, err := c.s.upload(c.name, c.ref)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.s.drop(c.name, c.ref); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c call) addToUpload() error {
	f, size, err := c.s.upload(c.name, c.ref)
	if err != nil {
		return err
	}
	size, err = c.receive(f, size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.uploaded(http.StatusAccepted, size)
}

func (c call) endUpload() error {
	f, size, err := c.s.upload(c.name, c.ref)
	if err != nil {
		return err
	}
	digest := c.r.URL.Query().Get("digest")
	if _, err = c.receive(f, size); err == nil {
		err = c.s.finish(c.name, f, digest)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.created("blobs", digest)
}

// receive adds the request's body to an upload, if it begins where the upload
// ends.
func (c call) receive(f *os.File, size int64) (int64, error) {
	if text := c.r.Header.Get("Content-Range"); text != "" {
		first, last, ok := parseRange(text)
		length := c.r.ContentLength
		switch {
		case !ok, length >= 0 && last-first+1 != length:
			return size, refuse(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "Content-Range %q does not fit a body of %d bytes", text, length)
		case first != size:
			c.progress(size)
			return size, refuse(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "%d bytes of the upload have come, and the chunk begins at %d", size, first)
		}
	}
	return add(f, size, c.r.Body)
}

// parseRange reads FIRST-LAST.
func parseRange(text string) (first, last int64, ok bool) {
	from, to, _ := strings.Cut(text, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	last, err = strconv.ParseInt(to, 10, 64)
	return first, last, err == nil && last >= first-1
}

func (c call) getManifest() error {
	digest, err := c.s.resolve(c.name, c.ref)
	if err != nil {
		return err
	}
	i, err := c.s.image(c.name, digest)
	if err != nil {
		return err
	}
	header := c.w.Header()
	header.Set("Content-Type", i.MediaType)
	header.Set("Content-Length", strconv.Itoa(len(i.Manifest)))
	header.Set("Docker-Content-Digest", digest)
	header.Set("ETag", strconv.Quote(digest))
	_, _ = c.w.Write(i.Manifest) // of a HEAD, nothing is sent; else nobody is there any more
	return nil
}

func (c call) putManifest() error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxManifest))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "a manifest has at most %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the request ended before its body: %v", err)
	}
	mediaType, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	digest, m, err := c.s.put(c.name, c.ref, image{MediaType: strings.TrimSpace(mediaType), Manifest: body})
	if err != nil {
		return err
	}
	if m.Subject != nil {
		c.w.Header().Set("OCI-Subject", m.Subject.Digest)
	}
	return c.created("manifests", digest)
}

func (c call) deleteManifest() error {
	remove := c.s.untag
	if strings.Contains(c.ref, ":") {
		remove = c.s.remove
	}
	if err := remove(c.name, c.ref); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (c call) listTags() error {
	if c.ref != "list" {
		return refuse(http.StatusNotFound, "UNSUPPORTED", "the registry has nothing under %s", c.r.URL.Path)
	}
	d, _, err := c.s.read(c.name)
	if err != nil {
		return err
	}
	return page(c.w, c.r, "tags", slices.Sorted(maps.Keys(d.Tags)), map[string]any{"name": c.name})
}

func (c call) listReferrers() error {
	if !validDigest.MatchString(c.ref) {
		return invalidDigest(c.ref)
	}
	artifactType := c.r.URL.Query().Get("artifactType")
	found, err := c.s.referrers(c.name, c.ref, artifactType)
	if err != nil {
		return err
	}
	if artifactType != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSON(c.w, index[0], map[string]any{"schemaVersion": 2, "mediaType": index[0], "manifests": found})
}

// page answers with the part of a sorted list that the request asks for, under
// key beside what else is given.
func page(w http.ResponseWriter, r *http.Request, key string, all []string, with map[string]any) error {
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		at, is := slices.BinarySearch(all, last)
		if is {
			at++
		}
		all = all[at:]
	}
	n, err := strconv.Atoi(cmp.Or(query.Get("n"), strconv.Itoa(len(all))))
	if err != nil || n < 0 {
		return refuse(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n=%s is not a number of entries", query.Get("n"))
	}
	if n < len(all) {
		all = all[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, next.Encode()))
		}
	}
	with[key] = append([]string{}, all...)
	return writeJSON(w, "application/json", with)
}

func writeJSON(w http.ResponseWriter, contentType string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(text) // nobody is there any more
	return nil
}
