package pace

import (
	"fmt"

	"makeitso/internal/fault"
)

// State is what a rolling update decides by.
type State struct {
	Size  int      // how many instances there shall be in the end
	Most  int      // how many there may be meanwhile
	Old   []string // the instances that are to go
	Fresh int      // those that were made as is wanted now; of these:
	Kept  int      // nothing is waited for: they were there before, or their pause is over
	Good  int      // have said that they are well
	Late  int      // have not, or not in time
}

// Move is the next thing that a rolling update does; with nothing set it has
// done all.
type Move struct {
	Await     int // wait for new instances, so many
	Grow      int // bring the group to so many instances
	Terminate []string
	Replaced  int // how many come in their place then
}

// Width is how many instances there are at most while they are replaced.
func (r Rolling) Width(f State) int { return min(max(f.Size, r.InService+r.Batch), f.Most) }

// Next decides. New instances are waited for before anything else is touched;
// old ones go in batches, as many stay as must serve.
func (r Rolling) Next(f State) (Move, error) {
	if r.InService >= f.Most && len(f.Old) > 0 {
		return Move{}, fault.New(fault.Invalid, "MinInstancesInService must be less than the autoscaling group's MaxSize").
			WithHint("MinInstancesInService is %d and MaxSize %d", r.InService, f.Most)
	}
	if r.Signals && f.Late > f.Size-share(f.Size, r.Percent) {
		return Move{}, unsatisfied(f.Good, f.Size, r.Percent)
	}
	if open := f.Fresh - f.Kept - f.Good - f.Late; open > 0 {
		return Move{Await: open}, nil
	}
	have, wanted := len(f.Old)+f.Fresh, max(f.Size-f.Fresh, 0)
	if more := min(r.Width(f)-have, wanted, r.Batch); more > 0 {
		return Move{Grow: have + more}, nil
	}
	if len(f.Old) == 0 {
		return Move{}, nil
	}
	gone := min(r.Batch, len(f.Old), max(have-r.InService, 1))
	return Move{Terminate: f.Old[:gone], Replaced: min(max(gone-max(have-r.Width(f), 0), 0), wanted)}, nil
}

// Announce says how a rolling update begins, in the service's words.
func (r Rolling) Announce(f State) string {
	text := fmt.Sprintf("Rolling update initiated. Terminating %d obsolete instance(s) in batches of %d", len(f.Old), r.Batch)
	if r.InService > 0 {
		text += fmt.Sprintf(", while keeping at least %d instance(s) in service", r.InService)
	}
	text += "."
	if r.Signals {
		text += fmt.Sprintf(" Waiting on resource signals with a timeout of %s when new instances are added to the autoscaling group.", ISO(r.Pause))
	}
	return text
}
