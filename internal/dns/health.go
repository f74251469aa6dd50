package dns

import (
	"fmt"
	"slices"
)

// CheckTypes are the types of health checks that there are.
func CheckTypes() []string {
	return []string{"HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH", "TCP", "CALCULATED", "CLOUDWATCH_METRIC", "RECOVERY_CONTROL"}
}

// Looks says whether the check looks at an endpoint itself.
func (k Check) Looks() bool { return slices.Contains(CheckTypes()[:5], k.Type) }

// tally is what the looks of a check have shown. At first an endpoint is taken
// for healthy.
type tally struct {
	looked bool
	failed bool
	other  int    // looks in a row that showed the other state
	why    string // it failed last
}

// after gives the tally after one more look; err is nil if it went well.
func (t tally) after(err error, threshold int) tally {
	if err != nil {
		t.why = err.Error()
	}
	t.looked = true
	if t.failed == (err != nil) {
		t.other = 0
		return t
	}
	if t.other++; t.other >= threshold {
		t.failed, t.other = err != nil, 0
	}
	return t
}

// standing is all health checks of a server and what they have shown, by id.
type standing struct {
	checks  map[string]Check
	tallies map[string]tally
}

// healthy says how a check stands. One that does not exist hinders nobody.
func (s standing) healthy(id string) bool { return s.follow(id, 0) }

func (s standing) follow(id string, depth int) bool {
	k, known := s.checks[id]
	if !known || depth > longestChain {
		return true
	}
	well := !k.Unhealthy
	switch {
	case k.Disabled:
		well = true
	case k.Looks():
		well = !s.tallies[id].failed
	case k.Type == "CALCULATED":
		count := 0
		for _, child := range k.Children {
			if s.follow(child, depth+1) {
				count++
			}
		}
		well = count >= k.Need
	}
	return well != k.Inverted
}

// text says how a check stands, for people; "" if it does not exist.
func (s standing) text(id string) string {
	k, known := s.checks[id]
	if !known {
		return ""
	}
	state := "Unhealthy"
	if s.healthy(id) {
		state = "Healthy"
	}
	t := s.tallies[id]
	switch {
	case k.Disabled:
		return state + ": it is disabled"
	case k.Type == "CALCULATED":
		return state
	case !k.Looks():
		return state + ": nothing evaluates a check of type " + k.Type + " here"
	case !t.looked:
		return state + ": it has not looked yet"
	case t.failed:
		return state + ": " + t.why
	case t.other > 0:
		return fmt.Sprintf("%s, %d of %d looks against it: %s", state, t.other, k.Threshold, t.why)
	}
	return state
}
