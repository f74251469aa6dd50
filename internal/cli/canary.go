package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/rehearsal"
	"makeitso/internal/rollout"
	"makeitso/internal/span"
)

// canaryCommand groups what is asked about canaries.
func (a *app) canaryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "canary",
		Short: "Try what a service's rollout would do about faults",
		Long: `A canary is a new release that gets a share of a service's requests and is compared
with the one before. It is asked for in makeitso.yaml, under services.NAME:
rollout: {canary: [10%, 50%], watch: 2m}`,
		Example: "  makeitso canary test\n  makeitso canary test api --from .makeitso/edge/access.log",
	}
	cmd.AddCommand(a.canaryTestCommand())
	return cmd
}

func (a *app) canaryTestCommand() *cobra.Command {
	var o canaryOptions
	cmd := &cobra.Command{
		Use:   "test [SERVICE...]",
		Short: "Rehearse a service's rollout with faults, and say which it catches",
		Long: `Plays the rollout of each service (by default of all in makeitso.yaml) in
simulated time, by the same code that judges a real one, and puts faults into it:
2 %, 5 %, 20 % and 100 % of the canary's answers are errors, its latency doubles,
nobody asks, half of all answers of both versions fail for a minute, or nothing is
wrong at all. It says for each whether the rollout goes back, when (median), and
how many bad answers of the canary were served until then. It needs no server and
changes nothing, so it may be a stage before a release:
  - run: makeitso canary test api --expect 5%

The traffic is made by --rate, --errors and --latency, or replayed from --from: JSON
lines as the edge's access log has them, with time, status and ms (or latency_ms),
and service and arm where there are several. Rate, errors and latencies are then
the recording's, in its order, from a place that each trial draws; --rate makes
them come faster or slower.

It fails, and ends with 1, if
  - a fault is not caught that the rollout claims to catch. A canary claims every
    share of errors, and a doubled latency, that can be seen at the given rate by
    what its whole watch brings: about 12/n after n requests of the canary that are
    compared (2.5 % after 500), more where the live version fails too;
  - --expect names a share of errors that is not caught, claimed or not;
  - equal versions, or an outage of both, are rolled back.
"Caught" is 19 times in 20, as far as the trials tell. Other strategies than canary
compare nothing and claim nothing. The same --seed gives the same result.`,
		Example: `  makeitso canary test
  makeitso canary test api --rate 20 --errors 0.5% --latency 80ms
  makeitso canary test api --rate 20 --expect 5%
  makeitso canary test api --from .makeitso/edge/access.log --json`,
		RunE: func(cmd *cobra.Command, services []string) error {
			for _, flag := range []string{"errors", "latency"} {
				if o.from != "" && cmd.Flags().Changed(flag) {
					return fault.New(fault.Invalid, "found --%s beside --from: the recording says it", flag).WithHint("leave one of the two out")
				}
			}
			return a.canaryTest(cmd.Context(), services, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "a `file` of recorded outcomes to replay, JSON lines like .makeitso/edge/access.log")
	flags.Float64Var(&o.rate, "rate", 0, "`requests` a second to the service (default: as recorded, or 100)")
	flags.StringVar(&o.errors, "errors", "0.1%", "the `share` of requests that fail without a fault, where nothing is recorded")
	flags.DurationVar(&o.latency, "latency", 50*time.Millisecond, "the median latency, where nothing is recorded; 0 if it is not to be judged")
	flags.StringSliceVar(&o.expect, "expect", nil, "a `share` of errors that must be caught, e.g. 5%; may be given again")
	flags.IntVar(&o.trials, "trials", 20, "how many rollouts are played with each fault")
	flags.Uint64Var(&o.seed, "seed", 1, "the seed of the random numbers")
	flags.BoolVar(&o.json, "json", false, "print the results as JSON")
	return cmd
}

type canaryOptions struct {
	from    string
	rate    float64
	errors  string
	latency time.Duration
	expect  []string
	trials  int
	seed    uint64
	json    bool
}

// setup checks the options and gives what they say of a rehearsal.
func (o canaryOptions) setup() (rehearsal.Setup, error) {
	s := rehearsal.Setup{Seed: o.seed, Trials: o.trials, Traffic: rehearsal.Traffic{Rate: o.rate, Latency: o.latency}}
	if o.trials < 1 || o.trials > 10_000 {
		return s, fault.New(fault.Invalid, "--trials: found %d; allowed: 1 to 10000", o.trials)
	}
	if !(o.rate >= 0 && o.rate <= 1_000_000) {
		return s, fault.New(fault.Invalid, "--rate: found %v; allowed: more than 0 requests a second, at most 1000000", o.rate)
	}
	if o.latency < 0 {
		return s, fault.New(fault.Invalid, "--latency: found %s; allowed: a duration such as 50ms, 0 if it is not to be judged", o.latency)
	}
	if o.from == "" {
		s.Traffic.Rate = cmp.Or(o.rate, 100)
	}
	var err error
	if s.Traffic.Errors, err = share("--errors", o.errors); err != nil {
		return s, err
	}
	for _, text := range o.expect {
		one, err := share("--expect", text)
		if err == nil && one == 0 {
			err = fault.New(fault.Invalid, "--expect: found %s, which is no fault; allowed: more than 0%%", text)
		}
		if err != nil {
			return s, err
		}
		s.Expect = append(s.Expect, one)
	}
	return s, nil
}

// share reads a percentage.
func share(flag, text string) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(percent >= 0 && percent <= 100) {
		return 0, fault.New(fault.Invalid, "%s: found %q; allowed: a share of requests from 0%% to 100%%", flag, text).
			WithHint("for example: %s 5%%", flag)
	}
	return percent / 100, nil
}

// canaryReport is the rehearsal of one service.
type canaryReport struct {
	Service  string `json:"service"`
	Source   string `json:"source"` // of outcomes
	OK       bool   `json:"ok"`
	strategy rollout.Strategy
	rehearsal.Report
}

func (a *app) canaryTest(ctx context.Context, names []string, o canaryOptions) error {
	setup, err := o.setup()
	if err != nil {
		return err
	}
	folder, err := a.folder()
	if err != nil {
		return err
	}
	p, mistakes, err := project.Load(folder)
	if err == nil {
		err = mistakes.Err()
	}
	if err == nil {
		names, err = servicesNamed(p, names)
	}
	if err != nil {
		return err
	}
	var recorded rehearsal.Lines
	if o.from != "" {
		if recorded, err = a.recorded(o.from); err != nil {
			return err
		}
	}
	reports := []canaryReport{}
	for _, name := range names {
		setup, mistakes := setup, diag.List(nil)
		if o.from != "" {
			if setup.Traffic.Recorded, mistakes = recorded.Of(o.from, name); len(mistakes) > 0 {
				return mistakes
			}
		}
		one, err := rehearse(ctx, name, p.Services[name], setup)
		if err != nil {
			return err
		}
		reports = append(reports, one)
		if !o.json {
			if err := a.printRehearsal(one); err != nil {
				return err
			}
		}
	}
	if o.json {
		if err := a.printJSON(reports); err != nil {
			return err
		}
	}
	return canaryFailure(reports)
}

// rehearse plays the rollouts of one service.
func rehearse(ctx context.Context, name string, s *project.Service, setup rehearsal.Setup) (canaryReport, error) {
	service := pipeline.Service(name, s, nil)
	setup.Strategy, setup.Instances, setup.Analysis = service.Strategy, service.Instances, service.Judge.Options
	report, err := rehearsal.Rehearse(ctx, setup)
	if err != nil {
		return canaryReport{}, fmt.Errorf("rehearse the rollout of %s: %w", name, err)
	}
	return canaryReport{Service: name, Source: service.Judge.Source.String(), OK: report.OK(), strategy: service.Strategy, Report: report}, nil
}

// servicesNamed checks names of services; none means all.
func servicesNamed(p *project.Project, names []string) ([]string, error) {
	var all []string
	for name := range p.Services {
		all = append(all, name)
	}
	slices.Sort(all)
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "%s has no services", project.File).WithHint("add one under services")
	}
	for _, name := range names {
		if slices.Contains(all, name) {
			continue
		}
		err := fault.New(fault.NotFound, "there is no service %q in %s; there are: %s", name, project.File, strings.Join(all, ", "))
		if near := diag.Nearest(name, all); near != "" {
			err = err.WithHint("did you mean %q?", near)
		}
		return nil, err
	}
	if len(names) == 0 {
		return all, nil
	}
	return names, nil
}

