package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The targets for time.
const (
	maxStart    = 50 * time.Millisecond
	maxOverhead = 250 * time.Millisecond // of 20 stages, over make
	maxStage    = 5 * time.Millisecond   // over make
)

// alternate runs the sides in turn, so that a noisy moment meets all of them,
// and gives the median time of each. A first round, not counted, fills caches.
func alternate(rounds int, sides ...func() error) ([]time.Duration, error) {
	all := make([]side, len(sides))
	for i, do := range sides {
		all[i] = timed(do)
	}
	return alternateSides(rounds, all...)
}

// side does one side of a comparison once. It gives the time of what counts,
// without that of what it does before and after.
type side func() (time.Duration, error)

// timed is a side of which all counts.
func timed(do func() error) side {
	return func() (time.Duration, error) {
		begun := time.Now()
		err := do()
		return time.Since(begun), err
	}
}

// alternateSides is alternate of sides that take their time themselves. Each
// round begins with another side: what one leaves to the disk meets all of them.
func alternateSides(rounds int, sides ...side) ([]time.Duration, error) {
	times := make([][]time.Duration, len(sides))
	for round := range rounds + 1 {
		for turn := range sides {
			i := (round + turn) % len(sides)
			took, err := sides[i]()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				times[i] = append(times[i], took)
			}
		}
	}
	medians := make([]time.Duration, len(sides))
	for i := range times {
		medians[i] = median(times[i])
	}
	return medians, nil
}

// median gives the middle one of values, which it sorts.
func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// start measures how long the program takes to say what it can do.
func (b *bench) start(ctx context.Context) error {
	t, err := alternate(b.rounds, command(ctx, b.folder, b.program, "--help"), command(ctx, b.folder, "make", "--version"))
	if err != nil {
		return err
	}
	b.add(row{
		what: "makeitso --help", figure: show(t[0]), other: "make --version " + show(t[1]), ratio: ratio(t[0], t[1]),
		target: "< " + show(maxStart), met: t[0] < maxStart,
	})
	return nil
}

// few and many are the sizes of the two pipelines: their difference is what a
// stage takes, without the start.
const few, many = 20, 120

// stages measures pipelines of trivial stages against makefiles of as many
// targets.
func (b *bench) stages(ctx context.Context) error {
	var sides []func() error
	for _, n := range []int{few, many} {
		dir, err := b.trivial(n)
		if err != nil {
			return err
		}
		sides = append(sides, command(ctx, dir, b.program, "run", "all"), command(ctx, dir, "make", "--silent", "all"))
	}
	t, err := alternate(b.rounds, sides...)
	if err != nil {
		return err
	}
	const all, each = "makeitso run, %d stages", "makeitso run, each stage more"
	overhead := t[0] - t[1]
	b.add(row{
		what: fmt.Sprintf(all, few), figure: show(t[0]), other: "make " + show(t[1]), ratio: ratio(t[0], t[1]),
		target: "make + " + show(maxOverhead), met: overhead <= maxOverhead,
	})
	b.add(row{what: fmt.Sprintf(all, many), figure: show(t[2]), other: "make " + show(t[3]), ratio: ratio(t[2], t[3])})
	stage, target := (t[2]-t[0])/(many-few), (t[3]-t[1])/(many-few)
	b.add(row{
		what: each, figure: show(stage), other: "make " + show(target), ratio: ratio(stage, target),
		target: "make + " + show(maxStage), met: stage-target < maxStage,
	})
	return nil
}

// synced measures what the disk takes to keep a small write: makeitso makes
// several of them for each stage, so that a crash of the machine loses none.
func (b *bench) synced(context.Context) (err error) {
	file, err := os.Create(filepath.Join(b.folder, "synced"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	page := make([]byte, 4096)
	t, err := alternate(b.rounds, func() error {
		if _, err := file.WriteAt(page, 0); err != nil {
			return err
		}
		return file.Sync()
	})
	if err != nil {
		return err
	}
	b.add(row{what: "a synced write on this disk", figure: show(t[0])})
	return nil
}

// trivial writes a project with n stages that do nothing, one after another,
// and a makefile that does the same.
func (b *bench) trivial(n int) (dir string, err error) {
	var project, makefile, targets strings.Builder
	project.WriteString("project: bench\nenvironments:\n  local: {platform: local}\npipelines:\n  all:\n    environments: [local]\n    stages:\n")
	for i := range n {
		fmt.Fprintf(&project, "      - {name: s%d, run: \"true\"}\n", i)
		fmt.Fprintf(&targets, " s%d", i)
		fmt.Fprintf(&makefile, "s%d:\n\ttrue\n", i)
	}
	dir = filepath.Join(b.folder, fmt.Sprintf("trivial-%d", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a project of %d stages: %w", n, err)
	}
	for name, text := range map[string]string{
		"makeitso.yaml": project.String(),
		"Makefile":      fmt.Sprintf(".PHONY: all%s\nall:%s\n%s", &targets, &targets, &makefile),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("make a project of %d stages: %w", n, err)
		}
	}
	return dir, nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func show(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }
