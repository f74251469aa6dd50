// Package span writes spans of time as people do. It must not know what they
// are of.
package span

import (
	"strings"
	"time"
)

// Text is a span in hours, minutes and seconds without those at its end that are
// none: 24h and 1m, where its own String says 24h0m0s and 1m0s.
func Text(d time.Duration) string {
	text := d.String()
	for _, none := range []struct{ after, end string }{{"m", "0s"}, {"h", "0m"}} {
		if strings.HasSuffix(text, none.after+none.end) {
			text = strings.TrimSuffix(text, none.end)
		}
	}
	return text
}
