package edge

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// SiteRedirect sends those who ask for a path elsewhere. In From, a part :name
// stands for any one part of a path and a last part * for all that follows; in
// To, :name and :splat stand for what they were.
type SiteRedirect struct {
	From   string `json:"from"`
	To     string `json:"to"` // a path or a URL
	Status int    `json:"status"`
}

// Splat is what To calls the * of From.
const splat = "splat"

// MovedStatuses are those that a SiteRedirect may have.
func MovedStatuses() []int {
	return []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}
}

// Problem says what is wrong with a redirect, "" if nothing is.
func (m SiteRedirect) Problem() string {
	parts := strings.Split(m.From, "/")
	names := []string{}
	for i, part := range parts {
		switch {
		case part == "*" && i == len(parts)-1:
			names = append(names, splat)
		case strings.Contains(part, "*"):
			return "from has a * that is not its whole last part"
		case strings.HasPrefix(part, ":"):
			names = append(names, part[1:])
		}
	}
	to, err := url.Parse(m.To)
	switch {
	case !strings.HasPrefix(m.From, "/"):
		return "from begins with no /"
	case err != nil || to.Scheme == "" && (to.Host != "" || !strings.HasPrefix(m.To, "/")) || to.Scheme != "" && (to.Host == "" || to.Scheme != "http" && to.Scheme != "https"):
		return "to is no path and no http:// or https:// URL"
	case !slices.Contains(MovedStatuses(), m.Status):
		return "its status is none of 301, 302, 303, 307 and 308"
	}
	for _, part := range strings.Split(to.Path, "/") {
		if name, is := strings.CutPrefix(part, ":"); is && !slices.Contains(names, name) {
			return "to has :" + name + ", which from has not"
		}
	}
	if to.Host == "" {
		if _, again := m.location(to.Path, ""); again {
			return "to is a path that is redirected by it again"
		}
	}
	return ""
}

// location gives where who asks for a path is sent, fits false if nowhere.
func (m SiteRedirect) location(path, query string) (to string, fits bool) {
	values, fits := m.match(path)
	if !fits {
		return "", false
	}
	target, err := url.Parse(m.To)
	if err != nil { // which Problem has ruled out
		return "", false
	}
	parts := strings.Split(target.Path, "/")
	for i, part := range parts {
		if name, is := strings.CutPrefix(part, ":"); is {
			parts[i] = values[name]
		}
	}
	target.Path, target.RawPath = strings.Join(parts, "/"), ""
	// Two slashes first would make a host of what somebody has written there.
	target.Path = "/" + strings.TrimLeft(target.Path, "/")
	if target.RawQuery == "" {
		target.RawQuery = query
	}
	return target.String(), true
}

// match gives what the names of From stand for in a path.
func (m SiteRedirect) match(path string) (values map[string]string, fits bool) {
	values = map[string]string{}
	from, asked := split(m.From), split(path)
	for i, part := range from {
		if part == "*" {
			values[splat] = strings.Join(asked[min(i, len(asked)):], "/")
			return values, true
		}
		if i >= len(asked) {
			return nil, false
		}
		if name, is := strings.CutPrefix(part, ":"); is && asked[i] != "" {
			values[name] = asked[i]
		} else if part != asked[i] {
			return nil, false
		}
	}
	return values, len(asked) == len(from)
}

// split gives the parts of a path, with a slash at its end or without.
func split(path string) []string {
	trimmed := strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if trimmed == "" {
		return nil
	}
	return strings.Split(trimmed, "/")
}

// moved answers a request that a redirect of the site is for.
func (x *exchange) moved(r *http.Request, s *site) bool {
	for _, m := range s.Redirects {
		if to, fits := m.location(r.URL.Path, r.URL.RawQuery); fits {
			x.w.Header().Set("Location", to)
			x.w.WriteHeader(m.Status)
			return true
		}
	}
	return false
}

// at gives the site as it is for a path: with the first behavior that fits.
func (s *site) at(path string) *site {
	for _, b := range s.whole.behaviors {
		if like(b.pattern, path) {
			return b.site
		}
	}
	return s.whole
}
