package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/artifact/image"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/publish"
	"makeitso/internal/release"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/store"
	"makeitso/internal/testneed"
)

// onBoth runs test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, h *house)) {
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); test(t, newHouse(t, "")) })
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); test(t, newHouse(t, testneed.PostgresServer(t))) })
}

// house is a folder with a project and an engine that works in it.
type house struct {
	t        *testing.T
	dir      string // of the project and of the state
	database string
	idle     bool // the engine is not launched
	store    *store.Store
	engine   *pipeline.Engine
	stacks   map[string]*stack.Engine // by environment
	sites    pipeline.Sites

	mu      sync.Mutex
	onEvent func()
	events  []pipeline.Event
	seen    chan struct{} // closed and replaced at each event
}

func newHouse(t *testing.T, database string) *house {
	h := &house{t: t, dir: t.TempDir(), database: database, seen: make(chan struct{}), sites: sites{}}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.database != "" {
		h.store, err = store.OpenPostgres(h.t.Context(), h.database)
	} else {
		h.store, err = store.Open(h.t.Context(), filepath.Join(h.dir, "state", "state.db"))
	}
	h.ok(err)
	h.stacks = map[string]*stack.Engine{}
	h.engine, err = pipeline.New(pipeline.Options{
		Store: h.store, SQLite: h.store.SQLite(), Postgres: h.store.PostgresURL(), Folder: filepath.Join(h.dir, "state"),
		Images: image.New(filepath.Join(h.dir, "images"), image.Options{}), Environment: h.environment,
		Observe: h.observe,
	})
	h.ok(err)
	if !h.idle {
		h.ok(h.engine.Launch())
	}
}

func (h *house) close() {
	if h.engine == nil {
		return
	}
	if err := h.engine.Close(); err != nil {
		h.t.Error(err)
	}
	if err := h.store.Close(); err != nil {
		h.t.Error(err)
	}
	h.engine = nil
}

func (h *house) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(fault.Text(err))
	}
}

func (h *house) observe(ev pipeline.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, ev)
	close(h.seen)
	h.seen = make(chan struct{})
	if h.onEvent != nil {
		h.onEvent()
	}
}

// until waits for an event.
func (h *house) until(what string, match func(pipeline.Event) bool) {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		h.mu.Lock()
		seen := h.seen
		for _, ev := range h.events {
			if match(ev) {
				h.mu.Unlock()
				return
			}
		}
		h.mu.Unlock()
		select {
		case <-seen:
		case <-deadline:
			h.t.Fatalf("no event in 30 s: %s\n%v", what, h.events)
		}
	}
}

// stageIs waits until a stage has a status.
func (h *house) stageIs(run, stage string, status pipeline.Status) {
	h.t.Helper()
	h.until(fmt.Sprintf("%s %s %s", run, stage, status), func(ev pipeline.Event) bool {
		return ev.Kind == "stage" && ev.Run == run && ev.Stage == stage && ev.Status == string(status)
	})
}

