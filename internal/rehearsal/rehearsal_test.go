package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/rollout"
)

// canary is a setup that sees all usual faults.
func canary(shares []float64, watch, bake time.Duration) Setup {
	return Setup{
		Strategy:  rollout.Strategy{Kind: rollout.Canary, Shares: shares, Watch: watch, Bake: bake},
		Instances: 2, Traffic: Traffic{Rate: 100, Errors: 0.001, Latency: 50 * time.Millisecond}, Seed: 1, Trials: 20,
	}
}

func rehearsed(t *testing.T, s Setup) Report {
	t.Helper()
	report, err := Rehearse(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func result(t *testing.T, r Report, fault string) Result {
	t.Helper()
	for _, one := range r.Results {
		if one.Fault == fault {
			return one
		}
	}
	t.Fatalf("there is no fault %q in %+v", fault, r.Results)
	return Result{}
}

// TestRehearse plays a fixed watch and one that the evidence may end.
func TestRehearse(t *testing.T) {
	type want struct {
		fault      string
		must       Must
		rolledBack int
		from, to   float64 // seconds
		bad        int64   // at most
		why        string
	}
	faults := []want{
		{"2 % errors", Caught, 20, 5, 40, 12, "5xx: canary"},
		{"5 % errors", Caught, 20, 2, 15, 9, "5xx: canary"},
		{"20 % errors", Caught, 20, 0.5, 4, 6, "5xx: canary"},
		{"100 % errors", Caught, 20, 0.05, 1, 4, "5xx: canary"},
		{"doubled latency", Caught, 20, 20, 40, 3, "latency: more than"},
	}
	for _, c := range []struct {
		name string
		bake time.Duration
		want []want
	}{
		{"fixed", 0, append([]want{
			{"no traffic", Either, 0, 240, 240, 0, "promoted; the canary had 0 requests"},
			{"outage of both", Kept, 0, 240, 240, 1000, "promoted; the canary had"},
			{"equal versions", Kept, 0, 240, 240, 40, "promoted; the canary had"},
		}, faults...)},
		{"auto", 20 * time.Second, append([]want{
			{"no traffic", Either, 0, 240, 240, 0, "promoted; the canary had 0 requests"},
			{"outage of both", Kept, 0, 240, 240, 1000, "promoted; the canary had"},
			{"equal versions", Kept, 0, 60, 239, 10, "promoted; the canary had"}, // sooner than at most
		}, faults...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := rehearsed(t, canary([]float64{0.1, 0.5}, 2*time.Minute, c.bake))
			if !report.OK() || report.Nothing != "" || report.Visible > 0.01 || len(report.Results) != len(c.want) {
				t.Errorf("the report is %+v", report)
			}
			for _, want := range c.want {
				got := result(t, report, want.fault)
				if got.Must != want.must || got.RolledBack != want.rolledBack || got.Seconds < want.from || got.Seconds > want.to ||
					got.Bad > want.bad || !strings.HasPrefix(got.Why, want.why) {
					t.Errorf("found %+v, want %+v", got, want)
				}
			}
		})
	}
}

func TestSeed(t *testing.T) {
	s := canary([]float64{0.1}, 30*time.Second, 0)
	s.Trials = 3
	first := rehearsed(t, s)
	if again := rehearsed(t, s); !reflect.DeepEqual(first, again) {
		t.Errorf("the same seed gave %+v and %+v", first, again)
	}
	s.Seed = 2
	if other := rehearsed(t, s); reflect.DeepEqual(first, other) {
		t.Errorf("another seed gave %+v too", first)
	}
}

// TestClaimsHold tries the smallest rise that is claimed, which must be caught
// as often as is claimed, and is what the formula rests on.
func TestClaimsHold(t *testing.T) {
	for _, rate := range []float64{0, 0.001, 0.01, 0.05, 0.2} {
		for _, shares := range [][]float64{{0.1}, {0.1, 0.5}, {0.05, 0.25, 0.75}} {
			for _, bake := range []time.Duration{0, 10 * time.Second} {
				s := canary(shares, time.Minute, bake)
				s.Traffic.Errors, s.Trials = rate, 20
				plan := s.Strategy.Plan(version(oldRelease, 2), version(newRelease, 2))
				s.Analysis = judged(analysis.Options{}, plan)
				visible := claimsOf(plan, s.Analysis, s.Traffic).visible(rate)
				if visible > 0.25 {
					t.Errorf("%v at %v: only %v is claimed", shares, rate, visible)
				}
				got, err := s.play(t.Context(), plan, errorsOf(visible/(1-rate)), Caught)
				if err != nil || !got.OK {
					t.Errorf("%v at %v, bake %v, a rise by %v: %+v, %v", shares, rate, bake, visible, got, err)
				}
			}
		}
	}
}

// TestNotAsItMustBe has configurations that keep less than is wanted of them.
func TestNotAsItMustBe(t *testing.T) {
	for _, c := range []struct {
		name, fault string
		must        Must
		change      func(*Setup)
	}{
		{"too short for what is expected", "5 % errors", Caught, func(s *Setup) {
			s.Strategy.Watch, s.Traffic.Rate, s.Expect = 10*time.Second, 20, []float64{0.05}
		}},
		{"an expectation between the usual faults", "0.2 % errors", Caught, func(s *Setup) { s.Expect = []float64{0.002} }},
		{"a ceiling for both", "outage of both", Kept, func(s *Setup) { s.Analysis.Guard5xx = 0.05 }},
		{"a ceiling below what is usual", "equal versions", Kept, func(s *Setup) { s.Analysis.Max5xx, s.Traffic.Errors = 0.01, 0.05 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := canary([]float64{0.1}, 2*time.Minute, 0)
			s.Trials = 10
			c.change(&s)
			report := rehearsed(t, s)
			if got := result(t, report, c.fault); got.OK || got.Must != c.must || report.OK() {
				t.Errorf("found %+v, want it not to be as it must be", got)
			}
		})
	}
}

// TestClaimsLittle has what too little traffic cannot show.
func TestClaimsLittle(t *testing.T) {
	s := canary([]float64{0.1}, 10*time.Second, 0)
	s.Traffic.Rate, s.Trials = 20, 5
	report := rehearsed(t, s)
	for fault, must := range map[string]Must{"5 % errors": Either, "100 % errors": Caught, "doubled latency": Either, "equal versions": Kept} {
		if got := result(t, report, fault); got.Must != must {
			t.Errorf("found %+v, want it to be %q", got, must)
		}
	}
	s.Traffic.Rate = 1
	if report = rehearsed(t, s); report.Visible != 1 || result(t, report, "100 % errors").Must != Either || !report.OK() {
		t.Errorf("one request of the canary claims %+v", report)
	}
	s.Traffic.Latency = 0
	for _, one := range rehearsed(t, s).Results {
		if one.Fault == "doubled latency" {
			t.Errorf("nothing is known of latency: %+v", one)
		}
	}
	s.Traffic.Rate, s.Analysis.Absolute = 100, "it is tried"
	if report = rehearsed(t, s); report.Visible != 1 {
		t.Errorf("compared with nothing it claims %v", report.Visible)
	}
}

// TestClaimsWithoutACoin says that the rule without a coin catches as much, but for
// latency, of which it claims nothing.
func TestClaimsWithoutACoin(t *testing.T) {
	s := canary([]float64{0.1, 0.5}, 2*time.Minute, 0)
	s.Analysis.Source = analysis.NoCoin
	report := rehearsed(t, s)
	if !report.OK() || report.Visible > 0.01 || !strings.Contains(report.Guarantee, "since no coin sends them") {
		t.Errorf("found %+v", report)
	}
	for fault, must := range map[string]Must{"2 % errors": Caught, "doubled latency": Either, "outage of both": Kept, "equal versions": Kept} {
		if got := result(t, report, fault); got.Must != must || must == Caught && got.RolledBack != s.Trials {
			t.Errorf("found %+v, want it to be %q", got, must)
		}
	}
	plan := s.Strategy.Plan(version(oldRelease, 2), version(newRelease, 2))
	s.Analysis = judged(s.Analysis, plan)
	if got, err := s.play(t.Context(), plan, errorsOf(report.Visible*1.01), Caught); err != nil || !got.OK {
		t.Errorf("of what is just claimed: %+v, %v", got, err)
	}
}

// TestClaimsNotWhatIsPromoted says that where the evidence may end a watch, no
// rise is claimed that counts as none for it.
func TestClaimsNotWhatIsPromoted(t *testing.T) {
	s := canary([]float64{0.1, 0.5}, 10*time.Minute, 30*time.Second)
	plan := s.Strategy.Plan(version(oldRelease, 2), version(newRelease, 2))
	s.Analysis = judged(analysis.Options{}, plan)
	visible := claimsOf(plan, s.Analysis, s.Traffic).visible(s.Traffic.Errors)
	if visible != s.Analysis.Margin {
		t.Errorf("a rise by %v is claimed, less than %v may be promoted", visible, s.Analysis.Margin)
	}
	if got, err := s.play(t.Context(), plan, errorsOf(visible*1.01), Caught); err != nil || !got.OK {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestNothingIsCompared(t *testing.T) {
	for _, c := range []struct {
		strategy rollout.Strategy
		want     string
	}{
		{rollout.Strategy{}, "by the strategy rolling"},
		{rollout.Strategy{Kind: rollout.AtOnce}, "by the strategy all-at-once"},
		{rollout.Strategy{Kind: rollout.BlueGreen}, "by the strategy blue-green"},
		{rollout.Strategy{Kind: rollout.Canary, Shares: []float64{0.1}}, "no step is watched"},
	} {
		report := rehearsed(t, Setup{Strategy: c.strategy, Trials: 1, Traffic: Traffic{Rate: 100}})
		if !strings.Contains(report.Nothing, c.want) || len(report.Results) > 0 || !report.OK() {
			t.Errorf("%+v: %+v, want %q", c.strategy, report, c.want)
		}
		report = rehearsed(t, Setup{Strategy: c.strategy, Trials: 1, Traffic: Traffic{Rate: 100}, Expect: []float64{0.05}})
		if report.OK() || result(t, report, "5 % errors").Must != Caught {
			t.Errorf("%+v: it is expected to catch 5 %%, and is fine: %+v", c.strategy, report)
		}
	}
}

func TestRehearseFails(t *testing.T) {
	if _, err := Rehearse(t.Context(), Setup{Strategy: rollout.Strategy{Kind: rollout.Canary}}); err == nil || !strings.Contains(err.Error(), "no shares") {
		t.Errorf("a canary without shares: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Rehearse(ctx, canary([]float64{0.1}, time.Minute, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it gave %v", err)
	}
}

func TestAtMost(t *testing.T) {
	var got []int
	for _, n := range []int{1, 5, 20, 100} {
		got = append(got, atMost(n, 0.05), atMost(n, 0.01))
	}
	if want := "[0 0 1 0 3 1 11 3]"; fmt.Sprint(got) != want {
		t.Errorf("found %v, want %s", got, want)
	}
}
