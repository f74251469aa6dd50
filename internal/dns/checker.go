package dns

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
)

// How long an endpoint may take, as Route 53 has it.
const (
	connectTime  = 4 * time.Second
	answerTime   = 2 * time.Second
	tcpTime      = 10 * time.Second
	searchedPart = 5120 // bytes of the body that a text is looked for in
)

// checker looks at endpoints, each in a goroutine of its own.
type checker struct {
	lookup func(ctx context.Context, host string) (address string, err error)
	tell   func(text string) // a state has changed

	mu       sync.RWMutex
	standing standing
	watches  map[string]*watch
	running  sync.WaitGroup
}

// watch is the goroutine of one check.
type watch struct {
	of   Check
	stop context.CancelFunc
}

func newChecker(lookup func(ctx context.Context, host string) (string, error), tell func(text string)) *checker {
	return &checker{lookup: lookup, tell: tell, standing: standing{tallies: map[string]tally{}}, watches: map[string]*watch{}}
}

// set makes checks those that are looked after. One that is as before goes on.
func (k *checker) set(checks []Check) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.standing.checks = map[string]Check{}
	for _, c := range checks {
		k.standing.checks[c.ID] = c
	}
	for id, w := range k.watches {
		if !reflect.DeepEqual(w.of, k.standing.checks[id]) {
			w.stop()
			delete(k.watches, id)
			delete(k.standing.tallies, id)
		}
	}
	for _, c := range checks {
		if k.watches[c.ID] != nil || !c.Looks() || c.Disabled {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		w := &watch{c, stop}
		k.watches[c.ID] = w
		k.running.Go(func() { k.watch(ctx, w) })
	}
}

// close ends all looking and waits for its end.
func (k *checker) close() {
	k.set(nil)
	k.running.Wait()
}

// watch looks at once and then at each interval.
func (k *checker) watch(ctx context.Context, w *watch) {
	tick := time.NewTicker(w.of.Interval)
	defer tick.Stop()
	for {
		err := k.look(ctx, w.of)
		if ctx.Err() != nil {
			return
		}
		k.note(w, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// note writes down what a look has shown, unless its check is gone meanwhile.
func (k *checker) note(w *watch, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watches[w.of.ID] != w {
		return
	}
	before := k.standing.tallies[w.of.ID]
	after := before.after(err, w.of.Threshold)
	k.standing.tallies[w.of.ID] = after
	if before.failed != after.failed {
		k.tell(fmt.Sprintf("health check %s is %s", w.of.ID, k.standing.text(w.of.ID)))
	}
}

func (k *checker) healthy(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.standing.healthy(id)
}

func (k *checker) text(id string) string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.standing.text(id)
}

// look asks the endpoint once.
func (k *checker) look(ctx context.Context, c Check) error {
	address := c.Address
	if address == "" {
		limited, cancel := context.WithTimeout(ctx, connectTime)
		defer cancel()
		var err error
		if address, err = k.lookup(limited, c.Host); err != nil {
			return err
		}
	}
	address = net.JoinHostPort(address, strconv.Itoa(c.Port))
	if c.Type != "TCP" {
		return request(ctx, c, address)
	}
	d := net.Dialer{Timeout: tcpTime}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// request asks for the check's path: an answer of 2xx or 3xx is good, if the
// text that is looked for is in it. A certificate is not judged.
func request(ctx context.Context, c Check, address string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime+answerTime)
	defer cancel()
	scheme, usual := "http", 80
	if strings.HasPrefix(c.Type, "HTTPS") {
		scheme, usual = "https", 443
	}
	host := address
	if c.Host != "" {
		host = c.Host
		if c.Port != usual {
			host = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/"+strings.TrimPrefix(c.Path, "/"), nil)
	if err != nil {
		return err
	}
	r.Host = host
	r.Header.Set("User-Agent", "Amazon-Route53-Health-Check-Service (makeitso)")
	to := &http.Transport{
		DialContext: (&net.Dialer{Timeout: connectTime}).DialContext, ResponseHeaderTimeout: answerTime, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	if c.SNI {
		to.TLSClientConfig.ServerName = c.Host
	}
	got, err := to.RoundTrip(r) // without following where it leads
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if got.StatusCode < 200 || got.StatusCode > 399 {
		return fault.New(fault.Failed, "it answers %s", got.Status)
	}
	if !strings.HasSuffix(c.Type, "_STR_MATCH") {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, searchedPart))
	if err != nil {
		return err
	}
	if !bytes.Contains(body, []byte(c.Search)) {
		return fault.New(fault.Failed, "its answer does not hold %q", c.Search)
	}
	return nil
}

// resolve looks up a name that lies in no zone here. Names below localhost are
// this machine, whether or not its resolver knows that.
func resolve(ctx context.Context, host string) (string, error) {
	if name := strings.TrimSuffix(host, "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return thisHost, nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return cmp.Or(addresses...), nil
}
