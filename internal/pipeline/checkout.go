package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"makeitso/internal/fault"
)

// checkout gives the folder with the run's files: the working tree itself, or
// a checkout of the commit, made once and kept for later attempts.
func (e *Engine) checkout(ctx context.Context, run Run) (string, error) {
	if run.Source.WorkTree != "" {
		return run.Source.WorkTree, nil
	}
	folder := e.checkoutFolder(run.ID)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for the checkout: %w", err)
	}
	partial := folder + ".partial" // renamed when complete, so that a crash leaves no half of one
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clear the checkout: %w", err)
	}
	if err := os.MkdirAll(partial, 0o700); err != nil {
		return "", fmt.Errorf("make the checkout: %w", err)
	}
	if e.o.Checkout == nil {
		return "", fault.New(fault.Internal, "this process cannot check out commits")
	}
	if err := e.o.Checkout(ctx, run.Source.Repository, run.Source.Commit, partial); err != nil {
		return "", fmt.Errorf("check out %s: %w", run.Source.Commit, err)
	}
	if err := os.Rename(partial, folder); err != nil {
		return "", fmt.Errorf("make the checkout: %w", err)
	}
	return folder, nil
}

func (e *Engine) checkoutFolder(run string) string { return filepath.Join(e.o.Folder, "work", run) }

// sweepCheckouts removes the checkouts of a pipeline's runs up to the newest
// that succeeded: nobody will retry those.
func (e *Engine) sweepCheckouts(ctx context.Context, pipeline string) error {
	entries, err := os.ReadDir(filepath.Join(e.o.Folder, "work"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sweep checkouts: %w", err)
	}
	var ended []Run
	newest := int64(0)
	for _, entry := range entries {
		name, digits, _ := cutLast(entry.Name(), "-")
		if _, err := strconv.ParseInt(digits, 10, 64); err != nil || name != pipeline {
			continue
		}
		run, err := e.runs.get(ctx, entry.Name())
		if err != nil {
			return err
		}
		if run.Status == Succeeded {
			newest = max(newest, run.Number)
		}
		if run.Status.Ended() {
			ended = append(ended, run)
		}
	}
	for _, run := range ended {
		if run.Number > newest {
			continue
		}
		if err := os.RemoveAll(e.checkoutFolder(run.ID)); err != nil {
			return fmt.Errorf("sweep checkouts: %w", err)
		}
	}
	return nil
}
