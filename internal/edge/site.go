package edge

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"makeitso/internal/edge/upstream"
)

// originTimeout is how long an origin may take to give an object.
const originTimeout = 30 * time.Second

var errLarge = errors.New("the object is too large to keep")

// serveSite answers from the cache or the site's bucket.
func (x *exchange) serveSite(r *http.Request, s *site) {
	x.entry.Service = s.Name
	x.w.Header().Set("X-Request-Id", x.entry.ID)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET, HEAD")
		x.page(http.StatusMethodNotAllowed, "method not allowed", "A site is only read: GET and HEAD.")
		return
	}
	s = s.at(r.URL.Path)
	if r.TLS == nil && s.Plain != "" {
		if secure := x.plane.secureAddress(x.plane.current().config); secure != "" {
			x.demandHTTPS(r, s, portOf(secure))
			return
		}
	}
	if x.moved(r, s) {
		return
	}
	name := r.URL.Path
	if name == "/" && s.Index != "" {
		name += s.Index
		s = s.at(name)
	}
	if !isObjectPath(name) {
		x.page(http.StatusBadRequest, "bad request", "The path has a part that names no object.")
		return
	}
	if name == "/" { // the bucket itself would answer with the list of what it has
		x.siteError(r, s, http.StatusNotFound)
		return
	}
	o, err := x.object(r.Context(), s, name)
	switch {
	case errors.Is(err, errLarge):
		x.passThrough(r, s, name)
	case x.client.Err() != nil:
		x.abandon()
	case err != nil:
		x.entry.Error = err.Error()
		x.siteError(r, s, http.StatusBadGateway)
	case o.isRedirect():
		x.redirect(o)
	case o.status != http.StatusOK:
		x.siteError(r, s, o.status)
	default:
		x.serveObject(r, x.encoded(r, s, name, o))
	}
}