// environment gives an environment whose stacks are real engines on an
// in-memory platform.
func (h *house) environment(ctx context.Context, p *project.Project, name string) (*pipeline.Environment, error) {
	if p.Environments[name] == nil || p.Environments[name].Platform != "local" {
		return nil, fault.New(fault.Unsupported, "no platform for environment %s here", name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stacks[name] == nil {
		h.stacks[name] = stack.New(name, stacktest.NewPlatform(), h.store, stack.Options{Holder: "test"})
		if err := h.stacks[name].Resume(ctx, func(stack.Event) {}); err != nil { // as a server does
			return nil, err
		}
	}
	return &pipeline.Environment{Name: name, Stacks: h.stacks[name], Services: services{h, name}, Sites: h.sites, Hosts: func(string) []string { return nil },
		PullImage: func(_ context.Context, reference string) (string, error) { return h.pulled(reference) }}, nil
}

// services notes releases in a file, as a platform would keep them.
type services struct {
	h           *house
	environment string
}

func (s services) Release(ctx context.Context, svc release.Service, a release.Artifact, config map[string]string, key string) (release.Release, error) {
	line := fmt.Sprintf("%s %s %s %v\n", s.environment, svc.Name, a.Digest, config)
	if p := svc.Judge.Source.Prometheus; p.URL != "" {
		s.h.appendTo("prometheus", fmt.Sprintln(p.URL, p.Errors, p.Total))
	}
	s.h.appendTo("releases", line)
	for _, m := range a.Migrations {
		s.h.appendTo("migrations", fmt.Sprintln(s.environment, m.Name, m.Reversible, m.Undo))
	}
	if len(svc.Alarms) > 0 {
		s.h.appendTo("alarms", fmt.Sprintln(s.environment, svc.Alarms))
	}
	if svc.Strategy.Watch > 0 { // a rollout that takes long
		<-ctx.Done()
		return release.Release{}, context.Cause(ctx)
	}
	return release.Release{ID: svc.Name + "-1", Status: release.Live}, nil
}

func (s services) Abandon(_ context.Context, service, key string) error {
	s.h.appendTo("abandoned", service+" "+key+"\n")
	return nil
}

func (s services) Serve(context.Context, release.Service, string, map[string]string) (string, func(context.Context) error, error) {
	return "127.0.0.1:1", func(context.Context) error { s.h.appendTo("served", "stopped\n"); return nil }, nil
}

type sites struct{}

func (sites) Bucket(context.Context, string) (publish.Bucket, error) {
	return nil, fault.New(fault.Unsupported, "no buckets here")
}
func (sites) Invalidate(context.Context, string, []string) error { return nil }

func (sites) SetPages(context.Context, string, pipeline.Pages) error { return nil }

func (h *house) appendTo(name, text string) {
	h.t.Helper()
	file, err := os.OpenFile(filepath.Join(h.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	h.ok(err)
	_, err = io.WriteString(file, text)
	h.ok(err)
	h.ok(file.Close())
}

func (h *house) read(name string) string {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.dir, name))
	if os.IsNotExist(err) {
		return ""
	}
	h.ok(err)
	return string(raw)
}

func (h *house) write(name, text string) {
	h.t.Helper()
	h.ok(os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o700))
}

const head = `
project: test
environments:
  dev:  {platform: local}
  prod: {platform: local, approvals: 2}
  far:  {platform: aws, account: "111111111111", region: eu-west-1}
`

// start begins a run of the pipeline p of a project with these pipelines.
func (h *house) start(body string) pipeline.Run {
	h.t.Helper()
	run, err := h.engine.Start(h.t.Context(), pipeline.Start{
		Project: []byte(head + body), Pipeline: "p", By: "test",
		Source: pipeline.Source{WorkTree: h.dir, Branch: "main"},
	})
	h.ok(err)
	return run
}

// ended waits for a run's end.
func (h *house) ended(id string, want pipeline.Status) []pipeline.StageRun {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	run, err := h.engine.Wait(ctx, id)
	h.ok(err)
	_, stages, err := h.engine.Run(ctx, id)
	h.ok(err)
	if run.Status != want {
		h.t.Fatalf("run %s is %s (%s), want %s\n%+v", id, run.Status, run.Reason, want, stages)
	}
	return stages
}

func statuses(stages []pipeline.StageRun) string {
	var b strings.Builder
	for _, s := range stages {
		fmt.Fprintf(&b, "%s=%s ", s.ID, s.Status)
	}
	return strings.TrimSpace(b.String())
}

func (h *house) log(run, stage string) string {
	h.t.Helper()
	var b strings.Builder
	h.ok(h.engine.Logs(h.t.Context(), run, stage, false, &b))
	return b.String()
}

func TestStagesRunInOrderAndKeepTheirOutput(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		run := h.start(`
pipelines:
  p:
    stages:
      - {name: one, run: "echo one >> order; echo said by one; echo and to stderr >&2"}
      - {name: two, run: "echo two >> order; echo $MAKEITSO_RUN"}
`)
		h.ended(run.ID, pipeline.Succeeded)
		if got := h.read("order"); got != "one\ntwo\n" {
			t.Errorf("order: %q", got)
		}
		if got := h.log(run.ID, "one"); got != "said by one\nand to stderr\n" {
			t.Errorf("the log of one: %q", got)
		}
		if got := h.log(run.ID, ""); !strings.Contains(got, "=== two\n"+run.ID+"\n") {
			t.Errorf("the whole log: %q", got)
		}
	})
}

