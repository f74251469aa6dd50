package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/project"
)

const ownHost = "shop.example.com"

// writeCertificate writes certs/own.pem and certs/own.key below a folder; the
// number tells certificates apart.
func writeCertificate(t *testing.T, folder string, number int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(number), DNSNames: []string{ownHost}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "certs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"own.pem": {Type: "CERTIFICATE", Bytes: cert}, "own.key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(folder, "certs", name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificatesOfAnEnvironment has an edge of its own process speak HTTPS by
// the certificates of an environment, renews them, and takes them away.
func TestCertificatesOfAnEnvironment(t *testing.T) {
	folder, err := os.MkdirTemp("", "cert") // short, for the sake of the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	o := Options{Folder: folder, State: folder, Self: self, Edge: "127.0.0.1:0", EdgeTLS: "127.0.0.1:0", Announce: func(text string) { told = append(told, text) }}.withDefaults()
	keeper := process.New(filepath.Join(folder, "processes"), process.Options{Command: []string{self, "internal", "exec"}})
	t.Cleanup(keeper.Close)
	e, err := newEdgeProcess(keeper, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.SetSites(context.Background(), "prod", nil); err != nil {
			t.Error(err)
		}
		if err := e.StopIfIdle(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := &Server{o: o, edge: e}
	site := edge.Site{Name: "prod/site", Hosts: []string{ownHost, "bare.example.com"}, Behavior: edge.Behavior{Origin: "http://127.0.0.1:1/bucket"}}
	if err := e.SetSites(t.Context(), "prod", []edge.Site{site}); err != nil {
		t.Fatal(err)
	}
	shown := func() int64 {
		t.Helper()
		secure, _ := e.HTTPS(t.Context())
		conn, err := tls.Dial("tcp", secure, &tls.Config{ServerName: ownHost, InsecureSkipVerify: true})
		if err != nil {
			return 0
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	wanted := &project.Environment{Edge: &project.Edge{Certificates: []*project.Certificate{{Cert: "certs/own.pem", Key: "certs/own.key"}}}}
	if err := s.certify(t.Context(), "prod", wanted); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Text(err), "environments.prod.edge.certificates") {
		t.Errorf("files that are not there: %v", err)
	}
	writeCertificate(t, folder, 1)
	for range 2 {
		if err := s.certify(t.Context(), "prod", wanted); err != nil {
			t.Fatal(err)
		}
	}
	if got := shown(); got != 1 {
		t.Errorf("shown is certificate %d", got)
	}
	if want := []string{"HTTPS: no certificate is for bare.example.com"}; !slices.Equal(told, want) {
		t.Errorf("told is %q, want %q", told, want)
	}
	writeCertificate(t, folder, 2)
	for end := time.Now().Add(30 * time.Second); shown() != 2; time.Sleep(50 * time.Millisecond) { // a file that is looked at is no event
		if time.Now().After(end) {
			t.Fatal("the new certificate is not taken")
		}
	}
	version := e.config.Version
	if err := s.certify(t.Context(), "prod", wanted); err != nil || e.config.Version != version {
		t.Errorf("what is in force is put in force again: %v", err)
	}
	for _, name := range []string{"config.json", "edge.log", "access.log"} {
		raw, err := os.ReadFile(e.path(name))
		if err != nil || strings.Contains(string(raw), "PRIVATE KEY") {
			t.Errorf("%s: %v, or it holds a key", name, err)
		}
	}
	if err := s.certify(t.Context(), "prod", &project.Environment{}); err != nil || shown() != 0 {
		t.Errorf("certificates that were taken away are shown: %v", err)
	}
}

func TestHostsOfAService(t *testing.T) {
	env := &environment{name: "prod", project: "shop"}
	p := &project.Project{Environments: map[string]*project.Environment{"prod": {Edge: &project.Edge{Hosts: map[string][]string{"api": {"api.example.com"}}}}}}
	for service, want := range map[string][]string{"api": {"api.prod.shop.localhost", "api.example.com"}, "web": {"web.prod.shop.localhost"}} {
		if got := env.hostsIn(p)(service); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", service, got, want)
		}
	}
}
