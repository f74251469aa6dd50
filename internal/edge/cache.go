package edge

import (
	"container/list"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"weak"

	"makeitso/internal/fault"
)

const (
	cacheBytes  = 128 << 20 // of objects of all sites together
	objectBytes = 8 << 20   // larger objects are passed through, not kept
)

// object is an answer of an origin. It never changes.
type object struct {
	status int
	header http.Header
	body   []byte
	stored time.Time
	freshness
	renewed bool               // the origin said that what was kept is still good
	plain   weak.Pointer[byte] // of an encoded object: the first byte of what it encodes, which renewals share
}

// isRedirect says whether an object only leads elsewhere.
func (o *object) isRedirect() bool { return o.status >= 300 && o.status < 400 }

// key names an object across configurations, in one of its codings.
type key struct{ site, path, coding string }

// cached is an object in its place in the cache.
type cached struct {
	key    key
	object *object
}

// cache keeps objects up to a number of bytes, the recently used ones.
type cache struct {
	mu      sync.Mutex
	limit   int64
	size    int64
	objects map[key]*list.Element
	order   *list.List        // of *cached, recently used first
	epochs  map[string]uint64 // by site; raised by each invalidation
	flights map[key]*flight
}

// flight is one question to an origin that several requests wait for.
type flight struct {
	epoch  uint64
	done   chan struct{}
	object *object
	err    error
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, objects: map[key]*list.Element{}, order: list.New(), epochs: map[string]uint64{}, flights: map[key]*flight{}}
}

// get gives the object, fresh or not; nil if it is not there.
func (c *cache) get(k key) *object {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.objects[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).object
}

// fetch runs ask once for all who want the object at this time, having found the
// old one (nil for none) not to do. What it gives is kept if it may be, unless
// the object was invalidated meanwhile.
func (c *cache) fetch(ctx context.Context, k key, old *object, ask func() (*object, error)) (*object, error) {
	for {
		f, leads := c.join(k, old)
		if leads {
			c.lead(k, f, ask)
			return f.object, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(f.err, context.Canceled) { // else the one who asked left: ask again
			return f.object, f.err
		}
	}
}

// lead asks for those who wait for a flight.
func (c *cache) lead(k key, f *flight, ask func() (*object, error)) {
	f.object, f.err = ask()
	c.land(k, f)
}

// join gives the flight for k, and whether the caller is the one who asks. Where
// another object has taken the old one's place since the caller looked, its
// flight has just landed, and is as good as one that the caller had waited for.
func (c *cache) join(k key, old *object) (*flight, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[k]; f != nil && f.epoch == c.epochs[k.site] {
		return f, false
	}
	f := &flight{epoch: c.epochs[k.site], done: make(chan struct{})}
	if e := c.objects[k]; e != nil && e.Value.(*cached).object != old {
		f.object = e.Value.(*cached).object
		close(f.done)
		return f, false
	}
	c.flights[k] = f
	return f, true
}

func (c *cache) land(k key, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	if c.flights[k] == f {
		delete(c.flights, k)
	}
	if f.err != nil || f.epoch != c.epochs[k.site] {
		return
	}
	if f.object.status != http.StatusOK && !f.object.isRedirect() {
		if f.object.status < 500 { // it is gone; a failing origin does not say so
			c.remove(c.objects[k])
		}
		return
	}
	c.remove(c.objects[k])
	if f.object.expires.IsZero() {
		return
	}
	c.objects[k] = c.order.PushFront(&cached{k, f.object})
	c.size += f.object.bytes()
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	if e == nil {
		return
	}
	gone := c.order.Remove(e).(*cached)
	delete(c.objects, gone.key)
	c.size -= gone.object.bytes()
}

// invalidate forgets the objects of a site whose paths match a pattern.
func (c *cache) invalidate(site string, patterns []string) error {
	for _, p := range patterns {
		if star := strings.Index(p, "*"); !strings.HasPrefix(p, "/") || star >= 0 && star != len(p)-1 {
			return fault.New(fault.Invalid, "the invalidation path %q is wrong: it begins with / and may end in *, as /index.html or /img/*", p)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epochs[site]++
	for k, e := range c.objects {
		if k.site == site && matches(patterns, k.path) {
			c.remove(e)
		}
	}
	return nil
}

// matches says whether a path matches one of the patterns. Where there are
// none, every path does.
func matches(patterns []string, path string) bool {
	for _, p := range patterns {
		if prefix, wild := strings.CutSuffix(p, "*"); p == path || wild && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return len(patterns) == 0
}

// retain forgets the sites that are gone or have another origin now.
func (c *cache) retain(sites, before []Site) {
	origins := map[string]string{}
	for _, s := range sites {
		origins[s.Name] = s.origins()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range before {
		if origin, kept := origins[s.Name]; kept && origin == s.origins() {
			continue
		}
		c.epochs[s.Name]++
		for k, e := range c.objects {
			if k.site == s.Name {
				c.remove(e)
			}
		}
	}
}

// origins tells apart sites that have their objects from elsewhere.
func (s Site) origins() string {
	all := []string{s.Origin}
	for _, b := range s.Behaviors {
		all = append(all, b.Path, b.Origin)
	}
	return strings.Join(all, "\n")
}

// bytes is what an object is counted with against the limit.
func (o *object) bytes() int64 { return int64(len(o.body)) + 1024 }
