package release

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"makeitso/internal/analysis"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
)

const (
	// Of each thing a report has at most so much.
	reportFailures = 8
	reportLogs     = 3
	reportLines    = 15
	reportWidth    = 300
	logTail        = 64 << 10
	// failuresPatience is how often, and failuresPause after what time, the
	// access log is looked at again: its lines are written in a moment.
	failuresPatience = 5
	failuresPause    = 50 * time.Millisecond
)

// turned begins the report of a rollout that has just turned round, or has led
// back by hand. It is stored with that transition, and filled in by collect.
func (k *keeper) turned(before rollout.State) {
	now := k.rec.State
	switch {
	case !before.Phase.Forward() || now.Phase.Forward() || now.Plan.New.Release == "":
		return
	case now.Phase == rollout.Promoted:
		k.returned()
		return
	}
	r := Report{
		Environment: k.c.environment, Service: k.name, Release: now.Plan.New.Release, Time: k.now(), Cause: now.Cause,
		Step: before.Step + 1, Steps: len(before.Plan.Steps), Share: before.Share,
		Failures: []edge.Failure{}, Logs: []InstanceLog{},
		Back: Back{Release: now.Plan.Old.Release, Instances: now.Plan.Old.Instances},
	}
	if e := k.evidence(); e != nil && e.Coin {
		test := k.judgement()
		test.Tick(r.Time) // the curve ends with the verdict
		judged := test.Explain()
		r.Judgement, r.Series, r.Gaps = &judged, test.Series(), e.Gaps
		if !e.Source.Edge() {
			r.Source, r.Tally = e.Source.String(), e.Tally
		}
		if judged.Verdict.Condemns() {
			k.tell(r.Release, EventReport, shortReport(r))
		}
	}
	for _, slot := range k.rec.Slots {
		if slot.Release == r.Release && slot.Instance.Log != "" {
			r.Logs = append(r.Logs, InstanceLog{Instance: slot.Instance.ID, Path: slot.Instance.Log})
		}
	}
	k.rec.Reports = append(k.rec.Reports, pendingReport{Report: r, Paths: pathsOf(r.Logs)})
}

// returned begins the report on the release that was left, where a person has
// put another back in its place.
func (k *keeper) returned() {
	plan := k.rec.State.Plan
	if !k.rec.ByHand || plan.Old.Release == "" {
		return
	}
	r := Report{
		Environment: k.c.environment, Service: k.name, Release: plan.Old.Release, Time: k.now(), Step: 1, Steps: len(plan.Steps), Share: 1,
		Cause:    fmt.Sprintf("rolled back from %s to %s %s", plan.Old.Release, plan.New.Release, byHand(k.rec.By)),
		Failures: []edge.Failure{}, Logs: []InstanceLog{},
		Back: Back{Release: plan.New.Release, Instances: plan.New.Instances},
	}
	k.rec.Reports = append(k.rec.Reports, pendingReport{Report: r})
}

// byHand says that a person did it, and who, if that is known.
func byHand(by string) string {
	if by == "" {
		return "by hand"
	}
	return "by hand, by " + by
}

// shortReport is a judgement in one line.
func shortReport(r Report) string {
	e := r.Judgement
	text := fmt.Sprintf("evidence %s %.3g of %.3g", Sparkline(r.Series), e.Evidence, e.Limit)
	if e.Rule == analysis.Rule5xx && e.Difference.Low > 0 {
		text += "; " + e.Difference.String()
	}
	return text + "; all of it: makeitso why " + r.Release
}

// pendingReport is a report that is not filled in yet.
type pendingReport struct {
	Report Report   `json:"report"`
	Paths  []string `json:"paths"` // of the logs
}

func pathsOf(logs []InstanceLog) (paths []string) {
	for _, l := range logs {
		paths = append(paths, l.Path)
	}
	return paths
}

// reporting says whether a release's instances are still needed for a report.
func (k *keeper) reporting(release string) bool {
	return slices.ContainsFunc(k.rec.Reports, func(p pendingReport) bool { return p.Report.Release == release })
}

// collect fills in the reports and stores them. What cannot be found out is
// noted: a report must not hold up a way back.
func (k *keeper) collect(ctx context.Context) {
	for _, p := range k.rec.Reports {
		r := p.Report
		k.begin(ctx, "report on "+r.Release, func(ctx context.Context) error {
			return k.fillIn(ctx, &r, p.Paths)
		}, func(ctx context.Context) {
			number, err := k.c.release(ctx, k.name, r.Release)
			var op record.Op
			if err == nil {
				op, err = k.c.reports.PutOp(k.c.releaseKey(k.name, number.Number), r, record.Any)
			}
			k.rec.Reports = slices.DeleteFunc(k.rec.Reports, func(p pendingReport) bool { return p.Report.Release == r.Release })
			if err == nil {
				err = k.save(ctx, op)
			}
			if err != nil {
				k.broken = err
			}
		})
	}
}

