// Package simulate plays rollouts of canaries with traffic from seeded random
// numbers, and judges each by the rules of analysis and by those of other
// tools, so that their false alarms and their speed can be counted. It knows
// rates of errors and rules; it must not know what is printed about them, and
// makeitso itself does not use it.
package simulate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"makeitso/internal/analysis"
)

// Share is the canary's share of the requests, by a coin, in all worlds.
const Share = 0.10

// Traffic is what one second brings: requests, and the chance that one fails.
type Traffic struct {
	Requests    int
	Canary, Old float64
}

// World is a way in which services behave while a canary is judged.
type World struct {
	Name    string
	Figure  string // what another simulation of the same found, 4,000 rollouts of each
	Minutes int    // how long it is watched
	// Begin gives the traffic of each second of one rollout.
	Begin func(rng *rand.Rand) func(second int) Traffic
	// TrueShare is what the coin really does, where it is not Share.
	TrueShare float64
	// Retries is how often a client asks again after a bad answer, which is
	// bad again: the fault lies in what it asks.
	Retries int
}

// steady is a world that stays as it is.
func steady(name, figure string, requests int, canary, old float64) World {
	return changing(name, figure, func(int) Traffic { return Traffic{requests, canary, old} })
}

// changing is a world without chance but in the requests.
func changing(name, figure string, traffic func(second int) Traffic) World {
	return World{Name: name, Figure: figure, Minutes: 60, Begin: func(*rand.Rand) func(int) Traffic { return traffic }}
}

// Equal lists the worlds in which both versions are the same and nothing
// happens.
func Equal() []World {
	return []World{
		steady("equal, 0.1 % errors, 10 req/s", "0", 10, 0.001, 0.001),
		steady("equal, 0.1 % errors, 100 req/s", "0", 100, 0.001, 0.001),
		steady("equal, 1 % errors, 10 req/s", "0.27 %", 10, 0.01, 0.01),
		steady("equal, 1 % errors, 100 req/s", "0.12 %", 100, 0.01, 0.01),
	}
}

// Faults lists the worlds in which the canary fails more often, by so much, from
// the first request on.
func Faults() []World {
	return []World{
		steady("0.1 %, canary +0.5 points", "285 s, 18 bad", 100, 0.006, 0.001),
		steady("0.1 %, canary +1 point", "74 s, 9 bad", 100, 0.011, 0.001),
		steady("0.1 %, canary +5 points", "8.0 s, 4 bad", 100, 0.051, 0.001),
		steady("0.1 %, canary +20 points", "1.4 s, 3 bad", 100, 0.201, 0.001),
		steady("canary always fails", "0.3 s, 3 bad", 100, 1, 0.001),
		bursts("bursts in both, canary +5 points", "8.9 s", 0.05),
		changing("load wave, canary +5 points", "3.6 s", func(second int) Traffic { return loadWave(second, 0.05) }),
	}
}

// Troubles lists the worlds in which both versions suffer alike.
func Troubles() []World {
	retries := steady("retry storm: 1 % fail on any version, asked 4 times", "0.20 %", 100, 0.01, 0.01)
	retries.Retries = 3
	share := steady("true share 12 %, configured 10 %, 5 % errors", "15 % without the check of the split", 100, 0.05, 0.05)
	share.TrueShare = 0.12
	return []World{
		outage("outage of both: 30 % for 60 s", "0.05 %", 0.3),
		changing("shift of both to 5 % after 60 s", "0.20 %", func(second int) Traffic {
			if second >= 60 {
				return Traffic{100, 0.05, 0.05}
			}
			return Traffic{100, 0.001, 0.001}
		}),
		bursts("bursts in both: 50 % for 2 s about every 30 s", "0.10 %", 0),
		changing("load wave, errors follow it", "0.05 %", func(second int) Traffic { return loadWave(second, 0) }),
		retries,
		outage("outage of both, 33 % against 30 %", "0.05 %", 0.33),
		steady("edge of what is allowed: 0.21 % against 0.1 %", "0.35 %", 100, 0.0021, 0.001),
		steady("edge of what is allowed: 1.2 % against 1 %", "0.30 %", 100, 0.012, 0.01),
		share,
	}
}

// outage fails for the second minute, the canary at a rate of its own.
func outage(name, figure string, canary float64) World {
	return changing(name, figure, func(second int) Traffic {
		if second >= 60 && second < 120 {
			return Traffic{100, canary, 0.3}
		}
		return Traffic{100, 0.001, 0.001}
	})
}

