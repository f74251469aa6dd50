package edge

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// script is text that compresses well.
var script = strings.Repeat("console.log('make it so');\n", 200)

// fetch asks for a path with headers, without undoing a coding.
func (r *running) fetch(t testing.TB, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = siteHost
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func compress(t testing.TB, c coding, text string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := c.encode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTextIsSentInTheCodingThatAClientPrefers(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("app.js", script, "max-age=60")
	b.put("small.js", "x()", "max-age=60")
	b.put("photo.png", script, "max-age=60")
	b.put("as-is.js", script, "max-age=60, no-transform")
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.Compress = true }))
	for _, c := range []struct{ path, accept, coding string }{
		{"/app.js", "gzip, deflate, br, zstd", "br"},
		{"/app.js", "gzip, zstd", "zstd"},
		{"/app.js", "gzip", "gzip"},
		{"/app.js", "br;q=0.5, gzip;q=0.8", "gzip"},
		{"/app.js", "*", "br"},
		{"/app.js", "br;q=0, *", "zstd"},
		{"/app.js", "identity, gzip;q=0.5", ""},
		{"/app.js", "deflate", ""},
		{"/app.js", "br;q=much", ""},
		{"/app.js", "", ""},
		{"/small.js", "br", ""},
		{"/photo.png", "br", ""},
		{"/as-is.js", "br", ""},
	} {
		res, body := e.fetch(t, c.path, "Accept-Encoding", c.accept)
		plain := len(body)
		for _, how := range codings() {
			if how.name != c.coding {
				continue
			}
			r, err := how.decode(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(r); err != nil || string(body) != script || plain > len(script)/2 {
				t.Errorf("%s as %s: %d bytes that say %.40q, %v", c.path, c.accept, plain, body, err)
			}
		}
		if got := res.Header.Get("Content-Encoding"); got != c.coding || res.ContentLength != int64(plain) {
			t.Errorf("%s as %q is coded as %q, %d of %d bytes; want %q", c.path, c.accept, got, res.ContentLength, plain, c.coding)
		}
		if vary := res.Header.Get("Vary"); (vary == "Accept-Encoding") != (c.path == "/app.js") {
			t.Errorf("%s varies by %q", c.path, vary)
		}
	}
}

func TestCodedObjectsAnswerConditionsAndRanges(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("app.js", script, "max-age=60")
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.Compress = true }))
	plain, _ := e.fetch(t, "/app.js")
	coded, _ := e.fetch(t, "/app.js", "Accept-Encoding", "br")
	tag := coded.Header.Get("Etag")
	if tag != "W/"+plain.Header.Get("Etag") {
		t.Fatalf("the tags are %q, coded %q", plain.Header.Get("Etag"), tag)
	}
	for _, c := range []struct {
		header []string
		status int
		coding string
		bytes  int
	}{
		{[]string{"If-None-Match", tag}, http.StatusNotModified, "", 0},
		{[]string{"If-None-Match", plain.Header.Get("Etag")}, http.StatusNotModified, "", 0},
		{[]string{"If-Match", `"other"`}, http.StatusPreconditionFailed, "br", 0},
		{[]string{"Range", "bytes=0-9"}, http.StatusPartialContent, "", 10},
		{[]string{"Range", "bytes=0-9", "If-Range", tag}, http.StatusOK, "", len(script)}, // a weak tag fits no part
	} {
		res, body := e.fetch(t, "/app.js", append(c.header, "Accept-Encoding", "br")...)
		if res.StatusCode != c.status || len(body) != c.bytes || c.status != http.StatusNotModified && res.Header.Get("Content-Encoding") != c.coding {
			t.Errorf("%v: %d, %q, %d bytes; want %d, %q, %d", c.header, res.StatusCode, res.Header.Get("Content-Encoding"), len(body), c.status, c.coding, c.bytes)
		}
	}
}

// A coding that was published beside an object is sent as it is, as long as it
// holds the same.
func TestPublishedCodingsAreSentAsTheyAre(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	all := codings()
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // other bytes than the edge would make
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, script); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	best := packed.String()
	b.put("app.js", script, "max-age=60")
	b.put("app.js.gz", best, "max-age=60")
	b.put("app.js.br", compress(t, all[0], "something else"), "max-age=60")
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.Compress = true }))
	for range 2 {
		if _, body := e.fetch(t, "/app.js", "Accept-Encoding", "gzip"); string(body) != best {
			t.Errorf("what was published is not what is sent: %d bytes, not %d", len(body), len(best))
		}
		res, body := e.fetch(t, "/app.js", "Accept-Encoding", "br")
		r, err := all[0].decode(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != nil || string(text) != script {
			t.Errorf("%s: %.40q, %v", res.Header.Get("Content-Encoding"), text, err)
		}
	}
	if asked := b.log(); asked != "GET /app.js, GET /app.js.gz, GET /app.js.br" {
		t.Errorf("the origin was asked: %s", asked)
	}
	b.put("app.js", script+"again();", "max-age=60")
	if err := e.Invalidate(t.Context(), siteName, "/app.js"); err != nil {
		t.Fatal(err)
	}
	res, body := e.fetch(t, "/app.js", "Accept-Encoding", "gzip")
	again, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(again); err != nil || string(text) != script+"again();" || res.Header.Get("X-Cache") != "Miss" {
		t.Errorf("after a change: %s %.40q, %v", res.Header.Get("X-Cache"), text, err)
	}
}

