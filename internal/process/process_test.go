package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// TestMain lets the test binary serve as shim, and as a makeitso that starts
// a process and is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "internal" && os.Args[2] == "exec" {
		fmt.Fprintln(os.Stderr, Exec(os.Args[3]))
		os.Exit(1)
	}
	if len(os.Args) == 4 && os.Args[1] == "start-and-wait" {
		startAndWait(os.Args[2], os.Args[3])
	}
	os.Exit(m.Run())
}

// startAndWait starts a process in the keeper of dir and waits to be killed.
func startAndWait(dir, name string) {
	_, err := New(dir, Options{}).Start(context.Background(), sleeper(name))
	fmt.Println(err)
	select {}
}

func sleeper(name string) Spec { return Spec{Name: name, Path: "sleep", Args: []string{"3600"}} }

// shell is a process that runs a script.
func shell(name, script string) Spec {
	return Spec{Name: name, Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

// newKeeper gives a keeper that leaves no process behind.
func newKeeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	k := New(dir, Options{})
	t.Cleanup(func() {
		all, err := k.List()
		if err != nil {
			t.Error(err)
		}
		for _, p := range all {
			if err := p.Stop(context.Background(), 0); err != nil {
				t.Error(err)
			}
		}
		k.Close()
	})
	return k
}

func start(t *testing.T, k *Keeper, s Spec) *Process {
	t.Helper()
	p, err := k.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func await(t *testing.T, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not within 10 s", what)
	}
}

// eventually polls for what no event tells of.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStartedTwiceIsOne(t *testing.T) {
	dir := t.TempDir()
	var wait sync.WaitGroup
	pids := make([]int, 8)
	for i := range pids {
		k := newKeeper(t, dir) // as many programs would
		wait.Go(func() {
			if p, err := k.Start(t.Context(), sleeper("one")); err == nil {
				pids[i] = p.PID
			} else {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, pid := range pids {
		if pid == 0 || pid != pids[0] {
			t.Fatalf("pids %v; want one", pids)
		}
	}
}

func TestRunsAsAskedAndEnds(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, filepath.Join(dir, "processes"))
	spec := shell("printer", `echo "$A $PWD $(ps -o sid= -p $$) ${HOME:-none}"; exit 7`)
	large := "LARGE=" + strings.Repeat("x", 100<<10) // more than a pipe takes at once
	spec.Env = append(spec.Env, "A=a b", large)
	spec.Dir, spec.Log = dir, filepath.Join(dir, "log")
	p := start(t, k, spec)
	if record := readFile(t, k.path("printer")); !strings.Contains(record, "/bin/sh") || strings.Contains(record, "a b") {
		t.Errorf("the record is to say what runs, without its environment: %.200s", record)
	}
	await(t, "the end of the script", p.Exited())
	if p.Alive() {
		t.Error("alive after its end")
	}
	want := fmt.Sprintf("a b %s %d none", dir, p.PID)
	if got := strings.Join(strings.Fields(readFile(t, spec.Log)), " "); got != want {
		t.Errorf("printed %q; want %q", got, want)
	}
	if p.Ending() != "exit status 7" {
		t.Errorf("ending %q; want exit status 7", p.Ending())
	}
}

func TestRecordOutlivesAKilledMakeitso(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "start-and-wait", dir, "orphan")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil || string(line[:n]) != "<nil>\n" {
		t.Fatalf("the other makeitso said %q, %v", line[:n], err)
	}

	k := newKeeper(t, dir)
	p, err := k.Find("orphan")
	if err != nil || !p.Alive() {
		t.Fatalf("found %+v, %v; want it alive", p, err)
	}
	if again := start(t, k, sleeper("orphan")); again.PID != p.PID {
		t.Errorf("started again as %d beside %d", again.PID, p.PID)
	}
	exited := p.Exited()
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of an adopted process", exited)
}

// TestCrashWhileStartingStartsOnce kills a starting makeitso at ever later
// moments: however far it came, there is one process afterwards, and it is the
// recorded one.
func TestCrashWhileStartingStartsOnce(t *testing.T) {
	for i := range 25 {
		dir := t.TempDir()
		k := newKeeper(t, dir)
		tag := "MAKEITSO_TEST_CRASH=" + dir
		cmd := exec.Command(os.Args[0], "start-and-wait", dir, "one")
		cmd.Env = append(os.Environ(), tag)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // the moment of the crash
		cmd.Process.Kill()
		cmd.Wait()

		p := start(t, k, sleeper("one"))
		running := sleepersOf(t, dir)
		if len(running) != 1 || running[0] != p.PID {
			t.Fatalf("killed after %d ms: processes %v run; want %d alone", i, running, p.PID)
		}
		if err := p.Stop(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// sleepersOf lists the shims and programs of the keeper in dir: a shim names
// the record in its arguments; the program is the child of none but has the
// recorded pid.
func sleepersOf(t *testing.T, dir string) []int {
	t.Helper()
	all, err := running()
	if err != nil {
		t.Fatal(err)
	}
	var e entry
	if err := statefile.Read(filepath.Join(dir, "one.json"), &e); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, r := range all {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(r.pid) + "/cmdline")
		if err == nil && strings.Contains(string(text), dir) || r.pid == e.PID {
			pids = append(pids, r.pid)
		}
	}
	return pids
}

func TestShimHoldsTheLockWhenItsStarterDies(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	// A shim that takes its time, started by hand as a killed makeitso would
	// leave it: it has the lock, its record has no pid yet.
	lock, err := k.lock(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := statefile.Write(k.path("one"), entry{Spec: sleeper("one")}); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go_, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	slow := exec.Command("/bin/sh", "-c", `read line <&0; exec "$0" internal exec "$1"`, os.Args[0], k.path("one"))
	environment, filled, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(filled, `["A=a"]`)
	filled.Close()
	slow.Stdin, slow.ExtraFiles = go_, []*os.File{lock, w, environment}
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	environment.Close()
	go_.Close()
	lock.Close()
	w.Close()

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Start(short, sleeper("one")); err == nil {
		t.Error("started a second one while a shim was under way")
	}
	fmt.Fprintln(release)
	release.Close()
	p := start(t, k, sleeper("one"))
	if p.PID != slow.Process.Pid {
		t.Errorf("process %d; want the shim's %d", p.PID, slow.Process.Pid)
	}
	slow.Process.Kill()
	slow.Wait()
}

// TestProgramWithoutItsEnvironmentDoesNotRun leaves a shim as a makeitso does that
// is killed when it has given half of the environment.
func TestProgramWithoutItsEnvironmentDoesNotRun(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	lock, err := k.lock(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := statefile.Write(k.path("one"), entry{Spec: sleeper("one")}); err != nil {
		t.Fatal(err)
	}
	cmd, err := k.shimCommand(k.path("one"))
	if err != nil {
		t.Fatal(err)
	}
	report, environment, err := startShim(cmd, lock)
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	lock.Close()
	fmt.Fprint(environment, `["PASSWORD=open`)
	environment.Close()
	if err := readReport(report); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "its environment did not come") {
		t.Errorf("the shim said %v", err)
	}
	_ = cmd.Wait() // it failed, and said so
	if _, err := k.Find("one"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a program is recorded that never ran: %v", err)
	}
	start(t, k, sleeper("one"))
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"polite", `sleep 3600 & echo $! >$F; wait`},
		{"deaf", `trap "" TERM; sleep 3600 & echo $! >$F; wait; wait; sleep 3600`},
		{"leader goes first", `(trap "" TERM; sleep 3600) & echo $! >$F; wait`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			k := newKeeper(t, dir)
			file := filepath.Join(dir, "child")
			spec := shell("group", c.script)
			spec.Env = append(spec.Env, "F="+file)
			p := start(t, k, spec)
			child := 0
			eventually(t, "the child", func() bool {
				text, _ := os.ReadFile(file)
				child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				return child != 0
			})
			if err := p.Stop(t.Context(), 100*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if _, alive := identityOf(child); alive || p.Alive() {
				t.Errorf("after Stop: child alive %v, leader alive %v", alive, p.Alive())
			}
			if _, err := k.Find("group"); !fault.Is(err, fault.NotFound) {
				t.Errorf("the record is still there: %v", err)
			}
			if err := p.Stop(t.Context(), 0); err != nil {
				t.Errorf("stopped again: %v", err)
			}
		})
	}
}

func TestStartEndsWhatADeadLeaderLeft(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	spec := shell("group", `sleep 3600 & echo $! >`+filepath.Join(dir, "child"))
	p := start(t, k, spec)
	await(t, "the leader's end", p.Exited())
	child, err := strconv.Atoi(strings.TrimSpace(readFile(t, filepath.Join(dir, "child"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, alive := identityOf(child); !alive {
		t.Fatal("the child went with its leader")
	}
	if again := start(t, k, sleeper("group")); again.PID == p.PID {
		t.Error("not started again")
	}
	if _, alive := identityOf(child); alive {
		t.Error("the dead leader's child still runs beside the new process")
	}
}

func TestReusedPidIsNotMistaken(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	stranger := start(t, k, sleeper("stranger"))
	old := *stranger
	old.Name, old.identity = "old", "boot/1/2"
	if err := statefile.Write(k.path("old"), entry{Spec: sleeper("old"), PID: old.PID, Identity: old.identity}); err != nil {
		t.Fatal(err)
	}
	p, err := k.Find("old")
	if err != nil || p.Alive() {
		t.Fatalf("%+v, %v: taken for alive", p, err)
	}
	await(t, "Exited of a process whose pid is another's", p.Exited())
	if err := p.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if !stranger.Alive() {
		t.Error("a stranger with the same pid was killed")
	}
}

func TestFailuresToStartAreExplainedAndLeaveNothing(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	missing := sleeper("x")
	missing.Path = "no-such-program"
	folder := sleeper("x")
	folder.Dir = "/no/such/folder"
	relative := sleeper("x")
	relative.Log = "log"
	for _, c := range []struct {
		spec Spec
		code fault.Code
		says string
	}{
		{missing, fault.Failed, "no program no-such-program"},
		{Spec{Name: "x", Path: "/no/program"}, fault.Failed, "run /no/program"},
		{folder, fault.Failed, "/no/such/folder"},
		{relative, fault.Invalid, "not absolute"},
		{Spec{Name: "a/b", Path: "sleep"}, fault.Invalid, `"a/b"`},
		{Spec{Name: "x"}, fault.Invalid, "no program"},
	} {
		_, err := k.Start(t.Context(), c.spec)
		if !fault.Is(err, c.code) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%+v: %v; want %s saying %q", c.spec, err, c.code, c.says)
		}
	}
	if all, err := k.List(); err != nil || len(all) != 0 {
		t.Errorf("listed %v, %v; want nothing", all, err)
	}
	if err := Exec("/no/file"); !fault.Is(err, fault.Invalid) {
		t.Errorf("Exec by hand: %v", err)
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Start(ctx, sleeper("x")); err == nil {
		t.Fatal("started with a cancelled context")
	}
	if all, err := k.List(); err != nil || len(all) != 0 {
		t.Errorf("listed %v, %v; want nothing", all, err)
	}
}

func TestPollWaiter(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	p := start(t, k, sleeper("x"))
	w := newPollWaiter(p.Alive)
	ended := make(chan struct{})
	var saw bool
	go func() { saw = w.wait(); close(ended) }()
	if err := p.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	await(t, "the poll's end", ended)
	if !saw {
		t.Error("the end was not seen")
	}
	w.close()
	closed := newPollWaiter(func() bool { return true })
	closed.close()
	if closed.wait() {
		t.Error("closed, yet an end was seen")
	}
}

func TestKillTagged(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	tag := "MAKEITSO_TEST_TAG=" + t.TempDir()
	tagged := func(name, env string) *Process {
		spec := shell(name, "setsid sleep 3600 & wait")
		spec.Env = append(spec.Env, env)
		return start(t, k, spec)
	}
	mine, longer := tagged("mine", tag), tagged("longer", tag+"0")
	eventually(t, "the children in groups of their own", func() bool {
		for _, env := range []string{tag, tag + "0"} {
			groups, err := taggedGroups(env)
			if err != nil {
				t.Fatal(err)
			}
			if len(groups) != 2 {
				return false
			}
		}
		return true
	})
	killed, err := KillTagged(tag)
	if err != nil || killed != 2 {
		t.Errorf("killed %d groups, %v; want 2", killed, err)
	}
	await(t, "the end of the tagged process", mine.Exited())
	if !longer.Alive() {
		t.Error("killed a process whose variable only begins like the tag")
	}
	if again, err := KillTagged(tag); err != nil || again != 0 {
		t.Errorf("killed %d more, %v", again, err)
	}
	if killed, err := KillTagged(tag + "0"); err != nil || killed != 2 {
		t.Errorf("killed %d of the other tag, %v; want 2", killed, err)
	}
}

// Somebody who lists the processes may watch one before Start has come to
// reap it: how it ended must be known all the same.
func TestEndingIsKnownToWhoStartedItWhoeverWatchesFirst(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			all, err := k.List()
			if err != nil {
				t.Error(err)
				return
			}
			for _, p := range all {
				p.Exited()
			}
		}
	})
	for i := range 30 {
		p, err := k.Start(t.Context(), Spec{Name: fmt.Sprintf("short-%d", i), Path: "/bin/sh", Args: []string{"-c", "exit 3"}})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Exited()
		if got := p.Ending(); got != "exit status 3" {
			t.Errorf("process %d ended with %q", i, got)
		}
	}
	close(done)
	watching.Wait()
}
