package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"makeitso/internal/fault"
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

// Source is where the certificates of one owner come from.
type Source struct {
	Name  string `json:"name"` // the owner's, e.g. an environment's
	Pairs []Pair `json:"pairs,omitempty"`
	ACME  *ACME  `json:"acme,omitempty"`
}

// Wanted is where certificates come from.
type Wanted struct {
	Sources []Source
	Local   func(host string) bool // the hosts that the local authority makes certificates for
	// Patient says that files which cannot be read are looked for again later;
	// else they are refused.
	Patient bool
}

// Sealer keeps what an authority gives from those who may read files alone.
type Sealer interface {
	Seal(plain []byte, about string) []byte
	Open(sealed []byte, about string) ([]byte, error)
}

// lookEvery is how often files are looked at for a change, at most.
const lookEvery = time.Second

// soon is how long before its end a certificate is told of.
const soon = 7 * 24 * time.Hour

// Store finds certificates. It is safe for concurrent use.
type Store struct {
	folder string
	sealer Sealer

	mu        sync.Mutex
	local     func(host string) bool
	pairs     []*pair
	networks  []*network
	authority *Authority // nil until it is first needed
}

// pair is a Pair that was read.
type pair struct {
	Pair
	loaded  *tls.Certificate // nil while there was nothing to read
	looked  time.Time
	changed [2]time.Time // of both files
	trouble error        // why the files are not in force as they are now
}

// network is an ACME authority and what came of asking it.
type network struct {
	ACME
	manager *autocert.Manager
	failed  map[string]error // by host
}

// NewStore makes a store that keeps what it gets and makes in a folder. What it
// gets over the network it seals, unless sealer is nil.
func NewStore(folder string, sealer Sealer) *Store { return &Store{folder: folder, sealer: sealer} }

// Check says what is wrong with the files of a certificate.
func Check(files Pair) error {
	p := pair{Pair: files}
	if err := p.load(); err != nil {
		return fault.Wrap(fault.Invalid, err, "the certificate %s cannot be used", files.Certificate).
			WithHint("name a certificate and its own private key, both in PEM, that this user may read")
	}
	return nil
}

// Want changes where certificates come from. If a file cannot be read nothing
// changes, unless it could be before: what was read then stays, since the files
// may just be in the middle of a change.
func (s *Store) Want(w Wanted) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pairs []*pair
	var networks []*network
	for _, from := range w.Sources {
		for _, files := range from.Pairs {
			p := s.pairOf(files)
			if p.loaded == nil && !w.Patient {
				return fmt.Errorf("read the certificate %s: %w", files.Certificate, p.trouble)
			}
			pairs = append(pairs, p)
		}
		if from.ACME != nil {
			networks = append(networks, s.networkOf(*from.ACME))
		}
	}
	s.local, s.pairs, s.networks = w.Local, pairs, networks
	return nil
}

// pairOf gives a pair as it is known, or reads it.
func (s *Store) pairOf(files Pair) *pair {
	i := slices.IndexFunc(s.pairs, func(p *pair) bool { return p.Pair == files && p.loaded != nil })
	if i >= 0 {
		return s.pairs[i]
	}
	p := &pair{Pair: files}
	p.trouble = p.load()
	p.looked = time.Now()
	return p
}

// networkOf gives an authority as it is known, or gets ready to ask it.
func (s *Store) networkOf(a ACME) *network {
	i := slices.IndexFunc(s.networks, func(n *network) bool { return reflect.DeepEqual(n.ACME, a) })
	if i >= 0 {
		return s.networks[i]
	}
	folder := filepath.Join(s.folder, "acme")
	if a.Directory != "" { // what one authority gave is not another's
		sum := sha256.Sum256([]byte(a.Directory))
		folder = filepath.Join(folder, hex.EncodeToString(sum[:8]))
	}
	n := &network{ACME: a, failed: map[string]error{}, manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: sealedCache{autocert.DirCache(folder), s.sealer},
		HostPolicy: autocert.HostWhitelist(a.Hosts...), Email: a.Email,
	}}
	if a.Directory != "" {
		n.manager.Client = &acme.Client{DirectoryURL: a.Directory}
	}
	return n
}

// sealedCache keeps what is got over the network, keys too.
type sealedCache struct {
	autocert.DirCache
	sealer Sealer
}

// Get implements autocert.Cache.
func (c sealedCache) Get(ctx context.Context, name string) ([]byte, error) {
	raw, err := c.DirCache.Get(ctx, name)
	if err != nil || c.sealer == nil {
		return raw, err
	}
	return c.sealer.Open(raw, "acme "+name)
}

