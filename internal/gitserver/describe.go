package gitserver

import (
	"context"
	"fmt"
	"strings"

	"makeitso/internal/fault"
)

// Commit is what people want to know of a commit.
type Commit struct {
	Hash    string
	Branch  string // the branch checked out, where asked for HEAD
	Subject string
	Author  string
}

// Describe tells of the commit that rev names in the repository at dir,
// fault.NotFound if there is none. For HEAD it gives the branch too.
func Describe(ctx context.Context, dir, rev string) (Commit, error) {
	hash, err := Resolve(ctx, dir, rev)
	if err != nil {
		return Commit{}, err
	}
	out, err := git(ctx, dir, "log", "-1", "--format=%s%x00%an", "--end-of-options", hash)
	if err != nil {
		return Commit{}, fmt.Errorf("describe commit %s: %w", hash, err)
	}
	subject, author, _ := strings.Cut(strings.TrimSpace(string(out)), "\x00")
	c := Commit{Hash: hash, Subject: subject, Author: author}
	if rev != "HEAD" {
		return c, nil
	}
	branch, err := git(ctx, dir, "symbolic-ref", "--short", "--quiet", "HEAD")
	if exited(err, 1) { // a detached HEAD is on no branch
		return c, nil
	}
	if err != nil {
		return Commit{}, fault.Wrap(fault.Unavailable, err, "find the branch of %s", dir)
	}
	c.Branch = strings.TrimSpace(string(branch))
	return c, nil
}

// IsRepository says whether dir lies in a git repository.
func IsRepository(ctx context.Context, dir string) bool {
	_, err := git(ctx, dir, "rev-parse", "--git-dir")
	return err == nil
}
