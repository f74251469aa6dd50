package rollout

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func version(release string, n int) Version { return Version{Release: release, Instances: n} }

func canaryOf(shares ...float64) Strategy {
	return Strategy{Kind: Canary, Shares: shares, Watch: time.Minute}
}

// live is the state of a service with a version that was promoted.
func live(t *testing.T, v Version) State {
	t.Helper()
	if v.Instances == 0 {
		return State{}
	}
	s, err := Begin(State{}, AllAtOnce(Version{}, v), start)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, s, nil)
	if s.Phase != Promoted {
		t.Fatalf("first release ended %s: %s", s.Phase, s.Reason)
	}
	return s
}

// run plays a driver for which everything goes well, until nothing is
// outstanding; edit may change or drop (Kind "") each event it sends. It gives
// the phases and traffic passed through.
func run(t *testing.T, s State, edit func(State, Event) Event) (State, []string) {
	t.Helper()
	var trail []string
	now := s.Since
	for range 1000 {
		line := fmt.Sprintf("%s %d %s", s.Phase, s.Step, weights(s))
		if len(trail) == 0 || trail[len(trail)-1] != line {
			trail = append(trail, line)
		}
		e, ok := answer(s)
		if !ok {
			if s.Due().IsZero() {
				return s, trail
			}
			now = s.Due()
			e = Event{Kind: Tick}
		}
		e.At = now
		if edit != nil {
			e = edit(s, e)
		}
		if e.Kind == "" {
			now = s.Due()
			e = Event{Kind: Tick, At: now}
		}
		s = Next(s, e)
	}
	t.Fatalf("no end: %s, %s", s.Phase, s.Reason)
	return s, nil
}

// answer is the good answer to the first outstanding command that has one.
func answer(s State) (Event, bool) {
	for _, c := range Commands(s) {
		if all := answers(c); all[0].Kind != RollBack {
			return all[0], true
		}
	}
	return Event{}, false
}

func answers(c Command) []Event {
	switch c.Kind {
	case Start:
		return []Event{{Kind: Healthy, Member: c.Member}, {Kind: Unwell, Member: c.Member, Reason: "status 503"}, {Kind: Lost, Member: c.Member, Reason: "exited"}}
	case Drain:
		return []Event{{Kind: Drained, Member: c.Member}}
	case Stop:
		return []Event{{Kind: Stopped, Member: c.Member}}
	case Shift:
		return []Event{{Kind: InForce, Route: c.Route}}
	case Verify:
		return []Event{{Kind: Verified}}
	case Hook:
		return []Event{{Kind: HookPassed, Phase: c.Phase, Step: c.Step}, {Kind: HookFailed, Phase: c.Phase, Step: c.Step, Reason: "exit status 1"}}
	default:
		return []Event{{Kind: RollBack, Reason: "5xx"}}
	}
}

