package project

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

// stepsText gives steps one a line: id, what it needs, approvals.
func stepsText(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.ID)
		if len(s.Needs) > 0 {
			b.WriteString(" < " + strings.Join(s.Needs, " "))
		}
		if s.Approvals > 0 {
			fmt.Fprintf(&b, " (%d approvals)", s.Approvals)
		}
		b.WriteString("\n")
	}
	return b.String()
}

const stepsHead = `
project: shop
environments: {local: {platform: local}, dev: {platform: local}, prod: {platform: local, approvals: 2}, free: {platform: local}}
stacks: {data: {template: a.yaml}, net: {template: b.yaml}}
artifacts: {api: {image: {binary: out/api}}}
services: {api: {artifact: api, port: 80}}
sites: {www: {from: dist, bucket: b}}
pipelines:
  p:
    environments: [dev, prod]
    stages:
`

func TestSteps(t *testing.T) {
	for _, c := range []struct{ name, stages, environments, want string }{
		{"artifacts only", `
      - {name: build, run: make}
      - image: api`, "", `
build
image-api < build`},
		{"one environment", `
      - {name: build, run: make}
      - apply: data
      - publish: www`, "local", `
build
apply-data@local < build
publish-www@local < apply-data@local`},
		{"artifacts first, then environment after environment", `
      - {name: build, run: make}
      - image: api
      - release: api`, "dev free", `
build
image-api < build
release-api@dev < image-api
release-api@free < release-api@dev`},
		{"the pipeline's own environments, one with approvals", `
      - image: api
      - apply: data
      - release: api`, "", `
image-api
apply-data@dev < image-api
release-api@dev < apply-data@dev
approval@prod < release-api@dev (2 approvals)
apply-data@prod < approval@prod
release-api@prod < apply-data@prod`},
		{"a test between two changes holds back the second and later environments", `
      - {name: build, run: make}
      - apply: data
      - {name: acceptance, run: test}
      - publish: www`, "dev free", `
build
apply-data@dev < build
acceptance < apply-data@dev
publish-www@dev < acceptance
apply-data@free < publish-www@dev
publish-www@free < apply-data@free`},
		{"a test after the last change holds back later environments", `
      - apply: data
      - {name: acceptance, run: test}`, "dev free", `
apply-data@dev
acceptance < apply-data@dev
apply-data@free < acceptance`},
		{"approvals come after all that can be made before the changes", `
      - {name: a, run: make}
      - {name: net, apply: net, needs: []}
      - {image: api, needs: [a]}
      - {name: check, run: test, needs: [net]}
      - {release: api, needs: [image-api, check]}`, "prod", `
a
image-api < a
approval@prod < image-api (2 approvals)
net@prod < approval@prod
check < net@prod
release-api@prod < image-api check`},
		{"approvals in the first environment without artifacts", `
      - apply: data`, "prod free", `
approval@prod (2 approvals)
apply-data@prod < approval@prod
apply-data@free < apply-data@prod`},
		{"no approval where nothing changes", `
      - {name: build, run: make}`, "prod dev", `
build`},
		{"parallel changes: all of an environment before any of the next", `
      - {name: build, run: make}
      - {apply: net, needs: [build]}
      - {apply: data, needs: [build]}
      - {publish: www, needs: [apply-data]}`, "dev prod free", `
build
apply-net@dev < build
apply-data@dev < build
publish-www@dev < apply-data@dev
approval@prod < apply-net@dev publish-www@dev (2 approvals)
apply-net@prod < approval@prod
apply-data@prod < approval@prod
publish-www@prod < apply-data@prod
apply-net@free < apply-net@prod publish-www@prod
apply-data@free < apply-net@prod publish-www@prod
publish-www@free < apply-data@free`},
		{"a parallel artifact holds back the second environment, not the first", `
      - {apply: net, needs: []}
      - {name: docs, run: make docs, needs: []}`, "dev free", `
apply-net@dev
docs
apply-net@free < apply-net@dev docs`},
		{"forward needs are put in order", `
      - {name: b, run: make, needs: [a]}
      - {name: a, run: make, needs: []}`, "dev", `
a
b < a`},
		{"a command for each, and one for a named environment", `
      - {name: smoke, run: s, environment: each}
      - {name: load, run: l, environment: prod}
      - {name: after, run: a, environment: each}`, "dev prod", `
smoke@dev
after@dev < smoke@dev
approval@prod < after@dev (2 approvals)
smoke@prod < approval@prod
load@prod < smoke@prod
after@prod < load@prod`},
		{"what is for another environment is left out and looked through", `
      - {name: build, run: make}
      - {name: load, run: l, environment: prod}
      - {name: smoke, run: s, environment: each}`, "local", `
build
smoke@local < build`},
		{"an environment without a step does not break the chain", `
      - {name: load, run: l, environment: dev}
      - {name: more, run: l, environment: prod}`, "dev free prod", `
load@dev
approval@prod < load@dev (2 approvals)
more@prod < approval@prod`},
		{"a question is asked for each environment", `
      - {name: build, run: make}
      - approve: go on?
      - apply: data`, "dev free", `
build
approve@dev < build
apply-data@dev < approve@dev
approve@free < apply-data@dev
apply-data@free < approve@free`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := parsed(t, stepsHead+strings.TrimPrefix(c.stages, "\n"))
			steps, err := p.Steps("p", strings.Fields(c.environments))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := stepsText(steps), strings.TrimPrefix(c.want, "\n")+"\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestStepsOfDesign(t *testing.T) {
	p := parsed(t, design)
	steps, err := p.Steps("server", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `build
test < build
image-api < test
acceptance < image-api
release-api@dev < acceptance
approval@prod < release-api@dev (1 approvals)
release-api@prod < approval@prod
`
	if got := stepsText(steps); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	gate, release := steps[5], steps[6]
	if gate.Stage.Kind() != ApproveStage || gate.Environment != "prod" {
		t.Errorf("the approval is %+v of %+v", gate, gate.Stage)
	}
	if release.Stage != p.Pipelines["server"].Stages[4] || release.Environment != "prod" || steps[0].Environment != "" {
		t.Errorf("a step does not have its stage or its environment: %+v", release)
	}
}

func TestStepsRefuses(t *testing.T) {
	two := "project: shop\nenvironments: {dev: {platform: local}, prod: {platform: local}}\npipelines: {build: {stages: [{run: make}]}}\n"
	p := parsed(t, two)
	if _, err := p.Steps("biuld", nil); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), `"build"`) {
		t.Errorf("an unknown pipeline: %v", err)
	}
	if _, err := p.Steps("build", []string{"pord"}); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), `"prod"`) {
		t.Errorf("an unknown environment: %v", err)
	}
	p.Pipelines["build"].Stages = append(p.Pipelines["build"].Stages, &Stage{Name: "ask", Approve: "go on?"})
	if _, err := p.Steps("build", nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a change without an environment: %v", err)
	}
}

