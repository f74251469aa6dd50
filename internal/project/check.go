package project

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
	"makeitso/internal/span"
)

// complete fills in what the file leaves to be understood.
func complete(p *Project) {
	if p.Environments == nil {
		p.Environments = map[string]*Environment{"local": {Platform: "local"}}
	}
	for _, s := range p.Stacks {
		s.Drift.Every = cmp.Or(s.Drift.Every, DefaultDriftEvery)
		s.Drift.Then = cmp.Or(s.Drift.Then, new(Drift).words()[0])
	}
	for _, s := range p.Services {
		if len(s.Rollout.Canary) > 0 {
			s.Rollout.Watch.AtMost = cmp.Or(s.Rollout.Watch.AtMost, DefaultWatch)
		}
	}
	for _, pipe := range p.Pipelines {
		if pipe.Environments == nil && len(p.Environments) == 1 {
			pipe.Environments = sortedKeys(p.Environments)
		}
		for _, s := range pipe.Stages {
			s.NeedsSet = s.Needs != nil
		}
		nameStages(pipe.Stages)
	}
}

// nameStages gives a name to each stage that has none, made from its kind and
// what it is about, and a number where that is taken.
func nameStages(stages []*Stage) {
	taken, number := map[string]bool{approvalName: true}, map[string]int{}
	for _, s := range stages {
		taken[s.Name] = true
	}
	for _, s := range stages {
		if s.Name != "" {
			continue
		}
		base := defaultName(s)
		name := base
		for taken[name] {
			number[base]++
			name = fmt.Sprintf("%s-%d", base, number[base]+1)
		}
		s.Name, taken[name] = name, true
	}
}

func defaultName(s *Stage) string {
	kind, subject := s.Kind(), ""
	switch kind {
	case RunStage:
		subject = program(s.Run)
	case MigrateStage:
		subject = program(s.Migrate.Run)
	case ImageStage:
		subject = s.Image
	case ApplyStage:
		subject = strings.Join(s.Apply, "-")
		if len(subject) > 30 {
			subject = fmt.Sprintf("%s-and-%d", s.Apply[0], len(s.Apply)-1)
		}
	case ReleaseStage:
		subject = s.Release
	case PublishStage:
		subject = s.Publish
	case "":
		kind = "stage"
	}
	return nameLike(string(kind) + "-" + subject)
}

// program gives the name of what a shell command runs first.
func program(command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return ""
	}
	base := path.Base(words[0])
	return strings.TrimSuffix(base, path.Ext(base))
}

// checker looks for what single keys' rules cannot say: names that must exist,
// cycles, keys that exclude one another.
type checker struct {
	*decoder
	p *Project
}

// check notes the mistakes of p that join several of its keys.
func check(d *decoder, p *Project) {
	c := checker{d, p}
	c.environments()
	c.files()
	c.drift()
	c.services()
	c.references()
	c.stackCycles()
	for _, name := range sortedKeys(p.Pipelines) {
		c.pipeline("pipelines."+name, p.Pipelines[name])
	}
}

// errorf notes a mistake at the value of path at, whose name begins the line.
func (c checker) errorf(at, format string, args ...any) *diag.Diagnostic {
	return c.list.Errorf(c.valuePos(at), "%s: %s", at, fmt.Sprintf(format, args...))
}

// keyErrorf is errorf at the key.
func (c checker) keyErrorf(at, format string, args ...any) *diag.Diagnostic {
	return c.list.Errorf(c.keyPos(at), "%s: %s", at, fmt.Sprintf(format, args...))
}

// exists notes a mistake unless name is one of names, which are those declared
// under section.
func (c checker) exists(at, name, section string, names []string) {
	if name == "" || slices.Contains(names, name) {
		return // an empty name has been told by the decoder
	}
	m := c.errorf(at, "found %q, which is not under %s", name, section)
	m.Allowed, m.Hint = orList(names), suggest(name, names)
	if len(names) == 0 {
		m.Hint = fmt.Sprintf("add %q under %s", name, section)
	}
}

