package edge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"makeitso/internal/fault"
)

const (
	siteHost = "www.shop.localhost"
	siteName = "local/site/Distribution"
)

// bucket is a small S3-like origin: it checks the signature of each request
// and answers with objects, conditionally and in ranges.
type bucket struct {
	t       testing.TB
	server  *httptest.Server
	mu      sync.Mutex
	objects map[string]stored
	asked   []string // "GET /key" or "304 /key"
	down    bool
	open    bool          // whether requests need no signature
	host    string        // that it was asked as last
	hold    chan struct{} // if set, answers tell arrived and wait for it
	arrived chan struct{}
}

type stored struct {
	body, cacheControl, contentType string
	location                        string // by which the object leads elsewhere
}

func newBucket(t testing.TB) *bucket {
	b := &bucket{t: t, objects: map[string]stored{}, arrived: make(chan struct{}, 100)}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		b.arrived <- struct{}{}
		<-hold
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.host = r.Host
	if !b.open && !signed(r) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if strings.ContainsAny(r.RequestURI, "!'()*+,;=:@&$") {
		b.t.Errorf("the path %s is not escaped as S3 signs it", r.RequestURI)
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/bucket/")
	if r.URL.RawQuery != "" || !ok || key == "" {
		b.t.Errorf("the origin was asked for %s", r.URL)
	}
	o, ok := b.objects[key]
	if !ok {
		b.asked = append(b.asked, "404 /"+key)
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
		return
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(o.body)))
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Content-Type", o.contentType)
	h.Set("X-Amz-Request-Id", "secret")
	if o.location != "" {
		h.Set("X-Amz-Website-Redirect-Location", o.location)
	}
	if o.cacheControl != "" {
		h.Set("Cache-Control", o.cacheControl)
	}
	status := "GET"
	if r.Header.Get("If-None-Match") == etag {
		status = "304"
	} else if r.Header.Get("Range") != "" {
		status = "range"
	}
	b.asked = append(b.asked, status+" /"+key)
	http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), strings.NewReader(o.body))
}

// signed makes the signature of the request anew and compares.
func signed(r *http.Request) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again := r.Clone(context.Background())
	again.Header = http.Header{"X-Amz-Content-Sha256": r.Header["X-Amz-Content-Sha256"]}
	for _, name := range []string{"If-None-Match", "Range"} {
		if v := r.Header[name]; v != nil {
			again.Header[name] = v
		}
	}
	again.URL.Host, again.URL.Scheme = r.Host, "http"
	keys := aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret"}
	err = v4.NewSigner().SignHTTP(context.Background(), keys, again, r.Header.Get("X-Amz-Content-Sha256"), "s3", "eu-west-1", at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return err == nil && again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

func (b *bucket) put(key, body, cacheControl string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = stored{body: body, cacheControl: cacheControl, contentType: "binary/octet-stream"}
}

// log gives what was asked since the last call.
func (b *bucket) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.asked = nil }()
	return strings.Join(b.asked, ", ")
}

func (b *bucket) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bucket) behavior() Behavior {
	return Behavior{Origin: b.server.URL + "/bucket", AccessKey: "key", SecretKey: "secret", Region: "eu-west-1", TTL: time.Hour}
}

func (b *bucket) site(version int64, change ...func(*Site)) Config {
	s := Site{Name: siteName, Hosts: []string{siteHost}, Index: "index.html", Behavior: b.behavior()}
	for _, c := range change {
		c(&s)
	}
	return Config{Version: version, Sites: []Site{s}}
}

// expect asks for a path and checks the answer.
func (r *running) expect(t testing.TB, path string, status int, cache, body string) *http.Response {
	t.Helper()
	res, got := r.get(t, siteHost, path)
	if res.StatusCode != status || res.Header.Get("X-Cache") != cache || body != "*" && got != body {
		t.Errorf("%s: got %d %s %.60q, want %d %s %.60q", path, res.StatusCode, res.Header.Get("X-Cache"), got, status, cache, body)
	}
	return res
}

