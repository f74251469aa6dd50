package gitserver_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/testneed"
)

func TestMain(m *testing.M) {
	if name, ok := gitserver.HookName(os.Args[0]); ok {
		os.Exit(gitserver.Hook(name, os.Stdin, os.Stdout))
	}
	// Under -race each of the hooks would sleep for a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// run runs git as a user would, and gives all that it prints.
func run(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	testneed.Program(t, "git", "apt-get install git")
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := run(t, dir, args...)
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(out)
}

// commit writes a file, commits it and gives the commit.
func commit(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "change "+name)
	return git(t, dir, "rev-parse", "HEAD")
}

// repository makes a local repository without commits.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main", ".")
	return dir
}

// serve serves the repository shop and gives its server and address.
func serve(t *testing.T, dir string, o gitserver.Options) (*gitserver.Server, string) {
	t.Helper()
	testneed.Program(t, "git", "apt-get install git")
	s, err := gitserver.New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Init(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return s, h.URL + "/shop.git"
}

// pushes collects what a server is told.
type pushes struct {
	mu  sync.Mutex
	all []gitserver.Push
}

func (p *pushes) add(_ context.Context, push gitserver.Push) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, push)
	return fmt.Sprintf("server: run %d started for %s", len(p.all), push.Ref), nil
}

func TestPushAndClone(t *testing.T) {
	var told pushes
	s, url := serve(t, t.TempDir(), gitserver.Options{
		Pushed: told.add,
		Pusher: func(*http.Request) (string, error) { return "ann", nil },
	})
	work := repository(t)
	first := commit(t, work, "server/main.go", "one")
	out := git(t, work, "push", url, "main")
	if !strings.Contains(out, "remote: server: run 1 started for refs/heads/main") {
		t.Errorf("the pusher sees\n%s", out)
	}
	second := commit(t, work, "server/main.go", "two")
	git(t, work, "push", url, "main", "main:refs/heads/feature/x")
	want := []gitserver.Push{
		{Repository: "shop", Ref: "refs/heads/main", New: first, Pusher: "ann"},
		{Repository: "shop", Ref: "refs/heads/feature/x", New: second, Pusher: "ann"},
		{Repository: "shop", Ref: "refs/heads/main", Old: first, New: second, Pusher: "ann"},
	}
	slices.SortFunc(told.all[1:], func(a, b gitserver.Push) int { return strings.Compare(a.Ref, b.Ref) })
	if !slices.Equal(told.all, want) {
		t.Errorf("told of %+v\nwant    %+v", told.all, want)
	}

	clone := filepath.Join(t.TempDir(), "clone")
	git(t, "", "clone", "-q", url, clone)
	if got, err := os.ReadFile(filepath.Join(clone, "server/main.go")); err != nil || string(got) != "two" {
		t.Errorf("the clone holds %q (%v)", got, err)
	}
	if refs := git(t, "", "ls-remote", url); strings.Contains(refs, "seen") {
		t.Errorf("our notes are shown to clients:\n%s", refs)
	}
	for _, version := range []string{"0", "1", "2"} {
		if got := git(t, "", "-c", "protocol.version="+version, "ls-remote", url, "refs/heads/main"); !strings.HasPrefix(got, second) {
			t.Errorf("protocol version %s: %q", version, got)
		}
	}
	if got, err := gitserver.Resolve(t.Context(), s.Dir("shop"), "main"); err != nil || got != second {
		t.Errorf("main is %q (%v)", got, err)
	}
}

func TestLargePush(t *testing.T) {
	s, url := serve(t, t.TempDir(), gitserver.Options{})
	work := repository(t)
	large := make([]byte, 5<<20)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	commit(t, work, "large", string(large))
	git(t, work, "push", url, "main")
	got, err := gitserver.Read(t.Context(), s.Dir("shop"), "main", "large")
	if err != nil || !slices.Equal(got, large) {
		t.Errorf("read %d bytes (%v)", len(got), err)
	}
}

