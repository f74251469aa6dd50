package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The targets for stacks of resources for which nothing runs.
const (
	maxApply    = 1.0 / 20 // of terraform apply
	maxPlan     = 1.0 / 10 // of terraform plan
	maxGrowth   = 12       // times the time, for ten times the resources
	maxWritten  = 1.2      // times the bytes for each of ten times the resources
	maxApplied  = 300      // MB
	maxValidate = time.Second
)

// thousand is the size of the stacks that are compared.
const thousand = 1000

// conformance is where public templates lie beside the repository, if they do.
const conformance = "../shared/conformance/templates"

// shape is how the resources of a stack depend on one another: each but the
// first of a chain on the one before it.
type shape struct {
	name  string
	chain int
}

// applies compares apply of a thousand resources with terraform's, and then a
// plan that changes nothing.
func (b *bench) applies(ctx context.Context) error {
	ours, theirs, err := b.apply(ctx, shape{"independent", 1})
	if err != nil {
		return err
	}
	if _, _, err := b.apply(ctx, shape{"chained by tens", 10}); err != nil {
		return err
	}
	sides := []func() error{command(ctx, ours, b.program, "plan")}
	if theirs != "" {
		sides = append(sides, command(ctx, theirs, "terraform", "plan", "-no-color"))
	}
	t, err := alternate(min(b.rounds, 5), sides...)
	if err != nil {
		return err
	}
	b.compare(fmt.Sprintf("plan, %d unchanged", thousand), t[0], append(t, 0)[1], maxPlan)
	return nil
}

// apply compares apply of a thousand resources with terraform's, which takes
// long and runs once between several of ours. It gives the folders of both.
func (b *bench) apply(ctx context.Context, s shape) (ours, theirs string, err error) {
	if theirs, err = b.configuration(ctx, s, thousand); err != nil {
		return "", "", err
	}
	const rounds = 5
	var times []time.Duration
	var other time.Duration
	for round := range rounds {
		if ours, err = b.stack(s, thousand); err != nil {
			return "", "", err
		}
		u, err := used(ctx, ours, b.program, "apply", "--yes")
		if err != nil {
			return "", "", err
		}
		times = append(times, u.time)
		if round != rounds/2 || theirs == "" {
			continue
		}
		t, err := used(ctx, theirs, "terraform", "apply", "-auto-approve", "-no-color")
		if err != nil {
			return "", "", err
		}
		other = t.time
	}
	b.compare(fmt.Sprintf("apply, %d %s", thousand, s.name), median(times), other, maxApply)
	return ours, theirs, nil
}

// compare adds a row whose target is a part of terraform's time, which is 0 if
// that is not here.
func (b *bench) compare(what string, ours, theirs time.Duration, most float64) {
	if theirs == 0 {
		b.add(row{what: what, figure: show(ours), other: "terraform is not here"})
		return
	}
	b.add(row{
		what: what, figure: show(ours), other: "terraform " + show(theirs), ratio: ratio(ours, theirs),
		target: fmt.Sprintf("ratio < %.2f", most), met: ratio(ours, theirs) <= most,
	})
}

// growth compares apply of a thousand resources with apply of ten times as
// many: time, bytes that reach the disk, memory.
func (b *bench) growth(ctx context.Context) error {
	const rounds, times = 3, 10
	var few, many []usage
	for range rounds {
		for _, size := range []struct {
			n    int
			into *[]usage
		}{{thousand, &few}, {times * thousand, &many}} {
			dir, err := b.stack(shape{"independent", 1}, size.n)
			if err != nil {
				return err
			}
			u, err := used(ctx, dir, b.program, "apply", "--yes")
			if err != nil {
				return err
			}
			*size.into = append(*size.into, u)
		}
	}
	small, large := middle(few), middle(many)
	b.add(row{
		what: fmt.Sprintf("apply, %d", times*thousand), figure: show(large.time), other: fmt.Sprintf("%d %s", thousand, show(small.time)),
		ratio: ratio(large.time, small.time), target: fmt.Sprintf("ratio < %d", maxGrowth), met: ratio(large.time, small.time) <= maxGrowth,
	})
	b.add(row{
		what: "  its memory", figure: fmt.Sprintf("%.1f MB", large.memory), other: fmt.Sprintf("%d %.1f MB", thousand, small.memory),
		ratio: large.memory / small.memory, target: fmt.Sprintf("< %d MB", maxApplied), met: large.memory < maxApplied,
	})
	if small.written == 0 {
		b.add(row{what: "  written for each", figure: "the folder for temporary files is not on a disk"})
		return nil
	}
	perLarge, perSmall := large.written/(times*thousand), small.written/thousand
	b.add(row{
		what: "  written for each", figure: fmt.Sprintf("%.1f kB", perLarge/1e3), other: fmt.Sprintf("%d %.1f kB", thousand, perSmall/1e3),
		ratio: perLarge / perSmall, target: fmt.Sprintf("ratio < %.1f", maxWritten), met: perLarge <= maxWritten*perSmall,
	})
	return nil
}