// recorded reads the outcomes of a file.
func (a *app) recorded(name string) (rehearsal.Lines, error) {
	file, err := os.Open(a.path(name))
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "read recorded outcomes").
			WithHint("name a file of JSON lines; the edge writes .makeitso/edge/access.log")
	}
	defer file.Close() // only read
	lines, mistakes := rehearsal.Read(name, file)
	return lines, mistakes.Err()
}

// printRehearsal shows what became of one service's rollouts.
func (a *app) printRehearsal(r canaryReport) error {
	fmt.Fprintf(a.Out, "%s: %s\n", a.style(bold, r.Service), describeStrategy(r.strategy))
	if r.Nothing != "" {
		fmt.Fprintf(a.Out, "  %s, so no fault is caught\n", r.Nothing)
		return nil
	}
	claim := fmt.Sprintf("a rise of the errors by %.2g points is claimed to be caught", 100*r.Visible)
	if r.Visible >= 1 {
		claim = "too little to claim that any share of errors is caught"
	}
	fmt.Fprintf(a.Out, "  %s requests/s, %.2g %% errors without a fault: %s\n", strconv.FormatFloat(math.Round(10*r.Rate)/10, 'f', -1, 64), 100*r.Errors, claim)
	fmt.Fprintf(a.Out, "  judged by %s\n  guarantee: %s\n", r.Source, r.Guarantee)
	rows := [][]string{{"  FAULT", "MUST BE", "WENT BACK", "AFTER", "REQUESTS", "BAD", ""}}
	for _, one := range r.Results {
		mark := "ok"
		switch {
		case !one.OK && one.Must == rehearsal.Caught:
			mark = "NOT CAUGHT"
		case !one.OK:
			mark = "ROLLED BACK"
		case one.Must == rehearsal.Either:
			mark = ""
		}
		after := took(time.Duration(one.Seconds * float64(time.Second)))
		if one.RolledBack == 0 {
			after += " (promoted)"
		}
		rows = append(rows, []string{"  " + one.Fault, cmp.Or(string(one.Must), "-"), fmt.Sprintf("%d of %d", one.RolledBack, one.Trials),
			after, strconv.FormatInt(one.Requests, 10), strconv.FormatInt(one.Bad, 10), mark})
	}
	return a.table(rows)
}

