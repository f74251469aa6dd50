package edge

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/edge/upstream"
	"makeitso/internal/fault"
	"makeitso/internal/span"
)

// Validate says everything that is wrong with the document, in one
// fault.Invalid; nil if it can be put in force.
func (c Config) Validate() error {
	v := validation{hosts: map[string]map[string]string{}, instances: map[string]string{}}
	if c.Version < 1 {
		v.wrong("version is %d; versions begin at 1", c.Version)
	}
	services, sites := map[string]bool{}, map[string]bool{}
	for i, s := range c.Services {
		v.name("services", i, s.Name, services)
		v.service(s)
	}
	for i, s := range c.Sites {
		v.name("sites", i, s.Name, sites)
		v.site(s)
	}
	// A host may have a balancer for HTTP and one for HTTPS.
	balancers, sealed := map[string]bool{}, map[string]map[string]string{}
	for host, paths := range v.hosts {
		sealed[host] = maps.Clone(paths)
	}
	hosts := map[bool]map[string]map[string]string{false: v.hosts, true: sealed}
	for i, b := range c.Balancers {
		v.name("balancers", i, b.Name, balancers)
		v.hosts = hosts[b.TLS]
		v.balancer(b, services)
	}
	v.tls(c)
	if len(v.found) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "the edge configuration is wrong: %s", strings.Join(v.found, "; "))
}

// validation collects what is wrong while a document is walked.
type validation struct {
	found     []string
	hosts     map[string]map[string]string // canonical host and path → who has it
	instances map[string]string            // id → the arm that has it
}

func (v *validation) wrong(format string, args ...any) {
	v.found = append(v.found, fmt.Sprintf(format, args...))
}

func (v *validation) name(list string, i int, name string, seen map[string]bool) {
	if name == "" {
		v.wrong("%s[%d] has no name", list, i)
	} else if seen[name] {
		v.wrong("%s has %q twice", list, name)
	}
	seen[name] = true
}

func (v *validation) service(s Service) {
	where := fmt.Sprintf("service %q", s.Name)
	v.hostNames(where, s.Hosts, s.paths()...)
	for _, p := range s.Paths {
		if !strings.HasPrefix(p, "/") {
			v.wrong("%s: path is %q; a path begins with /", where, p)
		}
	}
	v.limits(where, s)
	if s.Health != "" && !strings.HasPrefix(s.Health, "/") {
		v.wrong("%s: health is %q; a path begins with /", where, s.Health)
	}
	if _, err := parseCodes(s.HealthCodes); err != nil {
		v.wrong("%s: healthCodes: %v", where, err)
	}
	v.duration(where, "healthInterval", s.HealthInterval)
	v.duration(where, "healthTimeout", s.HealthTimeout)
	v.duration(where, "slowStart", s.SlowStart)
	v.duration(where, "requestTimeout", s.RequestTimeout)
	arms, sum := map[string]bool{}, 0.0
	for i, a := range s.Arms {
		v.name(where+" arms", i, a.Name, arms)
		if a.Weight < 0 || math.IsNaN(a.Weight) || math.IsInf(a.Weight, 0) {
			v.wrong("%s arm %q: weight is %v; it is a number from 0 up", where, a.Name, a.Weight)
		}
		sum += a.Weight
		v.arm(where, a)
	}
	if len(s.Arms) > 0 && sum == 0 {
		v.wrong("%s: every arm has weight 0; at least one is above it", where)
	}
}

func (v *validation) limits(where string, s Service) {
	for name, n := range map[string]int64{"headerBytes": int64(s.Limits.HeaderBytes), "bodyBytes": s.Limits.BodyBytes, "requests": int64(s.Limits.Requests)} {
		if n < 0 {
			v.wrong("%s: limits.%s is %d; it is not negative", where, name, n)
		}
	}
	if s.Limits.HeaderBytes > maxHeaderBytes {
		v.wrong("%s: limits.headerBytes is %d; it is %d at most", where, s.Limits.HeaderBytes, maxHeaderBytes)
	}
	v.duration(where, "limits.clientTimeout", s.Limits.ClientTimeout)
	if s.Sticky != nil {
		if err := (&http.Cookie{Name: s.Sticky.Cookie}).Valid(); err != nil {
			v.wrong("%s: sticky.cookie is %q, which no cookie can be called", where, s.Sticky.Cookie)
		}
		v.duration(where, "sticky.ttl", s.Sticky.TTL)
	}
}