func TestManyRefsAreCompressed(t *testing.T) {
	// Git compresses the request of a fetch that names many commits.
	_, url := serve(t, t.TempDir(), gitserver.Options{})
	work := repository(t)
	for i := range 40 {
		commit(t, work, "file", fmt.Sprint(i))
	}
	git(t, work, "push", url, "main")
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, "", "clone", "-q", url, clone)
	for i := range 40 {
		commit(t, clone, "mine", fmt.Sprint(i))
	}
	commit(t, work, "file", "newer")
	git(t, work, "push", url, "main")
	git(t, clone, "-c", "protocol.version=0", "fetch", "-q")
}

func TestMistakesAreShownAndRefused(t *testing.T) {
	var told pushes
	_, url := serve(t, t.TempDir(), gitserver.Options{
		Pushed: told.add,
		Check: func(_ context.Context, repository, commit string, files func(string) ([]byte, error)) error {
			content, err := files("makeitso.yaml")
			if err != nil {
				return err
			}
			if string(content) == "project: shop\n" {
				return nil
			}
			var list diag.List
			list.Errorf(diag.Pos{File: "makeitso.yaml", Line: 1, Column: 1}, "unknown key projct in %s", repository).Hint = "did you mean project?"
			return list
		},
	})
	work := repository(t)
	commit(t, work, "other", "x")
	if out, err := run(t, work, "push", url, "main"); err == nil || !strings.Contains(out, "remote: the commit has no file makeitso.yaml") {
		t.Errorf("without the file: %v\n%s", err, out)
	}
	commit(t, work, "makeitso.yaml", "projct: shop\n")
	out, err := run(t, work, "push", url, "main")
	if err == nil {
		t.Error("the push was taken")
	}
	for _, want := range []string{
		"remote: makeitso.yaml:1:1: error: unknown key projct in shop", "remote:      1 | projct: shop", "did you mean project?",
		"nothing was pushed to main", "pre-receive hook declined",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the pusher does not see %q:\n%s", want, out)
		}
	}
	if refs := git(t, "", "ls-remote", url); refs != "" {
		t.Errorf("refs after refused pushes: %s", refs)
	}
	commit(t, work, "makeitso.yaml", "project: shop\n")
	git(t, work, "push", url, "main")
	if len(told.all) != 1 {
		t.Errorf("told of %v, want the good push only", told.all)
	}
}

func TestNonFastForwardIsRefused(t *testing.T) {
	s, url := serve(t, t.TempDir(), gitserver.Options{})
	work := repository(t)
	commit(t, work, "a", "1")
	second := commit(t, work, "a", "2")
	git(t, work, "push", url, "main")
	git(t, work, "reset", "-q", "--hard", "HEAD~1")
	commit(t, work, "a", "3")
	out, err := run(t, work, "push", "--force", url, "main")
	if err == nil || !strings.Contains(out, "would take commits away from main") || !strings.Contains(out, "git pull --rebase") {
		t.Errorf("%v\n%s", err, out)
	}
	if got, err := gitserver.Resolve(t.Context(), s.Dir("shop"), "main"); err != nil || got != second {
		t.Errorf("main is now %s (%v), want %s", got, err, second)
	}
}

func TestTagsAndDeletionsAreSilent(t *testing.T) {
	var told pushes
	s, url := serve(t, t.TempDir(), gitserver.Options{
		Pushed: told.add,
		Check:  func(context.Context, string, string, func(string) ([]byte, error)) error { return nil },
	})
	work := repository(t)
	commit(t, work, "a", "1")
	git(t, work, "push", url, "main", "main:refs/heads/old")
	git(t, work, "tag", "v1")
	for _, args := range [][]string{{"v1"}, {":old"}, {":v1"}} {
		if out := git(t, work, append([]string{"push", url}, args...)...); strings.Contains(out, "remote:") {
			t.Errorf("push %v reports\n%s", args, out)
		}
	}
	if out, err := run(t, work, "push", url, "main:refs/notes/x"); err == nil || !strings.Contains(out, "neither a branch nor a tag") {
		t.Errorf("a strange ref: %v\n%s", err, out)
	}
	// A branch may take the place of one that is deleted by the same push.
	git(t, work, "push", url, "main:refs/heads/p")
	git(t, work, "push", url, ":p")
	git(t, work, "push", url, "main:refs/heads/p/q")
	if len(told.all) != 4 {
		t.Errorf("told of %+v", told.all)
	}
	if err := s.Recover(t.Context()); err != nil || len(told.all) != 4 {
		t.Errorf("recovering told of %+v (%v)", told.all[4:], err)
	}
}

