package rollout

import (
	"fmt"
	"math"
	"time"
)

// Kind is a strategy's name, as users write it.
type Kind string

// The strategies. The zero Kind is Rolling.
const (
	Rolling   Kind = "rolling"     // some instances after others
	AtOnce    Kind = "all-at-once" // every new instance, then one change of traffic
	BlueGreen Kind = "blue-green"  // the whole new version beside the old, then one change; the old runs on for a time
	Canary    Kind = "canary"      // rising shares of the traffic, each watched
)

// Amount is a number of instances, or a part of them; at most one is set.
type Amount struct {
	Count int     `json:"count,omitempty"`
	Part  float64 `json:"part,omitempty"` // 1 is all of them
}

// of is the amount of n instances, a part of them rounded by round. More than
// all of them do no more than all.
func (a Amount) of(n int, round func(float64) float64) int {
	if a.Part > 0 {
		return int(round(min(1, a.Part) * float64(n)))
	}
	return min(n, a.Count)
}

// Strategy is how a release takes the place of the one before. Fields that are
// not of its Kind are ignored.
type Strategy struct {
	Kind Kind `json:"kind,omitempty"`
	// Rolling: how many instances there may be beyond the larger of both
	// versions, and how many fewer than the smaller may take traffic. If
	// neither gives anything, Surge is 1.
	Surge       Amount `json:"surge,omitzero"`
	Unavailable Amount `json:"unavailable,omitzero"`
	// Canary: the new version's shares, between 0 and 1, rising; how long each
	// is watched at most; and how long at least, where the evidence may end
	// that earlier (0: it may not).
	Shares []float64     `json:"shares,omitempty"`
	Watch  time.Duration `json:"watch,omitempty"`
	Bake   time.Duration `json:"bake,omitempty"`
	// BlueGreen: how long the new version runs beside the old before it takes
	// traffic, and the old one after.
	Soak time.Duration `json:"soak,omitempty"`
	Keep time.Duration `json:"keep,omitempty"`
	// Before and After say that a command is run before and after each change
	// of traffic, which may stop the rollout.
	Before bool `json:"before,omitempty"`
	After  bool `json:"after,omitempty"`
}

// Validate says what is wrong with the strategy.
func (s Strategy) Validate() error {
	switch s.Kind {
	case "", Rolling, AtOnce, BlueGreen:
		return nil
	case Canary:
	default:
		return fmt.Errorf("the strategy %q is none of %s, %s, %s and %s", s.Kind, Rolling, AtOnce, BlueGreen, Canary)
	}
	last := 0.0
	for _, share := range s.Shares {
		if !(share > last && share < 1) {
			return fmt.Errorf("the canary's shares are %v; they must rise and lie between 0 and 1", s.Shares)
		}
		last = share
	}
	if last == 0 {
		return fmt.Errorf("the canary has no shares")
	}
	return nil
}

// Plan is the way from one version to another by this strategy. To or from
// nothing there is only one: all at once.
func (s Strategy) Plan(from, to Version) Plan {
	p := AllAtOnce(from, to)
	switch {
	case from.Instances == 0 || to.Instances == 0:
	case s.Kind == BlueGreen:
		p.Steps = []Step{{New: to.Instances, Old: from.Instances, Watch: s.Soak}, {New: to.Instances, Share: 1}}
		p.Preview, p.Keep = true, s.Keep
	case s.Kind == Canary:
		p.Steps = s.canary(from, to)
	case s.Kind != AtOnce:
		p.Steps = s.rolling(from, to)
	}
	p.Before, p.After = s.Before && to.Instances > 0, s.After && to.Instances > 0
	return p
}

// rolling starts as many new instances as fit, and then lets as many old ones
// go as the new ones allow.
func (s Strategy) rolling(from, to Version) []Step {
	surge := s.Surge.of(to.Instances, math.Ceil)
	unavailable := min(s.Unavailable.of(to.Instances, math.Floor), from.Instances)
	if surge+unavailable == 0 {
		surge = 1
	}
	most := max(from.Instances, to.Instances) + surge
	least := max(0, min(from.Instances, to.Instances)-unavailable)
	var steps []Step
	for started, left := 0, from.Instances; started < to.Instances || left > 0; {
		started = max(started, min(to.Instances, most-left))
		left = min(left, max(0, least-started))
		if started == to.Instances {
			left = 0
		}
		share := 0.0
		if started > 0 {
			share = float64(started) / float64(started+left)
		}
		steps = append(steps, Step{New: started, Old: left, Share: share})
	}
	return steps
}

// canary has the whole old version beside it until the end.
func (s Strategy) canary(from, to Version) []Step {
	var steps []Step
	for _, share := range s.Shares {
		n := max(1, int(math.Ceil(share*float64(to.Instances))))
		steps = append(steps, Step{New: min(n, to.Instances), Old: from.Instances, Share: share, Watch: s.Watch, Bake: s.Bake})
	}
	return append(steps, Step{New: to.Instances, Share: 1})
}

// AllAtOnce starts every new instance, then changes over in one move. It is
// also the way of a first release, of a return by hand, and of a removal.
func AllAtOnce(from, to Version) Plan {
	share := 1.0
	if to.Instances == 0 {
		share = 0
	}
	return Plan{Old: from, New: to, Steps: []Step{{New: to.Instances, Share: share}}}
}
