// Package certificate finds the certificate for a host name: one of the user's
// own files, one of an ACME authority, or one of a local authority that this
// machine's people may trust, for names below .localhost. It knows names and
// certificates; it must not know what is served under them.
package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

const (
	authorityYears = 10
	leafTime       = 90 * 24 * time.Hour
	renewBefore    = 30 * 24 * time.Hour
	skew           = time.Hour // clocks that are a little behind take it too
)

// Authority is the local one. Its certificate says that it is good for
// localhost and names below it only, so that who trusts it trusts it with
// nothing else.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// OpenAuthority reads the authority kept in a folder, and makes it if there is
// none. The file with the key is for its owner alone.
func OpenAuthority(folder string) (*Authority, error) {
	path := filepath.Join(folder, "authority.pem")
	a, err := readAuthority(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(folder, path); err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "the local certificate authority cannot be made")
		}
		a, err = readAuthority(path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the local certificate authority %s cannot be used", path).
			WithHint("remove the file; a new authority is made, which must be trusted anew: makeitso trust")
	}
	return a, nil
}

func readAuthority(path string) (*Authority, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("its key is none of elliptic curves")
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("it has ended on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	return &Authority{certificate: pair.Leaf, key: key, pem: public, leaves: map[string]*tls.Certificate{}}, nil
}

// makeAuthority writes certificate and key in one file, so that a crash leaves
// both or none.
func makeAuthority(folder, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	number, err := serial()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	id := sha256.Sum256(public)
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"makeitso"}, CommonName: "makeitso local authority of " + host},
		NotBefore: now.Add(-skew), NotAfter: now.AddDate(authorityYears, 0, 0), SubjectKeyId: id[:20],
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return statefile.WriteBytes(path, text)
}

func serial() (*big.Int, error) { return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) }

// PEM is the authority's certificate, for those who are to trust it.
func (a *Authority) PEM() []byte { return a.pem }

// Issues says whether the authority is good for a host name.
func Issues(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Leaf gives a certificate for a host name, made when it is first asked for
// and again before it ends.
func (a *Authority) Leaf(host string) (*tls.Certificate, error) {
	if !Issues(host) {
		return nil, fmt.Errorf("the local authority is for localhost and names below it, not for %s", host)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.leaves[host]; known != nil && time.Until(known.Leaf.NotAfter) > renewBefore {
		return known, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", host, err)
	}
	leaf, err := a.sign(host, &key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	a.leaves[host] = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}
	return a.leaves[host], nil
}

// sign makes the certificate of a host that has a key.
func (a *Authority) sign(host string, key any) (*x509.Certificate, error) {
	number, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"makeitso"}}, NotBefore: now.Add(-skew), NotAfter: now.Add(leafTime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(raw)
}
