package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Pair is the files of a certificate of the user's own.
type Pair struct {
	Certificate string `json:"certificate"` // a PEM file, with those that signed it behind
	Key         string `json:"key"`         // a PEM file
}

// ACME is an authority that gives certificates over the network.
type ACME struct {
	Directory string   `json:"directory,omitempty"` // its URL; default that of Let's Encrypt
	Email     string   `json:"email,omitempty"`
	Hosts     []string `json:"hosts"` // the names that it is asked for, and no others
}

// Wanted is where certificates come from.
type Wanted struct {
	Pairs []Pair
	ACME  *ACME
	Local func(host string) bool // the hosts that the local authority makes certificates for
}

// lookEvery is how often files are looked at for a change, at most.
const lookEvery = time.Second

// Store finds certificates. It is safe for concurrent use.
type Store struct {
	folder string

	mu        sync.Mutex
	wanted    Wanted
	pairs     []*pair
	manager   *autocert.Manager
	acme      *ACME
	authority *Authority // nil until it is first needed
}

// pair is a Pair that was read.
type pair struct {
	Pair
	loaded  *tls.Certificate
	looked  time.Time
	changed [2]time.Time // of both files
}

// NewStore makes a store that keeps what it gets and makes in a folder.
func NewStore(folder string) *Store { return &Store{folder: folder} }

// Want changes where certificates come from. If a file cannot be read nothing
// changes.
func (s *Store) Want(w Wanted) error {
	var pairs []*pair
	for _, files := range w.Pairs {
		p := &pair{Pair: files}
		if err := p.load(); err != nil {
			return fmt.Errorf("read the certificate %s: %w", files.Certificate, err)
		}
		pairs = append(pairs, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.pairs = w, pairs
	if w.ACME == nil {
		s.manager, s.acme = nil, nil
	} else if s.acme == nil || s.acme.Directory != w.ACME.Directory || s.acme.Email != w.ACME.Email || !slices.Equal(s.acme.Hosts, w.ACME.Hosts) {
		s.acme = w.ACME
		s.manager = &autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(s.folder, "acme")),
			HostPolicy: autocert.HostWhitelist(w.ACME.Hosts...), Email: w.ACME.Email,
		}
		if w.ACME.Directory != "" {
			s.manager.Client = &acme.Client{DirectoryURL: w.ACME.Directory}
		}
	}
	return nil
}

// load reads both files and remembers when they were changed.
func (p *pair) load() error {
	for i, name := range []string{p.Certificate, p.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		p.changed[i] = info.ModTime()
	}
	loaded, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return err
	}
	p.loaded, p.looked = &loaded, time.Now()
	return nil
}

// renew reads the files again if they have changed; while one of them cannot
// be used, as half of a change, the certificate before stays.
func (p *pair) renew() {
	if time.Since(p.looked) < lookEvery {
		return
	}
	next := pair{Pair: p.Pair}
	p.looked = time.Now()
	for i, name := range []string{p.Certificate, p.Key} {
		if info, err := os.Stat(name); err != nil || !info.ModTime().Equal(p.changed[i]) {
			if next.load() == nil {
				*p = next
			}
			return
		}
	}
}

// errNoCertificate is what a client gets that asks for a name nobody has.
var errNoCertificate = errors.New("there is no certificate for this host")

// Get gives the certificate for a client; it is tls.Config's GetCertificate.
func (s *Store) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := hello.ServerName
	if host == "" { // asked by address
		at, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
		if err != nil {
			return nil, fmt.Errorf("find the address that was asked: %w", err)
		}
		host = at
	}
	c, manager, err := s.find(hello, host)
	if manager != nil { // it may ask over the network: not under the lock
		return manager.GetCertificate(hello)
	}
	return c, err
}

func (s *Store) find(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, *autocert.Manager, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pairs {
		p.renew()
		if p.loaded.Leaf.VerifyHostname(host) == nil && hello.SupportsCertificate(p.loaded) == nil {
			return p.loaded, nil, nil
		}
	}
	if s.acme != nil && slices.Contains(s.acme.Hosts, host) {
		return nil, s.manager, nil
	}
	if !Issues(host) || s.wanted.Local == nil || !s.wanted.Local(host) {
		return nil, nil, fmt.Errorf("%s: %w", host, errNoCertificate)
	}
	if s.authority == nil {
		var err error
		if s.authority, err = OpenAuthority(s.folder); err != nil {
			return nil, nil, err
		}
	}
	c, err := s.authority.Leaf(host)
	return c, nil, err
}

// Config is how TLS is spoken with clients.
func (s *Store) Config() *tls.Config {
	return &tls.Config{GetCertificate: s.Get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1", acme.ALPNProto}}
}

// Challenge gives the handler for an authority that asks over plain HTTP
// whether a host is ours; nil if none is asked for certificates.
func (s *Store) Challenge(ctx context.Context, host string) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manager == nil || s.manager.HostPolicy(ctx, host) != nil {
		return nil
	}
	return s.manager.HTTPHandler(http.NotFoundHandler())
}
