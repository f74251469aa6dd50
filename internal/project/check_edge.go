package project

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// edge checks names and the authority; the files of certificates are looked at
// by checkCertificates.
func (c checker) edge(at string, e *Edge) {
	owner := map[string]string{}
	for _, service := range sortedKeys(e.Hosts) {
		key := at + ".hosts." + service
		if services := sortedKeys(c.p.Services); c.p.Services[service] == nil && patterns["name"].expr.MatchString(service) {
			m := c.keyErrorf(key, "found %q, which is not under services", service)
			m.Allowed, m.Hint = orList(services), suggest(service, services)
		}
		for i, host := range e.Hosts[service] {
			c.host(itemPath(key, i), host)
			for _, path := range c.p.Services[service].paths() {
				if other := owner[host+path]; other != "" {
					m := c.errorf(itemPath(key, i), "found %q, which %s has", host+path, other)
					m.Allowed = "each host name once"
					if other != key {
						m.Hint = "let services that share one differ in their paths"
					}
					break
				}
				owner[host+path] = key
			}
		}
	}
	if e.ACME == nil {
		return
	}
	for i, host := range e.ACME.Hosts {
		at := itemPath(at+".acme.hosts", i)
		switch {
		case !c.host(at, host):
		case host == "localhost" || strings.HasSuffix(host, ".localhost"):
			c.errorf(at, "found %q, for which no authority gives a certificate", host).Hint =
				"leave it out: makeitso has an authority of its own for names below .localhost, see makeitso trust"
		case !strings.Contains(host, "."):
			c.errorf(at, "found %q, which is no name of the public DNS", host).Allowed = "a host name like shop.example.com"
		}
	}
	if email := e.ACME.Email; email != "" && !strings.Contains(strings.Trim(email, "@"), "@") {
		c.errorf(at+".acme.email", "found %q", email).Allowed = "an address like ops@example.com"
	}
	if to, err := url.Parse(e.ACME.Directory); e.ACME.Directory != "" && (err != nil || to.Host == "" || to.Scheme != "https" && !isLoopback(to)) {
		c.errorf(at+".acme.directory", "found %q", e.ACME.Directory).Allowed = "an https:// URL; an http:// one on this machine only"
	}
}

func isLoopback(u *url.URL) bool {
	return u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
}

// paths gives what requests of the service begin with, "" for anything.
func (s *Service) paths() []string {
	if s == nil || len(s.Paths) == 0 {
		return []string{""}
	}
	var all []string
	for _, p := range s.Paths {
		all = append(all, strings.TrimRight(p, "/"))
	}
	return all
}

// path checks that a path of requests, where there is one, is whole.
func (c checker) path(at, path string) {
	if path != "" && !strings.HasPrefix(path, "/") {
		m := c.errorf(at, "found %q", path)
		m.Allowed, m.Hint = "a path that begins with /", fmt.Sprintf("did you mean %q?", "/"+path)
	}
}

// pages checks the pages of a site, and where it sends people. That a redirect's
// names fit together is the edge's to say.
func (c checker) pages(at string, s *Site) {
	c.path(at+".fallback", s.Fallback)
	for _, status := range sortedKeys(s.Errors) {
		c.path(at+".errors."+status, s.Errors[status])
	}
	for i, r := range s.Redirects {
		at := itemPath(at+".redirects", i)
		c.path(at+".from", r.From)
		if to, err := url.Parse(r.To); err != nil || to.Scheme == "" && to.Host != "" || to.Scheme != "" && (to.Host == "" || to.Scheme != "http" && to.Scheme != "https") {
			c.errorf(at+".to", "found %q", r.To).Allowed = "a path that begins with /, or an http:// or https:// URL"
		} else if to.Scheme == "" {
			c.path(at+".to", r.To)
		}
		if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Status) {
			c.errorf(at+".status", "found %d", r.Status).Allowed = "301, 302, 303, 307 or 308"
		}
	}
}

// host says whether a text is a whole host name, and notes what it is else.
func (c checker) host(at, host string) bool {
	if host == "" || patterns["host"].expr.MatchString(host) && net.ParseIP(host) == nil {
		return host != "" // an empty one has been told by the decoder
	}
	m := c.errorf(at, "found %q", host)
	m.Allowed = patterns["host"].allowed
	if u, err := url.Parse(strings.ToLower(host)); err == nil && patterns["host"].expr.MatchString(u.Hostname()) {
		m.Hint = fmt.Sprintf("did you mean %q?", u.Hostname())
	} else if lower := strings.ToLower(host); patterns["host"].expr.MatchString(lower) && net.ParseIP(host) == nil {
		m.Hint = fmt.Sprintf("did you mean %q?", lower)
	}
	return false
}

// Files gives the paths of both files, those relative to makeitso.yaml as they
// lie in its folder.
func (f *Certificate) Files(folder string) (cert, key string) {
	in := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(folder, filepath.FromSlash(name))
	}
	return in(f.Cert), in(f.Key)
}

// checkCertificates looks at the files of certificates. One that is not here is
// worth a warning: it need only be where its environment is.
func checkCertificates(d *decoder, p *Project, dir string, now time.Time) error {
	for _, name := range sortedKeys(p.Environments) {
		e := p.Environments[name].Edge
		if e == nil {
			continue
		}
		for i, files := range e.Certificates {
			if files.Cert == "" || files.Key == "" {
				continue // told by Parse
			}
			at := itemPath("environments."+name+".edge.certificates", i)
			if err := checkCertificate(d, at, files, dir, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCertificate(d *decoder, at string, files *Certificate, dir string, now time.Time) error {
	cert, key := files.Files(dir)
	missing := false
	for _, f := range []struct{ key, written, path string }{{"cert", files.Cert, cert}, {"key", files.Key, key}} {
		_, err := os.Stat(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = true
			m := d.list.Warnf(d.valuePos(at+"."+f.key), "%s.%s: there is no file %q here", at, f.key, f.written)
			m.Hint = "put it there before a pipeline reaches the environment"
		case err != nil:
			return fault.Wrap(fault.Unavailable, err, "look for %s", f.path)
		}
	}
	if missing {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if errors.Is(err, fs.ErrPermission) {
		d.list.Warnf(d.valuePos(at), "%s: %v", at, err).Hint = "let the user that runs makeitso read it"
		return nil
	}
	if err != nil {
		m := d.list.Errorf(d.valuePos(at), "%s: %s and %s do not serve: %v", at, files.Cert, files.Key, err)
		m.Allowed = "a certificate and its own private key, both in PEM"
		return nil
	}
	if end := pair.Leaf.NotAfter; now.After(end) {
		d.list.Warnf(d.valuePos(at+".cert"), "%s.cert: the certificate %s ended on %s", at, files.Cert, end.Format(time.DateOnly)).Hint =
			"renew it; the new file is taken without a restart"
	}
	return nil
}