func (v *validation) arm(where string, a Arm) {
	where = fmt.Sprintf("%s arm %q", where, a.Name)
	if a.Protocol != upstream.HTTP1 && a.Protocol != upstream.HTTP2 {
		v.wrong("%s: protocol is %q; allowed are nothing, for HTTP/1.1, and %s", where, a.Protocol, upstream.HTTP2)
	}
	for i, in := range a.Instances {
		if in.ID == "" {
			v.wrong("%s: instances[%d] has no id", where, i)
		} else if other, ok := v.instances[in.ID]; ok {
			v.wrong("instance %q is in %s and in %s", in.ID, other, where)
		}
		v.instances[in.ID] = where
		host, port, err := net.SplitHostPort(in.Address)
		n, badPort := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || badPort != nil || n == 0 {
			v.wrong("%s instance %q: address is %q; it is host:port", where, in.ID, in.Address)
		}
	}
}

func (v *validation) site(s Site) {
	where := fmt.Sprintf("site %q", s.Name)
	v.hostNames(where, s.Hosts, "")
	v.behavior(where, s.Behavior)
	for i, b := range s.Behaviors {
		if b.Path == "" {
			v.wrong("%s: behaviors[%d] has no path", where, i)
		}
		v.behavior(fmt.Sprintf("%s behavior %q", where, b.Path), b.Behavior)
	}
	for i, m := range s.Redirects {
		if problem := m.Problem(); problem != "" {
			v.wrong("%s: redirects[%d]: %s", where, i, problem)
		}
	}
	if s.Fallback != "" && !strings.HasPrefix(s.Fallback, "/") {
		v.wrong("%s: fallback is %q; a path begins with /", where, s.Fallback)
	}
	for status, e := range s.Errors {
		if status < 400 || status > 599 {
			v.wrong("%s: errors has status %d; it is from 400 to 599", where, status)
		}
		if !strings.HasPrefix(e.Path, "/") || e.Status < 200 || e.Status > 599 {
			v.wrong("%s: error %d is answered with %q and status %d; a path begins with /, a status is from 200 to 599", where, status, e.Path, e.Status)
		}
	}
}

func (v *validation) behavior(where string, s Behavior) {
	origin, err := url.Parse(s.Origin)
	if err != nil || origin.Scheme != "http" && origin.Scheme != "https" || origin.Host == "" || strings.Trim(origin.Path, "/") == "" {
		v.wrong("%s: origin is %q; it is a bucket's URL such as http://127.0.0.1:9000/bucket", where, s.Origin)
	}
	if (s.AccessKey == "") != (s.SecretKey == "") {
		v.wrong("%s has one of accessKey and secretKey; both or none are given", where)
	}
	v.duration(where, "ttl", s.TTL)
	v.duration(where, "minTTL", s.MinTTL)
	v.duration(where, "maxTTL", s.MaxTTL)
	if s.MaxTTL != 0 && s.MinTTL > s.MaxTTL {
		v.wrong("%s: minTTL is %s; it is not above maxTTL, %s", where, span.Text(s.MinTTL), span.Text(s.MaxTTL))
	}
	if !slices.Contains([]string{"", PlainRedirected, PlainRefused}, s.Plain) {
		v.wrong("%s: plain is %q; allowed are nothing, %s and %s", where, s.Plain, PlainRedirected, PlainRefused)
	}
}

// hostNames checks names, and that nobody else has them for one of the paths.
func (v *validation) hostNames(where string, hosts []string, paths ...string) {
	for _, h := range hosts {
		canonical := canonicalHost(h)
		if canonical == "" || canonical != strings.TrimSuffix(strings.ToLower(h), ".") || strings.ContainsAny(h, "/ \t*:") {
			v.wrong("%s: host %q is not a host name without port", where, h)
		}
		if v.hosts[canonical] == nil {
			v.hosts[canonical] = map[string]string{}
		}
		for _, path := range paths {
			if other, ok := v.hosts[canonical][path]; ok {
				v.wrong("host %q is given to %s and to %s", canonical+path, other, where)
			}
			v.hosts[canonical][path] = where
		}
	}
}

func (v *validation) tls(c Config) {
	if c.TLS == nil {
		return
	}
	if _, _, err := net.SplitHostPort(c.TLS.Listen); c.TLS.Listen != "" && err != nil {
		v.wrong("tls: listen is %q; it is host:port", c.TLS.Listen)
	}
	sources, asked := map[string]bool{}, map[string]string{}
	for i, from := range c.TLS.Sources {
		v.name("tls: sources", i, from.Name, sources)
		if from.ACME == nil {
			continue
		}
		if len(from.ACME.Hosts) == 0 {
			v.wrong("tls: acme of %q has no hosts; certificates are asked for named hosts only", from.Name)
		}
		for _, host := range from.ACME.Hosts {
			if other, ok := asked[host]; ok {
				v.wrong("tls: host %q is asked for by %q and by %q", host, other, from.Name)
			}
			asked[host] = from.Name
		}
	}
}

func (v *validation) duration(where, name string, d time.Duration) {
	if d < 0 {
		v.wrong("%s: %s is %s; it is not negative", where, name, span.Text(d))
	}
}

// canonicalHost gives the one form of a host name: without port and final dot,
// in lower case.
func canonicalHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