func TestSiteIsCached(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	b.put("index.html", "<h1>hello</h1>", "")
	b.put("a b+c(1)!=ü.css", "body{}", "max-age=60")
	b.put("never.txt", "n", "no-store")
	b.put("always.txt", "a", "no-cache")
	b.put("soon.txt", "s", "s-maxage=0, max-age=100")

	res := e.expect(t, "/", 200, "Miss", "<h1>hello</h1>")
	if res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("X-Amz-Request-Id") != "" || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("header: %v", res.Header)
	}
	e.expect(t, "/index.html", 200, "Hit", "<h1>hello</h1>")
	e.expect(t, "/?q=1", 200, "Hit", "<h1>hello</h1>")
	e.expect(t, "/a%20b%2Bc(1)!=%C3%BC.css", 200, "Miss", "body{}")
	if res := e.expect(t, "/a%20b+c(1)!=%C3%BC.css", 200, "Hit", "body{}"); res.Header.Get("Cache-Control") != "max-age=60" || res.Header.Get("Age") != "0" {
		t.Errorf("header: %v", res.Header)
	}
	for range 2 {
		e.expect(t, "/never.txt", 200, "Miss", "n")
	}
	e.expect(t, "/always.txt", 200, "Miss", "a")
	e.expect(t, "/always.txt", 200, "RefreshHit", "a")
	b.put("always.txt", "changed", "no-cache")
	e.expect(t, "/always.txt", 200, "Miss", "changed")
	e.expect(t, "/soon.txt", 200, "Miss", "s")
	e.expect(t, "/soon.txt", 200, "RefreshHit", "s")
	want := "GET /index.html, GET /a b+c(1)!=ü.css, GET /never.txt, GET /never.txt, " +
		"GET /always.txt, 304 /always.txt, GET /always.txt, GET /soon.txt, 304 /soon.txt"
	if got := b.log(); got != want {
		t.Errorf("the origin was asked\n%s, want\n%s", got, want)
	}
}

func TestSiteAnswersConditionsAndRanges(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	b.put("x.txt", "0123456789", "")
	res := e.expect(t, "/x.txt", 200, "Miss", "0123456789")
	ask := func(method, name, value string) (*http.Response, string) {
		req := e.request(t, method, siteHost, "/x.txt", nil)
		req.Header.Set(name, value)
		return e.do(t, req)
	}
	if res, body := ask("GET", "If-None-Match", res.Header.Get("ETag")); res.StatusCode != 304 || body != "" {
		t.Errorf("If-None-Match: %s %q", res.Status, body)
	}
	if res, body := ask("GET", "Range", "bytes=2-4"); res.StatusCode != 206 || body != "234" || res.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("Range: %s %q %v", res.Status, body, res.Header)
	}
	if res, body := ask("GET", "Range", "bytes=20-"); res.StatusCode != 416 {
		t.Errorf("Range beyond the end: %s %q", res.Status, body)
	}
	if res, body := ask("HEAD", "X", ""); res.StatusCode != 200 || body != "" || res.ContentLength != 10 {
		t.Errorf("HEAD: %s %q %d", res.Status, body, res.ContentLength)
	}
	if res, _ := ask("DELETE", "X", ""); res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("DELETE: %s %v", res.Status, res.Header)
	}
	if got := b.log(); got != "GET /x.txt" {
		t.Errorf("the origin was asked %s", got)
	}
}

func TestInvalidate(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	paths := []string{"/index.html", "/img/a.png", "/img/b.png"}
	fill := func(text string) {
		for _, p := range paths {
			b.put(p[1:], text, "max-age=3600")
		}
	}
	check := func(index, a, bb string) {
		t.Helper()
		for i, want := range []string{index, a, bb} {
			if _, got := e.get(t, siteHost, paths[i]); got != want {
				t.Errorf("%s: got %q, want %q", paths[i], got, want)
			}
		}
	}
	invalidate := func(paths ...string) {
		t.Helper()
		if err := e.Invalidate(t.Context(), siteName, paths...); err != nil {
			t.Fatal(err)
		}
	}
	fill("1")
	check("1", "1", "1")
	fill("2")
	check("1", "1", "1")
	invalidate("/img/*")
	check("1", "2", "2")
	fill("3")
	invalidate("/index.html", "/img/b.png", "/no")
	check("3", "2", "3")
	fill("4")
	invalidate()
	check("4", "4", "4")
	if err := e.Invalidate(t.Context(), "other"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown site: %v", err)
	}
	for _, wrong := range []string{"index.html", "/*/a", ""} {
		if err := e.Invalidate(t.Context(), siteName, wrong); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}

	// Another bucket under the same name begins with nothing.
	other := newBucket(t)
	other.put("index.html", "other", "")
	e.configure(t, other.site(2))
	e.expect(t, "/", 200, "Miss", "other")
}