func TestConcurrentPushes(t *testing.T) {
	var told pushes
	var steps []string // guarded by told.mu
	s, url := serve(t, t.TempDir(), gitserver.Options{
		Check: func(_ context.Context, _, commit string, _ func(string) ([]byte, error)) error {
			told.mu.Lock()
			defer told.mu.Unlock()
			steps = append(steps, "check "+commit)
			return nil
		},
		Pushed: func(ctx context.Context, p gitserver.Push) (string, error) {
			told.mu.Lock()
			if last := steps[len(steps)-1]; last != "check "+p.New {
				t.Errorf("between check and report of %s came %q", p.New, last)
			}
			told.mu.Unlock()
			return told.add(ctx, p)
		},
	})
	origin := repository(t)
	commit(t, origin, "a", "1")
	git(t, origin, "push", url, "main")
	const n = 6
	var wg sync.WaitGroup
	outputs, errs, clones := make([]string, n), make([]error, n), make([]string, n)
	for i := range n {
		clones[i] = filepath.Join(t.TempDir(), "clone")
		git(t, "", "clone", "-q", url, clones[i])
		commit(t, clones[i], fmt.Sprintf("file%d", i), "x")
	}
	for i := range n {
		wg.Go(func() {
			// Half of them fight for one branch: one wins, the others are refused.
			outputs[i], errs[i] = run(t, clones[i], "push", url, []string{"HEAD:main", fmt.Sprintf("HEAD:b%d", i)}[i%2])
		})
	}
	wg.Wait()
	won := 0
	for i := range n {
		if i%2 == 1 && errs[i] != nil {
			t.Errorf("push %d: %v\n%s", i, errs[i], outputs[i])
		}
		if i%2 == 0 && errs[i] == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d pushes to one branch won: %q", won, outputs)
	}
	if len(told.all) != 1+n/2+1 {
		t.Errorf("told of %d pushes: %+v", len(told.all), told.all)
	}
	branches, err := gitserver.Branches(t.Context(), s.Dir("shop"))
	if err != nil || len(branches) != 1+n/2 {
		t.Errorf("branches %v (%v)", branches, err)
	}
}

func TestFailureAfterAPushIsShownAndRecovered(t *testing.T) {
	dir := t.TempDir()
	_, url := serve(t, dir, gitserver.Options{Pushed: func(context.Context, gitserver.Push) (string, error) {
		return "", fault.New(fault.Unavailable, "the store is away").WithHint("start it")
	}})
	work := repository(t)
	head := commit(t, work, "a", "1")
	out := git(t, work, "push", url, "main")
	if !strings.Contains(out, "remote: the commits are here, but the store is away") || !strings.Contains(out, "start it") {
		t.Errorf("the pusher sees\n%s", out)
	}
	var told pushes
	s, _ := serve(t, dir, gitserver.Options{Pushed: told.add}) // as after a restart
	for range 2 {
		if err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []gitserver.Push{{Repository: "shop", Ref: "refs/heads/main", New: head}}; !slices.Equal(told.all, want) {
		t.Errorf("told of %+v, want %+v", told.all, want)
	}
}

func TestClientThatLeavesLosesNoPush(t *testing.T) {
	var told pushes
	var client context.Context
	checking, gone, pushed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	_, url := serve(t, t.TempDir(), gitserver.Options{
		Pusher: func(r *http.Request) (string, error) {
			client = r.Context()
			return "", nil
		},
		Check: func(context.Context, string, string, func(string) ([]byte, error)) error {
			close(checking)
			<-gone
			return nil
		},
		Pushed: func(ctx context.Context, p gitserver.Push) (string, error) {
			defer close(pushed)
			if err := ctx.Err(); err != nil {
				t.Errorf("the context has ended with the client: %v", err)
			}
			return told.add(ctx, p)
		},
	})
	work := repository(t)
	head := commit(t, work, "a", "1")
	cmd := exec.Command("git", "push", url, "main")
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-checking
	// The whole group: it is a child of git that speaks HTTP.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the push was not killed")
	}
	<-client.Done()
	close(gone)
	select {
	case <-pushed:
	case <-time.After(10 * time.Second):
		t.Fatal("the push was lost")
	}
	if told.all[0].New != head {
		t.Errorf("told of %+v", told.all)
	}
}

