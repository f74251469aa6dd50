package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/record"
)

// Status is where a run or one of its stages stands.
type Status string

const (
	Waiting    Status = "WAITING"    // for its turn, its needs, or somebody's yes; Reason says which
	Running    Status = "RUNNING"    // at work
	Succeeded  Status = "SUCCEEDED"  // done
	Failed     Status = "FAILED"     // tried and failed; Reason says why
	Skipped    Status = "SKIPPED"    // a stage whose needs did not succeed
	Canceled   Status = "CANCELED"   // somebody stopped it
	Superseded Status = "SUPERSEDED" // a newer run of the same pipeline took its place
)

// Ended says whether nothing more will happen by itself.
func (s Status) Ended() bool { return s != Waiting && s != Running }

// Source is where a run's files come from: a commit of a repository, or a
// working tree as it is.
type Source struct {
	Repository string `json:"repository,omitempty"` // the repository's folder
	Commit     string `json:"commit,omitempty"`     // full hash
	Branch     string `json:"branch,omitempty"`
	WorkTree   string `json:"workTree,omitempty"` // the folder used in place; then Commit may be empty
	Message    string `json:"message,omitempty"`  // the commit's subject
}

// Run is one execution of a pipeline for one commit.
type Run struct {
	ID           string         `json:"id"`     // the pipeline's name and Number, e.g. server-3
	Number       int64          `json:"number"` // rises over all pipelines
	Pipeline     string         `json:"pipeline"`
	Environments []string       `json:"environments"`
	Source       Source         `json:"source"`
	By           string         `json:"by,omitempty"` // who started it
	Project      string         `json:"project"`      // digest of the makeitso.yaml it follows
	Steps        []project.Step `json:"steps"`
	// After lists runs begun with this one whose stacks this one refers to:
	// its stages that touch an environment wait for them.
	After []string `json:"after,omitempty"`

	Status   Status    `json:"status"`
	Reason   string    `json:"reason,omitempty"`
	Attempt  int       `json:"attempt"`          // 1, and one more for each retry
	Cancel   Status    `json:"cancel,omitempty"` // Canceled or Superseded once that was asked for
	CancelBy string    `json:"cancelBy,omitempty"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
}

// StageRun is one stage of a run.
type StageRun struct {
	Run         string     `json:"run"`
	ID          string     `json:"id"` // the step's id, e.g. apply-network@dev
	Kind        string     `json:"kind"`
	Environment string     `json:"environment,omitempty"`
	Status      Status     `json:"status"`
	Reason      string     `json:"reason,omitempty"`
	Code        fault.Code `json:"code,omitempty"` // of the failure
	Attempt     int        `json:"attempt"`
	Started     time.Time  `json:"started,omitzero"`
	Ended       time.Time  `json:"ended,omitzero"`
	Result      Result     `json:"result"`
}

// Result is what a stage leaves for those after it and for people.
type Result struct {
	Summary  string `json:"summary,omitempty"`  // one line: what changed
	Artifact string `json:"artifact,omitempty"` // image: the artifact's name
	Digest   string `json:"digest,omitempty"`   // image: its digest; approve: what was approved
	Release  string `json:"release,omitempty"`  // release: its id
	// Approved holds, for approve, the digest of each thing that will change
	// (by stack or service name); the stage that changes it checks it.
	Approved map[string]string `json:"approved,omitempty"`
	// Joint is, for approve, what each stack's change set was planned with.
	Joint map[string]changeset.Joint `json:"joint,omitempty"`
}

// Approval is one person's answer to an approve stage.
type Approval struct {
	Run     string    `json:"run"`
	Stage   string    `json:"stage"`
	By      string    `json:"by"`
	Yes     bool      `json:"yes"`
	Digest  string    `json:"digest,omitempty"` // of exactly what was approved
	Attempt int       `json:"attempt"`          // of the run, when it was answered
	Time    time.Time `json:"time"`
}

// Event is one thing that happened, for progress and for the audit log.
type Event struct {
	Number      int64     `json:"number"`
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"` // run, stage, plan, approval, resource, release, instance, drift, alarm; stack, site: by hand, drift
	Run         string    `json:"run,omitempty"`
	Stage       string    `json:"stage,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Subject     string    `json:"subject,omitempty"` // the resource, release or instance
	Status      string    `json:"status,omitempty"`
	Message     string    `json:"message,omitempty"`
}

// Stream is the name of the record stream that holds all events.
const Stream = "events"

// runs is the records of runs and stages.
type runs struct {
	store     record.Store
	runs      record.Collection[Run]
	open      record.Collection[string] // the ids of runs that have not ended
	stages    record.Collection[StageRun]
	approvals record.Collection[Approval]
	counters  record.Collection[int64]
	files     record.Collection[[]byte]
	// publishing holds the buckets whose content is being changed, by
	// environment and name.
	publishing record.Collection[bool]
}

func newRuns(store record.Store) runs {
	return runs{
		store: store, runs: record.Of[Run](store, "run"), open: record.Of[string](store, "open-run"), stages: record.Of[StageRun](store, "stage"),
		approvals: record.Of[Approval](store, "approval"), counters: record.Of[int64](store, "counter"),
		files: record.Of[[]byte](store, "file"), publishing: record.Of[bool](store, "publishing"),
	}
}

// number gives the next number of a run.
func (r runs) number(ctx context.Context) (int64, error) {
	for {
		n, version, err := r.counters.GetVersion(ctx, "run")
		if fault.Is(err, fault.NotFound) {
			n, version, err = 0, record.Absent, nil
		}
		if err != nil {
			return 0, err
		}
		err = r.counters.PutIf(ctx, "run", n+1, version)
		if err == nil {
			return n + 1, nil
		}
		if !fault.Is(err, fault.Conflict) {
			return 0, err
		}
	}
}

// key makes a run's number sort as a number.
func key(number int64) string { return fmt.Sprintf("%010d", number) }

// runKey gives the key of the run with that id.
func runKey(id string) (string, error) {
	_, digits, _ := cutLast(id, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return "", fault.New(fault.NotFound, "run %q does not exist", id).WithHint("a run's name is its pipeline and a number, e.g. server-3; see: makeitso runs")
	}
	return key(n), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (r runs) get(ctx context.Context, id string) (Run, error) {
	run, _, err := r.getVersion(ctx, id)
	return run, err
}

func (r runs) getVersion(ctx context.Context, id string) (Run, int64, error) {
	k, err := runKey(id)
	if err != nil {
		return Run{}, 0, err
	}
	run, version, err := r.runs.GetVersion(ctx, k)
	if err == nil && run.ID != id || fault.Is(err, fault.NotFound) {
		return Run{}, 0, fault.New(fault.NotFound, "run %q does not exist", id).WithHint("see: makeitso runs")
	}
	return run, version, err
}

// update changes the run by change, which answers false to leave it as it is;
// it is called again when somebody else wrote in between.
func (r runs) update(ctx context.Context, id string, change func(*Run) bool) (Run, error) {
	for {
		run, version, err := r.getVersion(ctx, id)
		if err != nil {
			return Run{}, err
		}
		if !change(&run) {
			return run, nil
		}
		err = r.runs.PutIf(ctx, key(run.Number), run, version)
		if !fault.Is(err, fault.Conflict) {
			return run, err
		}
	}
}

// openOp puts a run among the open ones.
func (r runs) openOp(run Run) record.Op {
	return record.Op{Kind: "open-run", Key: key(run.Number), Value: []byte(strconv.Quote(run.ID))}
}

func (r runs) stageKey(run Run, index int) string {
	return fmt.Sprintf("%s/%04d", key(run.Number), index)
}

func (r runs) stagesOf(ctx context.Context, run Run) ([]StageRun, error) {
	return r.stages.List(ctx, key(run.Number)+"/")
}

func (r runs) approvalsOf(ctx context.Context, run, stage string) ([]Approval, error) {
	return r.approvals.List(ctx, run+"/"+stage+"/")
}

func (r runs) putApproval(ctx context.Context, a Approval) error {
	return r.approvals.Put(ctx, a.Run+"/"+a.Stage+"/"+a.By, a)
}
