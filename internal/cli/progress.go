package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
)

// progress shows events as they come: lines in a pipe; on a terminal the same
// lines in colour, and below them what is at work right now.
type progress struct {
	app  *app
	seen int64 // events up to this number have been shown before

	mu      sync.Mutex
	working []working // in the order they began
	drawn   int       // lines now below the last event
	started map[string]time.Time
}

// working is a stage at work.
type working struct {
	run, stage string
	message    string
	since      time.Time
}

func (a *app) newProgress() *progress { return &progress{app: a, started: map[string]time.Time{}} }

// marks are how a status looks in a pipe and on a terminal.
var marks = map[pipeline.Status]struct{ plain, symbol, color string }{
	pipeline.Waiting:    {"waiting", "○", yellow},
	pipeline.Running:    {"running", "●", blue},
	pipeline.Succeeded:  {"done", "✓", green},
	pipeline.Failed:     {"FAILED", "✗", red},
	pipeline.Skipped:    {"skipped", "–", faint},
	pipeline.Canceled:   {"canceled", "■", yellow},
	pipeline.Superseded: {"superseded", "■", yellow},
}

func (a *app) mark(status pipeline.Status) string {
	m := marks[status]
	if !a.Terminal {
		return fmt.Sprintf("%-10s", m.plain)
	}
	return a.style(m.color, m.symbol)
}

// see shows one event.
func (p *progress) see(ev pipeline.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.line(ev)
	if ev.Number <= p.seen {
		return nil
	}
	return p.redraw(line)
}

// line gives the event's line, "" if it only changes what is at work.
func (p *progress) line(ev pipeline.Event) string {
	a, id, status := p.app, ev.Run+" "+ev.Stage, pipeline.Status(ev.Status)
	switch ev.Kind {
	case "run":
		return p.runLine(ev, status)
	case "stage":
		at := slices.IndexFunc(p.working, func(w working) bool { return w.run == ev.Run && w.stage == ev.Stage })
		if status == pipeline.Running || status == pipeline.Waiting {
			if at < 0 {
				p.working = append(p.working, working{run: ev.Run, stage: ev.Stage, since: ev.Time})
				at = len(p.working) - 1
			}
			p.working[at].message = ev.Message
			if status == pipeline.Waiting && ev.Message != "" {
				return p.columns(ev.Run, ev.Stage, status, ev.Message)
			}
			if _, again := p.started[id]; again || a.Terminal {
				return ""
			}
			p.started[id] = ev.Time
			return p.columns(ev.Run, ev.Stage, status, "")
		}
		detail := ev.Message
		if at >= 0 {
			detail = strings.TrimSpace(took(ev.Time.Sub(p.working[at].since)) + "  " + detail)
			p.working = slices.Delete(p.working, at, at+1)
		}
		return p.columns(ev.Run, ev.Stage, status, detail)
	case "release":
		if ev.Status != "watch" || !a.Terminal {
			return p.detailLine(ev)
		}
		p.atWork(func(w working) bool { return strings.HasPrefix(w.stage, "release-") }, ev.Message)
		return ""
	case "plan", "instance", "approval", "drift", "alarm", "stack", "site":
		return p.detailLine(ev)
	}
	// Resources are shown while they change; the log keeps them all.
	p.atWork(func(w working) bool { return w.run == ev.Run && w.stage == ev.Stage }, ev.Subject+" "+ev.Status)
	return ""
}

// atWork sets what is said of the stages at work that match.
func (p *progress) atWork(match func(working) bool, message string) {
	for i := range p.working {
		if match(p.working[i]) {
			p.working[i].message = message
		}
	}
}

func (p *progress) runLine(ev pipeline.Event, status pipeline.Status) string {
	switch {
	case status == pipeline.Running:
		p.started[ev.Run] = ev.Time
		return p.columns(ev.Run, "", status, ev.Message)
	case status == pipeline.Waiting:
		return ""
	}
	detail := ev.Message
	if begun, ok := p.started[ev.Run]; ok {
		detail = strings.TrimSpace(took(ev.Time.Sub(begun)) + "  " + detail)
	}
	p.working = slices.DeleteFunc(p.working, func(w working) bool { return w.run == ev.Run })
	return p.columns(ev.Run, "", status, detail)
}

// detailLine gives the line of something that happened within a stage, or to a
// service by itself.
func (p *progress) detailLine(ev pipeline.Event) string {
	message := ev.Message
	if ev.Kind == "approval" {
		message = strings.ToLower(ev.Status) + " by " + ev.Subject
	} else if !strings.Contains(message, ev.Subject) {
		message = ev.Subject + ": " + message
	}
	return p.app.style(faint, fmt.Sprintf("%-12s   %s", ev.Run, indentRest(message)))
}

