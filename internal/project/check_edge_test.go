package project

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCertificatesAreLookedAt loads a project whose certificates are right,
// away, broken, another key's and ended.
func TestCertificatesAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair := func(name string, until time.Time) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example.com"}, NotBefore: until.Add(-time.Hour), NotAfter: until}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
		write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	}
	pair("good", time.Now().Add(time.Hour))
	pair("old", time.Date(2020, 2, 1, 12, 0, 0, 0, time.UTC))
	write("text.pem", []byte("no PEM"))
	write(File, []byte(`project: shop
environments:
  local:
    platform: local
    edge:
      certificates:
        - {cert: good.pem, key: `+filepath.Join(dir, "good.key")+`}
        - {cert: good.pem, key: away.key}
        - {cert: text.pem, key: good.key}
        - {cert: good.pem, key: old.key}
        - {cert: old.pem, key: old.key}
`))
	_, list, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := `makeitso.yaml:8:33: warning: environments.local.edge.certificates[1].key: there is no file "away.key" here; put it there before a pipeline reaches the environment
makeitso.yaml:9:11: error: environments.local.edge.certificates[2]: text.pem and good.key do not serve: tls: failed to find any PEM data in certificate input; allowed: a certificate and its own private key, both in PEM
makeitso.yaml:10:11: error: environments.local.edge.certificates[3]: good.pem and old.key do not serve: tls: private key does not match public key; allowed: a certificate and its own private key, both in PEM
makeitso.yaml:11:18: warning: environments.local.edge.certificates[4].cert: the certificate old.pem ended on 2020-02-01; renew it; the new file is taken without a restart`
	if got := list.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "good.key")); err != nil || strings.Contains(list.Error(), strings.Split(string(raw), "\n")[1]) {
		t.Errorf("a key is told: %v", err)
	}
}