func TestNeedsRunInParallelAndJoin(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	// a and b wait for each other: only in parallel do they end.
	run := h.start(`
pipelines:
  p:
    stages:
      - {name: a, needs: [], run: "touch a; until test -e b; do sleep 0.01; done"}
      - {name: b, needs: [], run: "touch b; until test -e a; do sleep 0.01; done"}
      - {name: c, needs: [a, b], run: "echo joined > c"}
`)
	h.ended(run.ID, pipeline.Succeeded)
	if h.read("c") != "joined\n" {
		t.Error("c did not run")
	}
}

func TestFailureSkipsTheRestAndRetryGoesOnFromThere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		run := h.start(`
pipelines:
  p:
    stages:
      - {name: one, run: "echo one >> order"}
      - {name: two, run: "echo two >> order; echo why it failed; test -e mended"}
      - {name: three, run: "echo three >> order"}
`)
		stages := h.ended(run.ID, pipeline.Failed)
		if got := statuses(stages); got != "one=SUCCEEDED two=FAILED three=SKIPPED" {
			t.Fatal(got)
		}
		if !strings.Contains(stages[1].Reason, "exit status 1") || !strings.Contains(stages[1].Reason, "makeitso logs "+run.ID+" two") {
			t.Errorf("the reason says neither what nor where: %q", stages[1].Reason)
		}
		if _, err := h.engine.Retry(t.Context(), "p-999"); !fault.Is(err, fault.NotFound) {
			t.Errorf("retry of nothing: %v", err)
		}
		h.write("mended", "")
		_, err := h.engine.Retry(t.Context(), run.ID)
		h.ok(err)
		h.ended(run.ID, pipeline.Succeeded)
		if got := h.read("order"); got != "one\ntwo\ntwo\nthree\n" {
			t.Errorf("order: %q", got)
		}
		if _, err := h.engine.Retry(t.Context(), run.ID); !fault.Is(err, fault.Conflict) {
			t.Errorf("retry of a run that succeeded: %v", err)
		}
	})
}

func TestCancelEndsTheCommandAndAllItsChildren(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		run := h.start(`
pipelines:
  p:
    stages:
      - {name: one, run: "sleep 300 & echo $! > child; sleep 300"}
      - {name: two, run: "touch two"}
`)
		h.stageIs(run.ID, "one", pipeline.Running)
		h.untilFile("child")
		h.ok(h.engine.Cancel(t.Context(), run.ID, "ann"))
		stages := h.ended(run.ID, pipeline.Canceled)
		if !strings.Contains(stages[0].Reason, "ann") || statuses(stages) != "one=CANCELED two=CANCELED" {
			t.Errorf("%s: %q", statuses(stages), stages[0].Reason)
		}
		pid := strings.TrimSpace(h.read("child"))
		if alive(pid) {
			t.Errorf("the command's child %s lives on", pid)
		}
		if err := h.engine.Cancel(t.Context(), run.ID, "ann"); !fault.Is(err, fault.Conflict) {
			t.Errorf("cancel of a run that has ended: %v", err)
		}
	})
}

// alive says whether a process runs; a zombie does not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// untilFile waits for a file that a command writes; nothing tells of it.
func (h *house) untilFile(name string) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); h.read(name) == ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("no file %s after 20 s", name)
		}
	}
}

