package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"makeitso/internal/gitserver"
	"makeitso/internal/process"
	"makeitso/internal/seal"
	"makeitso/internal/testneed"
)

// TestMain lets this binary be makeitso too: as the command of scripts, as
// what makeitso runs itself as, and as the hooks of git.
func TestMain(m *testing.M) {
	if _, hook := gitserver.HookName(os.Args[0]); hook {
		program()
	}
	testscript.Main(m, map[string]func(){"makeitso": program})
}

// program is the real main.
func program() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(Main(ctx, os.Args, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Dir: dir}))
}

// TestScript runs the scripts. Besides testscript's own commands they have:
//
//	alter TOKEN OLD NEW              replace text in the sealed file of a resource
//	exits CODE program args…         run a program that ends with exactly that code
//	start NAME REGEXP program args…  run in the background, wait until it prints REGEXP
//	await NAME REGEXP                wait until it has printed REGEXP
//	ended [-CODE] NAME               wait for its end; it must exit with CODE, 0 by default
//	interrupt [-CODE] NAME           the same after an interrupt, like that of Ctrl-C
//	killed NAME                      end it with a kill -9
//	put URL TEXT                     a real PUT that must be answered with 200
//	get URL                          a real request, by host name, that must be answered with 200
//	field NAME PATH…                 set a variable from the JSON on stdout
//	listen NAME                      listen on a port until the script ends, and name its address
//
// Groups of the REGEXPs that have names set variables of that name.
func TestScript(t *testing.T) {
	needed := goEnvironment(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(10 * time.Minute),
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, needed...)
			jobs := map[string]*job{}
			env.Values[jobsKey{}], env.Values[varsKey{}] = jobs, env.Vars
			env.Defer(func() { unmount(env.WorkDir) })
			env.Defer(func() { checkNothingLeft(env.T().(testing.TB), env.WorkDir) })
			env.Defer(func() {
				for _, j := range jobs {
					j.kill()
				}
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "aws": // a script that needs it says so, and what to install
				_, err := exec.LookPath("aws")
				if err != nil && os.Getenv(testneed.Require) == "1" {
					return false, err
				}
				return err == nil, nil
			case "awsurls": // it reads from its environment where services are
				out, err := exec.Command("aws", "--version").Output()
				return err == nil && regexp.MustCompile(`^aws-cli/(1\.(29|[3-9]\d|\d{3})|2\.(1[3-9]|[2-9]\d|\d{3}))\.`).Match(out), nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "await": await, "ended": ended, "interrupt": interrupt, "killed": killed, "put": put, "get": get, "field": field, "alter": alter, "listen": listen,
		},
	})
}

// goEnvironment gives what the go command and git need in a script's empty
// home.
func goEnvironment(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	return []string{
		"GOCACHE=" + lines[0], "GOMODCACHE=" + lines[1], "GOPATH=" + lines[2], "GOFLAGS=-mod=mod", "GOWORK=off", "GOTOOLCHAIN=local",
		"USER=ann", "TERM=dumb", "NO_PROXY=127.0.0.1,localhost",
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=ann", "GIT_COMMITTER_EMAIL=ann@example.com",
	}
}

// patience is how long a script waits for what must come.
const patience = 30 * time.Second

// exits runs a program that must end with exactly one exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s exited with %d, not %s", args[1], got, args[0])
	}
}

// What a script's values are found by: its jobs, and its first variables.
type (
	jobsKey struct{}
	varsKey struct{}
)

// job is a program in the background of a script.
type job struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error // of the program, once it has ended
	mu     sync.Mutex
	output bytes.Buffer
	more   chan struct{} // closed and renewed with every line
}

// start runs a program in the background and waits for what it prints.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: start NAME REGEXP program args…")
	}
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	j := &job{cmd: exec.Command(path, args[3:]...), ended: make(chan struct{}), more: make(chan struct{})}
	j.cmd.Dir = ts.MkAbs(".")
	for _, entry := range ts.Value(varsKey{}).([]string) {
		name, _, _ := strings.Cut(entry, "=")
		j.cmd.Env = append(j.cmd.Env, name+"="+ts.Getenv(name))
	}
	read, write, err := os.Pipe()
	ts.Check(err)
	j.cmd.Stdout, j.cmd.Stderr = write, write
	ts.Check(j.cmd.Start())
	ts.Check(write.Close())
	go j.read(read)
	jobs := ts.Value(jobsKey{}).(map[string]*job)
	if jobs[args[0]] != nil {
		j.kill()
		ts.Fatalf("%s runs already", args[0])
	}
	jobs[args[0]] = j
	j.await(ts, args[1])
}

// read collects what the program prints until it ends.
func (j *job) read(from io.ReadCloser) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		j.mu.Lock()
		j.output.WriteString(line)
		close(j.more)
		j.more = make(chan struct{})
		j.mu.Unlock()
		if err != nil {
			break
		}
	}
	j.err = errors.Join(j.cmd.Wait(), from.Close())
	close(j.ended)
}

func (j *job) printed() (text string, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.output.String(), j.more
}

// await waits until the program has printed pattern, and sets its named groups
// as variables.
func (j *job) await(ts *testscript.TestScript, pattern string) {
	wanted, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	timeout := time.After(patience)
	ended := false
	for {
		text, more := j.printed()
		if match := wanted.FindStringSubmatch(text); match != nil {
			for i, name := range wanted.SubexpNames() {
				if name != "" {
					ts.Setenv(name, match[i])
				}
			}
			return
		}
		if ended {
			ts.Fatalf("it ended (%v) without printing %q:\n%s", j.err, pattern, text)
		}
		select {
		case <-more:
		case <-j.ended:
			ended = true
		case <-timeout:
			ts.Fatalf("it has not printed %q:\n%s", pattern, text)
		}
	}
}