// describeStrategy is a strategy in a few words.
func describeStrategy(s rollout.Strategy) string {
	if s.Kind != rollout.Canary {
		return string(cmp.Or(s.Kind, rollout.Rolling))
	}
	var shares []string
	for _, one := range s.Shares {
		shares = append(shares, rollout.Percent(one))
	}
	text := fmt.Sprintf("canary at %s, each watched for %s", strings.Join(shares, ", "), span.Text(s.Watch))
	if s.Bake > 0 {
		text += fmt.Sprintf(", or from %s on until the evidence allows more", span.Text(s.Bake))
	}
	return text
}

// canaryFailure is the error for what is not as it must be, nil if all is.
func canaryFailure(reports []canaryReport) error {
	var wrong []string
	missed := false
	for _, r := range reports {
		for _, one := range r.Results {
			switch {
			case one.OK:
			case one.Must == rehearsal.Kept:
				wrong = append(wrong, fmt.Sprintf("%s: %s: rolled back %d times of %d: %s", r.Service, one.Fault, one.RolledBack, one.Trials, one.Why))
			case r.Nothing != "":
				missed = true
				wrong = append(wrong, fmt.Sprintf("%s: %s: not caught: %s", r.Service, one.Fault, one.Why))
			default:
				missed = true
				wrong = append(wrong, fmt.Sprintf("%s: %s: caught only %d times of %d", r.Service, one.Fault, one.RolledBack, one.Trials))
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	err := fault.New(fault.Failed, "%s", strings.Join(wrong, "\n"))
	if missed {
		return err.WithHint("under services.NAME.rollout give the canary larger shares, or a longer watch")
	}
	return err
}