func TestNewerRunSupersedesOneThatWaitsButNotOneThatWorks(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		body := `
pipelines:
  p:
    stages:
      - {name: one, run: "echo $MAKEITSO_RUN >> order; until test -e go; do sleep 0.01; done"}
`
		first := h.start(body)
		h.stageIs(first.ID, "one", pipeline.Running)
		second := h.start(body)
		third := h.start(body)
		stages := h.ended(second.ID, pipeline.Superseded)
		if !strings.Contains(stages[0].Reason, third.ID) {
			t.Errorf("the reason does not name the newer run: %q", stages[0].Reason)
		}
		h.write("go", "x")
		h.ended(first.ID, pipeline.Succeeded)
		h.ended(third.ID, pipeline.Succeeded)
		if got := h.read("order"); got != first.ID+"\n"+third.ID+"\n" {
			t.Errorf("order: %q", got)
		}
	})
}

func TestTimeoutAndOutputOf100MB(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	run := h.start(`
pipelines:
  p:
    stages:
      - {name: big, run: "head -c 104857600 /dev/zero | tr '\\0' 'x'"}
      - {name: slow, timeout: 100ms, run: "sleep 300"}
`)
	stages := h.ended(run.ID, pipeline.Failed)
	if !strings.Contains(stages[0].Result.Summary, "100 MB of output") || !strings.Contains(stages[0].Result.Summary, "makeitso logs") {
		t.Errorf("nothing said of 100 MB: %q", stages[0].Result.Summary)
	}
	var n counter
	h.ok(h.engine.Logs(t.Context(), run.ID, "big", false, &n))
	if n != 100<<20 {
		t.Errorf("%d bytes kept of %d", n, 100<<20)
	}
	if !strings.Contains(stages[1].Reason, "timeout of 100ms") {
		t.Errorf("reason %q", stages[1].Reason)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func TestFollowedLogArrivesWhileTheCommandRuns(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	run := h.start(`
pipelines:
  p:
    stages:
      - {name: one, run: "echo first; until test -e go; do sleep 0.01; done; echo last"}
`)
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(h.engine.Logs(t.Context(), run.ID, "one", true, writer)) }()
	buf := make([]byte, 6)
	if _, err := io.ReadFull(reader, buf); err != nil || string(buf) != "first\n" {
		t.Fatalf("%q %v", buf, err)
	}
	h.write("go", "x")
	rest, err := io.ReadAll(reader)
	if err != nil || string(rest) != "last\n" {
		t.Errorf("the rest: %q %v", rest, err)
	}
	h.ended(run.ID, pipeline.Succeeded)
}

const twoPlaces = `
stacks:
  net: {template: net.yaml}
artifacts:
  api: {image: {base: empty, binary: api}}
services:
  api: {artifact: api, port: 80, env: {NET: "${stacks.net.outputs.Id}"}}
pipelines:
  p:
    environments: [dev, prod]
    stages:
      - {name: build, run: "echo built >> built"}
      - image: api
      - apply: net
      - release: api
`

const netTemplate = `
Resources:
  Handle: {Type: "AWS::CloudFormation::WaitConditionHandle"}
Outputs:
  Id: {Value: !Ref Handle}
`

func TestOneArtifactGoesThroughTwoEnvironmentsAndWaitsForTwoPeople(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		h.write("net.yaml", netTemplate)
		h.buildBinary("api")
		run := h.start(twoPlaces)
		h.until("prod asks", waitsForYes(run.ID))
		if got := strings.Count(h.read("releases"), "dev api sha256:"); got != 1 {
			t.Fatalf("releases before the approval: %q", h.read("releases"))
		}
		_, err := h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "ann", Yes: true})
		h.ok(err)
		_, err = h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "ann", Yes: true}) // the same person counts once
		h.ok(err)
		h.close() // the wait is durable
		h.open()
		_, err = h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "bob", Yes: true, Digest: "feedfeedfeed"})
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("approval of another digest: %v", err)
		}
		if strings.Contains(h.read("releases"), "prod") {
			t.Fatal("one person was enough")
		}
		_, err = h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "bob", Yes: true})
		h.ok(err)
		h.ended(run.ID, pipeline.Succeeded)
		lines := strings.Split(strings.TrimSpace(h.read("releases")), "\n")
		if len(lines) != 2 {
			t.Fatalf("releases: %q", lines)
		}
		dev, prod := strings.Fields(lines[0]), strings.Fields(lines[1])
		if dev[2] != prod[2] || dev[0] != "dev" || prod[0] != "prod" {
			t.Errorf("not the same artifact in both: %q", lines)
		}
		if h.read("built") != "built\n" {
			t.Errorf("built more than once: %q", h.read("built"))
		}
	})
}

