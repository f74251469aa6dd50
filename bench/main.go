// Command bench measures makeitso against the targets of its design, and next
// to what a user would otherwise run, both sides in one go: it prints a table
// and ends with 1 if a target is missed. It knows makeitso as a program only.
//
//	go run ./bench          # about half a minute
//	go run ./bench --cold   # and a build from an empty cache, minutes more
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
)

func main() {
	rounds := flag.Int("rounds", 11, "how often each side of a comparison runs; the median counts")
	cold := flag.Bool("cold", false, "also build from an empty build cache")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	met, err := run(ctx, max(1, *rounds), *cold)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if !met {
		os.Exit(1)
	}
}

// bench is what the cases share.
type bench struct {
	rounds  int
	folder  string // temporary, removed at the end
	program string // makeitso, built plainly
	rows    []row
}

// row is one line of the table.
type row struct {
	what   string
	figure string
	other  string // the other side, "" if there is none
	ratio  float64
	target string // "" if there is none
	met    bool
}

// run measures every case, prints the table and says whether all targets are
// met.
func run(ctx context.Context, rounds int, cold bool) (met bool, err error) {
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return false, fmt.Errorf("make a work folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b := &bench{rounds: rounds, folder: folder, program: filepath.Join(folder, "makeitso")}
	cases := []func(context.Context) error{b.size, b.start, b.synced, b.stages, b.memory}
	if cold {
		cases = append(cases, b.coldBuild)
	}
	for _, measure := range cases {
		if err := measure(ctx); err != nil {
			return false, err
		}
	}
	met = true
	for _, r := range b.rows {
		met = met && (r.met || r.target == "")
	}
	return met, b.print(os.Stdout)
}

func (b *bench) add(r row) { b.rows = append(b.rows, r) }

// print writes the table.
func (b *bench) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tFIGURE\tOTHER SIDE\tRATIO\tTARGET\tMET")
	for _, r := range b.rows {
		ratio, met := "", ""
		if r.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
		}
		if r.target != "" {
			met = map[bool]string{true: "yes", false: "NO"}[r.met]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.figure, r.other, ratio, r.target, met)
	}
	return w.Flush()
}

// command gives a command whose failure is told with what it printed.
func command(ctx context.Context, dir, name string, args ...string) func() error {
	return func() error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
		}
		return nil
	}
}
