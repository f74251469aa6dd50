package release

import (
	"fmt"
	"math"
	"strings"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/rollout"
	"makeitso/internal/source"
	"makeitso/internal/span"
)

// Report says why a release went back, in its rollout or by hand when it was
// live: the judgement with what it rests on, what went badly, and what was put
// back.
type Report struct {
	Environment string        `json:"environment"`
	Service     string        `json:"service"`
	Release     string        `json:"release"`
	Commit      string        `json:"commit,omitempty"`
	Time        time.Time     `json:"time"` // when it turned round
	Took        time.Duration `json:"took"` // from the beginning of the rollout
	Step        int           `json:"step"` // from 1
	Steps       int           `json:"steps"`
	Share       float64       `json:"share"` // of the traffic that it had
	Cause       string        `json:"cause"`

	// Judgement is nil where requests were not judged.
	Judgement *analysis.Explanation `json:"judgement,omitempty"`
	Series    []analysis.Point      `json:"series,omitempty"`
	Gaps      int                   `json:"gaps,omitempty"` // how often outcomes were lost unseen
	Source    string                `json:"source,omitempty"`
	Tally     source.Tally          `json:"tally,omitzero"` // of another source than the edge

	Failures []edge.Failure `json:"failures"`
	Logs     []InstanceLog  `json:"logs"`
	Notes    []string       `json:"notes,omitempty"` // what could not be found out
	Back     Back           `json:"back"`
}

// Back is what was put back, the zero Back where there was nothing.
type Back struct {
	Release   string `json:"release"`
	Digest    string `json:"digest"`
	Commit    string `json:"commit"`
	Instances int    `json:"instances"`
}

// InstanceLog is the end of what an instance printed.
type InstanceLog struct {
	Instance string   `json:"instance"`
	Path     string   `json:"-"`
	Lines    []string `json:"lines"`
}

// Text is the report as a person reads it.
func (r Report) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	head := fmt.Sprintf("%s of %s went back at %s", r.Release, r.Environment, r.Time.Local().Format("2006-01-02 15:04:05"))
	if r.Took > 0 { // it is filled in
		head += fmt.Sprintf(", %s after it began", span.Text(r.Took.Round(time.Second/10)))
	}
	if r.Share > 0 {
		head += fmt.Sprintf(", with %s of the traffic", rollout.Percent(r.Share))
	}
	line("%s", head)
	line("  %s", r.Cause)
	r.judged(line)
	if len(r.Failures) > 0 {
		line("\nrequests that failed")
		for _, f := range r.Failures {
			line("  %s  %d  %-6s %s  %.3g ms  %s%s", f.Time.Local().Format("15:04:05.000"), f.Status, f.Method, f.Path, f.Ms, f.ID, orWhere(f))
		}
	}
	for _, l := range r.Logs {
		line("\nlast lines of %s", l.Instance)
		for _, text := range l.Lines {
			line("  | %s", text)
		}
	}
	line("\nput back")
	if r.Back.Release == "" {
		line("  nothing: there was no release before")
	} else {
		image := ""
		if r.Back.Digest != "" { // it is filled in
			image = fmt.Sprintf(", image %.19s%s", r.Back.Digest, orCommit(r.Back.Commit))
		}
		line("  %s with %d instances%s", r.Back.Release, r.Back.Instances, image)
	}
	for _, note := range r.Notes {
		line("  not known: %s", note)
	}
	return b.String()
}

func orWhere(f edge.Failure) string {
	text := ""
	if f.Instance != "" {
		text += "  " + f.Instance
	}
	if f.Error != "" {
		text += "  " + f.Error
	}
	return text
}

func orCommit(commit string) string {
	if commit == "" {
		return ""
	}
	return fmt.Sprintf(", commit %.12s", commit)
}

// judged writes the judgement and what it rests on.
func (r Report) judged(line func(string, ...any)) {
	e := r.Judgement
	if e == nil {
		return
	}
	line("\nevidence")
	if curve := Sparkline(r.Series); len(r.Series) > 1 {
		line("  %s  over %s; the right end is %.3g, and %.3g is enough", curve, span.Text(r.Series[len(r.Series)-1].Time.Sub(r.Series[0].Time).Round(time.Second/10)), e.Evidence, e.Limit)
	}
	for _, f := range e.Findings {
		mark := " "
		if f.Rule == e.Rule {
			mark = "*"
		}
		line("%s %-15s %8.3g of %.3g", mark, f.Rule, f.Evidence, f.Limit)
	}
	line("\nwhat was seen")
	r.read(line)
	line("  %-15s %s, 19 times in 20 between %.3g %% and %.3g %%", "canary", e.Canary.Arm, 100*e.Canary.Low, 100*e.Canary.High)
	if e.Options.Absolute == "" {
		line("  %-15s %s, 19 times in 20 between %.3g %% and %.3g %%", "live release", e.Old.Arm, 100*e.Old.Low, 100*e.Old.High)
		line("  %-15s %s", "difference", e.Difference)
	} else {
		line("  %-15s not compared, since %s", "live release", e.Options.Absolute)
	}
	for _, q := range e.Latency {
		line("  %-15s live release %s, canary allowed %s", fmt.Sprintf("latency p%.3g", 100*q.Level), span.Text(q.Old.Round(100*time.Microsecond)), span.Text(q.Allowed.Round(100*time.Microsecond)))
	}
	if r.Gaps > 0 {
		line("  %-15s the edge lost outcomes %d times before they were weighed; whether it did does not depend on the coin", "gaps", r.Gaps)
	}
	line("\nguarantee\n  %s", e.Guarantee())
}

// read writes where outcomes were read, where that is not the edge.
func (r Report) read(line func(string, ...any)) {
	if r.Source == "" {
		return
	}
	line("  %-15s %s", "source", r.Source)
	line("  %-15s %d outcomes, %d lines that are none", "read", r.Tally.Counted, r.Tally.Ignored)
	if r.Tally.Sample != "" {
		line("  %-15s %s", "not understood", r.Tally.Sample)
	}
	if r.Tally.Gaps > 0 {
		line("  %-15s a log was written anew %d times; what it said last may have been missed", "gaps", r.Tally.Gaps)
	}
	if r.Tally.Trouble != "" {
		line("  %-15s %s", "trouble", r.Tally.Trouble)
	}
}

// sparks is how wide a Sparkline is at most.
const sparks = 40

// Sparkline draws evidence over time, on a logarithmic scale from 1 to its limit.
func Sparkline(points []analysis.Point) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	n := min(sparks, len(points))
	for i := range n {
		p := points[(i+1)*len(points)/n-1]
		height := math.Log(max(1, p.Evidence)) / math.Log(p.Limit)
		b.WriteRune(blocks[min(len(blocks)-1, int(height*float64(len(blocks)-1)))])
	}
	return b.String()
}
