package stack_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/stack"
)

// macroSays is the answer of a macro that has worked.
func macroSays(request map[string]any, fragment any) map[string]any {
	return map[string]any{"requestId": request["requestId"], "status": "success", "fragment": fragment}
}

// setMacros makes macros of the environment, in a stack of their own.
func (b *bench) setMacros(all map[string]func(map[string]any) map[string]any) {
	b.t.Helper()
	if len(all) == 0 {
		return
	}
	template := "Resources:\n"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		template += "  " + name + ": {Type: AWS::CloudFormation::Macro, Properties: {Name: " + name + ", FunctionName: function-" + name + "}}\n"
		b.platform.SetMacro("function-"+name, all[name])
	}
	if err := b.engine.Apply(b.t.Context(), b.plan("macros", template, nil), nil); err != nil {
		b.t.Fatal(err)
	}
}

// addsThing makes a macro of the section Transform that adds a resource.
func addsThing(size string) func(map[string]any) map[string]any {
	return func(request map[string]any) map[string]any {
		fragment := request["fragment"].(map[string]any)
		fragment["Resources"].(map[string]any)["Added"] = map[string]any{"Type": "Test::Thing", "Properties": map[string]any{"Size": size, "Of": map[string]any{"Ref": "Thing"}}}
		return macroSays(request, fragment)
	}
}

const macroTemplate = `
Transform: Adds
Parameters: {Secret: {Type: String, NoEcho: true, Default: very-secret}}
Resources: {Thing: {Type: Test::Thing, Properties: {Name: a}}}
`

// TestMacro plans what a macro makes of a template, and applies just that,
// whatever the macro has become.
func TestMacro(t *testing.T) {
	b := newBench(t)
	b.setMacros(map[string]func(map[string]any) map[string]any{"Adds": addsThing("small")})
	cs := b.plan("app", macroTemplate, nil)
	if got := changesOf(cs); got != "Add Added, Add Thing" {
		t.Errorf("planned %s", got)
	}
	b.platform.SetMacro("function-Adds", addsThing("large"))
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.things(); !strings.Contains(got, `"Size":"small"`) {
		t.Errorf("what was approved is not what was made: %s", got)
	}
	cs = b.plan("app", macroTemplate, nil)
	if got := changesOf(cs); got != "Modify Added" {
		t.Errorf("the macro that is another now gives %s", got)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if cs = b.plan("app", macroTemplate, nil); !cs.Empty() {
		t.Errorf("nothing changed, but there is %s", changesOf(cs))
	}
	if err := b.engine.Delete(t.Context(), "macros", nil); err != nil {
		t.Fatal(err)
	}
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)})
	if err == nil || !strings.Contains(err.Error(), "app.yaml:2:12: error: No transform named 000000000000::Adds found.; make it first") {
		t.Errorf("without the macro, plan answered %v", err)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Errorf("a stack is deleted without its macros: %v", err)
	}
}