// killed ends the program at the end of the test.
func (j *job) kill() {
	_ = j.cmd.Process.Kill() // it has ended, else
	<-j.ended
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME REGEXP")
	}
	findJob(ts, args[0]).await(ts, args[1])
}

func findJob(ts *testscript.TestScript, name string) *job {
	j := ts.Value(jobsKey{}).(map[string]*job)[name]
	if j == nil {
		ts.Fatalf("nothing called %s was started", name)
	}
	return j
}

// ended waits for the end of a program; what it printed becomes stdout.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	wanted := "0"
	if len(args) == 2 {
		wanted, args = strings.TrimPrefix(args[0], "-"), args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ended [-CODE] NAME")
	}
	j := findJob(ts, args[0])
	text, _ := j.printed()
	select {
	case <-j.ended:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended:\n%s", args[0], text)
	}
	text, _ = j.printed()
	if got := strconv.Itoa(j.cmd.ProcessState.ExitCode()); got != wanted {
		ts.Fatalf("%s exited with %s, not %s:\n%s", args[0], got, wanted, text)
	}
	_, err := io.WriteString(ts.Stdout(), text)
	ts.Check(err)
	delete(ts.Value(jobsKey{}).(map[string]*job), args[0])
}

// interrupt interrupts a program and waits for its end.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: interrupt [-CODE] NAME")
	}
	ts.Check(findJob(ts, args[len(args)-1]).cmd.Process.Signal(os.Interrupt))
	ended(ts, neg, args)
}

// get asks for a URL whose host need not be known to the resolver; the body
// becomes stdout.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] get URL")
	}
	u, err := url.Parse(args[0])
	ts.Check(err)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", u.Port()))
		},
	}}
	res, err := client.Get(args[0])
	if err != nil {
		if !neg {
			ts.Fatalf("%v", err)
		}
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if (res.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("%s answered %s\n%s", args[0], res.Status, body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

// put sends a text to a URL.
func put(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] put URL TEXT")
	}
	req, err := http.NewRequest(http.MethodPut, args[0], strings.NewReader(args[1]))
	ts.Check(err)
	res, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		if !neg {
			ts.Fatalf("%v", err)
		}
		return
	}
	ts.Check(res.Body.Close())
	if (res.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("%s answered %s", args[0], res.Status)
	}
}

// killed ends a program at once, which nobody can refuse.
func killed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: killed NAME")
	}
	findJob(ts, args[0]).kill()
}

// listen takes a port away from everybody else.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listen NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// alter replaces text in the sealed file of the one resource whose token begins
// as given, as somebody does who has the key.
func alter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: alter TOKEN OLD NEW")
	}
	found, err := filepath.Glob(ts.MkAbs(".makeitso/environments/*/resources/" + args[0] + "*/resource.json"))
	if err != nil || len(found) != 1 {
		ts.Fatalf("%s names %v (%v)", args[0], found, err)
	}
	key, err := seal.Load(ts.MkAbs(".makeitso/key"))
	ts.Check(err)
	about := "resource " + filepath.Base(filepath.Dir(found[0]))
	var kept json.RawMessage
	ts.Check(key.ReadFile(found[0], about, &kept))
	altered := strings.Replace(string(kept), args[1], args[2], 1)
	if altered == string(kept) {
		ts.Fatalf("there is no %s in %s", args[1], kept)
	}
	ts.Check(key.WriteFile(found[0], about, json.RawMessage(altered)))
}

// field sets a variable from the JSON that the last program printed.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: field NAME KEY…")
	}
	var value any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &value); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	for _, key := range args[1:] {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(v) {
				ts.Fatalf("no element %s of %d", key, len(v))
			}
			value = v[i]
		default:
			ts.Fatalf("no field %s in %v", key, value)
		}
	}
	if value == nil {
		ts.Fatalf("there is no field %v", args[1:])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

// checkNothingLeft fails the test if a process that a script began lives on:
// one that makeitso keeps a record of, or any whose folder, program or
// arguments lie in the script's folder. It is killed.
func checkNothingLeft(t testing.TB, work string) {
	t.Helper()
	left := recorded(t, work)
	left = append(left, inFolder(work)...)
	slices.Sort(left)
	for _, pid := range slices.Compact(left) {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(command) == 0 {
			continue // it has ended, or is only not waited for
		}
		t.Errorf("process %d is left: %s", pid, bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
}

// unmount takes away what a script that failed has left mounted.
func unmount(work string) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return // no such system: no script mounts
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], work+"/") {
			_ = exec.Command("umount", "--lazy", fields[1]).Run() // the folder's removal fails, else
		}
	}
}

// recorded gives the processes in makeitso's records that are alive.
func recorded(t testing.TB, work string) (pids []int) {
	t.Helper()
	err := filepath.WalkDir(work, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || entry.Name() != "processes" {
			return nil // what goes away meanwhile has no processes
		}
		keeper := process.New(path, process.Options{})
		defer keeper.Close()
		all, err := keeper.List()
		for _, p := range all {
			if p.Alive() {
				pids = append(pids, p.PID)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return pids
}

// inFolder gives the processes that have to do with a folder, where the system
// tells.
func inFolder(work string) (pids []int) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		command, _ := os.ReadFile(dir + "/cmdline") // one that ends meanwhile is none
		folder, _ := os.Readlink(dir + "/cwd")
		if bytes.Contains(command, []byte(work)) || strings.HasPrefix(folder, work) {
			pids = append(pids, pid)
		}
	}
	return pids
}
