package edge

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSiteRedirects(t *testing.T) {
	for _, c := range []struct{ from, to, path, query, want string }{
		{"/old", "/new", "/old", "", "/new"},
		{"/old", "/new", "/old/", "a=1", "/new?a=1"},
		{"/old", "/new?b=2#c", "/old", "a=1", "/new?b=2#c"},
		{"/old", "/new", "/old/x", "", ""},
		{"/old", "/new", "/Old", "", ""},
		{"/", "/start", "/", "", "/start"},
		{"/old/*", "/new/:splat", "/old/a/b", "", "/new/a/b"},
		{"/old/*", "/new/:splat", "/old", "", "/new/"},
		{"/old/*", "/new/:splat", "/older", "", ""},
		{"/*", "https://example.com:8443/:splat", "/a b/ü?", "", "https://example.com:8443/a%20b/%C3%BC%3F"},
		{"/blog/:year/:slug", "/posts/:slug/:year", "/blog/2024/hello", "", "/posts/hello/2024"},
		{"/blog/:year/:slug", "/posts/:slug/:year", "/blog/2024", "", ""},
		{"/blog/:year", "/y/:year", "/blog//", "", ""},
		{"/old/*", "/:splat", "/old//evil.example.com", "", "/evil.example.com"}, // another host is never reached by a path
		{"/old/*", "/:splat", "/old/\\evil.example.com", "", "/%5Cevil.example.com"},
	} {
		m := SiteRedirect{c.from, c.to, 301}
		if problem := m.Problem(); problem != "" {
			t.Errorf("%v: %s", m, problem)
		}
		if got, fits := m.location(c.path, c.query); got != c.want || fits != (c.want != "") {
			t.Errorf("%s → %s: %s is sent to %q, want %q", c.from, c.to, c.path, got, c.want)
		}
	}
	for _, m := range []SiteRedirect{
		{"old", "/new", 301}, {"/o*d", "/new", 301}, {"/*/x", "/new", 301}, {"/old", "new", 301}, {"/old", "//example.com", 301}, {"/old", "ftp://x/y", 301},
		{"/old", "/new", 200}, {"/old", "/:splat", 301}, {"/old/:a", "/:b", 301}, {"/old/*", "/old/new", 301}, {"/old", "", 301}, {"/a", "javascript:x", 302},
	} {
		if m.Problem() == "" {
			t.Errorf("%v is taken", m)
		}
	}
}

func TestSiteIsServedWithRedirectsAndFallback(t *testing.T) {
	e, b := start(t, Options{}), newBucket(t)
	e.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b.put("index.html", "the app", "")
	b.put("old.html", "still there", "")
	e.configure(t, b.site(1, func(s *Site) {
		s.Redirects = []SiteRedirect{{"/old.html", "/new", 308}, {"/docs/*", "https://docs.example.com/:splat", 302}}
		s.Fallback = "/index.html"
	}))
	for path, want := range map[string]string{"/old.html": "308 /new", "/docs/a?b=c": "302 https://docs.example.com/a?b=c"} {
		res, _ := e.get(t, siteHost, path)
		status, location, _ := strings.Cut(want, " ")
		if !strings.HasPrefix(res.Status, status) || res.Header.Get("Location") != location {
			t.Errorf("%s: %s %s", path, res.Status, res.Header.Get("Location"))
		}
	}
	e.expect(t, "/orders/7", 200, "Miss", "the app")
	e.expect(t, "/orders/8", 200, "Hit", "the app")
	if res, body := e.get(t, siteHost, "/assets/gone.js"); res.StatusCode != 404 || strings.Contains(body, "the app") {
		t.Errorf("a file that is not there: %s %q", res.Status, body)
	}
}

// TestBehaviorsAreChosenByPath has three buckets behind one site.
func TestBehaviorsAreChosenByPath(t *testing.T) {
	e, main, images, one := start(t, Options{}), newBucket(t), newBucket(t), newBucket(t)
	main.put("index.html", "index", "")
	main.put("img.txt", "main", "")
	main.put("404.html", "no such thing", "")
	images.put("img/a.png", "image", "no-store")
	one.put("img/b1.png", "one", "max-age=1000")
	c := main.site(1, func(s *Site) {
		s.Errors = map[int]Error{404: {"/404.html", 404}}
		kept := images.behavior()
		kept.MinTTL = time.Hour
		s.Behaviors = []PathBehavior{{"/img/b?.png", one.behavior()}, {"img/*", kept}}
	})
	e.configure(t, c)
	for path, want := range map[string]string{"/": "index", "/img.txt": "main", "/img/a.png": "image", "/img/b1.png": "one"} {
		e.expect(t, path, 200, "Miss", want)
	}
	e.expect(t, "/img/a.png", 200, "Hit", "image") // the behavior's least term is above the object's word
	e.expect(t, "/img/none.png", 404, "Miss", "no such thing")
	if got := images.log(); !strings.Contains(got, "404 /img/none.png") {
		t.Errorf("the bucket of the images was asked for %s", got)
	}
	c.Version++
	c.Sites[0].Behaviors = c.Sites[0].Behaviors[:1]
	main.put("img/a.png", "main image", "")
	e.configure(t, c)
	e.expect(t, "/img/a.png", 200, "Miss", "main image") // what another origin gave is forgotten
}

func TestTermsOfABehavior(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		control        string
		min, max, want time.Duration
	}{
		{"", 0, 0, time.Minute}, {"", 2 * time.Minute, 0, 2 * time.Minute}, {"", 0, time.Second, time.Second},
		{"max-age=30", time.Hour, 0, time.Hour}, {"max-age=30", time.Second, time.Hour, 30 * time.Second}, {"max-age=3600", 0, time.Minute, time.Minute},
		{"no-cache", 0, time.Hour, 0}, {"no-cache", time.Hour, 0, time.Hour}, {"no-store", time.Hour, 0, time.Hour}, {"private", time.Hour, 2 * time.Hour, time.Hour},
	} {
		f := fresh(http.Header{"Cache-Control": {c.control}}, Behavior{TTL: time.Minute, MinTTL: c.min, MaxTTL: c.max}, now)
		if got := f.expires.Sub(now); got != c.want {
			t.Errorf("%q from %s to %s is kept for %s, want %s", c.control, c.min, c.max, got, c.want)
		}
	}
	if f := fresh(http.Header{"Cache-Control": {"no-store"}}, Behavior{TTL: time.Minute, MaxTTL: time.Hour}, now); !f.expires.IsZero() {
		t.Error("no-store is kept")
	}
}