const slowRelease = `
artifacts: {api: {image: {base: empty, binary: api}}}
services: {api: {artifact: api, port: 80, health: /healthz, rollout: {canary: [10%], watch: 1h}}}
pipelines:
  p:
    environments: [dev]
    stages: [{image: api}, {name: roll, release: api TIMEOUT}]
`

func TestRolloutDoesNotGoOnWithoutItsRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		h.buildBinary("api")
		canceled := h.start(strings.Replace(slowRelease, "TIMEOUT", "", 1))
		h.untilFile("releases")
		h.close() // interrupted is not cancelled: the rollout goes on
		h.ok(os.Remove(filepath.Join(h.dir, "releases")))
		h.open()
		h.untilFile("releases")
		h.ok(h.engine.Cancel(t.Context(), canceled.ID, "ann"))
		h.ended(canceled.ID, pipeline.Canceled)
		late := h.start(strings.Replace(slowRelease, "TIMEOUT", ", timeout: 50ms", 1))
		h.ended(late.ID, pipeline.Failed)
		want := fmt.Sprintf("api %s.1/roll@dev\napi %s.1/roll@dev\n", canceled.ID, late.ID)
		if got := h.read("abandoned"); got != want {
			t.Errorf("abandoned: %q, not %q", got, want)
		}
	})
}

func TestTwoRetriesAtOnceAreOneAttempt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, h *house) {
		run := h.start(`
pipelines:
  p:
    stages: [{name: one, run: "echo x >> ran; test -e mended"}]
`)
		h.ended(run.ID, pipeline.Failed)
		h.write("mended", "")
		var retries sync.WaitGroup
		for range 8 {
			retries.Go(func() {
				if _, err := h.engine.Retry(t.Context(), run.ID); err != nil && !fault.Is(err, fault.Conflict) { // Conflict: it is under way, or has succeeded by now
					t.Error(err)
				}
			})
		}
		retries.Wait()
		h.ended(run.ID, pipeline.Succeeded)
		retried, _, err := h.engine.Run(t.Context(), run.ID)
		h.ok(err)
		if got := h.read("ran"); got != "x\nx\n" || retried.Attempt != 2 {
			t.Errorf("ran %q in %d attempts", got, retried.Attempt)
		}
	})
}

func waitsForYes(run string) func(pipeline.Event) bool {
	return func(ev pipeline.Event) bool {
		return ev.Run == run && ev.Kind == "stage" && ev.Status == "WAITING" && strings.Contains(ev.Message, "makeitso approve")
	}
}

func TestApprovalIsVoidWhenWhatItCoversMoves(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("net.yaml", netTemplate)
	h.buildBinary("api")
	run := h.start(twoPlaces)
	h.until("prod asks", waitsForYes(run.ID))
	_, err := h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "ann", Yes: true})
	h.ok(err)
	h.write("net.yaml", netTemplate+"  More: {Value: x}\n")
	_, err = h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "bob", Yes: true})
	h.ok(err)
	h.until("it asks again", func(ev pipeline.Event) bool {
		return strings.Contains(ev.Message, "for 2 yes") && ev.Number > h.lastAnswer()
	})
	if strings.Contains(h.read("releases"), "prod") {
		t.Fatal("changed although what was approved had moved")
	}
	_, err = h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: "bob"})
	h.ok(err)
	stages := h.ended(run.ID, pipeline.Failed)
	if !strings.Contains(fmt.Sprint(stages), "rejected by bob") {
		t.Errorf("%+v", stages)
	}
}