// fillIn finds what a report needs beside the judgement.
func (k *keeper) fillIn(ctx context.Context, r *Report, paths []string) error {
	bad, err := k.c.release(ctx, k.name, r.Release)
	if err != nil {
		return err
	}
	r.Commit, r.Took = bad.Artifact.Commit, r.Time.Sub(bad.Created)
	if r.Back.Release != "" {
		old, err := k.c.release(ctx, k.name, r.Back.Release)
		if err != nil {
			return err
		}
		r.Back.Digest, r.Back.Commit = old.Artifact.Digest, old.Artifact.Commit
	}
	if k.c.o.Failures != nil {
		if r.Failures, err = k.failures(ctx, *r, bad.Created); err != nil {
			r.Notes = append(r.Notes, err.Error())
		}
	}
	logs := r.Logs
	r.Logs = []InstanceLog{}
	for i, path := range paths {
		if len(r.Logs) == reportLogs {
			break
		}
		lines, err := lastLines(path)
		if err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("what %s printed: %v", logs[i].Instance, err))
			continue
		}
		if len(lines) > 0 {
			r.Logs = append(r.Logs, InstanceLog{Instance: logs[i].Instance, Lines: masked(lines, bad.Config)})
		}
	}
	return context.Cause(ctx)
}

// failures gives requests that went badly, as many as were judged bad once the
// access log has them.
func (k *keeper) failures(ctx context.Context, r Report, since time.Time) (found []edge.Failure, err error) {
	wanted := 0
	if r.Judgement != nil {
		wanted = int(min(reportFailures, r.Judgement.Canary.Bad))
	}
	for range failuresPatience {
		found, err = k.c.o.Failures(edgeName(r.Environment, r.Service), r.Release, since, reportFailures)
		if err != nil || len(found) >= wanted {
			break
		}
		select {
		case <-k.c.o.Clock.After(failuresPause):
		case <-ctx.Done():
			return found, context.Cause(ctx)
		}
	}
	return found, err
}

// lastLines reads the end of a log.
func lastLines(path string) ([]string, error) {
	text, err := process.Tail(path, logTail)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if lines[len(lines)-1] == "" {
		return nil, nil
	}
	lines = lines[max(0, len(lines)-reportLines):]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > reportWidth {
			lines[i] = string(runes[:reportWidth]) + "…"
		}
	}
	return lines, nil
}

// masked takes out of lines what the configuration holds, since that may be
// secret; what is short is everywhere.
func masked(lines []string, config map[string]string) []string {
	const shortest = 6
	for _, value := range config {
		if len(value) < shortest {
			continue
		}
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], value, "****")
		}
	}
	return lines
}

// Report gives the report on a release that went back, or on the last one of
// the service that did, where the release is "". One that is not filled in yet
// is given as it is.
func (c *Controller) Report(ctx context.Context, service, release string) (Report, error) {
	rec, err := c.services.Get(ctx, c.serviceKey(service))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Report{}, fmt.Errorf("read service %s: %w", service, err)
	}
	if release == "" {
		return c.lastReport(ctx, service, rec.Reports)
	}
	if i := slices.IndexFunc(rec.Reports, func(p pendingReport) bool { return p.Report.Release == release }); i >= 0 {
		return rec.Reports[i].Report, nil
	}
	r, err := c.release(ctx, service, release)
	if err != nil {
		return Report{}, err
	}
	report, err := c.reports.Get(ctx, c.releaseKey(service, r.Number))
	if fault.Is(err, fault.NotFound) && r.Status == RolledBack {
		return report, fault.New(fault.NotFound, "there is no report on %s, which was live before it went back: %s", release, r.Reason)
	}
	if fault.Is(err, fault.NotFound) {
		return report, fault.New(fault.NotFound, "%s did not go back: it is %s", release, r.Status).
			WithHint("`makeitso releases %s` lists what became of each", service)
	}
	return report, err
}

// lastReport gives the last of a service's reports, those included that are not
// filled in yet.
func (c *Controller) lastReport(ctx context.Context, service string, pending []pendingReport) (Report, error) {
	all, err := c.reports.List(ctx, c.serviceKey(service)+"/")
	if err != nil {
		return Report{}, fmt.Errorf("list reports of %s: %w", service, err)
	}
	for _, p := range pending {
		all = append(all, p.Report)
	}
	if len(all) == 0 {
		return Report{}, fault.New(fault.NotFound, "no release of %s that is kept went back in %s", service, c.environment).
			WithHint("`makeitso releases %s` lists what became of each", service)
	}
	return slices.MaxFunc(all, func(a, b Report) int { return a.Time.Compare(b.Time) }), nil
}