func (c checker) environments() {
	for _, name := range sortedKeys(c.p.Environments) {
		e, at := c.p.Environments[name], "environments."+name
		if name == EachEnvironment {
			c.keyErrorf(at, "%q is no name for an environment, it means all of them", name).Allowed = "another name"
		}
		for _, only := range []struct{ key, platform string }{{"account", "aws"}, {"region", "aws"}, {"embedded", "local"}, {"edge", "local"}} {
			key := at + "." + only.key
			if c.has(key) && e.Platform != "" && e.Platform != only.platform {
				c.keyErrorf(key, "found on platform %s", e.Platform).Allowed = only.key + " only on platform " + only.platform
			}
		}
		if e.Edge != nil {
			c.edge(at+".edge", e.Edge)
		}
	}
}

// files checks that the paths in the file stay in the repository.
func (c checker) files() {
	local := func(at, name string) {
		clean := path.Clean(name)
		if name == "" || !path.IsAbs(name) && clean != ".." && !strings.HasPrefix(clean, "../") {
			return
		}
		c.errorf(at, "found %q", name).Allowed = "a path inside the repository, relative to " + File
	}
	for _, name := range sortedKeys(c.p.Stacks) {
		local("stacks."+name+".template", c.p.Stacks[name].Template)
	}
	for _, name := range sortedKeys(c.p.Artifacts) {
		if image := c.p.Artifacts[name].Image; image != nil {
			local("artifacts."+name+".image.binary", image.Binary)
		}
	}
	for _, name := range sortedKeys(c.p.Sites) {
		local("sites."+name+".from", c.p.Sites[name].From)
		c.pages("sites."+name, c.p.Sites[name])
	}
}

func (c checker) drift() {
	for _, name := range sortedKeys(c.p.Stacks) {
		if every := c.p.Stacks[name].Drift.Every; every != 0 && every < shortestEvery {
			c.errorf("stacks."+name+".drift.every", "found %s", every).Allowed = "at least " + shortestEvery.String()
		}
	}
}

func (c checker) services() {
	for _, name := range sortedKeys(c.p.Services) {
		s, at := c.p.Services[name], "services."+name
		c.exists(at+".artifact", s.Artifact, "artifacts", sortedKeys(c.p.Artifacts))
		c.path(at+".health", s.Health)
		for i, p := range s.Paths {
			c.path(itemPath(at+".paths", i), p)
			switch {
			case p == "":
				c.errorf(itemPath(at+".paths", i), "found no path").Allowed = "a path that begins with /"
			case slices.Index(s.paths(), s.paths()[i]) < i:
				c.errorf(itemPath(at+".paths", i), "found %q twice", p).Hint = "leave one of the two out"
			}
		}
		if c.has(at + ".env.PORT") {
			c.keyErrorf(at+".env.PORT", "PORT is given to the service by makeitso").Hint = "set " + at + ".port"
		}
		c.rollout(at+".rollout", &s.Rollout)
	}
}

func (c checker) rollout(at string, r *Rollout) {
	var set []string
	for _, key := range []string{"rolling", "all-at-once", "blue-green", "canary"} {
		if c.has(at + "." + key) {
			set = append(set, key)
		}
	}
	if len(set) > 1 {
		c.keyErrorf(at+"."+set[1], "found beside %s", set[0]).Allowed = "one strategy"
	}
	const all = 100
	for i, share := range r.Canary {
		switch {
		case share == all:
			m := c.errorf(itemPath(at+".canary", i), "found %v%%", share)
			m.Allowed, m.Hint = "shares below 100%", "leave it out: after the last share comes all of the traffic"
		case i > 0 && share != 0 && share <= r.Canary[i-1]:
			c.errorf(itemPath(at+".canary", i), "found %v%% after %v%%", share, r.Canary[i-1]).Allowed = "rising shares"
		}
	}
	for i, alarm := range r.Alarms {
		switch {
		case alarm == "":
			c.errorf(itemPath(at+".alarms", i), "found no name").Allowed = "an alarm's name or ARN"
		case slices.Index(r.Alarms, alarm) < i:
			c.errorf(itemPath(at+".alarms", i), "found %q twice", alarm).Hint = "leave one of the two out"
		}
	}
	if r.Watch.AtLeast > r.Watch.AtMost {
		c.errorf(at+".watch.at-least", "found %s, more than at-most, %s", span.Text(r.Watch.AtLeast), span.Text(r.Watch.AtMost)).Allowed = "up to " + span.Text(r.Watch.AtMost)
	}
	c.outcomes(at, r)
	written := func(key string) string {
		if p, ok := c.places[at+".rolling."+key]; ok {
			return p.value.Value
		}
		return ""
	}
	none := func(amount string) bool {
		number, err := strconv.ParseFloat(strings.TrimSuffix(amount, "%"), 64)
		return err == nil && number == 0
	}
	if surge, unavailable := written("surge"), cmp.Or(written("unavailable"), "0"); none(surge) && none(unavailable) {
		c.errorf(at+".rolling.surge", "found %s beside unavailable %s: no instance could be replaced", surge, unavailable).Hint = "write unavailable: 1, or another surge"
	}
}

