package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func writePEM(t *testing.T, path, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// acmeServer is an authority that speaks ACME. It asks the store whether a
// host is its own as the protocol says, over TLS, and believes all signatures.
type acmeServer struct {
	*httptest.Server
	authority *Authority
	ask       string // where the host is asked
	asked     atomic.Int64
	proven    atomic.Bool
	away      atomic.Bool
	mu        sync.Mutex
	issued    []byte
}

func newACMEServer(t *testing.T, ask string) *acmeServer {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &acmeServer{authority: a, ask: ask}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *acmeServer) serve(w http.ResponseWriter, r *http.Request) {
	if s.away.Load() {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("Replay-Nonce", fmt.Sprint(s.asked.Add(1)))
	state := map[bool]string{true: "valid", false: "pending"}[s.proven.Load()]
	challenge := map[string]any{"type": "tls-alpn-01", "url": s.URL + "/challenge", "token": "token", "status": state}
	order := map[string]any{"status": map[bool]string{true: "ready", false: "pending"}[s.proven.Load()], "authorizations": []string{s.URL + "/authz"},
		"finalize": s.URL + "/finalize", "identifiers": []map[string]string{{"type": "dns", "value": acmeHost}}}
	answer := func(status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/directory":
		answer(200, map[string]any{"newNonce": s.URL + "/nonce", "newAccount": s.URL + "/account", "newOrder": s.URL + "/order", "revokeCert": s.URL + "/revoke", "keyChange": s.URL + "/key"})
	case "/nonce":
	case "/account":
		w.Header().Set("Location", s.URL+"/account/1")
		answer(201, map[string]any{"status": "valid"})
	case "/order", "/order/1":
		w.Header().Set("Location", s.URL+"/order/1")
		s.mu.Lock()
		if s.issued != nil {
			order["status"], order["certificate"] = "valid", s.URL+"/certificate"
		}
		s.mu.Unlock()
		answer(map[bool]int{true: 201, false: 200}[r.URL.Path == "/order"], order)
	case "/authz":
		answer(200, map[string]any{"status": state, "identifier": map[string]string{"type": "dns", "value": acmeHost}, "challenges": []any{challenge}})
	case "/challenge":
		conn, err := tls.Dial("tcp", s.ask, &tls.Config{ServerName: acmeHost, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		if err == nil {
			s.proven.Store(conn.ConnectionState().PeerCertificates[0].VerifyHostname(acmeHost) == nil && conn.ConnectionState().NegotiatedProtocol == "acme-tls/1")
			conn.Close()
		}
		answer(200, challenge)
	case "/finalize":
		if err := s.issue(r.Body); err != nil {
			answer(400, map[string]string{"type": "urn:ietf:params:acme:error:badCSR", "detail": err.Error()})
			return
		}
		order["status"], order["certificate"] = "valid", s.URL+"/certificate"
		w.Header().Set("Location", s.URL+"/order/1")
		answer(200, order)
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.issued}))
	default:
		answer(404, nil)
	}
}

// issue signs what a request to finalize asks for.
func (s *acmeServer) issue(body io.Reader) error {
	var signed struct{ Payload string }
	var payload struct{ CSR string }
	if err := json.NewDecoder(body).Decode(&signed); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &payload); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(payload.CSR)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	leaf, err := s.authority.sign(csr.DNSNames[0], csr.PublicKey)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = leaf.Raw
	return nil
}

// reversed seals by turning bytes around.
type reversed struct{}

func (reversed) Seal(plain []byte, about string) []byte {
	sealed := slices.Clone(plain)
	slices.Reverse(sealed)
	return append([]byte(about+":"), sealed...)
}

func (r reversed) Open(sealed []byte, about string) ([]byte, error) {
	return bytes.TrimPrefix(r.Seal(bytes.TrimPrefix(sealed, []byte(about+":")), about), []byte(about+":")), nil
}

const acmeHost = "acme.shop.localhost" // an authority of ours may sign it

// TestAuthorityThatGivesNothing tells why there is no certificate.
func TestAuthorityThatGivesNothing(t *testing.T) {
	authority := newACMEServer(t, "")
	authority.away.Store(true)
	s := NewStore(t.TempDir(), nil)
	if err := s.Want(Wanted{Sources: []Source{{ACME: &ACME{Directory: authority.URL + "/directory", Hosts: []string{acmeHost}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, s, acmeHost); err == nil {
		t.Error("an authority that is away has given a certificate")
	}
	if all := s.Troubles([]string{acmeHost}); len(all) != 1 || !strings.HasPrefix(all[0], "no certificate could be got for "+acmeHost+": ") {
		t.Errorf("told are %q", all)
	}
}

func TestACMEIsAskedForConfiguredHostsOnly(t *testing.T) {
	folder := t.TempDir()
	s := NewStore(folder, reversed{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer l.Close()
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				tls.Server(conn, s.Config()).HandshakeContext(t.Context())
			})
		}
	})
	authority := newACMEServer(t, l.Addr().String())
	if err := s.Want(Wanted{Sources: []Source{{ACME: &ACME{Directory: authority.URL + "/directory", Hosts: []string{acmeHost}}}}}); err != nil {
		t.Fatal(err)
	}
	roots := trusting(t, authority.authority)
	if _, err := shake(t, s, "other.shop.localhost", roots); err == nil || authority.asked.Load() > 0 {
		t.Errorf("a host that was not configured: %v, asked %d times", err, authority.asked.Load())
	}
	leaf, err := shake(t, s, acmeHost, roots)
	if err != nil || !authority.proven.Load() {
		t.Fatalf("%v, proven %t", err, authority.proven.Load())
	}
	if all := s.Troubles(nil); len(all) != 0 {
		t.Errorf("told are %q", all)
	}
	asked := authority.asked.Load()
	if again, err := shake(t, s, acmeHost, roots); err != nil || !again.Equal(leaf) || authority.asked.Load() != asked {
		t.Errorf("it is asked again: %v", err)
	}
	again := NewStore(folder, reversed{})
	if err := again.Want(Wanted{Sources: []Source{{ACME: &s.networks[0].ACME}}}); err != nil {
		t.Fatal(err)
	}
	if kept, err := shake(t, again, acmeHost, roots); err != nil || !kept.Equal(leaf) || authority.asked.Load() != asked {
		t.Errorf("opened again, the store asks again: %v", err)
	}
	kept, err := filepath.Glob(filepath.Join(folder, "acme/*/*"))
	if err != nil || len(kept) < 2 {
		t.Errorf("kept are %q %v", kept, err)
	}
	for _, name := range kept {
		if raw, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(raw, []byte("acme ")) || bytes.Contains(raw, []byte("PRIVATE KEY")) {
			t.Errorf("%s is not sealed: %v", name, err)
		}
	}
	if h := s.Challenge("other.shop.localhost"); h != nil {
		t.Error("a challenge for a host that is not ours is answered")
	}
	if h := s.Challenge(acmeHost); h == nil {
		t.Error("a challenge over HTTP is not answered")
	}
}