// Put implements autocert.Cache.
func (c sealedCache) Put(ctx context.Context, name string, raw []byte) error {
	if c.sealer != nil {
		raw = c.sealer.Seal(raw, "acme "+name)
	}
	return c.DirCache.Put(ctx, name, raw)
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
	p.looked, p.trouble = time.Now(), nil
	for i, name := range []string{p.Certificate, p.Key} {
		info, err := os.Stat(name)
		if err == nil && p.loaded != nil && info.ModTime().Equal(p.changed[i]) {
			continue
		}
		if p.trouble = next.load(); p.trouble == nil {
			*p = next
		}
		return
	}
}

// tells what is wrong with a pair, "" if nothing is.
func (p *pair) tells(now time.Time) string {
	switch {
	case p.loaded == nil:
		return fmt.Sprintf("the certificate %s cannot be used: %v", p.Certificate, p.trouble)
	case p.trouble != nil:
		return fmt.Sprintf("the certificate %s has changed and cannot be used, so that the one before stays: %v", p.Certificate, p.trouble)
	case now.After(p.loaded.Leaf.NotAfter):
		return fmt.Sprintf("the certificate %s ended on %s", p.Certificate, p.loaded.Leaf.NotAfter.Format(time.DateOnly))
	case now.After(p.loaded.Leaf.NotAfter.Add(-soon)):
		return fmt.Sprintf("the certificate %s ends on %s", p.Certificate, p.loaded.Leaf.NotAfter.Format(time.DateOnly))
	}
	return ""
}

// Troubles tells what keeps HTTPS from some of these hosts, or soon will. Where
// nobody has named a certificate, nobody is told that one is missing.
func (s *Store) Troubles(hosts []string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pairs)+len(s.networks) == 0 {
		return nil
	}
	for _, p := range s.pairs {
		p.renew()
		if text := p.tells(time.Now()); text != "" {
			all = append(all, text)
		}
	}
	for _, host := range hosts {
		if !Issues(host) && s.networkFor(host) == nil && !slices.ContainsFunc(s.pairs, func(p *pair) bool { return p.covers(host) }) {
			all = append(all, "no certificate is for "+host)
		}
	}
	for _, n := range s.networks {
		for _, host := range slices.Sorted(maps.Keys(n.failed)) {
			all = append(all, fmt.Sprintf("no certificate could be got for %s: %v", host, n.failed[host]))
		}
	}
	return all
}

func (p *pair) covers(host string) bool {
	return p.loaded != nil && p.loaded.Leaf.VerifyHostname(host) == nil
}

// networkFor gives the authority that is asked for a host, nil for none.
func (s *Store) networkFor(host string) *network {
	i := slices.IndexFunc(s.networks, func(n *network) bool { return slices.Contains(n.Hosts, host) })
	if i < 0 {
		return nil
	}
	return s.networks[i]
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
	c, network, err := s.find(hello, host)
	if network == nil {
		return c, err
	}
	c, err = network.manager.GetCertificate(hello) // it may ask over the network: not under the lock
	if !slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
		s.note(network, host, err)
	}
	return c, err
}

// note remembers what came of asking for a host.
func (s *Store) note(n *network, host string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(n.failed, host); err != nil {
		n.failed[host] = err
	}
}

func (s *Store) find(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, *network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ended *tls.Certificate // better than none: the client says what is wrong with it
	for _, p := range s.pairs {
		p.renew()
		switch {
		case !p.covers(host) || hello.SupportsCertificate(p.loaded) != nil:
		case time.Now().After(p.loaded.Leaf.NotAfter):
			ended = p.loaded
		default:
			return p.loaded, nil, nil
		}
	}
	if n := s.networkFor(host); n != nil {
		return nil, n, nil
	}
	if ended != nil {
		return ended, nil, nil
	}
	if !Issues(host) || s.local == nil || !s.local(host) {
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

// Config is how TLS is spoken with clients. Go's HTTP/2 offers no extended
// CONNECT unless all of a process does, so that browsers open WebSockets by
// HTTP/1.1, on a connection of their own.
func (s *Store) Config() *tls.Config {
	return &tls.Config{GetCertificate: s.Get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1", acme.ALPNProto}}
}

// Challenge gives the handler for an authority that asks over plain HTTP
// whether a host is ours; nil if none is asked for certificates.
func (s *Store) Challenge(host string) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.networkFor(host)
	if n == nil {
		return nil
	}
	return n.manager.HTTPHandler(http.NotFoundHandler())
}
