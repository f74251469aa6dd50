package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/api"
	"makeitso/internal/changeset"
	"makeitso/internal/cli"
	"makeitso/internal/control"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/pipeline"
	"makeitso/internal/platform/local"
	"makeitso/internal/platform/machine"
	"makeitso/internal/project"
	"makeitso/internal/seal"
	"makeitso/internal/server"
	"makeitso/internal/stack"
	"makeitso/internal/store"
)

// TestMain lets this binary be makeitso too: as the process that a test kills,
// and as what that runs itself as.
func TestMain(m *testing.M) {
	_, hook := gitserver.HookName(os.Args[0])
	if !hook && (len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-")) {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cli.Main(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Dir: dir}))
}

// patience is how long a test waits for what must come. A command may build a
// program and wait a minute for its instances, on a machine that is at its limit.
const patience = 3 * time.Minute

// site is a project that is served, and how it is reached.
type site struct {
	t      *testing.T
	folder string
	edge   string // host:port

	program string // that serves; "" for this one
	serve   *exec.Cmd
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress gives an address for an edge, from a range in which systems give
// no port to anybody who asks for any: while an edge is down nobody takes it.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := machine.FreePort(func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return machine.Loopback(port)
}

// newProject writes a new project into a folder of the test's own; extra is
// added to its pipelines.
func newProject(t *testing.T, extra string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "serve-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	files, err := project.Scaffold("hello")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == project.File {
			f.Data = append(f.Data, extra...)
		}
		path := filepath.Join(folder, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// start serves the project in a process of its own, and waits until it does.
func (s *site) start() {
	s.t.Helper()
	program := s.program
	if program == "" {
		program = self(s.t)
	}
	s.serve = exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--edge", s.edge)
	s.serve.Dir = s.folder
	printed, err := s.serve.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.serve.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewReader(printed)
	var text strings.Builder
	for !strings.Contains(text.String(), "edge at") {
		line, err := lines.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			s.t.Fatalf("serve did not come up: %v\n%s", err, &text)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // ends with the process
}

// kill ends the serving process without a warning.
func (s *site) kill() {
	s.t.Helper()
	if err := s.serve.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.serve.Wait() // it was killed
}

// makeitso runs a command to its end.
func (s *site) makeitso(args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self(s.t), args...)
	cmd.Dir = s.folder
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("makeitso %v: %v\n%s", args, err, out)
	}
}

// client gives a client of the makeitso that serves.
func (s *site) client() *api.Client {
	s.t.Helper()
	client, err := server.Connect(s.t.Context(), filepath.Join(s.folder, ".makeitso"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// pids gives the processes of the instances that get requests.
func (s *site) pids() []int {
	s.t.Helper()
	status, err := s.client().Status(s.t.Context(), control.StatusRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, env := range status.Environments {
		for _, svc := range env.Services {
			for _, i := range svc.Instances {
				if i.State == "routed" {
					pids = append(pids, i.PID)
				}
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// get asks the edge for a host's first page.
func (s *site) get(host string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+s.edge+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", host, res.Status, body)
	}
	return string(body), err
}

// Hosts of the new project, and what they answer.
const (
	serviceHost, serviceSays = "server.hello.localhost", "hello from local"
	siteHost, siteSays       = "www.hello.localhost", "<html"
)

func (s *site) mustAnswer() {
	s.t.Helper()
	for host, want := range map[string]string{serviceHost: serviceSays, siteHost: siteSays} {
		if body, err := s.get(host); err != nil || !strings.Contains(body, want) {
			s.t.Errorf("%s: %q, %v", host, body, err)
		}
	}
}

// eventually waits for what nobody tells.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be: %s", what)
		}
	}
}

// load sends requests until it is ended.
type load struct {
	sent atomic.Int64
	stop chan struct{}
	work sync.WaitGroup

	mu     sync.Mutex
	failed []error
}

func (s *site) load() *load {
	l := &load{stop: make(chan struct{})}
	for range 3 {
		l.work.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				body, err := s.get(serviceHost)
				if err == nil && !strings.Contains(body, serviceSays) {
					err = fmt.Errorf("answered %q", body)
				}
				if err != nil {
					l.mu.Lock()
					l.failed = append(l.failed, fmt.Errorf("request %d: %w", l.sent.Load(), err))
					l.mu.Unlock()
				}
				l.sent.Add(1)
			}
		})
	}
	return l
}

// more waits until n more requests have been answered.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.sent.Load() + n
	eventually(t, fmt.Sprintf("%d more requests", n), func() bool { return l.sent.Load() >= until })
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.work.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", len(l.failed), l.sent.Load(), l.failed[0])
	}
}