// bursts come by chance, and the canary fails more often by a rise.
func bursts(name, figure string, rise float64) World {
	return World{Name: name, Figure: figure, Minutes: 60, Begin: func(rng *rand.Rand) func(int) Traffic {
		until := 0
		return func(second int) Traffic {
			rate := 0.001
			if second >= until && rng.Float64() < 1.0/30 {
				until = second + 2
			}
			if second < until {
				rate = 0.5
			}
			return Traffic{100, min(1, rate+rise), rate}
		}
	}}
}

// loadWave goes between 20 and 500 requests a second within ten minutes.
func loadWave(second int, rise float64) Traffic {
	up := (1 + math.Sin(2*math.Pi*float64(second)/600)) / 2
	rate := 0.0005 + (0.03-0.0005)*up
	return Traffic{int(20 + 480*up), rate + rise, rate}
}

// End is how one rollout ended under one rule.
type End struct {
	Verdict analysis.Verdict // Undecided if the time was over first
	After   time.Duration
	Bad     int64 // bad answers of the canary until then
}

// Rollout is one rollout: the end under the rule of analysis, which sees each
// request, and what rules see that look at whole minutes.
type Rollout struct {
	End     End
	Minutes []analysis.Counts
}

// start is when all rollouts begin.
var start = time.Unix(0, 0).UTC()

// Play plays a rollout. Where early is set, promotion and the end of the window
// end it as well.
func (w World) Play(seed uint64, o analysis.Options, early bool) Rollout {
	rng := rand.New(rand.NewPCG(seed, 1))
	traffic := w.Begin(rng)
	test := analysis.New(o)
	test.SetWeight(Share)
	test.Tick(start)
	share := w.TrueShare
	if share == 0 {
		share = Share
	}
	out := Rollout{End: End{Verdict: analysis.Undecided}, Minutes: make([]analysis.Counts, 0, w.Minutes)}
	for second := range 60 * w.Minutes {
		if second%60 == 0 {
			out.Minutes = append(out.Minutes, analysis.Counts{})
		}
		now := traffic(second)
		if out.End.Verdict != analysis.Undecided {
			if early {
				break
			}
			w.count(rng, now, share, &out.Minutes[second/60])
			continue
		}
		w.observe(rng, now, share, &out, test, second)
		test.Tick(start.Add(time.Duration(second+1) * time.Second))
		v := test.Verdict()
		ended := v == analysis.Split || early && (v == analysis.Promote || v == analysis.Inconclusive)
		if ended && out.End.Verdict == analysis.Undecided {
			out.End = End{Verdict: v, After: time.Duration(second+1) * time.Second}
		}
	}
	return out
}

// observe plays the requests of a second one by one, until a verdict stands.
func (w World) observe(rng *rand.Rand, now Traffic, share float64, out *Rollout, test *analysis.Test, second int) {
	minute := &out.Minutes[second/60]
	for i := range now.Requests {
		for again := 0; again <= w.Retries; again++ {
			canary := rng.Float64() < share
			rate := now.Old
			if canary {
				rate = now.Canary
			}
			bad := again > 0 || rng.Float64() < rate
			add(minute, canary, bad, 1)
			if !test.Ended() {
				if test.Observe(analysis.Request{Canary: canary, Bad: bad}); test.Ended() {
					state, passed := test.State(), float64(second)+float64(i+1)/float64(now.Requests)
					out.End = End{test.Verdict(), time.Duration(passed * float64(time.Second)), state.Seen().Canary().Bad}
				}
			}
			if !bad {
				break
			}
		}
	}
}

// count plays the requests of a second by their numbers.
func (w World) count(rng *rand.Rand, now Traffic, share float64, minute *analysis.Counts) {
	canary := binomial(rng, now.Requests, share)
	canaryBad, oldBad := binomial(rng, canary, now.Canary), binomial(rng, now.Requests-canary, now.Old)
	add(minute, true, false, canary-canaryBad)
	add(minute, false, false, now.Requests-canary-oldBad)
	add(minute, true, true, canaryBad)
	add(minute, false, true, oldBad)
	again := w.Retries * (canaryBad + oldBad)
	onCanary := binomial(rng, again, share)
	add(minute, true, true, onCanary)
	add(minute, false, true, again-onCanary)
}

func add(minute *analysis.Counts, canary, bad bool, n int) {
	*minute = minute.Plus(canary, bad, int64(n))
}

// binomial draws how many of n happen that each have the chance p, by leaping
// from one that happens to the next.
func binomial(rng *rand.Rand, n int, p float64) int {
	if p > 0.5 {
		return n - binomial(rng, n, 1-p)
	}
	if p <= 0 {
		return 0
	}
	happened, scale := 0, 1/math.Log1p(-p)
	for at := math.Log(1-rng.Float64()) * scale; at < float64(n); at = math.Floor(at) + 1 + math.Log(1-rng.Float64())*scale {
		happened++
	}
	return happened
}

// Quantile gives the value that a part q of the values does not exceed.
func Quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
