package analysis

import (
	"fmt"
	"time"
)

const (
	// fewestOld is how many requests must speak against a live version.
	fewestOld = 20
	// lately is how far back its requests count: one that is well again is well.
	lately = time.Minute
	// atMost is how far they do where fewer than fewestOld came lately.
	atMost = 10 * time.Minute
)

// Answered is how one request ended that arrived at a time.
type Answered struct {
	At  time.Time
	Bad bool
}

// Lately counts what a version has served lately, of all it served in the order
// in which it arrived. Where that are too few requests to say anything, those
// before count too.
func Lately(served []Answered, now time.Time) (seen Arm) {
	for i := len(served) - 1; i >= 0; i-- {
		ago := now.Sub(served[i].At)
		if ago > atMost || ago > lately && seen.Requests >= fewestOld {
			break
		}
		seen.Requests++
		if served[i].Bad {
			seen.Bad++
		}
	}
	return seen
}

// Unhealthy says why a version that served old lately cannot be compared with, ""
// if it can: at least half of not too few requests went badly. Ask it before the
// canary comes, and give what it says to Options.Absolute: an outage that
// begins later may be the canary's own doing, or nobody's.
func Unhealthy(old Arm) string {
	if old.Requests < fewestOld || old.Share() < 0.5 {
		return ""
	}
	return fmt.Sprintf("%s went badly before the rollout", old)
}
