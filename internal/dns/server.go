package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	wire "github.com/miekg/dns"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// largest is the size of a message over UDP that is asked for and given.
const largest = 4096

// Address is where the server of a port answers.
func Address(port int) string { return net.JoinHostPort(thisHost, strconv.Itoa(port)) }

// Main is the hidden command "dns": the DNS server of one environment. args is
// the file of what it serves. It returns when it is asked to end.
func Main(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with a file of zones")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return Serve(ctx, args[0])
}

// server answers from the zones in force.
type server struct {
	file    string
	loading sync.Mutex // held while the file is read and put in force
	zones   atomic.Pointer[zones]
	checks  *checker
}

// Serve serves what a file says over UDP and TCP until ctx ends. Whoever
// changes the file calls Reload then.
func Serve(ctx context.Context, file string) error {
	logger := log.New(os.Stderr, "", log.LstdFlags|log.LUTC)
	s := &server{file: file}
	s.checks = newChecker(s.lookup, func(text string) { logger.Print(text) })
	defer s.checks.close()
	port, err := s.load()
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp4", Address(port))
	if err != nil {
		return fmt.Errorf("serve DNS: %w", err)
	}
	streams, err := net.Listen("tcp4", Address(port))
	if err != nil {
		return errors.Join(fmt.Errorf("serve DNS: %w", err), packets.Close())
	}
	started, ended := make(chan struct{}, 4), make(chan error, 2)
	begun := func() { started <- struct{}{} }
	both := []*wire.Server{
		{PacketConn: packets, Handler: s, UDPSize: largest, NotifyStartedFunc: begun},
		{Listener: streams, Handler: s, NotifyStartedFunc: begun, MaxTCPQueries: -1},
	}
	for _, one := range both {
		go func() {
			ended <- one.ActivateAndServe()
			begun() // or never
		}()
		<-started // only what has begun can be shut down
	}
	var failure error
	running := len(both)
	select {
	case <-ctx.Done():
	case failure = <-ended:
		running--
	}
	for _, one := range both {
		// One that has ended by itself says so again; its own error is told.
		_ = one.Shutdown()
	}
	for range running {
		failure = errors.Join(failure, <-ended)
	}
	if failure != nil {
		return fmt.Errorf("serve DNS: %w", failure)
	}
	return nil
}

// load puts the file in force, all of it or nothing, and gives the port.
func (s *server) load() (port int, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	var c Config
	if err := statefile.Read(s.file, &c); err != nil {
		return 0, fmt.Errorf("read the zones: %w", err)
	}
	z, err := compile(&c)
	if err != nil {
		return 0, fmt.Errorf("read the zones: %w", err)
	}
	s.zones.Store(z)
	s.checks.set(c.Checks)
	return c.Port, nil
}

// lookup gives the address of a name: from the zones, else from the system.
func (s *server) lookup(ctx context.Context, host string) (string, error) {
	name, err := Name(host)
	if err != nil {
		return "", err
	}
	got := s.asking().answer(name, wire.TypeA)
	for _, rr := range got.answer {
		switch rr := rr.(type) {
		case *wire.A:
			return rr.A.String(), nil
		case *wire.CNAME:
			name = rr.Target
		}
	}
	if got.code != wire.RcodeRefused && len(got.answer) == 0 {
		return "", fault.New(fault.NotFound, "%s has no address", host)
	}
	return resolve(ctx, name)
}

func (s *server) asking() asking {
	return asking{zones: s.zones.Load(), coin: rand.IntN, healthy: s.checks.healthy}
}

