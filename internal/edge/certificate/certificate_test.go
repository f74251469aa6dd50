package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
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
	s := NewStore(dir)
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
	s := NewStore(dir)
	if err := s.Want(Wanted{Pairs: []Pair{p}}); err != nil {
		t.Fatal(err)
	}
	get := func() *tls.Certificate {
		t.Helper()
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		hello := &tls.ClientHelloInfo{ServerName: "own.localhost", Conn: ours, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
			SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}}
		c, err := s.Get(hello)
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
	if err := s.Want(Wanted{Pairs: []Pair{p}}); err == nil {
		t.Error("a key that is none is taken")
	}
}