// changesOf gives the changes of a set in short.
func changesOf(cs *changeset.Set) string {
	var all []string
	for _, c := range cs.Changes {
		all = append(all, c.Action+" "+c.LogicalID)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestMacroRequest holds what a macro is told, and that it is asked once for
// each place that names it.
func TestMacroRequest(t *testing.T) {
	b := newBench(t)
	var asked []map[string]any
	b.setMacros(map[string]func(map[string]any) map[string]any{"Spy": func(request map[string]any) map[string]any {
		asked = append(asked, request)
		return macroSays(request, request["templateParameterValues"].(map[string]any)["Secret"])
	}})
	template := strings.Replace(macroTemplate, "Transform: Adds\n", "", 1)
	template = strings.Replace(template, "Name: a", "Name: {Fn::Transform: {Name: Spy, Parameters: {P: !Ref Secret}}}, Other: {Fn::Transform: Spy}", 1)
	cs := b.plan("app", template, nil)
	if len(asked) != 2 || asked[0]["requestId"] == asked[1]["requestId"] {
		t.Fatalf("asked %v", asked)
	}
	if r := asked[0]; r["transformId"] != "000000000000::Spy" || r["accountId"] != "000000000000" || r["region"] != "us-east-1" || r["params"].(map[string]any)["P"] != "very-secret" {
		t.Errorf("told %v", r)
	}
	var text strings.Builder
	if err := cs.WriteText(&text); err != nil || strings.Contains(text.String(), "very-secret") {
		t.Errorf("a secret that a macro brought is shown (%v): %s", err, text.String())
	}
	if public := cs.Public(); public.Macros != nil {
		t.Error("what macros answered is public")
	}
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil || len(asked) != 2 {
		t.Errorf("apply asked again: %d (%v)", len(asked), err)
	}
	if got := b.things(); !strings.Contains(got, `"Name":"very-secret"`) {
		t.Errorf("made %s", got)
	}
}

// TestMacroInPlanOfSeveral asks each macro once in a plan, and takes the answer
// that was approved when the plan is applied.
func TestMacroInPlanOfSeveral(t *testing.T) {
	b := newBench(t)
	calls := 0
	b.setMacros(map[string]func(map[string]any) map[string]any{"Next": func(request map[string]any) map[string]any {
		calls++
		return macroSays(request, calls)
	}})
	sets, err := b.planAll(
		changeset.Change{Stack: "user", File: "user.yaml", Template: []byte("Resources: {U: {Type: Test::Thing, Properties: {Size: !ImportValue size}}}")},
		changeset.Change{Stack: "base", File: "base.yaml", Template: []byte("Resources: {B: {Type: Test::Thing, Properties: {Size: {Fn::Transform: Next}}}}\nOutputs: {Size: {Value: !GetAtt B.Size, Export: {Name: size}}}")},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, cs := range sets {
		if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.things(); calls != 1 || !strings.Contains(got, `B{"Size":"1"} `) || !strings.Contains(got, `U{"Size":"1"}`) {
		t.Errorf("%d calls made %s", calls, got)
	}
}

// TestFailedMacro gives the service's words.
func TestFailedMacro(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		answer map[string]any
		want   string
	}{
		"with a message":    {map[string]any{"status": "failed", "errorMessage": "no tags"}, "Transform 000000000000::Adds failed with: no tags"},
		"without a message": {map[string]any{"status": "failed"}, "Transform 000000000000::Adds failed without an error message."},
		"no status":         {map[string]any{"fragment": "x"}, "Transform 000000000000::Adds failed without an error message."},
		"no fragment":       {map[string]any{"status": "SUCCESS"}, "Received malformed response from transform 000000000000::Adds"},
		"another request":   {map[string]any{"requestId": "x", "status": "success", "fragment": "x"}, "Received malformed response from transform 000000000000::Adds"},
		"no JSON object":    {map[string]any{"requestId": 1}, "Received malformed response from transform 000000000000::Adds"},
		"no template":       {map[string]any{"status": "success", "fragment": "x"}, "Template format error: unsupported structure."},
		"wrong template":    {map[string]any{"status": "success", "fragment": map[string]any{}}, "At least one Resources member must be defined."},
	} {
		b.setMacros(map[string]func(map[string]any) map[string]any{"Adds": func(request map[string]any) map[string]any {
			answer := maps.Clone(c.answer)
			if answer["requestId"] == nil {
				answer["requestId"] = request["requestId"]
			}
			return answer
		}})
		_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "app.yaml:") {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	b.mustApply("more", "Resources: {Again: {Type: AWS::CloudFormation::Macro, Properties: {Name: Adds, FunctionName: f}}}")
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)})
	if err == nil || !strings.Contains(err.Error(), "2 stacks of environment local have made a macro Adds") {
		t.Errorf("with two macros of the name, plan answered %v", err)
	}
	b.engine = stack.New("local", struct{ stack.Platform }{b.platform}, b.store, stack.Options{Holder: "test"})
	if err := b.engine.Delete(t.Context(), "more", nil); err != nil {
		t.Fatal(err)
	}
	if _, err = b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)}); err == nil || !strings.Contains(err.Error(), "cannot ask macro Adds") {
		t.Errorf("a platform without macros answered %v", err)
	}
}

// TestMacroNotMade holds that a macro is found when it is made, not before.
func TestMacroNotMade(t *testing.T) {
	b := newBench(t)
	b.platform.SetMacro("f", addsThing("small"))
	started, release := b.platform.Block("create", "M")
	cs := b.plan("macros", "Resources: {M: {Type: AWS::CloudFormation::Macro, Properties: {Name: Adds, FunctionName: f}}}", nil)
	done := make(chan error, 1)
	go func() { done <- b.engine.Apply(t.Context(), cs, nil) }()
	<-started
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)})
	if err == nil || !strings.Contains(err.Error(), "No transform named 000000000000::Adds found.") {
		t.Errorf("before it was made, plan answered %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := changesOf(b.plan("app", macroTemplate, nil)); got != "Add Added, Add Thing" {
		t.Errorf("planned %s", got)
	}
}
