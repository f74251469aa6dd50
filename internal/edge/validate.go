package edge

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Validate says everything that is wrong with the document, in one
// fault.Invalid; nil if it can be put in force.
func (c Config) Validate() error {
	v := validation{hosts: map[string]string{}, instances: map[string]string{}}
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
	balancers := map[string]bool{}
	for i, b := range c.Balancers {
		v.name("balancers", i, b.Name, balancers)
		v.balancer(b, services)
	}
	if len(v.found) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "the edge configuration is wrong: %s", strings.Join(v.found, "; "))
}

// validation collects what is wrong while a document is walked.
type validation struct {
	found     []string
	hosts     map[string]string // canonical host → who has it
	instances map[string]string // id → the arm that has it
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
	v.hostNames(where, s.Hosts)
	if s.Health != "" && !strings.HasPrefix(s.Health, "/") {
		v.wrong("%s: health is %q; a path begins with /", where, s.Health)
	}
	if _, err := parseCodes(s.HealthCodes); err != nil {
		v.wrong("%s: healthCodes: %v", where, err)
	}
	v.duration(where, "healthInterval", s.HealthInterval)
	v.duration(where, "healthTimeout", s.HealthTimeout)
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

func (v *validation) arm(where string, a Arm) {
	where = fmt.Sprintf("%s arm %q", where, a.Name)
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
	v.hostNames(where, s.Hosts)
	origin, err := url.Parse(s.Origin)
	if err != nil || origin.Scheme != "http" && origin.Scheme != "https" || origin.Host == "" || strings.Trim(origin.Path, "/") == "" {
		v.wrong("%s: origin is %q; it is a bucket's URL such as http://127.0.0.1:9000/bucket", where, s.Origin)
	}
	if (s.AccessKey == "") != (s.SecretKey == "") {
		v.wrong("%s has one of accessKey and secretKey; both or none are given", where)
	}
	v.duration(where, "ttl", s.TTL)
	for status, e := range s.Errors {
		if status < 400 || status > 599 {
			v.wrong("%s: errors has status %d; it is from 400 to 599", where, status)
		}
		if !strings.HasPrefix(e.Path, "/") || e.Status < 200 || e.Status > 599 {
			v.wrong("%s: error %d is answered with %q and status %d; a path begins with /, a status is from 200 to 599", where, status, e.Path, e.Status)
		}
	}
}

func (v *validation) hostNames(where string, hosts []string) {
	for _, h := range hosts {
		canonical := canonicalHost(h)
		if canonical == "" || canonical != strings.TrimSuffix(strings.ToLower(h), ".") || strings.ContainsAny(h, "/ \t*:") {
			v.wrong("%s: host %q is not a host name without port", where, h)
		} else if other, ok := v.hosts[canonical]; ok {
			v.wrong("host %q is given to %s and to %s", canonical, other, where)
		}
		v.hosts[canonical] = where
	}
}

func (v *validation) duration(where, name string, d time.Duration) {
	if d < 0 {
		v.wrong("%s: %s is %s; it is not negative", where, name, d)
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
