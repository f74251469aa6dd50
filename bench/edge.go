package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The targets for the edge, beside nginx.
const (
	minEdgeRate = 0.75 // of nginx's requests a second
	maxEdgeTail = 1.5  // times nginx's 99th percentile
	maxIdleMB   = 400
	idleClients = 10000
)

const (
	edgeHost    = "bench.localhost"
	edgeClients = 32
	edgeSlice   = "2s" // how long each is asked in a round
)

// proxy is one side of the comparison.
type proxy struct {
	name    string
	address string
	running *server
	rates   []float64
	took    []latency
}

// latency is how long so many requests took.
type latency struct {
	time.Duration
	requests float64
}

// within gives the time within which a share of all requests was answered. It is
// that of all rounds together: the middle one of the rounds' own would leave out
// the rounds that went badly, which are some of every proxy's.
func (p *proxy) within(share float64) time.Duration {
	slices.SortFunc(p.took, func(a, b latency) int { return cmp.Compare(a.Duration, b.Duration) })
	all := 0.0
	for _, l := range p.took {
		all += l.requests
	}
	rest := all * (1 - share)
	for _, l := range slices.Backward(p.took) {
		if rest -= l.requests; rest < 0 {
			return l.Duration
		}
	}
	return 0
}

// edge measures the edge beside nginx and haproxy: the same two backends, the
// same load, each with an access log, in turns.
func (b *bench) edge(ctx context.Context) (err error) {
	for _, name := range []string{"wrk", "nginx", "haproxy"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(os.Stderr, "bench: without %s the edge is not measured; install wrk, nginx-light and haproxy\n", name)
			return nil
		}
	}
	var backends []string
	var serving sync.WaitGroup
	defer serving.Wait()
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		serving.Go(func() { answerAll(l) })
		backends = append(backends, l.Addr().String())
	}
	sides := []*proxy{{name: "edge"}, {name: "nginx"}, {name: "haproxy"}}
	for i, prepare := range []func(string, []string) ([]string, error){b.edgeProgram, b.nginxProgram, b.haproxyProgram} {
		port, err := freePort()
		if err != nil {
			return err
		}
		sides[i].address = fmt.Sprintf("127.0.0.1:%d", port)
		args, err := prepare(sides[i].address, backends)
		if err != nil {
			return err
		}
		if sides[i].running, err = begin(ctx, exec.CommandContext(ctx, args[0], args[1:]...), func() error {
			return listens(sides[i].address, "GET / HTTP/1.1\r\nHost: "+edgeHost+"\r\n\r\n", "HTTP/1.1 200")
		}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sides[i].running.stop()) }()
	}
	script := filepath.Join(b.folder, "quantiles.lua")
	if err := os.WriteFile(script, fmt.Appendf(nil, quantiles, quantileCount), 0o600); err != nil {
		return err
	}
	for round := range b.rounds + 1 {
		for _, p := range sides {
			if err := p.load(ctx, script, round > 0); err != nil {
				return err
			}
		}
	}
	b.compareEdge(sides)
	return b.idleEdge(sides[0])
}

func (b *bench) compareEdge(sides []*proxy) {
	rate := func(p *proxy) float64 { return median(slices.Clone(p.rates)) }
	tail := func(p *proxy) time.Duration { return p.within(0.99) }
	edge, nginx, haproxy := sides[0], sides[1], sides[2]
	share := rate(edge) / rate(nginx)
	b.add(row{
		what: "edge, requests a second", figure: fmt.Sprintf("%.0f", rate(edge)), other: fmt.Sprintf("nginx %.0f, haproxy %.0f", rate(nginx), rate(haproxy)),
		ratio: share, target: fmt.Sprintf(">= %.2f of nginx", minEdgeRate), met: share >= minEdgeRate,
	})
	times := ratio(tail(edge), tail(nginx))
	b.add(row{
		what: "edge, 99 of 100 requests within", figure: show(tail(edge)), other: fmt.Sprintf("nginx %s, haproxy %s", show(tail(nginx)), show(tail(haproxy))),
		ratio: times, target: fmt.Sprintf("<= %.1f of nginx", maxEdgeTail), met: times <= maxEdgeTail,
	})
}

// answerAll gives each request the same small answer.
func answerAll(l net.Listener) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 88\r\n\r\n"
	text := append([]byte(answer), bytes.Repeat([]byte("x"), 88)...)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				line, err := in.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) > 2 { // an empty line ends a header
					continue
				}
				if _, err := conn.Write(text); err != nil {
					return
				}
			}
		})
	}
}