func TestWhatIsInvalidatedOnItsWayIsNotKept(t *testing.T) {
	for name, forget := range map[string]func(*cache) error{
		"invalidated": func(c *cache) error { return c.invalidate("s", []string{"/x"}) },
		"another origin": func(c *cache) error {
			c.retain([]Site{{Name: "s", Behavior: Behavior{Origin: "b"}}}, []Site{{Name: "s", Behavior: Behavior{Origin: "a"}}})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, k := newCache(1<<20), key{site: "s", path: "/x"}
			says := func(text string) (*object, error) {
				return &object{status: 200, body: []byte(text), freshness: freshness{expires: time.Now().Add(time.Hour)}}, nil
			}
			asked, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				if _, err := c.fetch(t.Context(), k, nil, func() (*object, error) {
					close(asked)
					<-release
					return says("old")
				}); err != nil {
					t.Error(err)
				}
			}()
			<-asked
			if err := forget(c); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			o, err := c.fetch(ctx, k, nil, func() (*object, error) { return says("new") })
			if err != nil || string(o.body) != "new" {
				t.Errorf("who asks after that gets %v %v", o, err)
			}
			close(release)
			<-done
			if o := c.get(k); o == nil || string(o.body) != "new" {
				t.Errorf("kept is %v", o)
			}
		})
	}
}

func TestSiteErrors(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	b.put("index.html", "app", "")
	b.put("sorry.html", "sorry", "")
	e.configure(t, b.site(1))
	if res := e.expect(t, "/nothing", 404, "Miss", "*"); res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("header: %v", res.Header)
	}
	for _, path := range []string{"/../other/x", "/a/%2e%2e/%2e%2e/other/x", "/./x", "/a%00b"} {
		e.expect(t, path, 400, "", "*")
	}
	b.log()
	custom := func(s *Site) {
		s.Errors = map[int]Error{404: {Path: "/index.html", Status: 200}, 403: {Path: "/gone.html", Status: 403}, 502: {Path: "/sorry.html", Status: 503}}
	}
	e.configure(t, b.site(2, custom))
	if res := e.expect(t, "/some/route", 200, "Miss", "app"); res.Header.Get("ETag") != "" || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("header: %v", res.Header)
	}
	e.expect(t, "/some/route", 200, "Hit", "app") // the page; that the route is not there is asked anew
	if got := b.log(); got != "404 /some/route, GET /index.html, 404 /some/route" {
		t.Errorf("the origin was asked %s", got)
	}
	e.get(t, siteHost, "/sorry.html")
	b.server.CloseClientConnections()
	b.server.Close()
	e.expect(t, "/other", 503, "Hit", "sorry")

	wrongKeys := newBucket(t)
	wrongKeys.put("index.html", "x", "")
	e.configure(t, wrongKeys.site(3, custom, func(s *Site) { s.SecretKey = "wrong" }))
	e.expect(t, "/", 403, "Miss", "*") // whose own page is not there either
}

func TestSiteWithoutIndexDoesNotListTheBucket(t *testing.T) {
	b := newBucket(t) // it reports an error if it is asked for its list
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.Index = "" }))
	e.expect(t, "/", 404, "", "*")
}

func TestExpiredObjectIsServedWhileTheOriginFails(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	b.put("x.txt", "x", "no-cache")
	e.expect(t, "/x.txt", 200, "Miss", "x")
	b.set(func() { b.down = true })
	e.expect(t, "/x.txt", 200, "StaleHit", "x")
	e.expect(t, "/y.txt", 502, "Miss", "*")
	b.set(func() { b.down = false; delete(b.objects, "x.txt") })
	e.expect(t, "/x.txt", 404, "Miss", "*")
	b.set(func() { b.down = true })
	e.expect(t, "/x.txt", 502, "Miss", "*") // it was said to be gone
}

// TestWhoLookedBeforeAFlightLanded has no use for another one.
func TestWhoLookedBeforeAFlightLanded(t *testing.T) {
	c, k := newCache(cacheBytes), key{site: "s", path: "/x"}
	at := time.Now()
	asked := 0
	ask := func() (*object, error) {
		asked++
		return &object{status: 200, body: []byte{byte(asked)}, freshness: freshness{expires: at}}, nil
	}
	var old *object
	for want := 1; want <= 2; want++ { // where there was none, and where one had expired
		var next *object
		for range 2 {
			var err error
			if next, err = c.fetch(t.Context(), k, old, ask); err != nil || int(next.body[0]) != want || asked != want {
				t.Fatalf("got answer %v (%v) of %d, want the %d.", next, err, asked, want)
			}
		}
		old = next
	}
}