// demandHTTPS answers a plain request of a site that wants HTTPS.
func (x *exchange) demandHTTPS(r *http.Request, s *site, port string) {
	if s.Plain == PlainRefused {
		x.page(http.StatusForbidden, "only HTTPS", "This site answers by HTTPS only, at port "+port+".")
		return
	}
	to := url.URL{Scheme: "https", Host: x.host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if port != "443" {
		to.Host = net.JoinHostPort(x.host, port)
	}
	x.w.Header().Set("Location", to.String())
	x.w.WriteHeader(http.StatusMovedPermanently)
}

// serveObject answers with an object, or the part or the news of it that was
// asked for.
func (x *exchange) serveObject(r *http.Request, o *object) {
	h := x.w.Header()
	maps.Copy(h, o.header)
	h.Set("Age", age(o))
	if o.header.Get("Content-Encoding") != "" && r.Header.Get("If-Match") == "" && r.Header.Get("If-Unmodified-Since") == "" {
		h.Set("Content-Length", strconv.Itoa(len(o.body))) // which ServeContent leaves out where there is a coding
	}
	modified, _ := http.ParseTime(o.header.Get("Last-Modified")) // the zero time is "not known"
	http.ServeContent(&x.w, r, "", modified, bytes.NewReader(o.body))
}

func age(o *object) string { return strconv.Itoa(int(time.Since(o.stored).Seconds())) }

// redirect answers with a redirect of the origin.
func (x *exchange) redirect(o *object) {
	h := x.w.Header()
	maps.Copy(h, o.header)
	h.Set("Age", age(o))
	x.w.WriteHeader(o.status)
}

// isObjectPath says whether an origin could have an object of that path. A
// part "..", however it was written, would lead out of the bucket.
func isObjectPath(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return strings.HasPrefix(name, "/") && !strings.ContainsRune(name, 0)
}

// object gives an object from the cache or the origin and notes which. One
// that has expired is served while it is asked for anew, or if the origin fails
// to answer for it, as far as its Cache-Control lets it be.
func (x *exchange) object(ctx context.Context, s *site, name string) (*object, error) {
	k := key{site: s.Name, path: name}
	old, now := x.plane.cache.get(k), time.Now()
	switch {
	case old == nil:
	case now.Before(old.expires):
		x.cacheIs("Hit")
		return old, nil
	case now.Before(old.whileRevalidating):
		x.cacheIs("StaleHit")
		x.plane.refresh(s, k, old)
		return old, nil
	}
	x.cacheIs("Miss")
	o, err := x.plane.fetchObject(ctx, s, k, old)
	switch {
	case old == nil || ctx.Err() != nil || errors.Is(err, errLarge):
	case (err != nil || o.status >= 500) && now.Before(old.ifError):
		x.cacheIs("StaleHit")
		return old, nil
	case o.renewed:
		x.cacheIs("RefreshHit")
	}
	return o, err
}

// fetchObject asks the origin for an object, once for all who want it.
func (p *plane) fetchObject(ctx context.Context, s *site, k key, old *object) (*object, error) {
	return p.cache.fetch(ctx, k, old, func() (*object, error) { return p.askOrigin(ctx, s, k.path, old) })
}

// refresh asks for an object anew, unless that is under way, without anybody
// waiting for it. What the origin fails to say is asked again by the next who
// wants the object.
func (p *plane) refresh(s *site, k key, old *object) {
	f, leads := p.cache.join(k, old)
	if !leads {
		return
	}
	p.running.begin()
	go func() {
		defer p.running.end()
		p.cache.lead(k, f, func() (*object, error) { return p.askOrigin(p.life, s, k.path, old) })
	}()
}

func (x *exchange) cacheIs(how string) {
	x.entry.Cache = how
	x.w.Header().Set("X-Cache", how)
}

// siteError answers with the site's own page for that status, else a small one.
func (x *exchange) siteError(r *http.Request, s *site, status int) {
	custom, ok := s.Errors[status]
	if missing := status == http.StatusNotFound || status == http.StatusForbidden; missing && s.Fallback != "" && path.Ext(r.URL.Path) == "" {
		custom, ok = Error{Path: s.Fallback, Status: http.StatusOK}, true
	}
	if ok {
		how := x.entry.Cache
		s = s.at(custom.Path)
		o, err := x.object(r.Context(), s, custom.Path)
		if err == nil && o.status == http.StatusOK {
			o = x.encoded(r, s, custom.Path, o)
			h := x.w.Header()
			maps.Copy(h, o.header)
			for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges"} {
				h.Del(name) // they are of the page, not of what was asked for
			}
			h.Set("Content-Length", strconv.Itoa(len(o.body)))
			x.w.WriteHeader(custom.Status)
			if r.Method != http.MethodHead {
				if _, err := x.w.Write(o.body); err != nil {
					x.entry.Error = err.Error()
				}
			}
			return
		}
		x.cacheIs(how)
		x.entry.Error = fmt.Sprintf("the page %s for status %d cannot be served", custom.Path, status)
	}
	switch status {
	case http.StatusNotFound, http.StatusForbidden:
		x.page(status, "not found", "There is nothing at "+r.URL.Path+".")
	default:
		x.page(http.StatusBadGateway, "the origin failed", "The bucket of this site does not answer as it should.")
	}
}

// askOrigin gets an object; with an old one it asks only whether that is still
// good, and then gives it with a new term.
func (p *plane) askOrigin(ctx context.Context, s *site, name string, old *object) (*object, error) {
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	header := http.Header{}
	if old != nil && old.header.Get("Etag") != "" {
		header.Set("If-None-Match", old.header.Get("Etag"))
	}
	res, err := p.originRequest(ctx, s, name, header)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	now := time.Now()
	if res.StatusCode == http.StatusNotModified && old != nil {
		renewed := *old
		if res.Header.Get("Cache-Control") != "" {
			renewed.header = old.header.Clone()
			renewed.header.Set("Cache-Control", res.Header.Get("Cache-Control"))
		}
		renewed.renewed = true
		renewed.stored, renewed.freshness = now, fresh(renewed.header, s.Behavior, now)
		return &renewed, nil
	}
	if to := redirected(res); to != 0 {
		o := &object{status: to, header: redirectHeader(res, s.OriginHost), stored: now}
		o.freshness = fresh(o.header, s.Behavior, now)
		return o, nil
	}
	if res.StatusCode != http.StatusOK {
		return &object{status: res.StatusCode}, nil
	}
	if res.ContentLength > objectBytes {
		return nil, errLarge
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, objectBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s from the origin: %w", name, err)
	}
	if len(body) > objectBytes {
		return nil, errLarge
	}
	o := &object{status: http.StatusOK, header: siteHeader(res.Header, name), body: body, stored: now}
	o.freshness = fresh(o.header, s.Behavior, now)
	if s.Compress && compressible(o) {
		o.header.Set("Vary", "Accept-Encoding")
	}
	return o, nil
}