// ServeDNS answers one query.
func (s *server) ServeDNS(w wire.ResponseWriter, q *wire.Msg) {
	reply := s.reply(q)
	size := wire.MaxMsgSize
	_, udp := w.LocalAddr().(*net.UDPAddr)
	if udp {
		size = wire.MinMsgSize
	}
	if options := q.IsEdns0(); options != nil {
		reply.SetEdns0(largest, options.Do())
		if options.Version() != 0 {
			reply.Rcode = wire.RcodeBadVers
		}
		if udp {
			size = max(size, min(int(options.UDPSize()), largest))
		}
	}
	reply.Compress = true
	if len(reply.Answer)+len(reply.Ns)+len(reply.Extra) > 1 {
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // else whoever asked is gone
}

// reply makes the message that answers a query.
func (s *server) reply(q *wire.Msg) *wire.Msg {
	reply := new(wire.Msg)
	reply.SetReply(q)
	question := q.Question[0]
	switch {
	case q.Opcode == wire.OpcodeNotify:
		// "The zones have changed": what follows speaks of the new ones.
		if _, err := s.load(); err != nil {
			reply.Rcode = wire.RcodeServerFailure
			reply.Extra = append(reply.Extra, text(question.Name, err.Error()))
		}
		return reply
	case question.Qclass == wire.ClassCHAOS && question.Qtype == wire.TypeTXT:
		return s.state(reply, question.Name)
	case question.Qclass != wire.ClassINET || question.Qtype == wire.TypeAXFR || question.Qtype == wire.TypeIXFR:
		reply.Rcode = wire.RcodeRefused
		return reply
	}
	got := s.asking().answer(wire.CanonicalName(question.Name), question.Qtype)
	reply.Rcode = got.code
	reply.Authoritative = got.code != wire.RcodeRefused && !got.foreign
	reply.Answer, reply.Ns, reply.Extra = got.answer, got.above, got.extra
	return reply
}

// state answers how a health check stands, under its id.
func (s *server) state(reply *wire.Msg, name string) *wire.Msg {
	id := wire.CanonicalName(name)
	state := s.checks.text(id[:len(id)-1])
	if state == "" {
		reply.Rcode = wire.RcodeRefused
		return reply
	}
	reply.Answer = append(reply.Answer, text(name, state))
	return reply
}

// text is a record of this server's own, which told reads.
func text(name, s string) wire.RR {
	const most = 255
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s[:min(most, len(s))])
	return &wire.TXT{Hdr: wire.RR_Header{Name: name, Rrtype: wire.TypeTXT, Class: wire.ClassCHAOS}, Txt: []string{s}}
}

// told gives the text of the first such record, "" if there is none.
func told(rrs []wire.RR) string {
	for _, rr := range rrs {
		if txt, is := rr.(*wire.TXT); is {
			return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(txt.Txt[0])
		}
	}
	return ""
}

// exchangeTime is how long the server of this machine may take to answer.
const exchangeTime = 10 * time.Second

// exchange asks the server of a port, over TCP.
func exchange(ctx context.Context, port int, q *wire.Msg) (*wire.Msg, error) {
	client := wire.Client{Net: "tcp4", Timeout: exchangeTime}
	reply, _, err := client.ExchangeContext(ctx, q, Address(port))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "ask the DNS server on port %d", port)
	}
	return reply, nil
}

// Reload tells the server of a port that its file has changed, and returns when
// that is in force. fault.Unavailable says that no server answers,
// fault.Failed that it goes on with what it had.
func Reload(ctx context.Context, port int) error {
	q := new(wire.Msg)
	q.SetNotify(".")
	reply, err := exchange(ctx, port, q)
	if err != nil {
		return err
	}
	if reply.Rcode == wire.RcodeSuccess {
		return nil
	}
	why := cmp.Or(told(reply.Extra), wire.RcodeToString[reply.Rcode])
	return fault.New(fault.Failed, "the DNS server on port %d refuses its zones: %s", port, why)
}

// State asks the server of a port how a health check stands.
func State(ctx context.Context, port int, check string) (string, error) {
	q := new(wire.Msg)
	q.SetQuestion(wire.Fqdn(check), wire.TypeTXT)
	q.Question[0].Qclass = wire.ClassCHAOS
	reply, err := exchange(ctx, port, q)
	if err != nil {
		return "", err
	}
	if state := told(reply.Answer); state != "" {
		return state, nil
	}
	return "", fault.New(fault.NotFound, "the DNS server on port %d has no health check %s", port, check)
}
