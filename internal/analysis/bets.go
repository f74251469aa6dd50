package analysis

import "math"

// The four outcomes of a request: its arm and whether it went badly.
const (
	canaryBad = iota
	canaryOK
	oldBad
	oldOK
	outcomes
)

// Counts are numbers of requests by outcome, in the order canary bad, canary
// well, old version bad, old version well.
type Counts [outcomes]int64

// outcome has no branches: no processor could guess them.
func outcome(canary, bad bool) int {
	arm, how := canaryBad, canaryBad
	if !canary {
		arm = oldBad
	}
	if !bad {
		how = canaryOK
	}
	return arm + how
}

// Canary is what was seen of the canary.
func (n Counts) Canary() Arm { return Arm{Requests: n[canaryBad] + n[canaryOK], Bad: n[canaryBad]} }

// Old is what was seen of the version before it.
func (n Counts) Old() Arm { return Arm{Requests: n[oldBad] + n[oldOK], Bad: n[oldBad]} }

// Plus counts so many more requests.
func (n Counts) Plus(canary, bad bool, more int64) Counts {
	n[outcome(canary, bad)] += more
	return n
}

func (n Counts) plus(m Counts) Counts {
	for i := range n {
		n[i] += m[i]
	}
	return n
}

func (n Counts) minus(m Counts) Counts {
	for i := range n {
		n[i] -= m[i]
	}
	return n
}

// payoff is what a stake of one wins, or loses, at each outcome. A rule is a
// payoff whose mean, given the past, is not above 0 as long as what the rule
// wants to disprove is true: then nobody can expect to win by it, and capital
// that grew to x times itself is evidence of 1 in x.
type payoff [outcomes]float64

// most is the largest number of bettors of a rule.
const most = 9

// table holds what each bettor's capital is multiplied by at each outcome.
type table [outcomes][most]float64

// table lets a bettor stake each of the fractions of the largest stake that
// cannot lose more than there is. All fractions lie below 1, so factors are
// positive; their mean is 1 + stake·mean(payoff), at most 1.
func (p payoff) table(fractions []float64) (t table) {
	worst := 0.0
	for _, g := range p {
		worst = max(worst, -g)
	}
	for i, g := range p {
		for k, f := range fractions {
			t[i][k] = 1
			if worst > 0 {
				t[i][k] += f / worst * g
			}
		}
	}
	return t
}

// Capital is the evidence of a rule: what its bettors own, and a reserve that a
// clock brings into play, for faults that begin when the bettors have lost what
// they had.
type Capital struct {
	Wealth  []float64 `json:"wealth"`
	Reserve float64   `json:"reserve"`
}

// begin shares a capital of 1 out.
func begin(prior []float64, reserve float64) Capital {
	c := Capital{Wealth: make([]float64, len(prior)), Reserve: reserve}
	for k, part := range prior {
		c.Wealth[k] = part * (1 - reserve)
	}
	return c
}

// alike is the prior of n bettors who are trusted alike.
func alike(n int) []float64 {
	prior := make([]float64, n)
	for k := range prior {
		prior[k] = 1 / float64(n)
	}
	return prior
}

// evidence is the whole capital. It began at 1.
func (c *Capital) evidence() float64 {
	// Three sums, since each addition waits for the one before it.
	w := c.Wealth
	x, y, z := c.Reserve, 0.0, 0.0
	for len(w) >= 3 {
		x, y, z, w = x+w[0], y+w[1], z+w[2], w[3:]
	}
	for _, rest := range w {
		x += rest
	}
	return x + y + z
}

// fold plays one outcome and gives the evidence after it.
func (c *Capital) fold(t *table, outcome int) float64 {
	w, f := c.Wealth, t[outcome][:]
	for len(w) >= 3 && len(f) >= 3 {
		w[0] *= f[0]
		w[1] *= f[1]
		w[2] *= f[2]
		w, f = w[3:], f[3:]
	}
	for k := range min(len(w), len(f)) {
		w[k] *= f[k]
	}
	return c.evidence()
}

// tooRich keeps wealth finite when a batch of many bad answers is folded at
// once; it lies far above any limit.
const tooRich = 1e300

// foldCounts plays many outcomes. Their order does not matter, since factors
// commute. The sum of logarithms keeps huge gains and losses of one batch from
// overflowing before they cancel.
func (c *Capital) foldCounts(t *table, n Counts) float64 {
	for k, wealth := range c.Wealth {
		if wealth > 0 { // else underflow: only the reserve can bring this bettor back
			c.Wealth[k] = math.Exp(min(math.Log(wealth)+t.log(k, n), math.Log(tooRich)))
		}
	}
	return c.evidence()
}

// log is the logarithm of what bettor k's capital is multiplied by.
func (t *table) log(k int, n Counts) float64 {
	log := 0.0
	for i, times := range n {
		if times > 0 {
			log += float64(times) * math.Log(t[i][k])
		}
	}
	return log
}

// ruined is less than any reserve can be told from; to go on multiplying it
// would be slow, since processors are with numbers next to 0.
const ruined = 1e-200

// feed moves a part of the reserve to the bettors. The evidence stays.
func (c *Capital) feed(prior []float64, part float64) {
	part = min(part, c.Reserve)
	c.Reserve -= part
	for k := range c.Wealth {
		if c.Wealth[k] += part * prior[k]; c.Wealth[k] < ruined {
			c.Wealth[k] = 0
		}
	}
}