func (p *progress) columns(run, stage string, status pipeline.Status, detail string) string {
	text := fmt.Sprintf("%-12s %-34s %s %s", run, stage, p.app.mark(status), indentRest(detail))
	if stage == "" {
		text = p.app.style(bold, text)
	}
	return strings.TrimRight(text, " ")
}

// indentRest indents all lines of text but the first, so that hints stand
// below their message.
func indentRest(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }

// redraw writes a line and, on a terminal, what is at work below it.
func (p *progress) redraw(line string) error {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
	if line != "" {
		b.WriteString(line + "\n")
	}
	if p.app.Terminal && len(p.working) > 0 {
		// Without wrapping, so that a line is a line on a narrow terminal too.
		b.WriteString("\x1b[?7l")
		for _, w := range p.working {
			text := fmt.Sprintf("%-12s %-34s %s %6s  %s", w.run, w.stage, p.app.mark(pipeline.Running), took(time.Since(w.since).Truncate(100*time.Millisecond)), w.message)
			text, _, _ = strings.Cut(text, "\n")
			b.WriteString(clip(text, 118) + "\n")
			p.drawn++
		}
		b.WriteString("\x1b[?7h")
	}
	_, err := io.WriteString(p.app.Out, b.String())
	return err
}

// clip cuts text to n letters; colour codes count, which only cuts earlier.
func clip(text string, n int) string {
	if letters := []rune(text); len(letters) > n {
		return string(letters[:n-1]) + "…\x1b[0m"
	}
	return text
}

// follow shows events until the runs have ended or ctx does. On a terminal
// what is at work is drawn anew ten times a second.
func (p *progress) follow(ctx context.Context, client *api.Client, r control.FollowRequest) error {
	done := make(chan struct{})
	var ticking sync.WaitGroup
	if p.app.Terminal {
		ticking.Go(func() { p.tick(done) })
	}
	err := client.Follow(ctx, r, p.see)
	close(done)
	ticking.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = nil
	if drawErr := p.redraw(""); err == nil {
		err = drawErr
	}
	return err
}

func (p *progress) tick(done <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			_ = p.redraw("") // the terminal is gone: the next event reports it
			p.mu.Unlock()
		case <-done:
			return
		}
	}
}

// followRuns shows the runs to their end. It fails if one of them did, after
// showing the last lines that the failed stages printed.
func (a *app) followRuns(ctx context.Context, client *api.Client, started control.StartResponse) error {
	ids := make([]string, len(started.Runs))
	for i, run := range started.Runs {
		ids[i] = run.ID
	}
	if len(ids) == 0 {
		return nil
	}
	if err := a.newProgress().follow(ctx, client, control.FollowRequest{After: started.After, Runs: ids}); err != nil {
		return err
	}
	var failed []string
	code := fault.Failed
	for _, id := range ids {
		r, err := client.Run(ctx, control.RunRequest{Run: id})
		if err != nil {
			return err
		}
		if r.Run.Status == pipeline.Succeeded {
			continue
		}
		if slices.ContainsFunc(r.Stages, func(s pipeline.StageRun) bool { return s.Code == fault.Denied }) {
			code = fault.Denied
		}
		failed = append(failed, fmt.Sprintf("%s %s", id, strings.ToLower(string(r.Run.Status))))
		if err := a.showFailure(ctx, client, r); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fault.New(code, "%s", strings.Join(failed, ", ")).WithHint("go on from where it failed with: makeitso retry %s", strings.Fields(failed[0])[0])
	}
	return nil
}

// tailLines is how much of a failed stage's output is shown.
const tailLines = 25

func (a *app) showFailure(ctx context.Context, client *api.Client, r control.RunResponse) error {
	for _, s := range r.Stages {
		if s.Status != pipeline.Failed {
			continue
		}
		var tail lastLines
		if err := client.Logs(ctx, control.RunRequest{Run: s.Run, Stage: s.ID, Tail: 16 << 10}, &tail); err != nil {
			return err
		}
		if len(tail.lines) > 0 {
			fmt.Fprintf(a.Out, "%s\n", a.style(faint, fmt.Sprintf("--- the last of what %s %s printed (all: makeitso logs %s %s)", s.Run, s.ID, s.Run, s.ID)))
			fmt.Fprintln(a.Out, strings.Join(tail.lines, "\n"))
		}
	}
	return nil
}

// lastLines keeps the last lines written to it.
type lastLines struct {
	lines   []string
	partial string
}

func (l *lastLines) Write(p []byte) (int, error) {
	parts := strings.Split(l.partial+string(p), "\n")
	l.partial = parts[len(parts)-1]
	l.lines = append(l.lines, parts[:len(parts)-1]...)
	l.lines = slices.Clone(l.lines[max(0, len(l.lines)-tailLines):])
	return len(p), nil
}
