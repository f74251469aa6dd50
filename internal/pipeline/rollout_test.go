package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/release"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
)

const migrating = `
artifacts: {api: {image: {base: empty, binary: api}}}
services: {api: {artifact: api, port: 80}}
pipelines:
  p:
    environments: [dev, prod]
    stages:
      - image: api
      - {name: index, migrate: {run: "echo index $WHERE >> migrated", reversible: true, undo: ./undo, env: {WHERE: "${environment.name}"}}}
      - {name: split, migrate: {run: "test ! -e bad && echo split $MAKEITSO_ENVIRONMENT >> migrated", reversible: false}}
      - release: api
`

// A migration runs once for each environment, is named to who approves, and
// goes with the release that comes after it.
func TestMigrations(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.buildBinary("api")
	run := h.start(migrating)
	h.until("prod asks", waitsForYes(run.ID))
	if got, want := h.read("migrations"), "dev index true ./undo\ndev split false \n"; got != want {
		t.Errorf("the release has %q, want %q", got, want)
	}
	if got := h.read("migrated"); got != "index dev\nsplit dev\n" {
		t.Errorf("before prod was approved: %q", got)
	}
	asked := h.log(run.ID, "approval@prod")
	for _, want := range []string{"migration index@prod (reversible by ./undo)", "migration split@prod (forward-only)"} {
		if !strings.Contains(asked, want) {
			t.Errorf("who approves is not told of %s:\n%s", want, asked)
		}
	}
	h.write("bad", "")
	for _, by := range []string{"ann", "bob"} {
		_, err := h.engine.Approve(t.Context(), pipeline.Answer{Run: run.ID, By: by, Yes: true})
		h.ok(err)
	}
	h.ended(run.ID, pipeline.Failed)
	if got := h.read("migrations"); strings.Contains(got, "prod") {
		t.Errorf("released after a migration that failed: %q", got)
	}
}

// What a run under way has made is not to be removed.
func TestUses(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.buildBinary("api")
	run := h.start(strings.Replace(slowRelease, "TIMEOUT", "", 1))
	h.untilFile("releases")
	digest := strings.Fields(h.read("releases"))[2]
	uses := func(digest string) bool {
		used, err := h.engine.Uses(t.Context(), digest)
		h.ok(err)
		return used
	}
	if !uses(digest) || uses("sha256:other") {
		t.Errorf("while it runs: %s is used: %v, another: %v", digest, uses(digest), uses("sha256:other"))
	}
	h.ok(h.engine.Cancel(t.Context(), run.ID, "ann"))
	h.ended(run.ID, pipeline.Canceled)
	if uses(digest) {
		t.Error("used when it has ended")
	}
}

// What asks Prometheus may hold references; the words for a version stay.
func TestQueriesMayHoldReferences(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.buildBinary("api")
	const from = `, analysis: {from: {prometheus: {url: "http://${environment.name}:9090", errors: "a${run.commit}$release", total: $release}}}}`
	run := h.start(strings.Replace(strings.Replace(slowRelease, "TIMEOUT", "", 1), "watch: 1h}", "watch: 1h"+from, 1))
	h.untilFile("releases")
	if got, want := h.read("prometheus"), "http://dev:9090 a"+run.Source.Commit+"$release $release\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.ok(h.engine.Cancel(t.Context(), run.ID, "ann"))
	h.ended(run.ID, pipeline.Canceled)
}

