package analysis

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestGoldenSequence(t *testing.T) {
	test := started(Options{}, 0.10)
	play(t, test, "C+ B- C- B+ C- C+ C- C-",
		0.997840, 0.735531, 1.205463, 1.205463, 3.580769, 3.566314, 17.923865, 114.867945)
	if v := test.Verdict(); v.Condemns() {
		t.Errorf("verdict at 114.9: %s", v)
	}
	test.Tick(start.Add(time.Second))
	near(t, "evidence after the tick", test.evidence.errors, 114.867945, 1e-6)
	near(t, "centre after the tick", test.State().Center, 0.045454545, 1e-8)
	play(t, test, "B+ C+ B- C-", 118.923828, 80.288502, 22.504391, 127.237303)
	if v := test.Verdict(); v != RollBack {
		t.Errorf("verdict at 127.2: %s", v)
	}
}

func TestGoldenFactors(t *testing.T) {
	table := worse(0.10, 0, 1.1, 0.001).table(stakes(0.10))
	last, two := 8, 2 // r = 1000 and r = 2
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"canary bad, r 1000", table[canaryBad][last], 9.092629},
		{"canary ok, r 1000", table[canaryOK][last], 0.99189927},
		{"old bad, r 1000", table[oldBad][last], 0.009911},
		{"canary bad, r 2", table[canaryBad][two], 1.743058},
		{"canary ok, r 2", table[canaryOK][two], 0.99925620},
		{"old bad, r 2", table[oldBad][two], 0.909091},
		{"old ok at centre 0", table[oldOK][two], 1},
	} {
		near(t, c.name, c.got, c.want, 1e-6)
	}
}

// The other rules are given as formulas of their factors.
func TestFormulas(t *testing.T) {
	const w, q, m, c = 0.2, 0.9, 0.005, 0.05
	b := 1 - q
	largest := min(w/b, (1-w)/(1-b))
	latency := slower(w, q).table(stakesLatency())
	for k, f := range []float64{.03, .1, .25, .5, .8} {
		near(t, "canary slow", latency[canaryBad][k], 1+f*largest*(1-b)/w, 1e-12)
		near(t, "canary fast", latency[canaryOK][k], 1-f*largest*b/w, 1e-12)
		near(t, "old slow", latency[oldBad][k], 1-f*largest*(1-b)/(1-w), 1e-12)
		near(t, "old fast", latency[oldOK][k], 1+f*largest*b/(1-w), 1e-12)
	}
	promote := promotion(w, m, false)
	for k, f := range []float64{.03, .09, .25, .5, .77, .91, .99} {
		near(t, "promotion, canary bad", promote[canaryBad][k], 1-f, 1e-12)
		near(t, "promotion, canary ok", promote[canaryOK][k], 1+f*m/(1-m), 1e-12)
		near(t, "promotion, old bad", promote[oldBad][k], 1+f*w/((1-w)*(1-m)), 1e-12)
		near(t, "promotion, old ok", promote[oldOK][k], 1, 1e-12)
	}
	ceiling := above(c, true, false).table(stakesCeiling())
	for k, f := range []float64{.01, .03, .1, .3, .6, .9} {
		near(t, "ceiling, canary bad", ceiling[canaryBad][k], 1+f*(1-c)/c, 1e-12)
		near(t, "ceiling, canary ok", ceiling[canaryOK][k], 1-f, 1e-12)
		near(t, "ceiling, old bad", ceiling[oldBad][k], 1, 1e-12)
	}
}

