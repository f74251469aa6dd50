package edge

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Balancer answers for host names by its rules: the first that fits decides.
type Balancer struct {
	Name  string   `json:"name"` // e.g. local/balancer/front
	Hosts []string `json:"hosts"`
	// Port is one of this machine's loopback address that it answers at too,
	// whatever the host name if no other balancer has that port; 0 for none.
	Port int `json:"port,omitempty"`
	// TLS says that HTTPS is spoken at the port.
	TLS   bool   `json:"tls,omitempty"`
	Rules []Rule `json:"rules"`
}

// Rule is what becomes of the requests that all its conditions hold for: just
// one of the three.
type Rule struct {
	If       []Condition `json:"if,omitempty"`
	Forward  []Share     `json:"forward,omitempty"`
	Redirect *Redirect   `json:"redirect,omitempty"`
	Fixed    *Fixed      `json:"fixed,omitempty"`
}

// The fields of conditions, by their names in ElasticLoadBalancingV2.
const (
	ByHost   = "host-header"
	ByPath   = "path-pattern"
	ByHeader = "http-header"
	ByMethod = "http-request-method"
	ByQuery  = "query-string"
	BySource = "source-ip"
)

// Condition holds if one of its values does. In those of hosts, paths, headers
// and queries * stands for any letters and ? for one.
type Condition struct {
	Field  string   `json:"field"`
	Header string   `json:"header,omitempty"` // the name, for ByHeader
	Values []string `json:"values,omitempty"`
	Query  []Pair   `json:"query,omitempty"` // for ByQuery
}

// Pair is a parameter of a query; without a key any that has the value.
type Pair struct {
	Key   string `json:"key,omitempty"`
	Value string `json:"value"`
}

// Share is the part of the requests that a service gets.
type Share struct {
	Service string  `json:"service"`
	Weight  float64 `json:"weight"`
}

// Redirect sends the client elsewhere. In all but Status, #{protocol}, #{host},
// #{port}, #{path} (without its first slash) and #{query} stand for what was
// asked for.
type Redirect struct {
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     string `json:"port"`
	Path     string `json:"path"`
	Query    string `json:"query"`
	Status   int    `json:"status"`
}

// Fixed is an answer.
type Fixed struct {
	Status int    `json:"status"`
	Type   string `json:"type,omitempty"`
	Body   string `json:"body,omitempty"`
}

// serveBalanced does what the first fitting rule says.
func (x *exchange) serveBalanced(r *http.Request, b *Balancer) {
	x.entry.Service, x.balancer = b.Name, b.Name
	for _, rule := range b.Rules {
		if slices.ContainsFunc(rule.If, func(c Condition) bool { return !c.holds(r, x.host) }) {
			continue
		}
		switch {
		case rule.Fixed != nil:
			x.answerFixed(rule.Fixed)
		case rule.Redirect != nil:
			x.w.Header().Set("Location", rule.Redirect.location(r, x.elsewhere))
			x.w.WriteHeader(rule.Redirect.Status)
		default:
			x.service = drawShare(rule.Forward)
			x.serveService(r)
		}
		return
	}
	x.page(http.StatusNotFound, "no rule fits", "The load balancer "+b.Name+" has no rule for this request.")
}

func (x *exchange) answerFixed(f *Fixed) {
	if f.Type != "" {
		x.w.Header().Set("Content-Type", f.Type)
	}
	x.w.WriteHeader(f.Status)
	if _, err := io.WriteString(&x.w, f.Body); err != nil {
		x.entry.Error = err.Error()
	}
}

// drawShare throws the coin among services.
func drawShare(shares []Share) string {
	sum := 0.0
	for _, s := range shares {
		sum += s.Weight
	}
	drawn, at := "", rand.Float64()*sum
	for _, s := range shares {
		if s.Weight == 0 {
			continue
		}
		drawn = s.Service
		if at -= s.Weight; at < 0 {
			break
		}
	}
	return drawn
}

