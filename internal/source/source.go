// Package source reads what became of requests from elsewhere than the edge: from
// what instances log, from what a command prints, from counters that Prometheus
// has. It knows lines and counters, and up to where they were read; it must not
// know what is concluded from them.
package source

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Source says where outcomes come from. At most one field is set; the zero value
// is the edge, which is not read here.
type Source struct {
	Log        Lines      `json:"log,omitzero"`
	Command    Command    `json:"command,omitzero"`
	Prometheus Prometheus `json:"prometheus,omitzero"`
}

// Command is a shell command that prints a line for each outcome within a time.
type Command struct {
	Run string `json:"run"`
	Lines
}

// Edge says whether the edge tells the outcomes.
func (s Source) Edge() bool { return s == Source{} }

// String is the source in words, to stand after "judged by".
func (s Source) String() string {
	switch {
	case s.Log != Lines{}:
		return "the logs of the instances, " + s.Log.String()
	case s.Command != Command{}:
		return fmt.Sprintf("what %q prints, %s", s.Command.Run, s.Command.Lines)
	case s.Prometheus != Prometheus{}:
		return "Prometheus at " + s.Prometheus.URL
	}
	return "the edge"
}

// Every is how often the source is worth reading.
func (s Source) Every() time.Duration {
	if s.Log != (Lines{}) {
		return time.Second
	}
	return 5 * time.Second // a command is dearer, and counters are seldom fetched
}

// Arm is one of two versions, and where its instances are.
type Arm struct {
	Release   string
	Commit    string
	Instances []Instance
}

// Instance is one instance of an arm.
type Instance struct {
	Address string // host:port
	Log     string // the file that takes what it prints
}

// Count is how many outcomes there were.
type Count struct{ OK, Bad int64 }

// Position is up to where a source was read. Stored together with what was
// learned until there, nothing counts twice and nothing is missed. The zero
// value is before the beginning.
type Position struct {
	Begun    bool                `json:"begun,omitempty"`
	Files    []File              `json:"files,omitempty"`    // of a Log
	Until    time.Time           `json:"until,omitzero"`     // of a Command
	Counters map[string]Counters `json:"counters,omitempty"` // of a Prometheus, by release
}

// Tally is what a source gave beside outcomes, in all or by one Reading.
type Tally struct {
	Counted int64  `json:"counted"`          // lines or requests that were an outcome
	Ignored int64  `json:"ignored"`          // lines that were none
	Sample  string `json:"sample,omitempty"` // the last of these
	Gaps    int    `json:"gaps,omitempty"`   // how often lines may have been lost
	// Trouble is why there is nothing, or less than there should be, as far as
	// the last Reading knows.
	Trouble string `json:"trouble,omitempty"`
}

// Add adds a later tally.
func (t *Tally) Add(later Tally) {
	t.Counted += later.Counted
	t.Ignored += later.Ignored
	t.Gaps += later.Gaps
	t.Trouble = later.Trouble
	if later.Sample != "" {
		t.Sample = later.Sample
	}
}

// Reading is what came since a position.
type Reading struct {
	Position
	Tally
	Arms map[string]Count // by release
}

// count counts an outcome of a release.
func (r *Reading) count(release string, n Count) {
	was := r.Arms[release]
	r.Arms[release] = Count{was.OK + n.OK, was.Bad + n.Bad}
	r.Counted += n.OK + n.Bad
}

// Reader reads a source.
type Reader struct {
	Source Source
	// Run runs the source's command with these variables, has it print to out,
	// and says how it ended badly.
	Run func(ctx context.Context, env []string, out io.Writer) error
}

// Read gives what came since a position until now. From the zero position it
// counts nothing and gives the one to begin at. After an error, and after a
// crash, it is called again with the position from before.
func (r Reader) Read(ctx context.Context, arms []Arm, from Position, now time.Time) (Reading, error) {
	out := Reading{Position: from, Arms: map[string]Count{}}
	var err error
	switch {
	case r.Source.Log != Lines{}:
		err = r.readLogs(ctx, arms, &out)
	case r.Source.Command != Command{}:
		err = r.readCommand(ctx, arms, &out, now)
	case r.Source.Prometheus != Prometheus{}:
		err = r.readCounters(ctx, arms, &out, now)
	}
	if err != nil {
		return Reading{}, err
	}
	out.Begun = true
	return out, nil
}
