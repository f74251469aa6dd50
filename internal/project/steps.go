package project

import (
	"slices"

	"makeitso/internal/fault"
)

// StageKind is what a stage does.
type StageKind string

const (
	RunStage     StageKind = "run"
	ImageStage   StageKind = "image"
	ApplyStage   StageKind = "apply"
	MigrateStage StageKind = "migrate"
	ReleaseStage StageKind = "release"
	PublishStage StageKind = "publish"
	ApproveStage StageKind = "approve"
)

// approvalName is the name of the step that waits for an environment's
// approvals; no stage may have it.
const approvalName = "approval"

// Kind says what the stage does, "" if no kind is set.
func (s *Stage) Kind() StageKind {
	switch {
	case s.Run != "":
		return RunStage
	case s.Image != "":
		return ImageStage
	case len(s.Apply) > 0:
		return ApplyStage
	case s.Migrate != nil:
		return MigrateStage
	case s.Release != "":
		return ReleaseStage
	case s.Publish != "":
		return PublishStage
	case s.Approve != "":
		return ApproveStage
	}
	return ""
}

// changes says whether the stage runs for an environment; the others make
// artifacts and run once for a commit.
func (s *Stage) changes() bool {
	switch s.Kind() {
	case RunStage:
		return s.Environment != ""
	case ImageStage, "":
		return false
	}
	return true
}

// named says whether the stage runs for one environment only.
func (s *Stage) named() bool { return s.Environment != "" && s.Environment != EachEnvironment }

// Step is a stage of one run: once for a commit, or once for an environment.
type Step struct {
	ID    string `json:"id"` // the stage's name, with @environment where it has one
	Stage *Stage `json:"stage"`
	// Environment is "" for a step that runs once for a commit.
	Environment string `json:"environment,omitzero"`
	// Needs are the ids of the steps that must have succeeded before. What
	// those need in turn is left out.
	Needs []string `json:"needs,omitzero"`
	// Approvals is how many different people must approve here: more than 0 in
	// the step put before an environment's first change, whose Stage is in no
	// file.
	Approvals int `json:"approvals,omitzero"`
}

// Steps gives what a run of the pipeline does for environments, in an order in
// which it can be done one after another; without environments it is for those
// that the pipeline lists. The project must be without mistakes.
//
// The run goes round by round, an environment each; everything of a round
// needs all of the round before. What runs once for a commit is in the first
// round, at its place: an acceptance test between two stages for environments
// holds back the second of them, and every later environment. Where a stage
// comes after one that has no step in its round, it comes after what that one
// comes after.
func (p *Project) Steps(pipeline string, environments []string) ([]Step, error) {
	pipe := p.Pipelines[pipeline]
	if pipe == nil {
		names := sortedKeys(p.Pipelines)
		return nil, fault.New(fault.NotFound, "there is no pipeline %q", pipeline).
			WithHint("%s", nearestOf(pipeline, names))
	}
	if len(environments) == 0 {
		environments = pipe.Environments
	}
	for _, name := range environments {
		if p.Environments[name] == nil {
			return nil, fault.New(fault.NotFound, "there is no environment %q", name).
				WithHint("%s", nearestOf(name, sortedKeys(p.Environments)))
		}
	}
	if len(environments) == 0 {
		if i := slices.IndexFunc(pipe.Stages, (*Stage).changes); i >= 0 {
			return nil, fault.New(fault.Invalid, "the stage %q of the pipeline %q changes an environment, but none is named", pipe.Stages[i].Name, pipeline).
				WithHint("name one with --environment, or list environments in the pipeline")
		}
		environments = []string{""}
	}
	plan := stepper{stages: pipe.Stages, graph: graphOf(pipe.Stages)}
	for i, name := range environments {
		approvals := 0
		if e := p.Environments[name]; e != nil {
			approvals = e.Approvals
		}
		plan.round(name, i == 0, approvals)
	}
	return plan.steps, nil
}

func nearestOf(name string, names []string) string {
	if hint := suggest(name, names); hint != "" {
		return hint
	}
	if len(names) == 0 {
		return "write one into " + File
	}
	return "there is " + orList(names)
}

// stepper gathers the steps of a run, round by round.
type stepper struct {
	stages []*Stage
	graph  map[string][]string
	steps  []Step
	before []string // what the next round needs: the last steps of the one before
}