// lastAnswer gives the number of the newest approval event; h.mu is held.
func (h *house) lastAnswer() int64 {
	var last int64
	for _, ev := range h.events {
		if ev.Kind == "approval" {
			last = ev.Number
		}
	}
	return last
}

func TestWhatCannotBeDoneIsRefusedBeforeAnythingIs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	for name, c := range map[string]struct {
		start pipeline.Start
		code  fault.Code
	}{
		"no such pipeline":    {pipeline.Start{Pipeline: "q"}, fault.NotFound},
		"no such environment": {pipeline.Start{Pipeline: "p", Environments: []string{"moon"}}, fault.Unsupported},
		"a later platform":    {pipeline.Start{Pipeline: "p", Environments: []string{"far"}}, fault.Unsupported},
	} {
		c.start.Project = []byte(head + "\npipelines: {p: {stages: [{name: one, run: touch done}]}}\n")
		c.start.Source.WorkTree = h.dir
		if _, err := h.engine.Start(t.Context(), c.start); !fault.Is(err, c.code) {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	runs, err := h.engine.Runs(t.Context(), "", 10)
	h.ok(err)
	if len(runs) != 0 {
		t.Errorf("runs were begun: %v", runs)
	}
}

func TestRunsWaitForThoseWhoseStacksTheyReferTo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("net.yaml", strings.ReplaceAll(netTemplate, "Outputs:", "Outputs:"))
	src := []byte(head + `
stacks:
  net: {template: net.yaml}
pipelines:
  user:
    environments: [dev]
    stages:
      - {name: early, needs: [], run: "touch early"}
      - {name: use, needs: [], environment: each, env: {NET: "${stacks.net.outputs.Id}"}, run: "echo got $NET > used"}
  infra:
    environments: [dev]
    stages:
      - {name: first, run: "until test -e early; do sleep 0.01; done"}
      - apply: net
`)
	runs, err := h.engine.Pushed(t.Context(), pipeline.Push{Project: src, Source: pipeline.Source{WorkTree: h.dir, Branch: "main"}})
	h.ok(err)
	if len(runs) != 0 {
		t.Fatalf("pipelines without a trigger were begun: %v", runs)
	}
	p, mistakes := project.Parse("makeitso.yaml", src)
	h.ok(mistakes.Err())
	runs, err = h.engine.StartAll(t.Context(), p, []string{"user", "infra"}, pipeline.Start{Project: src, Source: pipeline.Source{WorkTree: h.dir}}, "")
	h.ok(err)
	for _, run := range runs {
		h.ended(run.ID, pipeline.Succeeded)
	}
	if !strings.HasPrefix(h.read("used"), "got ") || len(h.read("used")) < 6 {
		t.Errorf("used: %q", h.read("used"))
	}
}

func TestPushChoosesPipelinesByBranchAndPaths(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	src := []byte(head + `
pipelines:
  docs:   {on: {push: {branches: [main], paths: ["docs/**"]}}, stages: [{name: one, run: "true"}]}
  server: {on: {push: {branches: ["release/*"], paths: ["server/**"]}}, stages: [{name: one, run: "true"}]}
  all:    {on: {push: {}}, stages: [{name: one, run: "true"}]}
`)
	for _, c := range []struct {
		branch  string
		changed []string
		want    string
	}{
		{"main", []string{"docs/a/b.md"}, "all docs"},
		{"main", []string{"server/a.go"}, "all"},
		{"release/1", []string{"server/a.go", "docs/x"}, "all server"},
		{"other", nil, "all"},
	} {
		runs, err := h.engine.Pushed(t.Context(), pipeline.Push{Project: src, Changed: c.changed, Source: pipeline.Source{WorkTree: h.dir, Branch: c.branch}})
		h.ok(err)
		var names []string
		for _, run := range runs {
			names = append(names, run.Pipeline)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.branch, c.changed, got, c.want)
		}
		for _, run := range runs {
			h.ended(run.ID, pipeline.Succeeded)
		}
	}
}

