package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The targets for size, in MB of a million bytes.
const (
	maxBinary = 60
	maxIdle   = 80
)

const source = "./cmd/makeitso"

// size builds the program once more, without what debuggers need, and compares
// the files.
func (b *bench) size(ctx context.Context) error {
	stripped := filepath.Join(b.folder, "stripped")
	if err := command(ctx, ".", "go", "build", "-ldflags=-s -w", "-o", stripped, source)(); err != nil {
		return err
	}
	plain, err := megabytes(b.program)
	if err != nil {
		return err
	}
	small, err := megabytes(stripped)
	if err != nil {
		return err
	}
	b.add(row{
		what: "binary", figure: fmt.Sprintf("%.1f MB", plain), other: fmt.Sprintf("-s -w %.1f MB", small), ratio: plain / small,
		target: fmt.Sprintf("< %d MB", maxBinary), met: plain < maxBinary,
	})
	return nil
}

func megabytes(path string) (float64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / 1e6, nil
}

// coldBuild measures a build from an empty build cache. The sources of the
// modules are there already.
func (b *bench) coldBuild(ctx context.Context) error {
	build := func() (time.Duration, error) {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.folder, "cold"), source)
		cmd.Env = append(os.Environ(), "GOCACHE="+filepath.Join(b.folder, "cache"))
		begun := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("build from an empty cache: %w\n%s", err, out)
		}
		return time.Since(begun), nil
	}
	cold, err := build()
	if err != nil {
		return err
	}
	warm, err := build()
	if err != nil {
		return err
	}
	b.add(row{
		what: "go build, empty cache", figure: fmt.Sprintf("%.1f s", cold.Seconds()),
		other: fmt.Sprintf("full cache %.1f s", warm.Seconds()), ratio: ratio(cold, warm),
	})
	return nil
}

// memory measures what "makeitso serve" of a fresh project holds while nothing
// happens, and the edge beside it.
func (b *bench) memory(ctx context.Context) (err error) {
	dir := filepath.Join(b.folder, "idle")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make a project: %w", err)
	}
	if err := command(ctx, dir, b.program, "init", "--name", "idle")(); err != nil {
		return err
	}
	serve, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer func() {
		// The edge outlives serve by design; destroy ends it.
		err = errors.Join(err, serve.stop(), command(context.WithoutCancel(ctx), dir, b.program, "destroy", "--environment", "local", "--yes")())
	}()
	select {
	case <-time.After(3 * time.Second): // idle is what it is when nothing has happened for a while
	case <-ctx.Done():
		return ctx.Err()
	}
	return b.idle(serve.process.Process.Pid)
}

// idle reads how much memory serve and its edge hold.
func (b *bench) idle(pid int) error {
	edge, err := childCalled(pid, "edge")
	if err != nil {
		return err
	}
	own, err := resident(pid)
	if err != nil {
		return err
	}
	edges, err := resident(edge)
	if err != nil {
		return err
	}
	b.add(row{
		what: "makeitso serve, idle", figure: fmt.Sprintf("%.1f MB", own), other: fmt.Sprintf("its edge %.1f MB", edges), ratio: own / edges,
		target: fmt.Sprintf("< %d MB", maxIdle), met: own < maxIdle,
	})
	return nil
}

// childCalled finds the child of a process that has word among its arguments.
func childCalled(pid int, word string) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each thread lists its own
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, fmt.Errorf("list the processes of serve: %w", err)
		}
		for _, child := range strings.Fields(string(children)) {
			line, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
			if err != nil || !strings.Contains(string(line), "\x00"+word+"\x00") { // one that has just ended is not the one
				continue
			}
			var found int
			_, err = fmt.Sscan(child, &found)
			return found, err
		}
	}
	return 0, fmt.Errorf("process %d has no child called %s (this case needs Linux)", pid, word)
}

// resident gives the memory that a process holds, in MB.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d (this case needs Linux): %w", pid, err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); err == nil {
			return kilobytes * 1024 / 1e6, nil
		}
	}
	return 0, fmt.Errorf("process %d does not say how much memory it holds", pid)
}