func weights(s State) string {
	var parts []string
	for _, a := range s.Arms() {
		if a.Weight > 0 {
			parts = append(parts, fmt.Sprintf("%s×%d=%.2f", a.Release, len(a.Members), a.Weight))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func expectTrail(t *testing.T, got []string, want string) {
	t.Helper()
	if g := strings.Join(got, "\n"); g != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", g, strings.TrimSpace(want))
	}
}

func TestRolling(t *testing.T) {
	s, err := Begin(live(t, version("a", 2)), Strategy{}.Plan(version("a", 2), version("b", 2)), start)
	if err != nil {
		t.Fatal(err)
	}
	_, trail := run(t, s, nil)
	expectTrail(t, trail, `
starting 0 a×2=1.00
shifting 0 a×1=0.50 b×1=0.50
draining 0 a×1=0.50 b×1=0.50
starting 1 a×1=0.50 b×1=0.50
shifting 1 b×2=1.00
draining 1 b×2=1.00
promoted 1 b×2=1.00`)
}

func TestCanary(t *testing.T) {
	plan := canaryOf(0.1, 0.6).Plan(version("a", 2), version("b", 2))
	s, err := Begin(live(t, version("a", 2)), plan, start)
	if err != nil {
		t.Fatal(err)
	}
	end, trail := run(t, s, nil)
	expectTrail(t, trail, `
starting 0 a×2=1.00
shifting 0 a×2=0.90 b×1=0.10
watching 0 a×2=0.90 b×1=0.10
starting 1 a×2=0.90 b×1=0.10
shifting 1 a×2=0.40 b×2=0.60
watching 1 a×2=0.40 b×2=0.60
shifting 2 b×2=1.00
draining 2 b×2=1.00
promoted 2 b×2=1.00`)
	if took := end.Since.Sub(start); took != 2*time.Minute {
		t.Errorf("took %s, want two watches of a minute", took)
	}
}

func TestVerdictTakesTrafficFirst(t *testing.T) {
	s, err := Begin(live(t, version("a", 2)), canaryOf(0.1).Plan(version("a", 2), version("b", 1)), start)
	if err != nil {
		t.Fatal(err)
	}
	end, trail := run(t, s, func(s State, e Event) Event {
		if s.Phase == Watching {
			next := Next(s, Event{Kind: RollBack, At: e.At, Reason: "5xx"})
			commands := Commands(next)
			if len(commands) != 1 || commands[0].Kind != Shift || weights(next) != "a×2=1.00" {
				t.Errorf("after the verdict: %v with %s, want the traffic alone to be changed", commands, weights(next))
			}
			return Event{Kind: RollBack, At: e.At, Reason: "5xx"}
		}
		return e
	})
	expectTrail(t, trail, `
starting 0 a×2=1.00
shifting 0 a×2=0.90 b×1=0.10
watching 0 a×2=0.90 b×1=0.10
restoring 0 a×2=1.00
verifying 0 a×2=1.00
rolled back 0 a×2=1.00`)
	if end.Reason != "5xx" || end.Live() != version("a", 2) {
		t.Errorf("ended with reason %q, live %v", end.Reason, end.Live())
	}
}

// A rolling rollout that turns round late begins the old instances again
// before it gives up the new ones.
func TestRollingTurnsRoundAtTheEnd(t *testing.T) {
	s, err := Begin(live(t, version("a", 2)), Strategy{}.Plan(version("a", 2), version("b", 2)), start)
	if err != nil {
		t.Fatal(err)
	}
	lost := false
	end, trail := run(t, s, func(s State, e Event) Event {
		if p, ok := s.Place(Member{"a", 0}); s.Phase == Draining && s.Step == 1 && !lost && ok && p.Status == Stopping {
			lost = true
			return Event{Kind: Lost, At: e.At, Member: Member{"b", 1}, Reason: "exited"}
		}
		return e
	})
	expectTrail(t, trail, `
starting 0 a×2=1.00
shifting 0 a×1=0.50 b×1=0.50
draining 0 a×1=0.50 b×1=0.50
starting 1 a×1=0.50 b×1=0.50
shifting 1 b×2=1.00
draining 1 b×2=1.00
restoring 1 b×1=1.00
restoring 1 a×1=1.00
restoring 1 a×2=1.00
verifying 1 a×2=1.00
rolled back 1 a×2=1.00`)
	if want := "instance b/1 failed while it was draining: exited"; end.Reason != want {
		t.Errorf("reason %q", end.Reason)
	}
}

func TestNeverHealthy(t *testing.T) {
	for _, old := range []int{0, 2} {
		s, err := Begin(live(t, version("a", old)), Strategy{}.Plan(version("a", old), version("b", 2)), start)
		if err != nil {
			t.Fatal(err)
		}
		s = Next(s, Event{Kind: Unwell, At: start, Member: Member{"b", 0}, Reason: "connection refused"})
		if want := "waiting for instance b/0 to become healthy, at most 1m: connection refused"; s.Reason != want {
			t.Errorf("reason %q", s.Reason)
		}
		end, _ := run(t, s, func(s State, e Event) Event {
			if e.Kind == Healthy && e.Member.Release == "b" {
				return Event{}
			}
			return e
		})
		want := map[int]Phase{0: Failed, 2: RolledBack}[old]
		if end.Phase != want || end.Reason != "instance b/0 did not become healthy within 1m: connection refused" {
			t.Errorf("with %d old instances: ended %s: %s", old, end.Phase, end.Reason)
		}
	}
}

func TestRollbackThatFailsSaysSo(t *testing.T) {
	s, err := Begin(live(t, version("a", 1)), Strategy{}.Plan(version("a", 1), version("b", 1)), start)
	if err != nil {
		t.Fatal(err)
	}
	s = Next(s, Event{Kind: RollBack, At: start, Reason: "by hand"})
	end, _ := run(t, s, func(s State, e Event) Event {
		if e.Kind == Verified {
			return Event{}
		}
		return e
	})
	if end.Phase != RollbackFailed || !strings.Contains(end.Reason, "by hand; going back did not end within 2m") {
		t.Errorf("ended %s: %s", end.Phase, end.Reason)
	}
}

func TestLostInstanceIsReplaced(t *testing.T) {
	s := Next(live(t, version("a", 2)), Event{Kind: Lost, At: start, Member: Member{"a", 0}, Reason: "exited"})
	if got := weights(s); got != "a×1=1.00" {
		t.Errorf("traffic after the loss: %s", got)
	}
	s, _ = run(t, s, nil)
	if got := weights(s); got != "a×2=1.00" || s.Phase != Promoted {
		t.Errorf("traffic after healing: %s, %s", got, s.Phase)
	}
}

func TestRemoval(t *testing.T) {
	s, err := Begin(live(t, version("a", 2)), AllAtOnce(version("a", 2), Version{}), start)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := run(t, s, nil)
	if end.Phase != Promoted || len(end.Places) != 0 || end.Arms() != nil || end.Live() != (Version{}) {
		t.Errorf("after removal: %+v", end)
	}
}

func TestBeginRefusesASecondRollout(t *testing.T) {
	s, err := Begin(State{}, AllAtOnce(Version{}, version("a", 1)), start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Begin(s, AllAtOnce(Version{}, version("b", 1)), start); err == nil {
		t.Error("a second rollout began while the first was under way")
	}
}

// explorer visits every state that some order of events leads to.
type explorer struct {
	t        *testing.T
	strategy Strategy
	seen     map[string]bool
	ended    map[string]bool // states from which it ends though nobody answers
	returned map[string]bool // states from which the way back ends well
	finals   map[Phase]int
	losses   int
}

// node is a state on a path: what the edge has in force and which instances
// were lost, which the machine cannot prevent.
type node struct {
	s      State
	now    time.Time
	edge   []Arm
	lost   []Member
	losses int
}

func (n node) key() string { return stateKey(n.s) + fmt.Sprint(n.edge, n.lost, n.losses) }

// stateKey is the state without its times and texts.
func stateKey(s State) string {
	s.Since, s.Deadline, s.Reason, s.Cause, s.Remark = time.Time{}, time.Time{}, "", "", ""
	if !s.Paused.IsZero() {
		s.Paused = start
	}
	s.Places = slices.Clone(s.Places)
	for i := range s.Places {
		s.Places[i].Since, s.Places[i].Note = time.Time{}, ""
	}
	s.Route -= s.InForce
	s.InForce = 0
	if s.Route > 1 {
		s.Route = 1
	}
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (x *explorer) explore(first node) {
	queue := []node{first}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if k := n.key(); x.seen[k] {
			continue
		} else {
			x.seen[k] = true
		}
		x.check(n)
		for _, e := range x.events(n) {
			if next := x.follow(n, e); e.Kind == InForce || !reflect.DeepEqual(next.s, n.s) {
				queue = append(queue, next)
			}
		}
	}
}

func (x *explorer) events(n node) []Event {
	var out []Event
	for _, c := range Commands(n.s) {
		for _, e := range answers(c) {
			if e.Kind != Lost || n.losses < x.losses {
				out = append(out, e)
			}
		}
	}
	for _, p := range n.s.Places { // also what was not asked for, or comes late
		out = append(out, Event{Kind: Drained, Member: p.Member}, Event{Kind: Stopped, Member: p.Member}, Event{Kind: Healthy, Member: p.Member})
		if p.Status != Begun && n.losses < x.losses {
			out = append(out, Event{Kind: Lost, Member: p.Member, Reason: "killed"})
		}
	}
	out = append(out, Event{Kind: RollBack, Reason: "stopped by hand"}, Event{Kind: Tick}, Event{Kind: Verified},
		Event{Kind: Promote}, Event{Kind: Pause}, Event{Kind: Resume}, Event{Kind: Advance}, Event{Kind: Scale, Instances: 2},
		Event{Kind: HookPassed, Phase: Checking, Step: 0}) // perhaps of another step
	for i := range out {
		out[i].At = n.now
	}
	if due := n.s.Due(); !due.IsZero() {
		out = append(out, Event{Kind: Tick, At: due})
	}
	if n.s.Phase == Watching {
		out = append(out, Event{Kind: Advance, At: later(n.now, n.s.Since.Add(n.s.Plan.Steps[n.s.Step].Bake))})
	}
	return out
}

func (x *explorer) follow(n node, e Event) node {
	next := node{s: Next(n.s, e), now: e.At, edge: n.edge, lost: slices.Clone(n.lost), losses: n.losses}
	switch e.Kind {
	case Lost:
		next.losses++
		next.lost = append(next.lost, e.Member)
	case Healthy:
		if p, _ := n.s.Place(e.Member); p.Status != Begun {
			break // said of an instance that was not waited for
		}
		next.lost = slices.DeleteFunc(next.lost, func(m Member) bool { return m == e.Member })
	case InForce:
		next.edge = n.s.Arms()
	}
	if reflect.DeepEqual(next.s, n.s) {
		return next
	}
	if again := Next(next.s, e); !reflect.DeepEqual(again, next.s) {
		x.t.Fatalf("%+v twice in %s leads to\n%+v, once to\n%+v", e, n.s.Phase, again, next.s)
	}
	if rank(next.s) < rank(n.s) {
		x.t.Fatalf("%s step %d goes back to %s step %d on %+v", n.s.Phase, n.s.Step, next.s.Phase, next.s.Step, e)
	}
	return next
}

func rank(s State) int {
	switch {
	case s.Phase.Final():
		return 1000000
	case !s.Phase.Forward():
		return 100000
	}
	return s.Step*10 + slices.Index([]Phase{Starting, Checking, Shifting, Draining, Confirming, Watching}, s.Phase)
}

func (x *explorer) check(n node) {
	s, t := n.s, x.t
	sum := 0.0
	for _, a := range s.Arms() {
		if a.Weight < 0 || a.Weight > 0 && len(a.Members) == 0 {
			t.Fatalf("arm %+v in %s", a, s.Phase)
		}
		sum += a.Weight
	}
	if s.Arms() != nil && math.Abs(sum-1) > 1e-12 {
		t.Fatalf("weights sum to %v in %s", sum, s.Phase)
	}
	both := s.Plan.Old.Instances > 0 && s.Plan.New.Instances > 0
	if both && n.losses == 0 && s.Arms() == nil {
		t.Fatalf("nothing takes traffic in %s, though nothing was lost: %+v", s.Phase, s.Places)
	}
	if both && n.losses == 0 && s.Phase.Forward() {
		x.capacity(n)
	}
	for _, a := range n.edge {
		for _, m := range a.Members {
			p, ok := s.Place(m)
			if (!ok || p.Status == Stopping) && !slices.Contains(n.lost, m) {
				t.Fatalf("%s is ended in %s while the edge sends it requests", m, s.Phase)
			}
		}
	}
	if s.Phase.Final() {
		x.finals[s.Phase]++
		return
	}
	if s.Phase.Forward() {
		x.canGoBack(n)
	}
	if s.Deadline.IsZero() || s.Reason == "" || s.Due().IsZero() {
		t.Fatalf("%s waits silently: deadline %v, reason %q", s.Phase, s.Deadline, s.Reason)
	}
	x.walk(x.ended, s, func(s State) (Event, bool) { return Event{Kind: Tick, At: s.Due()}, true }) // nobody answers any more
}

// walk goes from a state to its end, or to one from where a walk has ended
// before, and notes that it does.
func (x *explorer) walk(known map[string]bool, s State, next func(State) (Event, bool)) {
	from := s.Phase
	var way []string
	for k := stateKey(s); !s.Phase.Final() && !known[k]; k = stateKey(s) {
		way = append(way, k)
		e, ok := next(s)
		if !ok || len(way) > 100 {
			x.t.Fatalf("no end from %s: %s", from, s.Reason)
		}
		s = Next(s, e)
	}
	for _, k := range way {
		known[k] = true
	}
}

// capacity checks what a strategy promises while nothing is lost: so many
// instances with traffic, and not too many in all.
func (x *explorer) capacity(n node) {
	from, to := n.s.Plan.Old.Instances, n.s.Plan.New.Instances
	takes := 0
	for _, a := range n.edge {
		if a.Weight > 0 {
			takes += len(a.Members)
		}
	}
	if least := min(from, to) - x.strategy.Unavailable.Count; takes < least {
		x.t.Fatalf("%d instances take traffic in %s of step %d, %d were promised: %+v", takes, n.s.Phase, n.s.Step, least, n.edge)
	}
	if most := max(from, to) + max(x.strategy.Surge.Count, 1); x.strategy.Kind == Rolling && len(n.s.Places) > most {
		x.t.Fatalf("%d instances in %s of step %d, at most %d were promised: %+v", len(n.s.Places), n.s.Phase, n.s.Step, most, n.s.Places)
	}
}

// canGoBack turns round with everything well from then on.
func (x *explorer) canGoBack(n node) {
	back := Next(n.s, Event{Kind: RollBack, At: n.now, Reason: "stopped by hand"})
	x.walk(x.returned, back, func(s State) (Event, bool) {
		e, ok := answer(s)
		e.At = n.now
		if end := Next(s, e); end.Phase.Final() && (end.Phase == RollbackFailed || end.Live() != n.s.Plan.Old || n.s.Plan.Old.Instances > 0 && len(end.Arms()) != 1) {
			x.t.Fatalf("the way back from %s ends %s with %+v", n.s.Phase, end.Phase, end.Arms())
		}
		return e, ok
	})
}

func TestEveryOrderOfEvents(t *testing.T) {
	hooks := canaryOf(0.1)
	hooks.Before, hooks.After, hooks.Bake = true, true, time.Second
	both := []Phase{Promoted, RolledBack, RollbackFailed}
	for _, c := range []struct {
		name     string
		strategy Strategy
		old, new int
		losses   int
		ends     []Phase
	}{
		{"first", Strategy{Kind: AtOnce, Before: true}, 0, 2, 2, []Phase{Promoted, Failed, RollbackFailed}},
		{"all at once", Strategy{Kind: AtOnce, After: true}, 2, 1, 1, both},
		{"rolling", Strategy{Kind: Rolling}, 2, 2, 1, both},
		{"rolling up", Strategy{Kind: Rolling}, 1, 3, 1, both},
		{"rolling down", Strategy{Kind: Rolling}, 2, 1, 1, both},
		{"rolling within", Strategy{Kind: Rolling, Unavailable: Amount{Count: 1}}, 2, 2, 0, both},
		{"blue/green", Strategy{Kind: BlueGreen, Soak: time.Minute, Keep: time.Minute}, 1, 2, 1, both},
		{"canary", canaryOf(0.1, 0.5), 1, 2, 1, both},
		{"canary with commands", hooks, 1, 1, 1, both},
		{"removal", Strategy{}, 1, 0, 1, both},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := c.strategy.Plan(Version{}, version("b", c.new))
			if c.old > 0 {
				plan = c.strategy.Plan(version("a", c.old), version("b", c.new))
			}
			if c.new == 0 {
				plan.New.Release = ""
			}
			before := live(t, plan.Old)
			s, err := Begin(before, plan, start)
			if err != nil {
				t.Fatal(err)
			}
			x := &explorer{t: t, strategy: c.strategy, seen: map[string]bool{}, ended: map[string]bool{}, returned: map[string]bool{}, finals: map[Phase]int{}, losses: c.losses}
			x.explore(node{s: s, now: start, edge: before.Arms()})
			for _, p := range c.ends {
				if x.finals[p] == 0 {
					t.Errorf("no order of events ends %s", p)
				}
			}
			t.Logf("%d states, ends %v", len(x.seen), x.finals)
		})
	}
}

// While nothing is heard of requests a watch stands still, whatever else holds it
// up at the same time; what was left of it is left when all is well again.
func TestUnseenWatch(t *testing.T) {
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	type step struct {
		at   int
		kind EventKind
	}
	for name, c := range map[string]struct {
		steps []step
		ends  int // when the watch of a minute ends
	}{
		"seen":                          {nil, 60},
		"away for a time":               {[]step{{10, Blind}, {40, Seeing}}, 90},
		"told twice":                    {[]step{{10, Blind}, {20, Blind}, {40, Seeing}, {50, Seeing}}, 90},
		"away beyond the end":           {[]step{{10, Blind}, {100, Tick}, {300, Seeing}}, 350},
		"the evidence is no way out":    {[]step{{50, Blind}, {55, Advance}, {60, Seeing}}, 70},
		"paused in it":                  {[]step{{10, Blind}, {20, Pause}, {30, Resume}, {40, Seeing}}, 90},
		"paused around it":              {[]step{{10, Pause}, {20, Blind}, {30, Seeing}, {40, Resume}}, 90},
		"paused and then away":          {[]step{{10, Pause}, {20, Blind}, {30, Resume}, {40, Seeing}}, 90},
		"away and then paused":          {[]step{{10, Blind}, {20, Pause}, {30, Seeing}, {40, Resume}}, 90},
		"away since before it, hurried": {[]step{{10, Blind}, {20, Promote}}, 20},
	} {
		plan := canaryOf(0.1).Plan(version("a", 1), version("b", 1))
		plan.Steps[0].Bake = 30 * time.Second
		s, err := Begin(live(t, version("a", 1)), plan, start)
		if err != nil {
			t.Fatal(err)
		}
		for s.Phase != Watching {
			e, _ := answer(s)
			e.At = start
			s = Next(s, e)
		}
		for _, e := range c.steps {
			s = Next(s, Event{Kind: e.kind, At: at(e.at), Reason: "the edge does not answer"})
		}
		if s.Phase == Watching {
			if s = Next(s, Event{Kind: Tick, At: at(c.ends).Add(-1)}); s.Phase != Watching {
				t.Errorf("%s: it is %s too early: %s", name, s.Phase, s.Reason)
			}
			s = Next(s, Event{Kind: Tick, At: at(c.ends)})
		}
		if s.Phase == Watching || !s.Phase.Forward() {
			t.Errorf("%s: it is %s: %s", name, s.Phase, s.Reason)
		}
	}
}

// An edge that stays away for good does not hold a rollout up for ever.
func TestUnseenForLong(t *testing.T) {
	plan := canaryOf(0.1).Plan(version("a", 1), version("b", 1))
	plan.Limits.Pause = time.Hour
	s, err := Begin(live(t, version("a", 1)), plan, start)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, s, func(s State, e Event) Event {
		if s.Phase == Watching && s.Unseen.Since.IsZero() {
			return Event{Kind: Blind, At: s.Since, Reason: "the edge does not answer"}
		}
		return e
	})
	if want := "no data: no outcomes since 03:04:05: the edge does not answer, for 1h"; s.Phase != RolledBack || s.Reason != want || s.Unseen != (Unseen{}) {
		t.Errorf("it is %s: %s; want %s", s.Phase, s.Reason, want)
	}
}