// Under what a rule must not condemn no factor gains on average, whatever the
// weight, the centre and the old version's rate; at the edge it neither gains
// nor loses.
func TestFactorsAreFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		w, b, old := 0.001+0.998*rng.Float64(), rng.Float64()/2, rng.Float64()
		rho, delta := 1+rng.Float64(), math.Pow(10, -4*rng.Float64())/10
		margin, limit, q := rng.Float64()/2, 0.001+rng.Float64()/2, 0.4+0.599*rng.Float64()
		oldLow := old * (1 - delta) / rho // so that the edge is a rate
		for _, c := range []struct {
			rule        string
			table       table
			canary, old float64 // the edge
			inward      float64 // where the canary's rate may lie beside it
		}{
			{"5xx", worse(w, b, rho, delta).table(stakes(w)), rho*oldLow + delta, oldLow, -1},
			{"latency", slower(w, q).table(stakesLatency()), old, old, -1},
			{"promotion", promotion(w, margin, false), old*(1-margin) + margin, old * (1 - margin), 1},
			{"promotion alone", promotion(w, limit, true), limit, old, 1},
			{"ceiling", above(limit, true, false).table(stakesCeiling()), limit, old, -1},
			{"guard", above(limit, true, true).table(stakesCeiling()), limit, limit, -1},
			{"interval, worse", worse(w, 0, 1, margin).table(stakes(w)), old*(1-margin) + margin, old * (1 - margin), -1},
			{"interval, better", better(w, margin).table(stakes(w)), old*(1-margin) + margin, old * (1 - margin), 1},
		} {
			for k := range most {
				mean := func(canary float64) float64 {
					return w*(canary*c.table[canaryBad][k]+(1-canary)*c.table[canaryOK][k]) +
						(1-w)*(c.old*c.table[oldBad][k]+(1-c.old)*c.table[oldOK][k])
				}
				if c.table[canaryBad][k] == 0 {
					continue // a rule with fewer bettors
				}
				if m := mean(c.canary); math.Abs(m-1) > 1e-9 {
					t.Fatalf("%s: bettor %d at the edge has a mean factor of %.12f (w %v, b %v, old rate %v)", c.rule, k, m, w, b, c.old)
				}
				inside := c.canary * rng.Float64()
				if c.inward > 0 {
					inside = c.canary + (1-c.canary)*rng.Float64()
				}
				if m := mean(inside); m > 1+1e-9 {
					t.Fatalf("%s: bettor %d gains %.12f where the rule must not condemn", c.rule, k, m)
				}
				for i := range c.table {
					if f := c.table[i][k]; f <= 0 {
						t.Fatalf("%s: factor %d of bettor %d is %v", c.rule, i, k, f)
					}
				}
			}
		}
	}
}

// The rule without a coin is fair for blocks of any size, at any allowed pair
// of rates.
func TestBlocksAreFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	binomial := func(n, k int64, p float64) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return math.Exp(a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	for range 300 {
		nCanary, nOld := 1+rng.Int64N(8), 1+rng.Int64N(8)
		rho, delta, guess := 1+rng.Float64(), math.Pow(10, -4*rng.Float64())/10, 0.001+0.4*rng.Float64()
		pOld := 1e-6 + rng.Float64()*(1-delta)/rho*0.999
		pCanary := rho*pOld + delta
		if rng.IntN(2) == 0 {
			pCanary *= rng.Float64()
		}
		mean := 0.0
		for i := range nCanary + 1 {
			for j := range nOld + 1 {
				c := begin(priorErrors(), 0)
				c.foldBlock(Counts{i, nCanary - i, j, nOld - j}, guess, rho, delta)
				mean += binomial(nCanary, i, pCanary) * binomial(nOld, j, pOld) * c.evidence()
			}
		}
		if mean > 1+1e-9 {
			t.Fatalf("mean %.12f for %d and %d requests at rates %v and %v (guess %v, rho %v, delta %v)", mean, nCanary, nOld, pCanary, pOld, guess, rho, delta)
		}
	}
}

// An adversary who sees the wealth before he chooses the next rates, within
// what is allowed, forces a rollback with a chance well below alpha: enumerated, not simulated,
// and without a reserve, where he has most to play with. The chance is linear in the rates, so the corners of what is
// allowed are enough.
func TestAdversary(t *testing.T) {
	const alpha, requests = 0.05, 10
	const rho, delta = 1.1, 0.001
	corners := [][2]float64{{0, 0}, {delta, 0}, {1, (1 - delta) / rho}, {1, 1}, {0, 1}}
	for _, c := range []struct{ w, b float64 }{{0.05, 0}, {0.10, 0}, {0.25, 0}, {0.50, 0}, {0.10, 0.1}, {0.50, 0.5}} {
		w := c.w
		table := worse(w, c.b, rho, delta).table(stakes(w))
		known := map[Counts]float64{}
		var force func(n Counts, left int) float64
		force = func(n Counts, left int) float64 {
			c := begin(priorErrors(), 0)
			if c.foldCounts(&table, n) >= 1/alpha {
				return 1
			}
			if left == 0 {
				return 0
			}
			if chance, ok := known[n]; ok {
				return chance
			}
			var after [outcomes]float64
			for i := range after {
				next := n
				next[i]++
				after[i] = force(next, left-1)
			}
			best := 0.0
			for _, p := range corners {
				best = max(best, w*(p[0]*after[canaryBad]+(1-p[0])*after[canaryOK])+(1-w)*(p[1]*after[oldBad]+(1-p[1])*after[oldOK]))
			}
			known[n] = best
			return best
		}
		chance := force(Counts{}, requests)
		t.Logf("weight %v, centre %v: %.2f %%", w, c.b, 100*chance)
		if chance > 0.03 || chance < 0.01 {
			t.Errorf("weight %v: an adversary forces a rollback with a chance of %v, want between 0.01 and 0.03", w, chance)
		}
	}
}