func TestStaleObjectsAreServedWhileTheyAreRefreshed(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("news", "old", "max-age=0, stale-while-revalidate=60")
	e := start(t, Options{})
	e.configure(t, b.site(1))
	e.expect(t, "/news", 200, "Miss", "old")
	b.put("news", "new", "max-age=60")
	b.set(func() { b.hold = make(chan struct{}) })
	e.expect(t, "/news", 200, "StaleHit", "old") // although the origin does not answer
	<-b.arrived
	e.expect(t, "/news", 200, "StaleHit", "old")
	close(b.hold)
	b.set(func() { b.hold = nil })
	for end := time.Now().Add(10 * time.Second); ; {
		if _, body := e.get(t, siteHost, "/news"); body == "new" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it never becomes the new one")
		}
	}
	e.expect(t, "/news", 200, "Hit", "new")
	if asked := b.log(); asked != "GET /news, GET /news" {
		t.Errorf("the origin was asked: %s", asked)
	}
}

// An edge that ends does not wait for an origin that nobody waits for.
func TestEndBreaksOffARefresh(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("news", "old", "max-age=0, stale-while-revalidate=60")
	e := start(t, Options{Drain: time.Hour})
	e.configure(t, b.site(1))
	e.expect(t, "/news", 200, "Miss", "old")
	hold := make(chan struct{})
	defer close(hold)
	b.set(func() { b.hold = hold })
	e.expect(t, "/news", 200, "StaleHit", "old")
	<-b.arrived
	ended := make(chan struct{})
	go func() { e.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the edge waits for the origin")
	}
}

// A coding is of what was read, not of what its name had before.
func TestCodingFollowsItsObject(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.Compress = true }))
	for _, text := range []string{script, script + "more"} {
		b.put("app.js", text, "max-age=0")
		for range 2 {
			_, body := e.fetch(t, "/app.js", "Accept-Encoding", "gzip")
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != text {
				t.Errorf("it has %d bytes, not %d; %v", len(got), len(text), err)
			}
		}
	}
	if asked := b.log(); asked != "GET /app.js, 404 /app.js.gz, 304 /app.js, GET /app.js, 404 /app.js.gz, 304 /app.js" {
		t.Errorf("the origin was asked: %s", asked)
	}
}

func TestFreshness(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	never := time.Time{}
	for _, c := range []struct {
		control                 string
		whileRevalidating, fail time.Time
	}{
		{"max-age=10", never, now.Add(10*time.Second + forever)},
		{"max-age=10, stale-if-error=5", never, now.Add(15 * time.Second)},
		{"max-age=10, stale-while-revalidate=5", now.Add(15 * time.Second), now.Add(10*time.Second + forever)},
		{"max-age=10, stale-while-revalidate=5, must-revalidate", never, now.Add(10 * time.Second)},
		{"s-maxage=10, proxy-revalidate", never, now.Add(10 * time.Second)},
		{"no-cache, stale-while-revalidate=5", never, now.Add(forever)},
		{"no-store, stale-while-revalidate=5", never, never},
		{"stale-while-revalidate=x", never, now.Add(time.Minute + forever)},
	} {
		f := fresh(http.Header{"Cache-Control": {c.control}}, Behavior{TTL: time.Minute}, now)
		if !f.whileRevalidating.Equal(c.whileRevalidating) || !f.ifError.Equal(c.fail) {
			t.Errorf("%q: while revalidating %s, if the origin fails %s; want %s and %s", c.control, f.whileRevalidating, f.ifError, c.whileRevalidating, c.fail)
		}
	}
}

func TestWhatMustBeRevalidatedDoesNotStandIn(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("price", "1", "max-age=0, must-revalidate")
	e := start(t, Options{})
	e.configure(t, b.site(1))
	e.expect(t, "/price", 200, "Miss", "1")
	b.set(func() { b.down = true })
	e.expect(t, "/price", 502, "Miss", "*")
}

func TestRedirectsOfTheOrigin(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.set(func() {
		b.objects["old"] = stored{cacheControl: "max-age=60", location: "/new"}
		b.objects["away"] = stored{cacheControl: "max-age=60", location: "https://example.com/x?y=1"}
		b.objects["docs"] = stored{cacheControl: "max-age=60", location: "http://shop.s3-website.localhost:9/docs/?a=b"}
		b.objects["odd"] = stored{cacheControl: "max-age=60", location: "http://shop.s3-website.localhost:9//example.com/"}
	})
	e := start(t, Options{})
	e.configure(t, b.site(1, func(s *Site) { s.AccessKey, s.SecretKey, s.OriginHost = "", "", "shop.s3-website.localhost:9" }))
	b.set(func() { b.open = true })
	for _, cache := range []string{"Miss", "Hit"} {
		for path, want := range map[string]string{"/old": "/new", "/away": "https://example.com/x?y=1", "/docs": "/docs/?a=b", "/odd": "/.//example.com/"} {
			res, _ := e.fetch(t, path)
			if got := fmt.Sprint(res.StatusCode, res.Header.Get("Location"), res.Header.Get("X-Cache")); got != fmt.Sprint(301, want, cache) {
				t.Errorf("%s: %s; want 301 %s %s", path, got, want, cache)
			}
		}
	}
	b.set(func() {
		if b.host != "shop.s3-website.localhost:9" {
			t.Errorf("the origin was asked as %q", b.host)
		}
	})
}