// validate judges public templates in one process.
func (b *bench) validate(ctx context.Context) error {
	args := []string{"validate"}
	err := filepath.WalkDir(conformance, func(path string, _ fs.DirEntry, err error) error {
		if slices.Contains([]string{".json", ".template", ".yaml", ".yml"}, filepath.Ext(path)) {
			args = append(args, path)
		}
		return err
	})
	what := fmt.Sprintf("validate, %d public templates", len(args)-1)
	if errors.Is(err, fs.ErrNotExist) {
		b.add(row{what: "validate, public templates", figure: "no " + conformance})
		return nil
	}
	if err != nil {
		return err
	}
	t, err := alternate(min(b.rounds, 5), func() error {
		out, err := exec.CommandContext(ctx, b.program, args...).CombinedOutput()
		if !strings.Contains(string(out), " templates are ") { // some are wrong on purpose
			return fmt.Errorf("validate: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.add(row{what: what, figure: show(t[0]), target: "< " + show(maxValidate), met: t[0] < maxValidate})
	return nil
}

// stack writes a project with one stack of n resources for which nothing runs.
func (b *bench) stack(s shape, n int) (dir string, err error) {
	var text strings.Builder
	text.WriteString("Resources:\n")
	for i := range n {
		fmt.Fprintf(&text, "  R%d:\n    Type: AWS::EC2::InternetGateway\n", i)
		if i%s.chain > 0 {
			fmt.Fprintf(&text, "    DependsOn: R%d\n", i-1)
		}
	}
	return b.files(map[string]string{
		"makeitso.yaml": "project: bench\nenvironments:\n  local: {platform: local}\nstacks:\n  all: {template: all.yaml}\n",
		"all.yaml":      text.String(),
	})
}

// configuration writes and initializes what terraform needs for as much; "" if
// terraform is not here.
func (b *bench) configuration(ctx context.Context, s shape, n int) (dir string, err error) {
	if _, err := exec.LookPath("terraform"); err != nil {
		return "", nil
	}
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "resource \"terraform_data\" \"r%d\" {\n", i)
		if i%s.chain > 0 {
			fmt.Fprintf(&text, "  depends_on = [terraform_data.r%d]\n", i-1)
		}
		text.WriteString("}\n")
	}
	if dir, err = b.files(map[string]string{"main.tf": text.String()}); err != nil {
		return "", err
	}
	return dir, command(ctx, dir, "terraform", "init", "-no-color")()
}

// files writes files into a new folder.
func (b *bench) files(texts map[string]string) (dir string, err error) {
	if dir, err = os.MkdirTemp(b.folder, "stack-"); err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	return dir, nil
}

// usage is what one process took.
type usage struct {
	time    time.Duration
	memory  float64 // the most at a time, in MB
	written float64 // bytes that reached a disk
}

// used runs a program to its end and gives what it took.
func used(ctx context.Context, dir, name string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if err != nil {
		return usage{}, fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return usage{}, errors.New("the system does not say what a process used")
	}
	// Linux counts memory in units of 1024 bytes and blocks of 512.
	return usage{took, float64(r.Maxrss) * 1024 / 1e6, float64(r.Oublock) * 512}, nil
}

// middle gives the median of each part.
func middle(all []usage) usage {
	part := func(of func(usage) float64) float64 {
		var values []float64
		for _, u := range all {
			values = append(values, of(u))
		}
		return median(values)
	}
	return usage{
		time:    time.Duration(part(func(u usage) float64 { return float64(u.time) })),
		memory:  part(func(u usage) float64 { return u.memory }),
		written: part(func(u usage) float64 { return u.written }),
	}
}
