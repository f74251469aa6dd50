// Command bench measures makeitso against the targets of its design, and next
// to what a user would otherwise run, both sides in one go: it prints a table
// and ends with 1 if a target is missed. It knows makeitso as a program only,
// but for the judgement of canaries: false alarms are too rare to be counted on
// real traffic, so the case canary plays rollouts by internal/analysis/simulate.
//
//	go run ./bench                      # about five minutes
//	go run ./bench --cases start,stages # these alone
//	go run ./bench --cases canary --trials 4000
//	go run ./bench --cold               # and a build from an empty cache, minutes more
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
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

func main() {
	rounds := flag.Int("rounds", 11, "how often each side of a comparison runs; the median counts")
	trials := flag.Int("trials", 50, "how many rollouts of each kind the case canary plays")
	cold := flag.Bool("cold", false, "also build from an empty build cache")
	names := flag.String("cases", "", "the cases to measure, with commas between; default all of "+strings.Join(caseNames(), ","))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	met, err := run(ctx, &bench{rounds: max(1, *rounds), trials: max(1, *trials)}, *names, *cold)
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
	trials  int    // rollouts of the case canary
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

// measured is one case; it adds rows.
type measured struct {
	name    string
	measure func(*bench, context.Context) error
}

func cases() []measured {
	return []measured{
		{"size", (*bench).size}, {"start", (*bench).start}, {"synced", (*bench).synced}, {"stages", (*bench).stages}, {"memory", (*bench).memory},
		{"apply", (*bench).applies}, {"growth", (*bench).growth}, {"validate", (*bench).validate},
		{"data", (*bench).data}, {"objects", (*bench).objects},
		{"dns", (*bench).dns}, {"canary", (*bench).canary}, {"rollouts", (*bench).rolloutsServed}, {"edge", (*bench).edge},
	}
}

func caseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

// choose gives the cases named, all if none is.
func choose(names string, cold bool) ([]measured, error) {
	chosen := cases()
	if names != "" {
		chosen = nil
		for name := range strings.SplitSeq(names, ",") {
			at := slices.Index(caseNames(), name)
			if at < 0 {
				return nil, fmt.Errorf("there is no case %q; allowed are %s", name, strings.Join(caseNames(), ", "))
			}
			chosen = append(chosen, cases()[at])
		}
	}
	if cold {
		chosen = append(chosen, measured{"cold", (*bench).coldBuild})
	}
	return chosen, nil
}

// run measures the cases, prints the table and says whether all targets are
// met.
func run(ctx context.Context, b *bench, names string, cold bool) (met bool, err error) {
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return false, fmt.Errorf("make a work folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b.folder, b.program = folder, filepath.Join(folder, "makeitso")
	chosen, err := choose(names, cold)
	if err != nil {
		return false, err
	}
	if err := command(ctx, ".", "go", "build", "-o", b.program, source)(); err != nil {
		return false, err
	}
	for _, c := range chosen {
		if err := c.measure(b, ctx); err != nil {
			return false, fmt.Errorf("case %s: %w", c.name, err)
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
