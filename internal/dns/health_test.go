package dns

import (
	"errors"
	"testing"
)

func TestTallies(t *testing.T) {
	t.Parallel()
	bad := errors.New("refused")
	for _, c := range []struct {
		name      string
		threshold int
		looks     []error
		failed    bool
	}{
		{"at first it is healthy", 3, nil, false},
		{"too few failures", 3, []error{bad, bad}, false},
		{"as many as it takes", 3, []error{bad, bad, bad}, true},
		{"interrupted", 2, []error{bad, nil, bad}, false},
		{"and back", 2, []error{bad, bad, nil, bad, nil, nil}, false},
		{"not back yet", 2, []error{bad, bad, nil}, true},
	} {
		var got tally
		for _, err := range c.looks {
			got = got.after(err, c.threshold)
		}
		if got.failed != c.failed {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	calculated := func(need int, children ...string) Check {
		return Check{Type: "CALCULATED", Need: need, Children: children}
	}
	s := standing{
		checks: map[string]Check{
			"up": {Type: "TCP"}, "down": {Type: "HTTP"}, "inverted": {Type: "HTTP", Inverted: true}, "disabled": {Type: "HTTP", Disabled: true},
			"off": {Type: "HTTP", Disabled: true, Inverted: true}, "alarm": {Type: "CLOUDWATCH_METRIC"}, "unknown": {Type: "CLOUDWATCH_METRIC", Unhealthy: true},
			"one": calculated(1, "up", "down"), "both": calculated(2, "up", "down"), "none": calculated(0), "itself": calculated(1, "itself"),
		},
		tallies: map[string]tally{
			"down": {looked: true, failed: true, why: "refused"}, "inverted": {looked: true, failed: true, why: "refused"}, "disabled": {failed: true},
			"up": {looked: true},
		},
	}
	for id, want := range map[string]string{
		"up": "Healthy", "down": "Unhealthy: refused", "inverted": "Healthy: refused", "disabled": "Healthy: it is disabled", "off": "Unhealthy: it is disabled",
		"alarm":   "Healthy: nothing evaluates a check of type CLOUDWATCH_METRIC here",
		"unknown": "Unhealthy: nothing evaluates a check of type CLOUDWATCH_METRIC here",
		"one":     "Healthy", "both": "Unhealthy", "none": "Healthy", "itself": "Healthy", "absent": "",
	} {
		if got := s.text(id); got != want {
			t.Errorf("%s: %q; want %q", id, got, want)
		}
	}
	if !s.healthy("absent") {
		t.Error("a check that does not exist hinders")
	}
}
