package rollout

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// steps are a plan's steps as new/old pairs.
func steps(p Plan) string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("%d/%d", s.New, s.Old))
	}
	return strings.Join(out, " ")
}

func TestRollingSteps(t *testing.T) {
	for _, c := range []struct {
		surge, unavailable Amount
		from, to           int
		want               string
	}{
		{Amount{}, Amount{}, 3, 3, "1/2 2/1 3/0"},
		{Amount{Count: 2}, Amount{}, 4, 4, "2/2 4/0"},
		{Amount{}, Amount{Count: 1}, 3, 3, "0/2 1/1 2/0 3/0"},
		{Amount{Count: 1}, Amount{Count: 1}, 4, 4, "1/2 3/0 4/0"},
		{Amount{Part: 0.25}, Amount{}, 4, 4, "1/3 2/2 3/1 4/0"},
		{Amount{Part: 0.3}, Amount{Part: 0.3}, 10, 10, "3/4 9/0 10/0"},
		{Amount{}, Amount{Part: 0.1}, 2, 2, "1/1 2/0"},
		{Amount{Part: 2}, Amount{}, 4, 4, "4/0"},
		{Amount{Part: 1e300}, Amount{Part: 1e300}, 2, 4, "4/0"},
		{Amount{Count: math.MaxInt}, Amount{}, 2, 4, "4/0"},
		{Amount{}, Amount{Count: 8}, 10, 4, "0/0 4/0"},
		{Amount{}, Amount{Count: 9}, 2, 2, "0/0 2/0"},
		{Amount{}, Amount{}, 1, 3, "3/0"},
		{Amount{}, Amount{}, 3, 1, "1/0"},
		{Amount{}, Amount{}, 0, 2, "2/0"},
		{Amount{}, Amount{}, 2, 0, "0/0"},
	} {
		s := Strategy{Surge: c.surge, Unavailable: c.unavailable}
		if got := steps(s.Plan(version("a", c.from), version("b", c.to))); got != c.want {
			t.Errorf("%+v from %d to %d: %s, want %s", s, c.from, c.to, got, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, good := range []Strategy{{}, {Kind: AtOnce}, {Kind: BlueGreen}, canaryOf(0.1, 0.5)} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Strategy{{Kind: "slow"}, {Kind: Canary}, canaryOf(0), canaryOf(1), canaryOf(-0.1), canaryOf(0.5, 0.1), canaryOf(10)} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// begun is a rollout by strategy from two instances of a to two of b.
func begun(t *testing.T, s Strategy) State {
	t.Helper()
	state, err := Begin(live(t, version("a", 2)), s.Plan(version("a", 2), version("b", 2)), start)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// until plays events that go well until the state is in a phase.
func until(t *testing.T, s State, phase Phase) State {
	t.Helper()
	for range 100 {
		if s.Phase == phase {
			return s
		}
		e, ok := answer(s)
		if e.At = s.Since; !ok {
			e = Event{Kind: Tick, At: s.Due()}
		}
		s = Next(s, e)
	}
	t.Fatalf("never %s, but %s: %s", phase, s.Phase, s.Reason)
	return s
}

func TestBlueGreen(t *testing.T) {
	s := begun(t, Strategy{Kind: BlueGreen, Soak: time.Minute, Keep: 10 * time.Minute})
	var previewed []Member
	end, trail := run(t, s, func(s State, e Event) Event {
		if s.Phase == Watching {
			previewed = s.Previewed()
		}
		return e
	})
	expectTrail(t, trail, `
starting 0 a×2=1.00
shifting 0 a×2=1.00
watching 0 a×2=1.00
shifting 1 b×2=1.00
draining 1 b×2=1.00
promoted 1 b×2=1.00`)
	if len(previewed) != 2 || previewed[0].Release != "b" {
		t.Errorf("before the change %v were shown", previewed)
	}
	if len(end.Places) != 2 || end.Kept() {
		t.Errorf("after the old version's time: %+v", end.Places)
	}
}

// promoted is a blue/green rollout that has just ended.
func promoted(t *testing.T) State {
	t.Helper()
	s := until(t, begun(t, Strategy{Kind: BlueGreen, Keep: 10 * time.Minute}), Promoted)
	if !s.Kept() || weights(s) != "b×2=1.00" {
		t.Fatalf("the old version is not kept: %+v", s.Places)
	}
	return s
}

func TestWayBackToWhatWasKept(t *testing.T) {
	s := promoted(t)
	back, err := Begin(s, AllAtOnce(version("b", 2), version("a", 2)), s.Since)
	if err != nil {
		t.Fatal(err)
	}
	if c := Commands(back); back.Phase != Shifting || len(c) != 1 || c[0].Kind != Shift || weights(back) != "a×2=1.00" {
		t.Errorf("the way back is in %s with %v, traffic %s", back.Phase, c, weights(back))
	}
}

func TestNextReleaseEndsWhatWasKept(t *testing.T) {
	s := promoted(t)
	next, err := Begin(s, Strategy{}.Plan(version("b", 2), version("c", 2)), s.Since)
	if err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		if p, _ := next.Place(Member{"a", slot}); p.Status != Stopping {
			t.Errorf("a/%d is %s", slot, p.Status)
		}
	}
}

func TestLostSpareIsNotReplaced(t *testing.T) {
	s := promoted(t)
	s = Next(s, Event{Kind: Lost, At: s.Since, Member: Member{"a", 0}, Reason: "killed"})
	if p, _ := s.Place(Member{"a", 0}); p.Status != Stopping || s.Kept() || s.Phase != Promoted {
		t.Errorf("a/0 is %s, phase %s", p.Status, s.Phase)
	}
	s = until(t, begun(t, Strategy{Kind: BlueGreen, Keep: 10 * time.Minute}), Draining)
	s = Next(s, Event{Kind: Drained, At: s.Since, Member: Member{"a", 0}})
	s = Next(s, Event{Kind: Lost, At: s.Since, Member: Member{"a", 0}, Reason: "killed"})
	if p, _ := s.Place(Member{"a", 0}); p.Status != Stopping {
		t.Errorf("while the other one drains, a/0 is %s", p.Status)
	}
}

func TestPauseHoldsTheStep(t *testing.T) {
	s := until(t, begun(t, canaryOf(0.1)), Watching)
	half := s.Since.Add(30 * time.Second)
	s = Next(s, Event{Kind: Pause, At: half})
	if s = Next(s, Event{Kind: Tick, At: half.Add(time.Hour)}); s.Phase != Watching || !strings.HasPrefix(s.Reason, "paused with b at 10 %") {
		t.Fatalf("after an hour: %s, %s", s.Phase, s.Reason)
	}
	resumed := Next(s, Event{Kind: Resume, At: half.Add(time.Hour)})
	if want := half.Add(time.Hour + 30*time.Second); !resumed.Deadline.Equal(want) {
		t.Errorf("the watch ends at %s, want %s", resumed.Deadline, want)
	}
	if end := Next(s, Event{Kind: Tick, At: s.Deadline}); end.Phase != Verifying && end.Phase != Restoring || !strings.Contains(end.Cause, "nobody went on with it within 24h") {
		t.Errorf("after a day: %s, %s", end.Phase, end.Cause)
	}
	if s = Next(s, Event{Kind: RollBack, At: half, Reason: "5xx"}); s.Phase.Forward() {
		t.Error("a verdict does not count while it is paused")
	}
}

func TestPromoteSkipsWhatWasToBeWatched(t *testing.T) {
	s := until(t, begun(t, canaryOf(0.1, 0.5)), Watching)
	_, trail := run(t, Next(s, Event{Kind: Promote, At: s.Since}), nil)
	if slices.ContainsFunc(trail, func(line string) bool { return strings.Contains(line, "0.50") }) || trail[len(trail)-1] != "promoted 2 b×2=1.00" {
		t.Errorf("went through %q", trail)
	}
}

func TestEvidenceEndsAWatch(t *testing.T) {
	strategy := canaryOf(0.1)
	fixed := until(t, begun(t, strategy), Watching)
	if s := Next(fixed, Event{Kind: Advance, At: fixed.Since.Add(50 * time.Second)}); s.Phase != Watching {
		t.Error("the evidence ended a watch of fixed length")
	}
	strategy.Bake = 20 * time.Second
	s := until(t, begun(t, strategy), Watching)
	if early := Next(s, Event{Kind: Advance, At: s.Since.Add(19 * time.Second)}); early.Phase != Watching {
		t.Error("the evidence ended a watch before its least time")
	}
	if s = Next(s, Event{Kind: Advance, At: s.Since.Add(20 * time.Second)}); s.Step != 1 {
		t.Errorf("step %d, %s", s.Step, s.Reason)
	}
}

func TestHooks(t *testing.T) {
	strategy := Strategy{Kind: AtOnce, Before: true, After: true}
	_, trail := run(t, begun(t, strategy), nil)
	expectTrail(t, trail, `
starting 0 a×2=1.00
checking 0 a×2=1.00
shifting 0 b×2=1.00
draining 0 b×2=1.00
confirming 0 b×2=1.00
promoted 0 b×2=1.00`)
	for _, phase := range []Phase{Checking, Confirming} {
		s := until(t, begun(t, strategy), phase)
		failed := Next(s, Event{Kind: HookFailed, At: s.Since, Phase: phase, Reason: "exit status 1"})
		if end, _ := run(t, failed, nil); end.Phase != RolledBack || end.Reason != "exit status 1" {
			t.Errorf("a failure in %s ends %s: %s", phase, end.Phase, end.Reason)
		}
		late := Next(s, Event{Kind: Tick, At: s.Deadline})
		if want := fmt.Sprintf("the command %s the traffic did not end within 5m", phase.side()); late.Cause != want {
			t.Errorf("too late in %s: %s", phase, late.Cause)
		}
	}
}

func TestScale(t *testing.T) {
	s := Next(live(t, version("a", 2)), Event{Kind: Scale, At: start, Instances: 3})
	s, _ = run(t, s, nil)
	if weights(s) != "a×3=1.00" || s.Live().Instances != 3 {
		t.Fatalf("scaled up: %s", weights(s))
	}
	down := Next(s, Event{Kind: Scale, At: start, Instances: 1})
	if again := Next(down, Event{Kind: Scale, At: start, Instances: 2}); weights(again) != "a×2=1.00" {
		t.Errorf("wanted again while it drains: %s", weights(again))
	}
	down, _ = run(t, down, nil)
	if weights(down) != "a×1=1.00" || len(down.Places) != 1 {
		t.Errorf("scaled down: %s", weights(down))
	}
	lost := Next(s, Event{Kind: Lost, At: start, Member: Member{"a", 0}, Reason: "killed"})
	if lost = Next(lost, Event{Kind: Scale, At: start, Instances: 1}); weights(lost) != "a×2=1.00" {
		t.Errorf("scaled down while the one that stays is replaced: %s", weights(lost))
	}
}

func TestRemarkIsTold(t *testing.T) {
	s := until(t, begun(t, canaryOf(0.1)), Watching)
	s = Next(s, Event{Kind: Remark, At: s.Since, Reason: "a is unhealthy itself"})
	if !strings.HasSuffix(s.Reason, "; a is unhealthy itself") {
		t.Errorf("reason %q", s.Reason)
	}
}