const slowPipeline = `
  slow:
    stages:
      - {name: first, run: echo first >> first.txt}
      - {name: second, run: "echo begun >> second.txt; until test -e go-on; do sleep 0.02; done; echo ended >> second.txt"}
      - {name: third, run: echo third >> third.txt}
`

// TestKilledServerLosesNoRequest kills makeitso under load, and what it keeps
// alive, and finds all of it again.
func TestKilledServerLosesNoRequest(t *testing.T) {
	s := &site{t: t, folder: newProject(t, slowPipeline), edge: freeAddress(t)}
	s.start()
	t.Cleanup(func() {
		if s.serve.ProcessState == nil {
			s.kill()
		}
		s.makeitso("destroy", "--yes", "--force")
		if _, err := net.DialTimeout("tcp", s.edge, time.Second); err == nil {
			t.Error("the edge still listens after destroy")
		}
	})
	s.makeitso("run", "site", "server")
	s.mustAnswer()
	before := s.pids()
	if len(before) != 2 {
		t.Fatalf("%d instances are routed, want 2", len(before))
	}
	started, err := s.client().Start(t.Context(), control.StartRequest{Pipelines: []string{"slow"}, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	slow := started.Runs[0].ID
	eventually(t, "the second stage at work", func() bool { _, err := os.Stat(filepath.Join(s.folder, "second.txt")); return err == nil })

	l := s.load()
	l.more(t, 100)
	s.kill()
	l.more(t, 200) // nobody is there but the edge and the instances
	s.start()
	l.more(t, 100)
	l.end(t)
	if after := s.pids(); !slices.Equal(before, after) {
		t.Errorf("instances %v became %v: they were not adopted", before, after)
	}
	s.mustAnswer()
	t.Run("the run goes on", func(t *testing.T) { s.goesOn(t, slow) })
	t.Run("a dead instance is replaced", func(t *testing.T) { s.replaces(t, before) })
	t.Run("the edge of a newer program takes over", func(t *testing.T) { s.upgradesEdge(t) })
	t.Run("the edge is started again", func(t *testing.T) { s.startsEdge(t) })
}

// upgradesEdge serves with a newer program, while requests come.
func (s *site) upgradesEdge(t *testing.T) {
	s.kill()
	raw, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	s.program = filepath.Join(s.t.TempDir(), "newer")
	if err := os.WriteFile(s.program, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	l := s.load()
	l.more(t, 20)
	s.start()
	eventually(t, "another process of the edge", func() bool {
		stats, err := edge.NewClient(filepath.Join(s.folder, ".makeitso", "edge", "edge.sock")).Stats(t.Context())
		if err != nil {
			return false
		}
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", stats.PID))
		return err == nil && program == s.program
	})
	l.more(t, 50)
	l.end(t)
	s.mustAnswer()
}

// goesOn lets the run end that was under way at the kill.
func (s *site) goesOn(t *testing.T, run string) {
	// Until then what the killed one had begun may be at work still.
	eventually(t, "the second stage begun again", func() bool {
		got, err := os.ReadFile(filepath.Join(s.folder, "second.txt"))
		return err == nil && string(got) == "begun\nbegun\n"
	})
	if err := os.WriteFile(filepath.Join(s.folder, "go-on"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	client := s.client()
	eventually(t, "the end of the run", func() bool {
		r, err := client.Run(t.Context(), control.RunRequest{Run: run})
		if err != nil {
			t.Fatal(err)
		}
		if r.Run.Status.Ended() && r.Run.Status != pipeline.Succeeded {
			t.Fatalf("the run ended as %s: %s", r.Run.Status, r.Run.Reason)
		}
		return r.Run.Status.Ended()
	})
	for name, want := range map[string]string{"first.txt": "first\n", "second.txt": "begun\nbegun\nended\n", "third.txt": "third\n"} {
		got, err := os.ReadFile(filepath.Join(s.folder, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}

// replaces kills an instance while makeitso is dead.
func (s *site) replaces(t *testing.T, before []int) {
	s.kill()
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.start()
	eventually(t, "two instances again, one of them new", func() bool {
		now := s.pids()
		return len(now) == 2 && !slices.Contains(now, before[0]) && slices.Contains(now, before[1])
	})
	s.mustAnswer()
}

// startsEdge kills the edge under makeitso's eyes.
func (s *site) startsEdge(t *testing.T) {
	kept, err := filepath.Glob(filepath.Join(s.folder, ".makeitso", "processes", "edge-2.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("the edge's record: %v, %v", kept, err)
	}
	if err := exec.Command("pkill", "-KILL", "-f", "internal edge .*"+s.folder).Run(); err != nil {
		t.Fatalf("kill the edge: %v", err)
	}
	eventually(t, "an edge that answers", func() bool { _, err := s.get(serviceHost); return err == nil })
	s.mustAnswer()
}

// TestGoesOnWithWhatHadMadeNothing interrupts an apply before its first
// resource: the next makeitso finishes it.
func TestGoesOnWithWhatHadMadeNothing(t *testing.T) {
	const text = "Resources: {Gate: {Type: 'AWS::EC2::InternetGateway'}}"
	folder := t.TempDir()
	for name, text := range map[string]string{
		project.File: "project: shop\nenvironments:\n  local: {platform: local}\nstacks:\n  net: {template: net.yaml}\n", "net.yaml": text,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(folder, ".makeitso")
	records, err := store.Open(t.Context(), filepath.Join(state, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.Load(filepath.Join(state, "key"))
	if err != nil {
		t.Fatal(err)
	}
	platform, err := local.New("local", local.Options{Options: machine.Options{State: state, Records: records, Key: key}, Project: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	engine := stack.New("local", platform, records, stack.Options{Holder: "first"})
	cs, err := engine.Plan(t.Context(), changeset.Change{Stack: "net", File: "net.yaml", Template: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, suspend := context.WithCancelCause(t.Context())
	if err := engine.Apply(ctx, cs, func(stack.Event) { suspend(stack.ErrSuspend) }); !errors.Is(err, stack.ErrSuspend) {
		t.Fatalf("apply: %v, want suspended", err)
	}
	platform.Close()
	if err := records.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := server.Start(t.Context(), server.Options{Folder: folder, State: state, Self: self(t), Duty: server.Keep, Edge: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	client := s.Client()
	events, err := client.StackEvents(t.Context(), control.StacksRequest{Stacks: []string{"net"}})
	if err != nil || len(events) == 0 || events[len(events)-1].Status != stack.CreateComplete {
		t.Errorf("%v, %v; want the last to be %s", events, err, stack.CreateComplete)
	}
	if err := client.Destroy(t.Context(), control.StacksRequest{}, func(stack.Event) error { return nil }); err != nil {
		t.Error(err)
	}
	client.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCloseLeavesNothing says that a closed server listens nowhere and leaves
// no goroutine.
func TestCloseLeavesNothing(t *testing.T) {
	folder := newProject(t, "\n  quick:\n    stages: [{name: quick, run: 'true'}]\n")
	state := filepath.Join(folder, ".makeitso")
	o := server.Options{Folder: folder, State: state, Self: self(t), Duty: server.Work, Listen: "127.0.0.1:0", Edge: "127.0.0.1:0"}
	s, err := server.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Start(t.Context(), o); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second server on the same folder: %v", err)
	}
	client := s.Client()
	started, err := client.Start(t.Context(), control.StartRequest{Pipelines: []string{"quick"}, By: "test"})
	if err == nil {
		err = client.Follow(t.Context(), control.FollowRequest{After: started.After, Runs: []string{started.Runs[0].ID}}, func(pipeline.Event) error { return nil })
	}
	if err != nil {
		t.Error(err)
	}
	status, err := client.Status(t.Context(), control.StatusRequest{})
	if err != nil {
		t.Error(err)
	}
	following := make(chan error, 1)
	go func() { // a follower who does not leave must not hold up the end
		following <- client.Follow(context.Background(), control.FollowRequest{}, func(pipeline.Event) error { return nil })
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-following; err == nil {
		t.Error("the follower was not told that the server ended")
	}
	client.Close()
	for _, address := range []string{status.Server.Listen, status.Server.Edge} {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("%s still listens", address)
		}
	}
	if _, err := server.Connect(t.Context(), state); !fault.Is(err, fault.NotFound) {
		t.Errorf("a server is still found: %v", err)
	}
	eventually(t, "no goroutine of the server", func() bool { return len(ours()) == 0 })
	again, err := server.Start(t.Context(), o)
	if err := errors.Join(err, again.Close()); err != nil {
		t.Errorf("start again: %v", err)
	}
}

// ours gives the goroutines that run or were begun by code of makeitso outside
// of tests.
func ours() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.Contains(g, []byte("makeitso/internal/")) && !bytes.Contains(g, []byte("server_test.")) || bytes.Contains(g, []byte("dbos.")) {
			found = append(found, string(g))
		}
	}
	return found
}
