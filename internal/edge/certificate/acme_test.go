package certificate

import (
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

const acmeHost = "acme.shop.localhost" // an authority of ours may sign it

func TestACMEIsAskedForConfiguredHostsOnly(t *testing.T) {
	s := NewStore(t.TempDir())
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
	if err := s.Want(Wanted{ACME: &ACME{Directory: authority.URL + "/directory", Hosts: []string{acmeHost}}}); err != nil {
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
	asked := authority.asked.Load()
	if again, err := shake(t, s, acmeHost, roots); err != nil || !again.Equal(leaf) || authority.asked.Load() != asked {
		t.Errorf("it is asked again: %v", err)
	}
	if h := s.Challenge(t.Context(), "other.shop.localhost"); h != nil {
		t.Error("a challenge for a host that is not ours is answered")
	}
	if h := s.Challenge(t.Context(), acmeHost); h == nil {
		t.Error("a challenge over HTTP is not answered")
	}
}