// edgeProgram writes the edge's configuration; it serves it from its start.
func (b *bench) edgeProgram(address string, backends []string) ([]string, error) {
	var instances []map[string]any
	for i, a := range backends {
		instances = append(instances, map[string]any{"id": strconv.Itoa(i), "address": a})
	}
	text, err := json.Marshal(map[string]any{"version": 1, "services": []map[string]any{{
		"name": "bench", "hosts": []string{edgeHost}, "arms": []map[string]any{{"name": "v1", "weight": 1, "instances": instances}},
	}}})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.folder, "edge.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return []string{b.program, "internal", "edge", "--listen", address, "--socket", filepath.Join(b.folder, "edge.sock"),
		"--config", file, "--log", filepath.Join(b.folder, "edge.log")}, nil
}

func (b *bench) nginxProgram(address string, backends []string) ([]string, error) {
	dir := filepath.Join(b.folder, "nginx")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
  log_format line escape=json '{"time":"$time_iso8601","remote":"$remote_addr","host":"$host","method":"$request_method","path":"$uri","status":$status,"bytes":$bytes_sent,"s":$request_time,"upstream":"$upstream_addr","id":"$request_id"}';
  access_log %[1]s/access.log line;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 100000000;
  upstream bench { server %[3]s; server %[4]s; keepalive 256; keepalive_requests 100000000; }
  server { listen %[2]s; server_name %[5]s;
    location / { proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id; } }
}
`, dir, address, backends[0], backends[1], edgeHost)
	return []string{"nginx", "-p", dir, "-c", file}, os.WriteFile(file, []byte(text), 0o600)
}

func (b *bench) haproxyProgram(address string, backends []string) ([]string, error) {
	file := filepath.Join(b.folder, "haproxy.cfg")
	text := fmt.Sprintf(`global
  maxconn 4096
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend front
  bind %s
  unique-id-format %%{+X}o\ %%ci:%%cp_%%fi:%%fp_%%Ts_%%rt:%%pid
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Request-Id %%[unique-id]
  default_backend back
backend back
  balance leastconn
  server a %s
  server b %s
`, address, backends[0], backends[1])
	return []string{"haproxy", "-db", "-f", file}, os.WriteFile(file, []byte(text), 0o600)
}

var (
	rateLine = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	tookLine = regexp.MustCompile(`(?m)^took ([0-9 ]+)$`)
	badLine  = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// quantiles has wrk say in microseconds how long 1, 2, … of quantileCount equal
// parts of the requests took at most.
const (
	quantileCount = 1000
	quantiles     = `done = function(_, latency)
	io.write("took")
	for i = 1, %d do io.write(" ", math.floor(latency:percentile(i * 100 / %[1]d))) end
	io.write("\n")
end
`
)

// load asks a proxy for one slice.
func (p *proxy) load(ctx context.Context, script string, counts bool) error {
	said, err := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(edgeClients), "-d"+edgeSlice, "-s", script, "-H", "Host: "+edgeHost, "http://"+p.address+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("load %s: %w\n%s", p.name, err, said)
	}
	if bad := badLine.Find(said); bad != nil {
		return fmt.Errorf("load %s: %s", p.name, bytes.TrimSpace(bad))
	}
	rate, took := rateLine.FindSubmatch(said), tookLine.FindSubmatch(said)
	if rate == nil || took == nil {
		return fmt.Errorf("load %s: wrk says\n%s", p.name, said)
	}
	perSecond, err := strconv.ParseFloat(string(rate[1]), 64)
	if err != nil || !counts {
		return err
	}
	p.rates = append(p.rates, perSecond)
	for text := range strings.FieldsSeq(string(took[1])) {
		micros, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		p.took = append(p.took, latency{time.Duration(micros) * time.Microsecond, perSecond / quantileCount})
	}
	return nil
}

// idleEdge measures what the edge holds when many clients have asked once and
// keep their connections.
func (b *bench) idleEdge(p *proxy) (err error) {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			err = errors.Join(err, c.Close())
		}
	}()
	for range idleClients {
		c, err := net.Dial("tcp4", p.address)
		if err != nil {
			return err
		}
		open = append(open, c)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+edgeHost+"\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return err
		}
	}
	megabytes, err := resident(p.running.process.Process.Pid)
	if err != nil {
		return err
	}
	b.add(row{
		what: fmt.Sprintf("edge, memory with %d idle connections", idleClients), figure: fmt.Sprintf("%.0f MB", megabytes),
		target: fmt.Sprintf("< %d MB", maxIdleMB), met: megabytes < maxIdleMB,
	})
	return nil
}