// TestStepsHoldTheRules makes pipelines at random and checks what must hold
// for every one of them.
func TestStepsHoldTheRules(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		stages := randomStages(random)
		environments := []string{"dev", "prod", "free"}
		random.Shuffle(3, func(i, j int) { environments[i], environments[j] = environments[j], environments[i] })
		environments = environments[:1+random.IntN(3)]
		p := &Project{
			Environments: map[string]*Environment{"dev": {}, "prod": {Approvals: random.IntN(2)}, "free": {}},
			Pipelines:    map[string]*Pipeline{"p": {Stages: stages}},
		}
		steps, err := p.Steps("p", environments)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := brokenRule(p, steps, environments); wrong != "" {
			for _, s := range stages {
				t.Logf("%s needs %v (set: %v), runs in %q", s.Name, s.Needs, s.NeedsSet, s.Environment)
			}
			t.Fatalf("%s:\n%s", wrong, stepsText(steps))
		}
	}
}

func randomStages(random *rand.Rand) []*Stage {
	stages := make([]*Stage, 1+random.IntN(6))
	for i := range stages {
		s := &Stage{Name: string(rune('a' + i)), Run: "make", NeedsSet: random.IntN(2) == 0}
		s.Environment = []string{"", "", EachEnvironment, EachEnvironment, "prod"}[random.IntN(5)]
		for j := 0; s.NeedsSet && j < i; j++ {
			if random.IntN(2) == 0 {
				s.Needs = append(s.Needs, stages[j].Name)
			}
		}
		stages[i] = s
	}
	return stages
}

// brokenRule says which rule steps break, "" if none.
func brokenRule(p *Project, steps []Step, environments []string) string {
	stages := p.Pipelines["p"].Stages
	graph, needs, at := graphOf(stages), map[string][]string{}, map[string]int{}
	for i, s := range steps {
		if _, twice := at[s.ID]; twice {
			return s.ID + " is there twice"
		}
		at[s.ID], needs[s.ID] = i, s.Needs
		for _, need := range s.Needs {
			if before, ok := at[need]; !ok || before >= i {
				return s.ID + " stands before what it needs"
			}
		}
	}
	for _, s := range stages {
		for _, e := range environments {
			id, wanted := s.Name+"@"+e, s.Environment == EachEnvironment || s.Environment == e
			if _, ok := at[id]; ok != wanted {
				return fmt.Sprintf("%s is there: %v", id, ok)
			}
		}
		if _, ok := at[s.Name]; ok != (s.Environment == "") {
			return fmt.Sprintf("%s is there: %v", s.Name, ok)
		}
	}
	round := func(s Step) int { return max(0, slices.Index(environments, s.Environment)) }
	for _, a := range steps {
		for _, b := range steps {
			sameRound := a.Environment == b.Environment || round(a) == 0 && round(b) == 0
			switch {
			case round(a) > round(b) && !reaches(needs, a.ID, b.ID):
				return a.ID + " does not wait for " + b.ID + " of an environment before"
			case sameRound && a.ID != b.ID && a.Approvals == 0 && b.Approvals == 0 && reaches(graph, a.Stage.Name, b.Stage.Name) && !reaches(needs, a.ID, b.ID):
				return a.ID + " does not wait for " + b.ID
			case b.Approvals > 0 && a.Environment == b.Environment && a.ID != b.ID && !reaches(needs, a.ID, b.ID):
				return a.ID + " does not wait for the approvals"
			case b.Approvals > 0 && a.Environment == "" && !reaches(needs, a.ID, b.ID) && !reaches(needs, b.ID, a.ID):
				return "the approvals do not wait for " + a.ID
			}
		}
	}
	if e := slices.Index(environments, "prod"); e >= 0 && p.Environments["prod"].Approvals > 0 {
		_, there := at["approval@prod"]
		changes := slices.ContainsFunc(stages, (*Stage).changes)
		if there != changes {
			return fmt.Sprintf("approvals are asked: %v", there)
		}
	}
	return ""
}
