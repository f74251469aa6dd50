package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"makeitso/internal/fault"
)

// gitCommand is a call of git in a folder. It heeds neither the user's nor the
// system's configuration, nor any variable by which a git that called us tells
// its children where they are, so that it does the same everywhere.
func gitCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*"}, args...)...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	return cmd
}

// git runs git in dir and gives what it prints.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return output(ctx, gitCommand(ctx, dir, args...))
}

// output runs cmd; an error holds what it printed about it.
func output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fault.New(fault.Unavailable, "the program git is missing").WithHint("install it: apt-get install git")
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return nil, fmt.Errorf("git: %w", err)
}

// exited says whether err is git's answer "no" by that exit status.
func exited(err error, status int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == status
}

// Resolve gives the commit that rev (a branch, a tag, HEAD, a commit) names in
// the repository at dir, fault.NotFound if there is none.
func Resolve(ctx context.Context, dir, rev string) (string, error) {
	out, err := git(ctx, dir, "rev-parse", "--quiet", "--verify", "--end-of-options", rev+"^{commit}")
	if exited(err, 1) {
		return "", fault.New(fault.NotFound, "there is no commit %q in %s", rev, dir).
			WithHint("git log --oneline --all shows what there is")
	}
	if err != nil {
		return "", notRepository(err, dir)
	}
	return strings.TrimSpace(string(out)), nil
}

// notRepository explains git's refusal to work in dir.
func notRepository(err error, dir string) error {
	if !exited(err, 128) {
		return err
	}
	return fault.Wrap(fault.NotFound, err, "%s is not a git repository", dir).
		WithHint("make it one: git init, git add ., git commit")
}

// Read gives a file as it is in a commit, fault.NotFound if it is not there.
func Read(ctx context.Context, dir, commit, path string) ([]byte, error) {
	return read(ctx, dir, nil, commit+":"+path)
}

// read reads an object by its name, in an environment with extra variables.
func read(ctx context.Context, dir string, extra []string, object string) ([]byte, error) {
	cmd := gitCommand(ctx, dir, "cat-file", "blob", object)
	cmd.Env = append(cmd.Env, extra...)
	content, err := output(ctx, cmd)
	if exited(err, 128) {
		_, path, _ := strings.Cut(object, ":")
		return nil, fault.Wrap(fault.NotFound, err, "the commit has no file %s", path)
	}
	return content, err
}

// Changed gives the paths that differ between two commits, all of new's where
// old is none.
func Changed(ctx context.Context, dir, old, new string) ([]string, error) {
	args := []string{"diff-tree", "-r", "-z", "--name-only", "--no-renames", "--end-of-options", old, new}
	if known(old) == "" {
		args = []string{"ls-tree", "-r", "-z", "--name-only", "--full-tree", "--end-of-options", new}
	}
	out, err := git(ctx, dir, args...)
	if err != nil {
		return nil, fmt.Errorf("list changed files: %w", err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

// known gives the commit, "" for the zeros by which git says that there is none.
func known(commit string) string {
	if strings.Trim(commit, "0") == "" {
		return ""
	}
	return commit
}

// Checkout writes the files of a commit into the folder into, exactly as they
// were committed: unlike an archive it heeds no export attributes. The
// repository itself is not touched.
func Checkout(ctx context.Context, dir, commit, into string) error {
	commit, err := Resolve(ctx, dir, commit)
	if err != nil {
		return err
	}
	own, err := git(ctx, dir, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return fmt.Errorf("make the checkout's folder: %w", err)
	}
	// An index of its own: the repository's is somebody else's work.
	index, err := os.MkdirTemp("", "makeitso-index-")
	if err != nil {
		return fmt.Errorf("make the checkout's index: %w", err)
	}
	for _, args := range [][]string{{"read-tree", commit}, {"checkout-index", "--all", "--force"}} {
		args = append([]string{"--git-dir=" + strings.TrimSuffix(string(own), "\n"), "--work-tree=."}, args...)
		cmd := gitCommand(ctx, into, args...)
		cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+filepath.Join(index, "index"))
		if _, err = output(ctx, cmd); err != nil {
			err = fmt.Errorf("check out %s: %w", commit, err)
			break
		}
	}
	return errors.Join(err, os.RemoveAll(index))
}

// Branches gives the commit of each branch, by ref (refs/heads/…).
func Branches(ctx context.Context, dir string) (map[string]string, error) {
	return refs(ctx, dir, "refs/heads/")
}

// refs gives the commit of each ref below prefix.
func refs(ctx context.Context, dir, prefix string) (map[string]string, error) {
	out, err := git(ctx, dir, "for-each-ref", "--format=%(refname) %(objectname)", prefix)
	if err != nil {
		return nil, err
	}
	commits := map[string]string{}
	for line := range strings.Lines(string(out)) {
		ref, commit, _ := strings.Cut(strings.TrimSpace(line), " ")
		commits[ref] = commit
	}
	return commits, nil
}

// isAncestor says whether commit's history holds ancestor.
func isAncestor(ctx context.Context, dir string, extra []string, ancestor, commit string) (bool, error) {
	cmd := gitCommand(ctx, dir, "merge-base", "--is-ancestor", ancestor, commit)
	cmd.Env = append(cmd.Env, extra...)
	_, err := output(ctx, cmd)
	if exited(err, 1) {
		return false, nil
	}
	return err == nil, err
}
