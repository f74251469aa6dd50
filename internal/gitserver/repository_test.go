package gitserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
)

func TestResolveReadChanged(t *testing.T) {
	ctx, dir := t.Context(), repository(t)
	if _, err := gitserver.Resolve(ctx, dir, "HEAD"); !fault.Is(err, fault.NotFound) {
		t.Errorf("HEAD of an empty repository: %v", err)
	}
	first := commit(t, dir, "a b/ü.txt", "1")
	git(t, dir, "mv", "a b/ü.txt", "moved")
	second := commit(t, dir, "c", "2")
	git(t, dir, "tag", "-a", "v1", "-m", "v1")
	for rev, want := range map[string]string{"main": second, "HEAD~1": first, "v1": second, first[:10]: first} {
		if got, err := gitserver.Resolve(ctx, dir, rev); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", rev, got, err, want)
		}
	}
	for _, rev := range []string{"nothing", "--help", "-h", "", strings.Repeat("1", 40)} {
		if got, err := gitserver.Resolve(ctx, dir, rev); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q is %q (%v)", rev, got, err)
		}
	}
	if _, err := gitserver.Resolve(ctx, t.TempDir(), "main"); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("no repository: %v", err)
	}

	if got, err := gitserver.Read(ctx, dir, first, "a b/ü.txt"); err != nil || string(got) != "1" {
		t.Errorf("read %q (%v)", got, err)
	}
	if _, err := gitserver.Read(ctx, dir, second, "a b/ü.txt"); !fault.Is(err, fault.NotFound) {
		t.Errorf("read what is not there: %v", err)
	}

	tests := []struct {
		old, new string
		want     []string
	}{
		{first, second, []string{"a b/ü.txt", "c", "moved"}},
		{first, first, nil},
		{"", first, []string{"a b/ü.txt"}},
		{strings.Repeat("0", 40), second, []string{"c", "moved"}},
	}
	for _, tt := range tests {
		if got, err := gitserver.Changed(ctx, dir, tt.old, tt.new); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("from %q to %q: %q (%v), want %q", tt.old, tt.new, got, err, tt.want)
		}
	}
	if got, err := gitserver.Changed(ctx, dir, strings.Repeat("1", 40), second); err == nil {
		t.Errorf("from an unknown commit: %q", got)
	}
}

func TestCheckout(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) {
			dir := repository(t)
			commit(t, dir, ".gitattributes", "test export-ignore\n")
			if err := os.WriteFile(filepath.Join(dir, "run.sh"), nil, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("test", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			old := commit(t, dir, "test", "old")
			commit(t, dir, "test", "new")
			if err := os.WriteFile(filepath.Join(dir, "staged"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			git(t, dir, "add", "staged")
			status := git(t, dir, "status", "--porcelain")
			source := dir
			if bare {
				source = filepath.Join(t.TempDir(), "bare.git")
				git(t, "", "clone", "-q", "--bare", dir, source)
			}
			into := filepath.Join(t.TempDir(), "a", "into")
			if err := gitserver.Checkout(t.Context(), source, old, into); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"test", "link"} {
				if got, err := os.ReadFile(filepath.Join(into, name)); err != nil || string(got) != "old" {
					t.Errorf("%s holds %q (%v)", name, got, err)
				}
			}
			if info, err := os.Stat(filepath.Join(into, "run.sh")); err != nil || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("run.sh: %v (%v)", info, err)
			}
			entries, err := os.ReadDir(into)
			if err != nil || len(entries) != 4 {
				t.Errorf("the checkout holds %v (%v)", entries, err)
			}
			if got := git(t, dir, "status", "--porcelain"); got != status {
				t.Errorf("the repository's own state changed from %q to %q", status, got)
			}
			if err := gitserver.Checkout(t.Context(), source, "nothing", into); !fault.Is(err, fault.NotFound) {
				t.Errorf("a commit that is not there: %v", err)
			}
		})
	}
}

// watch watches dir in the background and gives what it tells, as lines.
func watch(t *testing.T, dir string, known map[string]string) <-chan string {
	t.Helper()
	told, ended := make(chan string, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- gitserver.Watch(ctx, dir, known, func(ref, old, new string) error {
			told <- fmt.Sprintf("%s %.7s→%.7s", strings.TrimPrefix(ref, "refs/heads/"), old, new)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
		select {
		case line := <-told:
			t.Errorf("told too much: %s", line)
		default:
		}
	})
	return told
}

func expect(t *testing.T, told <-chan string, branch, old, new string) {
	t.Helper()
	want := fmt.Sprintf("%s %.7s→%.7s", branch, old, new)
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("not told of %q", want)
	}
}

func TestWatch(t *testing.T) {
	dir := repository(t)
	first := commit(t, dir, "a", "1")
	// What is known is told of at once where it differs: that shows when the
	// watch has begun.
	told := watch(t, dir, map[string]string{})
	expect(t, told, "main", "", first)

	second := commit(t, dir, "a", "2")
	expect(t, told, "main", first, second)
	git(t, dir, "branch", "feature/deep/x")
	expect(t, told, "feature/deep/x", "", second)
	git(t, dir, "pack-refs", "--all", "--prune") // moves nothing
	git(t, dir, "checkout", "-q", "feature/deep/x")
	third := commit(t, dir, "a", "3")
	expect(t, told, "feature/deep/x", second, third)
	git(t, dir, "pack-refs", "--all", "--prune")
	git(t, dir, "checkout", "-q", "main")
	git(t, dir, "branch", "-q", "-D", "feature/deep/x")
	expect(t, told, "feature/deep/x", third, "")
	git(t, dir, "branch", "packed")
	expect(t, told, "packed", "", second)
	git(t, dir, "pack-refs", "--all", "--prune")
	git(t, dir, "branch", "-q", "-D", "packed")
	expect(t, told, "packed", second, "")
	git(t, dir, "branch", "feature/deep/y")
	expect(t, told, "feature/deep/y", "", second)

	tree := filepath.Join(t.TempDir(), "tree")
	git(t, dir, "worktree", "add", "-q", "-b", "linked", tree)
	expect(t, told, "linked", "", second)
	fromTree := watch(t, tree, map[string]string{"refs/heads/main": second, "refs/heads/feature/deep/y": second})
	expect(t, fromTree, "linked", "", second)
	fourth := commit(t, tree, "a", "4")
	expect(t, told, "linked", second, fourth)
	expect(t, fromTree, "linked", second, fourth)
}

func TestWatchBeginsWithThePresent(t *testing.T) {
	dir := repository(t)
	commit(t, dir, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- gitserver.Watch(ctx, dir, nil, func(ref, _, _ string) error {
			told <- ref
			return nil
		})
	}()
	// Nothing says when the watch has begun: branches are made until it tells.
	first := ""
	for i := 0; first == ""; i++ {
		if i == 200 {
			t.Fatal("told of nothing")
		}
		git(t, dir, "branch", fmt.Sprintf("later/%d", i))
		select {
		case first = <-told:
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !strings.HasPrefix(first, "refs/heads/later/") {
		t.Errorf("told of %s, which was there before", first)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch: %v", err)
	}
}

func TestWatchEndsWithErrors(t *testing.T) {
	if err := gitserver.Watch(t.Context(), t.TempDir(), nil, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("no repository: %v", err)
	}
	dir := repository(t)
	commit(t, dir, "a", "1")
	full := errors.New("full")
	err := gitserver.Watch(t.Context(), dir, map[string]string{}, func(string, string, string) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("got %v, want the callback's error", err)
	}
}
