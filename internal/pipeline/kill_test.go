package pipeline_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"makeitso/internal/pipeline"
	"makeitso/internal/testneed"
)

// buildBinary builds an executable into the project's folder that an image can
// be made of.
func (h *house) buildBinary(name string) {
	h.t.Helper()
	source := filepath.Join(h.dir, "src")
	h.ok(os.MkdirAll(source, 0o700))
	h.ok(os.WriteFile(filepath.Join(source, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600))
	h.ok(os.WriteFile(filepath.Join(source, "go.mod"), []byte("module tiny\n\ngo 1.25\n"), 0o600))
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(h.dir, name), ".")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
}

// The kill test runs a pipeline in a process of its own, kills that process at
// one event, and starts it again until the run has ended.
const (
	killFolder   = "PIPELINE_TEST_FOLDER"
	killDatabase = "PIPELINE_TEST_DATABASE"
	killBody     = "PIPELINE_TEST_BODY"    // the project's pipelines
	killAt       = "PIPELINE_TEST_KILL_AT" // how many events this process lives
)

func TestMain(m *testing.M) {
	if os.Getenv(killFolder) != "" {
		m.Run() // TestHelperProcess does the work
		return
	}
	os.Exit(m.Run())
}

const sixStages = `
stacks:
  net: {template: net.yaml}
artifacts:
  api: {image: {base: empty, binary: api}}
services:
  api: {artifact: api, port: 80}
pipelines:
  p:
    environments: [dev]
    stages:
      - {name: build, run: "echo build >> effects"}
      - {name: test, run: "echo test >> effects"}
      - image: api
      - apply: net
      - release: api
      - {name: after, run: "echo after >> effects"}
`

// TestHelperProcess is not a test: it is the process that the kill test kills.
func TestHelperProcess(t *testing.T) {
	dir := os.Getenv(killFolder)
	if dir == "" {
		t.Skip("the kill test runs this in a process of its own")
	}
	lives, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: dir, database: os.Getenv(killDatabase), seen: make(chan struct{})}
	events := 0
	h.onEvent = func() {
		if events++; events == lives {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	h.open()
	runs, err := h.engine.Runs(t.Context(), "", 1)
	h.ok(err)
	if len(runs) == 0 {
		runs = []pipeline.Run{h.start(os.Getenv(killBody))}
	}
	h.ended(runs[0].ID, pipeline.Succeeded)
	h.close()
}

// helper gives the command that works in h's folder as a process of its own.
func (h *house) helper(body, database string, lives int) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$", "-test.v")
	cmd.Env = append(os.Environ(), killFolder+"="+h.dir, killDatabase+"="+database, killBody+"="+body, killAt+"="+strconv.Itoa(lives))
	return cmd
}

func TestKilledAtEveryBoundaryEachEffectIsThereOnce(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(*testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return testneed.PostgresServer(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			builder := &house{t: t, dir: t.TempDir()}
			builder.buildBinary("api")
			binary := builder.read("api")
			boundaries := undisturbed(t, binary)
			if boundaries < 12 { // a begin and an end for each of six stages
				t.Fatalf("the run has only %d boundaries", boundaries)
			}
			for lives := 1; lives <= boundaries; lives++ {
				t.Run(fmt.Sprintf("event %d", lives), func(t *testing.T) {
					t.Parallel()
					killedAt(t, lives, url, binary)
				})
			}
		})
	}
}

// undisturbed runs the pipeline to its end and counts its events.
func undisturbed(t *testing.T, binary string) int {
	h := newHouse(t, "")
	h.write("net.yaml", netTemplate)
	h.write("api", binary)
	run := h.start(sixStages)
	h.ended(run.ID, pipeline.Succeeded)
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events)
}

// killedAt runs the pipeline in a fresh folder with a first process that lives
// so many events and a second that ends the run.
func killedAt(t *testing.T, lives int, url, binary string) {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	h.write("net.yaml", netTemplate)
	h.write("api", binary)
	if url != "" { // each folder its own database
		url = createDatabase(t, url, fmt.Sprintf("kill%d", lives))
	}
	first := h.helper(sixStages, url, lives)
	out, err := first.CombinedOutput()
	if state, ok := first.ProcessState.Sys().(syscall.WaitStatus); !ok || !state.Signaled() {
		t.Fatalf("the first process was not killed: %v\n%s", err, out)
	}
	if out, err := h.helper(sixStages, url, 1<<30).CombinedOutput(); err != nil {
		t.Fatalf("the second process does not end the run: %v\n%s", err, out)
	}
	if got := strings.Join(strings.Fields(h.read("effects")), " "); got != "build test after" {
		t.Errorf("the effects are %q", got)
	}
	// A platform tells releases apart by their key; this one only notes them.
	if !strings.Contains(h.read("releases"), "dev api sha256:") {
		t.Error("there was no release")
	}
}

func TestInterruptedCommandIsKilledAndRunAgain(t *testing.T) {
	t.Parallel()
	h := &house{t: t, dir: t.TempDir(), seen: make(chan struct{})}
	helper := h.helper(`
pipelines:
  p:
    stages:
      - {name: one, run: "echo $$ >> pids; until test -e go; do sleep 0.01; done"}
`, "", 1<<30)
	h.ok(helper.Start())
	h.untilFile("pids")
	first := strings.TrimSpace(h.read("pids"))
	h.ok(helper.Process.Kill())
	_ = helper.Wait() // it was killed
	if !alive(first) {
		t.Fatal("the command ended with its makeitso: this test shows nothing")
	}
	h.open()
	t.Cleanup(h.close)
	for deadline := time.Now().Add(20 * time.Second); strings.Count(h.read("pids"), "\n") < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command was not run again")
		}
	}
	if alive(first) {
		t.Error("the first try lives on beside the second")
	}
	h.write("go", "x")
	runs, err := h.engine.Runs(t.Context(), "", 1)
	h.ok(err)
	h.ended(runs[0].ID, pipeline.Succeeded)
	if log := h.log(runs[0].ID, "one"); !strings.Contains(log, "interrupted") {
		t.Errorf("the log does not say so: %q", log)
	}
}

func TestCancelOfAnInterruptedRunEndsItsCommand(t *testing.T) {
	t.Parallel()
	h := &house{t: t, dir: t.TempDir(), seen: make(chan struct{})}
	helper := h.helper(`
pipelines:
  p:
    stages:
      - {name: one, run: "echo $$ > pids; while true; do sleep 0.05; done"}
`, "", 1<<30)
	h.ok(helper.Start())
	h.untilFile("pids")
	pid := strings.TrimSpace(h.read("pids"))
	h.ok(helper.Process.Kill())
	_ = helper.Wait() // it was killed
	h.idle = true     // as a command that only cancels: nothing goes on
	h.open()
	t.Cleanup(h.close)
	runs, err := h.engine.Runs(t.Context(), "", 1)
	h.ok(err)
	if !alive(pid) {
		t.Fatal("the command ended with its makeitso: this test shows nothing")
	}
	h.ok(h.engine.Cancel(t.Context(), runs[0].ID, "ann"))
	h.ended(runs[0].ID, pipeline.Canceled)
	if alive(pid) {
		t.Error("the command lives on")
	}
}

// createDatabase makes a database beside the one that url names.
func createDatabase(t *testing.T, url, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(url, "postgres") + name
}