func TestHook(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	folder, log := t.TempDir(), filepath.Join(t.TempDir(), "runs", "log")
	run := func(ctx context.Context, command string, again bool) error {
		return h.engine.Hook(ctx, release.Hook{ID: "dev/api-2, step 1", Command: command, Folder: folder, Log: log, Again: again, Env: []string{"MAKEITSO_CANARY_URL=http://here"}})
	}
	h.ok(run(t.Context(), "echo asking $MAKEITSO_CANARY_URL; pwd", false))
	text, err := os.ReadFile(log)
	h.ok(err)
	if got := string(text); !strings.Contains(got, "dev/api-2, step 1: echo") || !strings.Contains(got, "asking http://here\n"+folder) {
		t.Errorf("the log says %q", got)
	}
	if err := run(t.Context(), "exit 3", false); !fault.Is(err, fault.Failed) || err.Error() != "the command ended with exit status 3" {
		t.Errorf("a failure: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "touch begun; sleep 60", false) }()
	for path := filepath.Join(folder, "begun"); ; time.Sleep(time.Millisecond) { // the command tells nobody else
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	h.ok(run(t.Context(), "true", true)) // what an earlier life left is ended
	if err := <-ended; !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("what was left: %v", err)
	}
	cancel()
	if err := run(ctx, "true", false); err == nil {
		t.Error("nobody waits for it, and it succeeds")
	}
	h.ok(os.RemoveAll(folder))
	if err := run(t.Context(), "true", false); !fault.Is(err, fault.NotFound) {
		t.Errorf("without its files: %v", err)
	}
}

// A command that is asked for what it prints gives just that; its errors are
// logged, and the last is the reason.
func TestHookForItsOutput(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	log := filepath.Join(t.TempDir(), "log")
	var out strings.Builder
	run := func(command string) error {
		return h.engine.Hook(t.Context(), release.Hook{ID: "dev/api-2, outcomes", Command: command, Folder: t.TempDir(), Log: log, Output: &out})
	}
	h.ok(run("echo 200; echo careful >&2"))
	err := run("echo 500; echo first >&2; printf 'no such file\n\n' >&2; exit 3")
	if !fault.Is(err, fault.Failed) || err.Error() != "the command ended with exit status 3: no such file" {
		t.Errorf("a failure: %v", err)
	}
	text, err := os.ReadFile(log)
	h.ok(err)
	if got := string(text); out.String() != "200\n500\n" || got != "careful\nfirst\nno such file\n\n" {
		t.Errorf("printed %q, logged %q", out.String(), got)
	}
}

func TestStrategies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]rollout.Strategy{
		"":                   {Kind: rollout.Rolling, Surge: rollout.Amount{Count: 1}},
		", rollout: rolling": {Kind: rollout.Rolling, Surge: rollout.Amount{Count: 1}},
		", rollout: {rolling: {surge: 0, unavailable: 25%}}":            {Kind: rollout.Rolling, Unavailable: rollout.Amount{Part: 0.25}},
		", rollout: all-at-once":                                        {Kind: rollout.AtOnce},
		", rollout: {blue-green: {soak: 1m, keep: 10m}}":                {Kind: rollout.BlueGreen, Soak: time.Minute, Keep: 10 * time.Minute},
		", rollout: {canary: 10%}":                                      {Kind: rollout.Canary, Shares: []float64{0.1}, Watch: 2 * time.Minute},
		", rollout: {canary: [10%, 50%], watch: auto}":                  {Kind: rollout.Canary, Shares: []float64{0.1, 0.5}, Bake: 30 * time.Second, Watch: 10 * time.Minute},
		", rollout: {canary: 10%, watch: {at-least: 1m, at-most: 20m}}": {Kind: rollout.Canary, Shares: []float64{0.1}, Bake: time.Minute, Watch: 20 * time.Minute},
	} {
		p, mistakes := project.Parse(project.File, []byte("project: shop\nartifacts: {api: {image: {binary: api}}}\nservices: {api: {artifact: api, port: 80"+text+"}}\n"))
		if len(mistakes) > 0 {
			t.Fatal(mistakes)
		}
		got := pipeline.Service("api", p.Services["api"], nil)
		if fmt.Sprint(got.Strategy) != fmt.Sprint(want) || got.Keep != 10 {
			t.Errorf("%q: %+v, keeps %d; want %+v", text, got.Strategy, got.Keep, want)
		}
		if err := got.Strategy.Validate(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatClientsMayAsk(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]release.Access{
		"": {},
		", limits: {header: 16KiB, body: 10MB, requests: 5, answer: 1m, client-timeout: 2s}, sticky: {}": {
			Limits:         edge.Limits{HeaderBytes: 16384, BodyBytes: 10_000_000, ClientTimeout: 2 * time.Second, Requests: 5},
			RequestTimeout: time.Minute, Sticky: &edge.Sticky{Cookie: "makeitso"},
		},
		", slow-start: 30s, paths: [/api, /v1]": {SlowStart: 30 * time.Second, Paths: []string{"/api", "/v1"}},
		", sticky: {cookie: arm, for: 1h}":      {Sticky: &edge.Sticky{Cookie: "arm", TTL: time.Hour}},
	} {
		p, mistakes := project.Parse(project.File, []byte("project: shop\nartifacts: {api: {image: {binary: api}}}\nservices: {api: {artifact: api, port: 80"+text+"}}\n"))
		if len(mistakes) > 0 {
			t.Fatal(mistakes)
		}
		if got := pipeline.Service("api", p.Services["api"], nil).Access; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestWhatInstancesSpeak(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{"": "", project.HTTP1: "", "h2c": "h2c"} {
		if got := pipeline.Service("api", &project.Service{Protocol: written}, nil).Protocol; got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
}

func TestHowACanaryIsJudged(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]release.Judge{
		"": {},
		", analysis: {max-5xx: 5%, guard-5xx: 20%, latency: off, inconclusive: hold}": {
			Hold: true, Options: analysis.Options{Max5xx: 0.05, Guard5xx: 0.2, IgnoreLatency: true}},
		", analysis: {latency: {margin: 50%, slack: 20ms}, inconclusive: promote}": {
			Options: analysis.Options{Slower: 0.5, Slack: 20 * time.Millisecond}},
		", analysis: {from: edge}": {},
		", analysis: {from: {log: {field: status, except: healthz}}, max-5xx: 5%}": {
			Source: source.Source{Log: source.Lines{Field: "status", Except: "healthz"}}, Options: analysis.Options{Source: analysis.NoCoin, Max5xx: 0.05}},
		", analysis: {from: {command: {run: ./count, pattern: '(?P<status>.*)'}}}": {
			Source: source.Source{Command: source.Command{Run: "./count", Lines: source.Lines{Pattern: "(?P<status>.*)"}}}, Options: analysis.Options{Source: analysis.NoCoin}},
		", analysis: {from: {prometheus: {url: 'http://a', errors: '$release', total: '$commit'}}}": {
			Source: source.Source{Prometheus: source.Prometheus{URL: "http://a", Errors: "$release", Total: "$commit"}}, Options: analysis.Options{Source: analysis.NoCoin}},
	} {
		p, mistakes := project.Parse(project.File, []byte("project: shop\nartifacts: {api: {image: {binary: api}}}\nservices: {api: {artifact: api, port: 80, rollout: {canary: 10%"+text+"}}}\n"))
		if len(mistakes) > 0 {
			t.Fatal(mistakes)
		}
		if got := pipeline.Service("api", p.Services["api"], nil).Judge; got != want {
			t.Errorf("%q: %+v; want %+v", text, got, want)
		}
	}
}

// The names of alarms may come from references, and one that is none is told of
// with its place.
func TestAlarmsOfARollout(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.buildBinary("api")
	const text = `
artifacts: {api: {image: {base: empty, binary: api}}}
services: {api: {artifact: api, port: 80, rollout: {alarms: [errors, "${environment.name}-queue"]}}}
pipelines:
  p:
    environments: [dev]
    stages: [{image: api}, {release: api}]
`
	h.ended(h.start(text).ID, pipeline.Succeeded)
	if got := h.read("alarms"); got != "dev [errors dev-queue]\n" {
		t.Errorf("the release is watched by %q", got)
	}
}