func TestReferencesToWhatDoesNotExistAreNamed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("net.yaml", netTemplate)
	for output, want := range map[string]string{"Id": "", "Idd": `did you mean "Id"?`} {
		run := h.start(`
stacks:
  net: {template: net.yaml}
pipelines:
  p:
    environments: [dev]
    stages:
      - apply: net
      - {name: use, environment: each, env: {NET: "${stacks.net.outputs.` + output + `}", IN: "${environment.name}"}, run: "echo $NET in $IN"}
`)
		if want == "" {
			h.ended(run.ID, pipeline.Succeeded)
			if log := h.log(run.ID, "use@dev"); !strings.Contains(log, " in dev\n") || strings.HasPrefix(log, " ") {
				t.Errorf("log %q", log)
			}
			continue
		}
		if stages := h.ended(run.ID, pipeline.Failed); !strings.Contains(stages[1].Reason, want) {
			t.Errorf("reason %q", stages[1].Reason)
		}
	}
}

func TestFirstDeploymentOfStacksJoinedByExportsCanBeApproved(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("net.yaml", strings.Replace(netTemplate, "!Ref Handle", "!Ref Handle, Export: {Name: the-net}", 1))
	user := "Resources:\n  Handle: {Type: \"AWS::CloudFormation::WaitConditionHandle\"}\nOutputs:\n  Net: {Value: !ImportValue the-net}\n"
	h.write("user.yaml", user)
	body := `
stacks:
  net: {template: net.yaml}
  user: {template: user.yaml, tags: {net: "${stacks.net.outputs.Id}", in: "${environment.name}"}}
pipelines:
  p:
    environments: [prod]
    stages:
      - apply: net
      - {name: between, environment: each, run: "until test -e go; do sleep 0.01; done"}
      - apply: user
`
	approved := func() pipeline.Run {
		run := h.start(body)
		h.until("it asks", waitsForYes(run.ID))
		for _, by := range []string{"ann", "bob"} {
			_, err := h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: by, Yes: true})
			h.ok(err)
		}
		h.stageIs(run.ID, "between@prod", pipeline.Running)
		return run
	}
	first := approved()
	h.write("go", "x")
	h.ended(first.ID, pipeline.Succeeded)

	h.ok(os.Remove(filepath.Join(h.dir, "go")))
	h.write("user.yaml", user+"  More: {Value: x}\n")
	moved := approved()
	h.write("user.yaml", user+"  More: {Value: y}\n")
	h.write("go", "x")
	if stages := h.ended(moved.ID, pipeline.Failed); !strings.Contains(fmt.Sprint(stages), "has moved since it was approved") {
		t.Errorf("%+v", stages)
	}
}

