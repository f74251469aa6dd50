package span_test

import (
	"testing"
	"time"

	"makeitso/internal/span"
)

func TestText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                             "0s",
		20 * time.Millisecond:         "20ms",
		10 * time.Second:              "10s",
		time.Minute:                   "1m",
		10 * time.Minute:              "10m",
		time.Minute + 30*time.Second:  "1m30s",
		time.Minute + time.Second/2:   "1m0.5s",
		time.Hour + 10*time.Second:    "1h0m10s",
		90 * time.Minute:              "1h30m",
		24 * time.Hour:                "24h",
		-time.Hour:                    "-1h",
		100*time.Hour + 5*time.Minute: "100h5m",
	} {
		if got := span.Text(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