func TestBadRequests(t *testing.T) {
	dir := t.TempDir()
	_, url := serve(t, dir, gitserver.Options{})
	base := strings.TrimSuffix(url, "/shop.git")
	git(t, filepath.Dir(dir), "init", "-q", "--bare", "secret.git")
	const refs = "/info/refs?service=git-upload-pack"
	tests := []struct {
		method, path, contentType string
		want                      int
	}{
		{"GET", "/shop.git" + refs, "", 200},
		{"GET", "/shop" + refs, "", 404},
		{"GET", "/none.git" + refs, "", 404},
		{"GET", "/..%2fsecret.git" + refs, "", 404},
		{"GET", "/%2e%2e/secret.git" + refs, "", 404},
		{"GET", "/-x.git" + refs, "", 404},
		{"GET", "/hooks" + refs, "", 404},
		{"GET", "/shop.git/HEAD", "", 404},
		{"GET", "/shop.git/objects/../../hooks", "", 404},
		{"GET", "/shop.git/info/refs", "", 403},
		{"GET", "/shop.git/info/refs?service=git-shell", "", 403},
		{"POST", "/shop.git/git-receive-pack", "text/plain", 415},
		{"POST", "/shop.git/git-upload-pack", "", 415},
		{"POST", "/none.git/git-receive-pack", "application/x-git-receive-pack-request", 404},
		{"PUT", "/shop.git/git-receive-pack", "", 405},
	}
	for _, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, base+tt.path, strings.NewReader("0000"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", tt.contentType)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != tt.want {
			t.Errorf("%s %s: %s, want %d\n%s", tt.method, tt.path, res.Status, tt.want, body)
		}
	}
}

func TestPusherIsRefused(t *testing.T) {
	var told pushes
	var refusal error
	_, url := serve(t, t.TempDir(), gitserver.Options{
		Pushed: told.add,
		Pusher: func(*http.Request) (string, error) { return "", refusal },
	})
	for status, err := range map[int]error{401: fault.New(fault.Denied, "who are you"), 403: fault.New(fault.Invalid, "not you")} {
		refusal = err
		res, err := http.Get(url + "/info/refs?service=git-receive-pack")
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != status {
			t.Errorf("status %s, want %d", res.Status, status)
		}
	}
	work := repository(t)
	commit(t, work, "a", "1")
	if out, err := run(t, work, "push", url, "main"); err == nil || len(told.all) > 0 {
		t.Errorf("pushed:\n%s", out)
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	s, _ := serve(t, dir, gitserver.Options{})
	if err := s.Init(t.Context(), "shop"); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, name := range []string{"", "..", "a/b", "-x", ".x", "x.git", "a b"} {
		if err := s.Init(t.Context(), name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := git(t, s.Dir("shop"), "config", "receive.denyNonFastForwards"); got != "true" {
		t.Errorf("receive.denyNonFastForwards is %q", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v (%v), want hooks and shop.git", entries, err)
	}
}

func TestHookWithoutServer(t *testing.T) {
	t.Setenv("MAKEITSO_HOOK_SOCKET", "")
	var out strings.Builder
	if status := gitserver.Hook("pre-receive", strings.NewReader(""), &out); status != 1 || !strings.Contains(out.String(), "through makeitso only") {
		t.Errorf("status %d, %q", status, out.String())
	}
	if _, ok := gitserver.HookName("/usr/bin/makeitso"); ok {
		t.Error("makeitso is taken for a hook")
	}
}