func TestManyWhoWantTheSameAskOnce(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	b.put("x.txt", "x", "max-age=60")
	hold := make(chan struct{})
	b.set(func() { b.hold = hold })
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() { // the one who asks first leaves before the answer
		defer close(first)
		if res, err := e.http.Do(e.request(t, "GET", siteHost, "/x.txt", nil).WithContext(ctx)); err == nil {
			res.Body.Close()
		}
	}()
	<-b.arrived
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, got := e.get(t, siteHost, "/x.txt"); got != "x" {
				t.Errorf("got %q", got)
			}
		})
	}
	cancel()
	<-first
	<-b.arrived // another one asks
	close(hold)
	all.Wait()
	if got := b.log(); strings.Count(got, "GET") > 2 { // the two above
		t.Errorf("the origin was asked %s", got)
	}
}

func TestLargeObjectsPassThrough(t *testing.T) {
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1))
	large := strings.Repeat("0123456789abcdef", objectBytes/16+1)
	b.put("video.mp4", large, "max-age=60")
	for range 2 {
		e.expect(t, "/video.mp4", 200, "Miss", large)
	}
	req := e.request(t, "GET", siteHost, "/video.mp4", nil)
	req.Header.Set("Range", "bytes=16-19")
	if res, body := e.do(t, req); res.StatusCode != 206 || body != "0123" || res.Header.Get("Content-Range") == "" || res.Header.Get("Content-Type") != "video/mp4" {
		t.Errorf("range: %s %.20q %v", res.Status, body, res.Header)
	}
	if res, body := e.do(t, e.request(t, "HEAD", siteHost, "/video.mp4", nil)); res.StatusCode != 200 || body != "" || res.ContentLength != int64(len(large)) {
		t.Errorf("HEAD: %s %d %d", res.Status, res.ContentLength, len(body))
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(10 * 2024)
	put := func(name string) {
		_, err := c.fetch(t.Context(), key{site: "s", path: name}, nil, func() (*object, error) {
			return &object{status: 200, body: make([]byte, 1000), freshness: freshness{expires: time.Now().Add(time.Hour)}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		put(fmt.Sprint(i))
	}
	if c.get(key{site: "s", path: "0"}) == nil { // used: it is not the next to go
		t.Error("an object is gone while there is room")
	}
	put("10")
	if c.get(key{site: "s", path: "0"}) == nil || c.get(key{site: "s", path: "1"}) != nil || c.size != 10*2024 || len(c.objects) != c.order.Len() {
		t.Errorf("after one too many: size %d, %d objects", c.size, len(c.objects))
	}
	put("10")
	if c.size != 10*2024 {
		t.Errorf("a replaced object is counted twice: %d", c.size)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	for control, want := range map[string]time.Duration{
		"":                           time.Minute,
		"public":                     time.Minute,
		"max-age=10":                 10 * time.Second,
		"Max-Age=\"10\"":             10 * time.Second,
		"max-age=10, s-maxage=20":    20 * time.Second,
		"s-maxage=0, max-age=20":     0,
		"max-age=10, no-cache":       0,
		"public, max-age=x":          time.Minute,
		"public,max-age=5,immutable": 5 * time.Second,
	} {
		h := http.Header{"Cache-Control": {control}, "Expires": {now.Add(time.Hour).Format(http.TimeFormat)}}
		if control == "" {
			h.Del("Expires")
		}
		if got := fresh(h, Behavior{TTL: time.Minute}, now).expires.Sub(now); got != want {
			t.Errorf("%q: fresh for %s, want %s", control, got, want)
		}
	}
	for _, control := range []string{"no-store", "private, max-age=10"} {
		if got := fresh(http.Header{"Cache-Control": {control}}, Behavior{TTL: time.Minute}, now).expires; !got.IsZero() {
			t.Errorf("%q is kept until %s", control, got)
		}
	}
	if got := fresh(http.Header{"Expires": {now.Add(time.Hour).Format(http.TimeFormat)}}, Behavior{TTL: time.Minute}, now).expires; !got.Equal(now.Add(time.Hour)) {
		t.Errorf("Expires: %s", got)
	}
}