// objectLocation is the header by which an object of a bucket says that it only
// leads elsewhere.
const objectLocation = "X-Amz-Website-Redirect-Location"

// redirected gives the status of the redirect that an origin answers with, 0
// if that is none.
func redirected(res *http.Response) int {
	switch res.StatusCode {
	case http.StatusOK:
		if res.Header.Get(objectLocation) != "" {
			return http.StatusMovedPermanently
		}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if res.Header.Get("Location") != "" {
			return res.StatusCode
		}
	}
	return 0
}

// redirectHeader gives a redirect's header. An origin that leads to itself
// means the site.
func redirectHeader(res *http.Response, origin string) http.Header {
	location := cmp.Or(res.Header.Get(objectLocation), res.Header.Get("Location"))
	if to, err := url.Parse(location); err == nil && to.Host != "" && to.Host == origin {
		to.Scheme, to.Host = "", ""
		if location = to.String(); strings.HasPrefix(location, "//") { // what follows would be taken for a host
			location = "/." + location
		}
	}
	h := http.Header{"Location": {location}}
	for _, name := range []string{"Cache-Control", "Expires"} {
		if v := res.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	return h
}

// passThrough streams an object that is too large to keep; ranges and
// conditions are the origin's to judge.
func (x *exchange) passThrough(r *http.Request, s *site, name string) {
	header := http.Header{}
	for _, h := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if v := r.Header.Get(h); v != "" {
			header.Set(h, v)
		}
	}
	res, err := x.plane.originRequest(r.Context(), s, name, header)
	if err != nil {
		x.entry.Error = err.Error()
		x.siteError(r, s, http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 && res.StatusCode != http.StatusPreconditionFailed && res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		x.siteError(r, s, res.StatusCode)
		return
	}
	h := x.w.Header()
	maps.Copy(h, siteHeader(res.Header, name))
	for _, name := range []string{"Content-Length", "Content-Range", "Accept-Ranges"} {
		if v := res.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	x.w.WriteHeader(res.StatusCode)
	if r.Method == http.MethodHead {
		return
	}
	buffer := upstream.Buffer()
	defer upstream.Release(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{&x.w}, res.Body, buffer); err != nil {
		x.entry.Error = err.Error()
		panic(http.ErrAbortHandler) // the client must see that this is not the whole
	}
}

// originRequest asks the bucket for an object, signed if the site has keys.
func (p *plane) originRequest(ctx context.Context, s *site, name string, header http.Header) (*http.Response, error) {
	target := *s.origin
	target.Path = strings.TrimSuffix(s.origin.Path, "/") + name
	target.RawPath = escapeKey(target.Path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the origin for %s: %w", name, err)
	}
	req.Header, req.Host = header, s.OriginHost
	if s.AccessKey != "" {
		empty := sha256.Sum256(nil)
		hash := hex.EncodeToString(empty[:])
		req.Header.Set("X-Amz-Content-Sha256", hash)
		region := s.Region
		if region == "" {
			region = "us-east-1"
		}
		keys := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
		err := v4.NewSigner().SignHTTP(ctx, keys, req, hash, "s3", region, time.Now(), func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping = true // S3 signs the path as it is sent
		})
		if err != nil {
			return nil, fmt.Errorf("sign the request for %s: %w", name, err)
		}
	}
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask the origin for %s: %w", name, err)
	}
	return res, nil
}

// escapeKey writes a path as S3's signature wants it: everything but letters,
// digits, - . _ ~ and / is escaped, which is more than url.URL does.
func escapeKey(path string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(path))
}

// siteHeader gives what of an origin's header is the client's.
func siteHeader(from http.Header, name string) http.Header {
	h := http.Header{}
	for _, field := range []string{"Content-Type", "Cache-Control", "Expires", "Etag", "Last-Modified",
		"Content-Encoding", "Content-Language", "Content-Disposition"} {
		if v := from.Get(field); v != "" {
			h.Set(field, v)
		}
	}
	switch h.Get("Content-Type") {
	case "", "application/octet-stream", "binary/octet-stream": // nobody said what it is
		if t := mime.TypeByExtension(path.Ext(name)); t != "" {
			h.Set("Content-Type", t)
		} else {
			h.Set("Content-Type", "application/octet-stream")
		}
	}
	return h
}
