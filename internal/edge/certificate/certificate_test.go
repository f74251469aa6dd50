package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
)

// shake agrees on TLS with a store and gives the certificate that was shown.
func shake(t *testing.T, s *Store, host string, roots *x509.CertPool) (*x509.Certificate, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(ours, s.Config()).HandshakeContext(t.Context()) }()
	client := tls.Client(theirs, &tls.Config{ServerName: host, RootCAs: roots})
	err := client.HandshakeContext(t.Context())
	theirs.Close()
	<-served
	if err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

// shown gives what a store shows to a client that asks for a host.
func shown(t *testing.T, s *Store, host string) (*tls.Certificate, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	return s.Get(&tls.ClientHelloInfo{ServerName: host, Conn: ours, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
		SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}})
}

func trusting(t *testing.T, a *Authority) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("the authority's certificate is none")
	}
	return pool
}

func TestLocalAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certificates")
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "authority.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", info, err)
	}
	again, err := OpenAuthority(dir)
	if err != nil || string(again.PEM()) != string(a.PEM()) {
		t.Errorf("opened again it is another one: %v", err)
	}
	roots := trusting(t, a)
	s := NewStore(dir, nil)
	if err := s.Want(Wanted{Local: func(host string) bool { return host != "unknown.localhost" }}); err != nil {
		t.Fatal(err)
	}
	leaf, err := shake(t, s, "api.shop.localhost", roots)
	if err != nil || leaf.VerifyHostname("api.shop.localhost") != nil || time.Until(leaf.NotAfter) > leafTime {
		t.Fatalf("got %v %v", leaf, err)
	}
	if other, err := shake(t, s, "api.shop.localhost", roots); err != nil || !other.Equal(leaf) {
		t.Errorf("the second time it is another one: %v", err)
	}
	for _, host := range []string{"unknown.localhost", "example.com"} {
		if _, err := shake(t, s, host, roots); err == nil {
			t.Errorf("there is a certificate for %s", host)
		}
	}
	// A leaf for any other name, though the authority's key signed it, is worth nothing.
	if _, err := a.Leaf("example.com"); err == nil {
		t.Error("the authority signs for example.com")
	}
	if err := os.WriteFile(filepath.Join(dir, "authority.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); !fault.Is(err, fault.Invalid) {
		t.Errorf("a damaged authority: %v", err)
	}
}

// TestPatienceWithFiles opens a store whose files are not there yet, as a
// restarted edge does.
func TestPatienceWithFiles(t *testing.T) {
	dir := t.TempDir()
	p := Pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	s := NewStore(dir, nil)
	if err := s.Want(Wanted{Sources: []Source{{Pairs: []Pair{p}}}, Patient: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, s, "own.localhost"); err == nil {
		t.Error("there is a certificate")
	}
	if all := s.Troubles([]string{"own.localhost", "www.example.com"}); len(all) != 2 || !strings.Contains(all[0], "cannot be used: stat") || all[1] != "no certificate is for www.example.com" {
		t.Errorf("told are %q", all)
	}
	writePair(t, dir, "own.localhost")
	s.pairs[0].looked = time.Time{}
	if _, err := shown(t, s, "own.localhost"); err != nil {
		t.Errorf("the files are not taken when they come: %v", err)
	}
	if all := s.Troubles([]string{"own.localhost"}); len(all) != 0 {
		t.Errorf("told are %q", all)
	}
}

// TestEndedCertificates prefers a certificate that is good, and tells of others.
func TestEndedCertificates(t *testing.T) {
	var pairs []Pair
	s := NewStore(t.TempDir(), nil)
	for range 3 {
		pairs = append(pairs, writePair(t, t.TempDir(), "own.localhost"))
	}
	if err := s.Want(Wanted{Sources: []Source{{Pairs: pairs[:2]}, {Name: "other", Pairs: pairs[2:]}}}); err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	for i, left := range []time.Duration{-day, day, 30 * day} {
		s.pairs[i].loaded.Leaf.NotAfter = time.Now().Add(left)
	}
	index := func() int {
		t.Helper()
		c, err := shown(t, s, "own.localhost")
		if err != nil {
			t.Fatal(err)
		}
		return slices.IndexFunc(s.pairs, func(p *pair) bool { return p.loaded == c })
	}
	if got := index(); got != 1 {
		t.Errorf("shown is the certificate %d, not the first good one", got)
	}
	all := s.Troubles(nil)
	if len(all) != 2 || !strings.Contains(all[0], " ended on ") || !strings.Contains(all[1], " ends on ") {
		t.Errorf("told are %q", all)
	}
	s.pairs = s.pairs[:1]
	if got := index(); got != 0 {
		t.Error("one that has ended is not shown where there is no other")
	}
}

// writePair writes a certificate of some authority as files of the user's own.
func writePair(t *testing.T, dir, host string) Pair {
	t.Helper()
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePEM(t, p.Certificate, "CERTIFICATE", leaf.Certificate[0])
	writePEM(t, p.Key, "PRIVATE KEY", key)
	return p
}

func TestOwnFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	p := writePair(t, dir, "own.localhost")
	s := NewStore(dir, nil)
	if err := s.Want(Wanted{Sources: []Source{{Pairs: []Pair{p}}}}); err != nil {
		t.Fatal(err)
	}
	get := func() *tls.Certificate {
		t.Helper()
		c, err := shown(t, s, "own.localhost")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get()
	next := func() { s.pairs[0].looked = time.Time{} } // as if a second had passed
	writePair(t, dir, "own.localhost")
	for _, name := range []string{p.Certificate, p.Key} {
		if err := os.Chtimes(name, time.Now(), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	next()
	second := get()
	if second.Leaf.Equal(first.Leaf) {
		t.Error("changed files are not read again")
	}
	if err := os.WriteFile(p.Key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p.Key, time.Now(), time.Now().Add(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	next()
	if got := get(); !got.Leaf.Equal(second.Leaf) {
		t.Error("half of a change is in force")
	}
	if err := s.Want(Wanted{Sources: []Source{{Pairs: []Pair{p}}}}); err != nil || !get().Leaf.Equal(second.Leaf) {
		t.Errorf("told again in the middle of a change: %v", err)
	}
	if all := s.Troubles(nil); len(all) != 1 || !strings.Contains(all[0], "has changed and cannot be used") {
		t.Errorf("a half change is told as %q", all)
	}
	if err := NewStore(dir, nil).Want(Wanted{Sources: []Source{{Pairs: []Pair{p}}}}); err == nil {
		t.Error("a key that is none is taken")
	}
	if err := Check(p); !fault.Is(err, fault.Invalid) || strings.Contains(fault.Text(err), "half") {
		t.Errorf("a key that is none is told as %v", err)
	}
}
