package project

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

func (c checker) pipeline(at string, p *Pipeline) {
	c.pipelineEnvironments(at, p)
	c.push(at, p.On.Push)
	for i, s := range p.Stages {
		c.stage(itemPath(at+".stages", i), p, s)
	}
	if c.stageNames(at, p.Stages) && c.needs(at, p.Stages) {
		c.artifactsMade(at, p.Stages)
		c.runOnceAfterNamed(at, p)
	}
}

func (c checker) pipelineEnvironments(at string, p *Pipeline) {
	names := sortedKeys(c.p.Environments)
	for i, name := range p.Environments {
		item := itemPath(at+".environments", i)
		c.exists(item, name, "environments", names)
		if slices.Contains(p.Environments[:i], name) {
			c.errorf(item, "found %q twice", name).Allowed = "each environment once"
		}
	}
	if c.has(at + ".environments") {
		return
	}
	for i, s := range p.Stages {
		if s.changes() && len(names) > 1 {
			m := c.errorf(itemPath(at+".stages", i), "the stage %q changes an environment, but the pipeline names none", s.Name)
			m.Allowed, m.Hint = "environments: one or more of "+strings.Join(names, ", "), "add environments: ["+names[0]+"] to the pipeline"
			return
		}
	}
}

func (c checker) push(at string, p *Push) {
	if p == nil {
		return
	}
	for key, patterns := range map[string][]string{"branches": p.Branches, "paths": p.Paths} {
		for i, pattern := range patterns {
			if _, err := path.Match(pattern, ""); err != nil {
				c.errorf(itemPath(at+".on.push."+key, i), "found the pattern %q", pattern).Allowed = "names with *, ** and ?, and [ only with its ]"
			}
		}
	}
}

// stage checks that what s names exists.
func (c checker) stage(at string, p *Pipeline, s *Stage) {
	c.exists(at+".image", s.Image, "artifacts", sortedKeys(c.p.Artifacts))
	c.exists(at+".release", s.Release, "services", sortedKeys(c.p.Services))
	c.exists(at+".serve", s.Serve, "services", sortedKeys(c.p.Services))
	c.exists(at+".publish", s.Publish, "sites", sortedKeys(c.p.Sites))
	for i, name := range s.Apply {
		item := itemPath(at+".apply", i)
		c.exists(item, name, "stacks", sortedKeys(c.p.Stacks))
		if slices.Contains(s.Apply[:i], name) {
			c.errorf(item, "found %q twice", name).Allowed = "each stack once"
		}
	}
	if s.Environment != "" && s.Environment != EachEnvironment && !slices.Contains(p.Environments, s.Environment) {
		allowed := append([]string{EachEnvironment}, p.Environments...)
		m := c.errorf(at+".environment", "found %q, which is no environment of this pipeline", s.Environment)
		m.Allowed, m.Hint = orList(allowed), suggest(s.Environment, allowed)
	}
}

// stageNames checks that every name is there once.
func (c checker) stageNames(at string, stages []*Stage) bool {
	first := map[string]int{}
	ok := true
	for i, s := range stages {
		item := itemPath(at+".stages", i)
		if s.Name == approvalName {
			c.errorf(item+".name", "found %q, the name of what waits for an environment's approvals", s.Name).Allowed = "another name"
		}
		if j, twice := first[s.Name]; twice {
			m := c.errorf(item+".name", "found the name %q twice", s.Name)
			m.Allowed, m.Hint = "each name once", fmt.Sprintf("the first is on line %d", c.valuePos(itemPath(at+".stages", j)).Line)
			ok = false
			continue
		}
		first[s.Name] = i
	}
	return ok
}

// needs checks that what stages need exists and that they can be ordered.
func (c checker) needs(at string, stages []*Stage) bool {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = s.Name
	}
	before := len(c.list)
	for i, s := range stages {
		for j, need := range s.Needs {
			item := itemPath(itemPath(at+".stages", i)+".needs", j)
			others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == s.Name })
			switch {
			case need == s.Name:
				c.errorf(item, "the stage %q needs itself", need).Allowed = orList(others)
			case slices.Contains(s.Needs[:j], need):
				c.errorf(item, "found %q twice", need).Allowed = "each stage once"
			case !slices.Contains(names, need):
				m := c.errorf(item, "found %q, which is no stage of this pipeline", need)
				m.Allowed, m.Hint = orList(others), suggest(need, others)
			}
		}
	}
	if len(c.list) > before {
		return false
	}
	graph := graphOf(stages)
	for _, cycle := range cycles(names, graph) {
		i := slices.Index(names, cycle[0])
		c.errorf(itemPath(at+".stages", i), "the stages need one another: %s", strings.Join(append(cycle, cycle[0]), " → ")).
			Hint = "take a name out of the needs of one of them"
	}
	return len(c.list) == before
}

// artifactsMade checks that an image is made before a stage that needs it.
func (c checker) artifactsMade(at string, stages []*Stage) {
	graph := graphOf(stages)
	for i, s := range stages {
		for _, name := range c.artifactsOf(s) {
			if c.p.Artifacts[name] == nil || slices.ContainsFunc(stages, func(other *Stage) bool {
				return other.Image == name && reaches(graph, s.Name, other.Name)
			}) {
				continue // one that is not there has been told
			}
			c.errorf(itemPath(at+".stages", i), "the stage %q needs the artifact %q, but no stage that it comes after makes it%s", s.Name, name, madeBefore(graph, stages, s)).
				Hint = fmt.Sprintf("add the stage \"image: %s\" before it", name)
		}
	}
}

// madeBefore says, behind a mistake, which artifacts are made before a stage.
func madeBefore(graph map[string][]string, stages []*Stage, s *Stage) string {
	var made []string
	for _, other := range stages {
		if other.Image != "" && reaches(graph, s.Name, other.Name) {
			made = append(made, other.Image)
		}
	}
	if len(made) == 0 {
		return ""
	}
	return " (they make " + strings.Join(made, ", ") + ")"
}

// artifactsOf gives the artifacts that a stage runs, or whose digests it needs.
func (c checker) artifactsOf(s *Stage) (names []string) {
	var texts []string
	if service := c.p.Services[s.Release+s.Serve]; service != nil { // one of the two is empty
		names = append(names, service.Artifact)
		texts = append(texts, service.References()...)
	}
	if site := c.p.Sites[s.Publish]; site != nil {
		texts = append(texts, site.Bucket)
	}
	for _, name := range s.Apply {
		if stack := c.p.Stacks[name]; stack != nil {
			texts = append(texts, stack.References()...)
		}
	}
	names = append(names, namesIn(ArtifactValue, append(texts, valuesOf(s.Env)...))...)
	slices.Sort(names)
	return slices.Compact(names)
}

// runOnceAfterNamed finds stages that run once, in the first environment's
// turn, but come after one that runs in a later environment only.
func (c checker) runOnceAfterNamed(at string, p *Pipeline) {
	for i, s := range p.Stages {
		if s.changes() {
			continue
		}
		for j, other := range p.Stages {
			if !other.named() || slices.Index(p.Environments, other.Environment) <= 0 || !slices.Contains(directNeeds(p.Stages, i), other.Name) {
				continue
			}
			c.errorf(itemPath(at+".stages", i), "the stage %q runs once for a commit, but comes after %q, which runs in %s only", s.Name, p.Stages[j].Name, other.Environment).
				Hint = fmt.Sprintf("give it environment: %s, or needs: without %q", other.Environment, other.Name)
		}
	}
}
