package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/platform/machine"
	"makeitso/internal/stack"
	"makeitso/internal/statefile"
)

// waitHandle makes AWS::CloudFormation::WaitConditionHandle: an address that
// takes signals.
type waitHandle struct{ p *Platform }

func (waitHandle) Check(context.Context, *machine.Resource) error { return nil }

func (h waitHandle) Make(_ context.Context, r *machine.Resource) error {
	port, err := h.p.takeSignals()
	if err != nil {
		return err
	}
	if r.PhysicalID == "" {
		r.PhysicalID = "http://" + machine.Loopback(port) + "/" + r.Token + "/" + rand.Text()
	}
	r.Attributes = map[string]any{"Id": r.PhysicalID}
	return nil
}

func (h waitHandle) Read(context.Context, *machine.Resource) error {
	_, err := h.p.takeSignals()
	return err
}

func (waitHandle) Remove(context.Context, *machine.Resource) error { return nil }

// waitCondition makes AWS::CloudFormation::WaitCondition, which is a name: the
// waiting is the stack's.
type waitCondition struct{}

func (waitCondition) Check(context.Context, *machine.Resource) error { return nil }

func (waitCondition) Make(_ context.Context, r *machine.Resource) error {
	r.PhysicalID = r.GeneratedName(255)
	r.Attributes = map[string]any{"Id": r.PhysicalID}
	return nil
}

func (waitCondition) Read(context.Context, *machine.Resource) error   { return nil }
func (waitCondition) Remove(context.Context, *machine.Resource) error { return nil }

// signalServer takes the signals of an environment.
type signalServer struct {
	mu     sync.Mutex
	port   int
	server *http.Server // nil while none runs
	ended  chan struct{}
}

// signalPort is where signals are taken, decided once: addresses hold it.
type signalPort struct {
	Port int `json:"port"`
}

func (p *Platform) signalFile() string { return filepath.Join(p.Dir, "signals.json") }

// takeSignals sees to it that signals are taken, and gives the port.
func (p *Platform) takeSignals() (port int, err error) {
	s := &p.signals
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return s.port, nil
	}
	if s.port, err = p.claimSignalPort(); err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", machine.Loopback(s.port))
	if err != nil {
		return 0, fault.Wrap(fault.Unavailable, err, "signals cannot be taken at port %d", s.port).
			WithHint("find what listens there and stop it: ss -ltnp 'sport = :%d'", s.port)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /{token}/{secret}", p.signalled)
	s.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	server, ended := s.server, make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.o.Announce(fmt.Sprintf("environment %s: signals are taken no more: %v", p.Env, err))
		}
	}()
	return s.port, nil
}

// claimSignalPort gives the port for signals, chosen and written down once.
func (p *Platform) claimSignalPort() (int, error) {
	p.Ports.Lock()
	defer p.Ports.Unlock()
	var kept signalPort
	err := statefile.Read(p.signalFile(), &kept)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept.Port, err
	}
	taken, err := p.TakenPorts()
	if err != nil {
		return 0, err
	}
	if kept.Port, err = machine.FreePort(taken); err != nil {
		return 0, fmt.Errorf("choose a port for signals: %w", err)
	}
	return kept.Port, statefile.Write(p.signalFile(), kept)
}

// refuseSignals ends what takes signals, after those that are being taken.
func (p *Platform) refuseSignals() {
	s := &p.signals
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), machine.StopTime)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		p.o.Announce(fmt.Sprintf("environment %s: a signal was cut off: %v", p.Env, err))
		_ = s.server.Close() // the listener was closed above, and nothing of it is kept
	}
	<-s.ended
	s.server = nil
}

// maxSignal bounds the document of a signal.
const maxSignal = 16 << 10

// signalled takes one signal. It answers with 200 when that cannot be lost.
func (p *Platform) signalled(w http.ResponseWriter, req *http.Request) {
	r, err := p.handle(req.PathValue("token"))
	if err != nil || !signedBy(r, req.URL.Path) {
		http.Error(w, "no handle has this address", http.StatusNotFound)
		return
	}
	var s stack.Signal
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxSignal)).Decode(&s); err != nil {
		http.Error(w, "Unparsable WaitCondition data: "+err.Error(), http.StatusBadRequest)
		return
	}
	switch err := p.o.Signal(req.Context(), signalAddress(r), s); {
	case fault.Is(err, fault.Invalid):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// signedBy says whether a path is the one that takes the signals of r: of a
// handle, or of a group for its instances.
func signedBy(r *machine.Resource, path string) bool {
	if r.Type == pace.GroupType {
		return path == "/"+r.Token+"/"+r.Key
	}
	return strings.HasSuffix(r.PhysicalID, path)
}

// signalAddress is what the signals of r are kept under.
func signalAddress(r *machine.Resource) string {
	if r.Type == pace.GroupType {
		return r.Token
	}
	return r.PhysicalID
}

// handle gives the handle of that token.
func (p *Platform) handle(token string) (*machine.Resource, error) {
	if !filepath.IsLocal(token) || filepath.Base(token) != token {
		return nil, fault.New(fault.NotFound, "%q is no token", token)
	}
	return p.Load(token)
}