func TestStackTakesTheArtifactOfItsRun(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("web.yaml", "Parameters: {Image: {Type: String}}\nResources:\n  Handle: {Type: \"AWS::CloudFormation::WaitConditionHandle\"}\nOutputs:\n  Image: {Value: !Ref Image}\n")
	const body = `
artifacts: {api: {image: {base: empty, binary: api}}}
stacks: {web: {template: web.yaml, parameters: {Image: "web@${artifacts.api.digest}"}}}
pipelines:
  p:
    environments: [dev]
    stages:
      - image: api
      - {name: gate, environment: each, env: {IMAGE: "${artifacts.api.digest}"}, run: "echo $IMAGE; test -e go"}
      - apply: web
`
	h.buildBinary("api")
	if _, err := h.engine.Artifact(t.Context(), "dev", "api"); !fault.Is(err, fault.NotFound) {
		t.Errorf("before the first run: %v", err)
	}
	run := h.start(body)
	built := h.ended(run.ID, pipeline.Failed)[0].Result.Digest
	if got := h.log(run.ID, "gate@dev"); !strings.Contains(got, built) {
		t.Errorf("the command got %q, not %s", got, built)
	}
	if _, err := h.engine.Artifact(t.Context(), "dev", "api"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a run that changed nothing counts: %v", err)
	}
	h.write("go", "")
	h.write("api", "another, which a retry must not take")
	_, err := h.engine.Retry(t.Context(), run.ID)
	h.ok(err)
	h.ended(run.ID, pipeline.Succeeded)
	outputs, err := h.stacks["dev"].Outputs(t.Context(), "web")
	h.ok(err)
	if outputs["Image"] != "web@"+built {
		t.Errorf("the stack has %s; want %s", outputs["Image"], built)
	}
	if got, err := h.engine.Artifact(t.Context(), "dev", "api"); err != nil || got != built {
		t.Errorf("outside of runs it is %s, %v", got, err)
	}
	if _, err := h.engine.Artifact(t.Context(), "prod", "api"); !fault.Is(err, fault.NotFound) {
		t.Errorf("in another environment: %v", err)
	}
}

// pulled gives the digest that the file of that reference holds.
func (h *house) pulled(reference string) (string, error) {
	text, err := os.ReadFile(filepath.Join(h.dir, reference))
	if err != nil {
		return "", fault.Wrap(fault.NotFound, err, "the registry has no image %s", reference)
	}
	return string(text), nil
}

func TestServiceRunsAnImageOfTheRegistry(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("images.yaml", "Resources:\n  Handle: {Type: \"AWS::CloudFormation::WaitConditionHandle\"}\nOutputs:\n  Uri: {Value: web}\n")
	const body = `
stacks: {images: {template: images.yaml}}
services: {api: {image: "${stacks.images.outputs.Uri}:v1", port: 80}}
pipelines:
  p:
    environments: [dev, prod]
    stages: [{apply: images}, {release: api}]
`
	run := h.start(body)
	if stages := h.ended(run.ID, pipeline.Failed); !strings.Contains(stages[1].Reason, "services.api.image: the registry has no image web:v1") {
		t.Errorf("before anything was pushed: %+v", stages)
	}
	h.write("web:v1", "sha256:one")
	_, err := h.engine.Retry(t.Context(), run.ID)
	h.ok(err)
	// What cannot be known yet, nobody can approve.
	stages := h.ended(run.ID, pipeline.Failed)
	if got := statuses(stages[:3]); got != "apply-images@dev=SUCCEEDED release-api@dev=SUCCEEDED approval@prod=FAILED" ||
		!strings.Contains(stages[2].Reason, "stack images does not exist in environment prod yet") {
		t.Errorf("%+v", stages)
	}
	if got := h.read("releases"); got != "dev api sha256:one map[]\n" {
		t.Errorf("released is %q", got)
	}
}

func TestApprovalIsForTheImageThatTheTagHad(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("web:v1", "sha256:one")
	run := h.start(`
services: {api: {image: "web:v1", port: 80}}
pipelines:
  p:
    environments: [prod]
    stages: [{name: gate, environment: each, run: "until test -e go; do sleep 0.01; done"}, {release: api}]
`)
	h.until("it asks", waitsForYes(run.ID))
	for _, by := range []string{"ann", "bob"} {
		_, err := h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: by, Yes: true})
		h.ok(err)
	}
	h.stageIs(run.ID, "gate@prod", pipeline.Running)
	h.write("web:v1", "sha256:two")
	h.write("go", "")
	if stages := h.ended(run.ID, pipeline.Failed); !strings.Contains(fmt.Sprint(stages), "service api has moved since it was approved") {
		t.Errorf("%+v", stages)
	}
	if got := h.read("releases"); got != "" {
		t.Errorf("released is %q", got)
	}
}