// holds says whether a request fits.
func (c Condition) holds(r *http.Request, host string) bool {
	anyLike := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool {
			return slices.ContainsFunc(c.Values, func(pattern string) bool { return like(strings.ToLower(pattern), strings.ToLower(text)) })
		})
	}
	switch c.Field {
	case ByHost:
		return anyLike(host)
	case ByPath: // in a path, case counts
		return slices.ContainsFunc(c.Values, func(pattern string) bool { return like(pattern, r.URL.Path) })
	case ByHeader:
		return anyLike(r.Header.Values(c.Header)...)
	case ByMethod:
		return slices.Contains(c.Values, r.Method)
	case ByQuery:
		return slices.ContainsFunc(c.Query, func(p Pair) bool { return p.in(r.URL.Query()) })
	case BySource:
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		return err == nil && slices.ContainsFunc(c.Values, func(network string) bool {
			prefix, err := netip.ParsePrefix(network)
			return err == nil && prefix.Contains(from.Addr().Unmap())
		})
	}
	return false
}

func (p Pair) in(query url.Values) bool {
	for key, values := range query {
		if p.Key != "" && !like(strings.ToLower(p.Key), strings.ToLower(key)) {
			continue
		}
		if slices.ContainsFunc(values, func(v string) bool { return like(strings.ToLower(p.Value), strings.ToLower(v)) }) {
			return true
		}
	}
	return false
}

// like says whether text is as pattern says, in which * stands for any letters
// and ? for one.
func like(pattern, text string) bool {
	star, after := -1, 0 // the last * and what of text it does not stand for
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, after = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case star >= 0: // it stands for one letter more
			after++
			p, t = star+1, after
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// elsewhere gives the port at which a host is reached that a redirect names with
// a port: another one where the edge serves the host, but has not got the port.
func (x *exchange) elsewhere(host string, secure bool, port string) string {
	if x.plane.current().balancerFor(canonicalHost(host), secure) == nil {
		return port
	}
	return x.plane.instead(secure, port)
}

// location is where a redirect sends a request; reached says by which port that
// is reached.
func (d Redirect) location(r *http.Request, reached func(host string, secure bool, port string) string) string {
	asked, usual := "http", "80"
	if r.TLS != nil {
		asked, usual = "https", "443"
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, usual
	}
	fill := strings.NewReplacer("#{protocol}", asked, "#{host}", host, "#{port}", port,
		"#{path}", strings.TrimPrefix(r.URL.EscapedPath(), "/"), "#{query}", r.URL.RawQuery).Replace
	protocol, port := strings.ToLower(fill(d.Protocol)), fill(d.Port)
	host = fill(d.Host)
	port = reached(host, protocol == "https", port)
	to := protocol + "://" + host
	if protocol == "http" && port != "80" || protocol == "https" && port != "443" {
		to += ":" + port
	}
	to += fill(d.Path)
	if query := fill(d.Query); query != "" {
		to += "?" + query
	}
	return to
}

func (v *validation) balancer(b Balancer, services map[string]bool) {
	where := fmt.Sprintf("balancer %q", b.Name)
	v.hostNames(where, b.Hosts, "")
	if b.Port < 0 || b.Port > 65535 {
		v.wrong("%s: port is %d; it is from 1 to 65535", where, b.Port)
	}
	for i, rule := range b.Rules {
		where := where + " rules[" + strconv.Itoa(i) + "]"
		for _, c := range rule.If {
			v.condition(where, c)
		}
		for _, s := range rule.Forward {
			if !services[s.Service] {
				v.wrong("%s forwards to %q, which is no service", where, s.Service)
			}
			if !(s.Weight >= 0) {
				v.wrong("%s: weight is %v; it is a number from 0 up", where, s.Weight)
			}
		}
		if f := rule.Fixed; f != nil && (f.Status < 200 || f.Status > 599) {
			v.wrong("%s answers with status %d; it is from 200 to 599", where, f.Status)
		}
		if d := rule.Redirect; d != nil && (d.Status < 300 || d.Status > 399) {
			v.wrong("%s redirects with status %d; it is from 300 to 399", where, d.Status)
		}
		if rule.Fixed == nil && rule.Redirect == nil && len(rule.Forward) == 0 {
			v.wrong("%s has neither forward, redirect nor fixed", where)
		}
	}
}

func (v *validation) condition(where string, c Condition) {
	known := []string{ByHost, ByPath, ByHeader, ByMethod, ByQuery, BySource}
	if !slices.Contains(known, c.Field) {
		v.wrong("%s has a condition of %q; allowed are %s", where, c.Field, strings.Join(known, ", "))
	}
	for _, network := range c.Values {
		if _, err := netip.ParsePrefix(network); c.Field == BySource && err != nil {
			v.wrong("%s: %q is no network such as 10.0.0.0/8", where, network)
		}
	}
}
