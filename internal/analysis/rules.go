package analysis

import "math"

// ratios are what the nine bettors on 5xx believe: the canary fails so many
// times as often. The prior leans to large ones: a total failure must be found
// within three answers, a small one needs many anyway.
func ratios() [most]float64 { return [most]float64{1.3, 1.6, 2, 3, 5, 10, 30, 100, 1000} }

func priorErrors() []float64 { return []float64{.08, .08, .08, .08, .09, .11, .16, .16, .16} }

// stakes are the fractions that those who believe in the ratios stake, where
// the canary has the share w.
func stakes(w float64) []float64 {
	f := make([]float64, 0, most)
	for _, r := range ratios() {
		f = append(f, w*(r-1)/(1+w*(r-1)))
	}
	return f
}

// worse pays where the canary's rate is above rho times the old one's + delta:
// its mean is pCanary - delta - rho·pOld for any centre b that was chosen
// before. The centre takes out most of what a wrong w would do.
func worse(w, b, rho, delta float64) payoff {
	return payoff{
		canaryBad: (1 - delta - rho*b) / w,
		canaryOK:  -(delta + rho*b) / w,
		oldBad:    -rho * (1 - b) / (1 - w),
		oldOK:     rho * b / (1 - w),
	}
}

// better pays where the canary's rate is less than margin above the old one's:
// the same bet as worse, with the sign turned.
func better(w, margin float64) payoff {
	p := worse(w, 0, 1, margin)
	for i := range p {
		p[i] = -p[i]
	}
	return p
}

func stakesPromotion() []float64 { return []float64{.03, .09, .25, .5, .77, .91, .99} }

// promotion is the table of early promotion: by comparison, or against a limit
// on the canary alone.
func promotion(w, margin float64, alone bool) table {
	p := better(w, margin)
	if alone {
		p = above(margin, true, false)
		for i := range p {
			p[i] = -p[i]
		}
	}
	return p.table(stakesPromotion())
}

// slower pays where the canary exceeds its bound more often than the old
// version exceeds its own, which it does with a chance of about 1 - q.
func slower(w, q float64) payoff { return worse(w, 1-q, 1, 0) }

func stakesLatency() []float64 { return []float64{.03, .1, .25, .5, .8} }

// above pays where the rate lies above a limit, of the arms chosen.
func above(limit float64, canary, old bool) payoff {
	var p payoff
	if canary {
		p[canaryBad], p[canaryOK] = 1-limit, -limit
	}
	if old {
		p[oldBad], p[oldOK] = 1-limit, -limit
	}
	return p
}

func stakesCeiling() []float64 { return []float64{.01, .03, .1, .3, .6, .9} }

// foldBlock is the weaker rule, for requests that no coin sends: a likelihood
// ratio over all requests of one block, between two rates in which the canary
// is worse and the nearest two (by relative entropy) in which it is not.
//
// It is fair where requests fail independently given the past: the logarithm of
// the mean factor is concave in the two true rates, 0 at the nearest pair, and
// its slope there is the outward normal of the convex set of allowed pairs, so
// it is nowhere in that set above 0; by the same concavity the mean rates of
// the block are enough.
func (c *Capital) foldBlock(n Counts, old, rho, delta float64) {
	border := rho*old + delta
	for k, r := range ratios() {
		canary := border * r / (1 + border*(r-1)) // odds r times those allowed
		near := nearest(n, canary, old, rho, delta)
		t := table{
			canaryBad: {canary / (rho*near + delta)},
			canaryOK:  {(1 - canary) / (1 - rho*near - delta)},
			oldBad:    {old / near},
			oldOK:     {(1 - old) / (1 - near)},
		}
		if c.Wealth[k] > 0 {
			c.Wealth[k] = math.Exp(min(math.Log(c.Wealth[k])+t.log(0, n), math.Log(tooRich)))
		}
	}
}

// nearest gives the old version's rate q of the allowed pair (rho·q + delta, q)
// that is hardest to tell from the rates given, by halving: what it minimises
// is convex, and its slope is negative at old and positive where the canary's
// rate would be allowed.
func nearest(n Counts, canary, old, rho, delta float64) float64 {
	nCanary, nOld := float64(n.Canary().Requests), float64(n.Old().Requests)
	low, high := old, (canary-delta)/rho
	for range 60 {
		q := (low + high) / 2
		p := rho*q + delta
		if nOld*(q-old)/(q*(1-q)) < nCanary*rho*(canary-p)/(p*(1-p)) {
			low = q
		} else {
			high = q
		}
	}
	return (low + high) / 2
}
