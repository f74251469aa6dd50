package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"makeitso/internal/process"
)

// Failure is a request that went badly, as the access log has it: its path
// without what may stand behind a question mark.
type Failure struct {
	Time     time.Time `json:"time"`
	ID       string    `json:"id"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`
	Ms       float64   `json:"ms"`
	Instance string    `json:"instance,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// failureTail is how much of the end of an access log is looked at.
const failureTail = 4 << 20

// Failures gives the last requests of the access log at path that went badly at
// an arm of a service since a time: at most so many, the newest last, each of
// another kind where there are enough kinds.
func Failures(path, service, arm string, since time.Time, most int) ([]Failure, error) {
	var all []Failure
	for _, file := range []string{path + ".1", path} { // it may just have been rotated
		lines, err := process.Tail(file, failureTail)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read access log: %w", err)
		}
		for line := range bytes.Lines(lines) {
			var e entry
			// The first line may be cut off.
			if json.Unmarshal(line, &e) == nil && e.Service == service && e.Arm == arm && e.Status >= 500 && !e.Time.Before(since) {
				all = append(all, Failure{e.Time, e.ID, e.Method, e.Path, e.Status, e.Ms, e.Instance, e.Error})
			}
		}
	}
	return various(all, most), nil
}

// various takes the newest of each kind first, and then the newest of the rest.
func various(all []Failure, most int) []Failure {
	type kind struct {
		method, path string
		status       int
	}
	seen := map[kind]bool{}
	var first, rest []Failure
	for _, f := range slices.Backward(all) {
		k := kind{f.Method, f.Path, f.Status}
		if !seen[k] {
			first = append(first, f)
		} else {
			rest = append(rest, f)
		}
		seen[k] = true
	}
	all = append(first, rest...)
	all = all[:min(most, len(all))]
	slices.SortStableFunc(all, func(a, b Failure) int { return a.Time.Compare(b.Time) })
	return all
}