// round appends the steps for one environment, and in the first round those
// that run once for a commit.
func (p *stepper) round(environment string, first bool, approvals int) {
	in := map[string]Step{} // by the stage's name
	for _, s := range p.stages {
		switch {
		case !s.changes() && first:
			in[s.Name] = Step{ID: s.Name, Stage: s}
		case s.changes() && (!s.named() || s.Environment == environment):
			in[s.Name] = Step{ID: s.Name + "@" + environment, Stage: s, Environment: environment}
		}
	}
	var steps []Step
	for _, s := range p.stages {
		step, ok := in[s.Name]
		if !ok {
			continue
		}
		step.Needs = p.needsIn(in, s.Name)
		if len(step.Needs) == 0 {
			step.Needs = slices.Clone(p.before)
		}
		steps = append(steps, step)
	}
	if approvals > 0 && slices.ContainsFunc(steps, func(s Step) bool { return s.Environment != "" }) {
		steps = p.gated(steps, environment, approvals)
	}
	if len(steps) > 0 {
		p.before = lastOf(steps)
	}
	p.steps = append(p.steps, ordered(steps)...)
}

// needsIn gives the ids of the steps in a round that the stage called name
// comes after, looking through stages that have no step in it.
func (p *stepper) needsIn(in map[string]Step, name string) []string {
	var ids []string
	seen := map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		for _, need := range p.graph[name] {
			if seen[need] {
				continue
			}
			seen[need] = true
			if step, ok := in[need]; ok {
				ids = append(ids, step.ID)
			} else {
				walk(need)
			}
		}
	}
	walk(name)
	return ids
}

// gated puts the step that waits for approvals before the round's first
// changes. It comes after every artifact that can be made before them, so that
// what is approved is known.
func (p *stepper) gated(steps []Step, environment string, approvals int) []Step {
	gate := Step{
		ID:          approvalName + "@" + environment,
		Stage:       &Stage{Name: approvalName, Approve: "may this change " + environment + "?"},
		Environment: environment,
		Needs:       slices.Clone(p.before),
		Approvals:   approvals,
	}
	needs, changes := map[string][]string{}, map[string]bool{}
	for _, s := range steps {
		needs[s.ID], changes[s.ID] = s.Needs, s.Environment != ""
	}
	afterChange := func(id string) bool {
		for other, changes := range changes {
			if changes && other != id && reaches(needs, id, other) {
				return true
			}
		}
		return false
	}
	var early []Step
	for i, s := range steps {
		switch {
		case afterChange(s.ID):
		case s.Environment == "":
			early = append(early, s)
		default:
			steps[i].Needs = []string{gate.ID}
		}
	}
	if len(early) > 0 {
		gate.Needs = lastOf(early)
	}
	return append([]Step{gate}, steps...)
}

// lastOf gives the ids of the steps that no other of them needs.
func lastOf(steps []Step) []string {
	var ids []string
	for _, s := range steps {
		if !slices.ContainsFunc(steps, func(other Step) bool { return slices.Contains(other.Needs, s.ID) }) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// ordered gives steps so that each comes after what it needs of them, and else
// in the order they have.
func ordered(steps []Step) []Step {
	waiting := map[string]bool{}
	for _, s := range steps {
		waiting[s.ID] = true
	}
	var done []Step
	for len(done) < len(steps) {
		i := slices.IndexFunc(steps, func(s Step) bool {
			return waiting[s.ID] && !slices.ContainsFunc(s.Needs, func(id string) bool { return waiting[id] })
		})
		if i < 0 {
			panic("project: steps of a pipeline with a cycle") // Parse refuses such a file
		}
		delete(waiting, steps[i].ID)
		done = append(done, steps[i])
	}
	return done
}

// directNeeds gives the names of the stages that stage i comes after directly:
// its needs, by default the one before.
func directNeeds(stages []*Stage, i int) []string {
	s := stages[i]
	if s.NeedsSet || len(s.Needs) > 0 {
		return s.Needs
	}
	if i == 0 {
		return nil
	}
	return []string{stages[i-1].Name}
}

// graphOf gives the direct needs of all stages, by name.
func graphOf(stages []*Stage) map[string][]string {
	graph := map[string][]string{}
	for i, s := range stages {
		graph[s.Name] = directNeeds(stages, i)
	}
	return graph
}

// reaches says whether a walk along needs leads from one node to another.
func reaches(needs map[string][]string, from, to string) bool {
	seen := map[string]bool{}
	var walk func(string) bool
	walk = func(node string) bool {
		return slices.ContainsFunc(needs[node], func(need string) bool {
			if need == to {
				return true
			}
			if seen[need] {
				return false
			}
			seen[need] = true
			return walk(need)
		})
	}
	return walk(from)
}