// references checks the ${…} in all texts that may hold them.
func (c checker) references() {
	for _, text := range c.refs {
		_ = eachReference(text.node.Value, func(string) {}, func(r Reference, bad *badReference) error {
			pos := c.pos(text.node)
			if column, ok := columnIn(text.node, r.Offset); ok {
				pos.Column = column
			}
			if bad != nil {
				m := c.list.Errorf(pos, "%s: %s", text.path, bad.summary)
				m.Allowed, m.Hint = bad.allowed, bad.hint
				return nil
			}
			names := map[ReferenceKind][]string{StackOutput: sortedKeys(c.p.Stacks), ArtifactValue: sortedKeys(c.p.Artifacts)}[r.Kind]
			if r.Name != "" && !slices.Contains(names, r.Name) {
				m := c.list.Errorf(pos, "%s: found %s, but %q is not under %s", text.path, r, r.Name, r.Kind)
				m.Allowed, m.Hint = orList(names), suggest(r.Name, names)
				if len(names) == 0 {
					m.Hint = fmt.Sprintf("add %q under %s", r.Name, r.Kind)
				}
			}
			return nil
		})
	}
}

// columnIn gives the column of a byte of n's text, where the text stands in
// the file as it is.
func columnIn(n *yaml.Node, offset int) (int, bool) {
	before := n.Column + len([]rune(n.Value[:offset]))
	switch {
	case strings.ContainsAny(n.Value, "\n\"'\\"):
		return 0, false
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return before + 1, true
	}
	return before, n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// stackCycles finds stacks that need one another's outputs.
func (c checker) stackCycles() {
	needs := map[string][]string{}
	for name, s := range c.p.Stacks {
		needs[name] = namesIn(StackOutput, s.References())
	}
	for _, cycle := range cycles(sortedKeys(c.p.Stacks), needs) {
		c.keyErrorf("stacks."+cycle[0], "the stacks need one another: %s", strings.Join(append(cycle, cycle[0]), " → ")).
			Hint = "take the reference out of one of them"
	}
}

// namesIn gives the names that references of a kind in texts have.
func namesIn(kind ReferenceKind, texts []string) (names []string) {
	for _, text := range texts {
		refs, err := References(text)
		if err != nil {
			continue // told by references
		}
		for _, r := range refs {
			if r.Kind == kind {
				names = append(names, r.Name)
			}
		}
	}
	return names
}

// cycles gives each cycle that a walk along needs finds, begun from nodes in
// their order.
func cycles(nodes []string, needs map[string][]string) [][]string {
	var all [][]string
	var trail []string
	done := map[string]bool{}
	var walk func(string)
	walk = func(node string) {
		if i := slices.Index(trail, node); i >= 0 {
			all = append(all, slices.Clone(trail[i:]))
			return
		}
		if done[node] {
			return
		}
		trail = append(trail, node)
		for _, need := range needs[node] {
			walk(need)
		}
		trail = trail[:len(trail)-1]
		done[node] = true
	}
	for _, node := range nodes {
		walk(node)
	}
	return all
}
