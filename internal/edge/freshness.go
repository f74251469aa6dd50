package edge

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// freshness is until when an object may be served without its origin.
type freshness struct {
	expires           time.Time // the zero time if it must not be kept; now if it is asked for each time
	whileRevalidating time.Time // from then on who wants it waits for the origin
	ifError           time.Time // from then on it does not stand in for an origin that fails
}

// forever is longer than a cache lives.
const forever = 100 * 365 * 24 * time.Hour

// fresh judges an object's header (RFC 9111, RFC 5861) under the terms of a
// behavior. An object stands in for an origin that fails unless it says for how
// long it may, or that it must not.
func fresh(h http.Header, terms Behavior, now time.Time) freshness {
	control := directives(h.Get("Cache-Control"))
	seconds := func(name string) (time.Duration, bool) {
		n, err := strconv.ParseInt(control[name], 10, 32)
		return time.Duration(n) * time.Second, err == nil && n >= 0
	}
	has := func(name string) bool { _, ok := control[name]; return ok }
	f := freshness{expires: now.Add(terms.TTL)}
	lasting, shared := seconds("s-maxage") // for caches that many share, as this one
	if !shared {
		lasting, shared = seconds("max-age")
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	barred := has("no-store") || has("private") || has("no-cache")
	switch {
	case barred && terms.MinTTL > 0: // the site's word is above the object's
	case has("no-store") || has("private"):
		return freshness{}
	case has("no-cache"):
		f.expires = now
	case shared:
		f.expires = now.Add(lasting)
	case len(control) == 0 && err == nil:
		f.expires = expires
	}
	if least := now.Add(terms.MinTTL); terms.MinTTL > 0 && (barred || f.expires.Before(least)) {
		f.expires = least
	}
	if most := now.Add(terms.MaxTTL); terms.MaxTTL > 0 && f.expires.After(most) {
		f.expires = most
	}
	f.ifError = f.expires.Add(forever)
	if grace, ok := seconds("stale-if-error"); ok {
		f.ifError = f.expires.Add(grace)
	}
	if has("must-revalidate") || has("proxy-revalidate") {
		f.ifError = f.expires
		return f
	}
	if grace, ok := seconds("stale-while-revalidate"); ok && !has("no-cache") {
		f.whileRevalidating = f.expires.Add(grace)
	}
	return f
}

// directives reads a Cache-Control header.
func directives(control string) map[string]string {
	out := map[string]string{}
	for directive := range strings.SplitSeq(strings.ToLower(control), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if name != "" {
			out[name] = strings.Trim(value, `"`)
		}
	}
	return out
}
