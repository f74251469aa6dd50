package stack_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/stack"
)

// recordings is where the recordings of the real service lie.
const recordings = "../../../shared/conformance/change-sets"

// unlike names the recordings that the engine does not answer alike, each with
// the reason. One that is named here and answers alike is a failure too.
var unlike = map[string]string{
	"test_change_sets__TestCaptureUpdateProcess__test_base_dynamic_parameter_scenarios__change_unrelated_property": "the recording holds no answers",
	"test_change_set_fn_transform__TestChangeSetFnTransform__test_serverless_fn_transform":                         "AWS::Serverless is left for later",
}

// recording is a create and an update, and what the service said to them.
type recording struct {
	Decorators  []string          `json:"decorators"`
	Template1   json.RawMessage   `json:"template_1"`
	Template2   json.RawMessage   `json:"template_2"`
	Parameters1 map[string]string `json:"parameters_1"`
	Parameters2 map[string]string `json:"parameters_2"`
	Expected    map[string]any    `json:"expected"`

	fragments map[string]string // what AWS::Include names
	macros    map[string]func(request map[string]any) map[string]any
}

// TestConformance replays the recordings of the real service.
func TestConformance(t *testing.T) {
	files, err := filepath.Glob(recordings + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		if os.Getenv("MAKEITSO_TEST_REQUIRE") == "1" {
			t.Fatalf("no recordings in %s", recordings)
		}
		t.Skipf("no recordings in %s", recordings)
	}
	alike := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			difference := replay(t, file)
			reason, known := unlike[name]
			switch {
			case difference == nil && known:
				t.Errorf("answers alike, but is named among the unlike: %s", reason)
			case difference != nil && !known:
				t.Error(difference)
			case difference != nil:
				t.Logf("unlike: %s", reason)
			default:
				alike++
			}
		})
	}
	t.Logf("%d of %d recordings answered alike", alike, len(files))
}

// replay plays one recording and gives the first difference from it.
func replay(t *testing.T, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Expected) == 0 {
		return errors.New("the recording holds no answers")
	}
	r.repair(filepath.Base(file))
	b := newBench(t)
	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "test", Account: "111111111111"})
	for location, text := range r.fragments {
		b.platform.SetFragment(location, text)
	}
	b.setMacros(r.macros)
	p := &player{bench: b, r: r, names: map[string]string{}, taken: map[string]string{}}
	return cmp.Or(p.apply("1", r.Template1, r.Parameters1), p.apply("2", r.Template2, r.Parameters2), p.history())
}

// repair gives a recording what it lacks, which its name and its answers tell.
func (r *recording) repair(file string) {
	if strings.Contains(file, "test_embedded_fn_transform_include") {
		r.fragments = map[string]string{"s3://my-bucket/template": `{"Parameter2": {"Type": "AWS::SSM::Parameter",
			"Properties": {"Name": "name-2-bd1e2d36", "Type": "String", "Value": "foo"}}}`}
	}
	if strings.Contains(file, "test_global_fn_transform_include") {
		r.fragments = map[string]string{"s3://my-bucket/template": `{"Outputs": {"ParameterRef": {"Value": {"Ref": "Parameter"}}}}`}
	}
	r.macros = recordedMacros()
	if names, ok := strings.CutPrefix(strings.TrimSuffix(file, ".json"), "api_test_stacks__test_stack_deletion_order__"); ok {
		var template map[string]any
		if json.Unmarshal(r.Template2, &template) == nil {
			for name := range strings.SplitSeq(names, "-") {
				delete(template["Resources"].(map[string]any), name)
			}
			r.Template2, _ = json.Marshal(template)
		}
	}
}

// recordedMacros gives the macros that were in the account of the recordings,
// each as their answers show it to be.
func recordedMacros() map[string]func(map[string]any) map[string]any {
	calls := 0
	return map[string]func(map[string]any) map[string]any{
		// Its template holds {Substitution}, and the change set the value of that parameter.
		"SubstitutionMacro": eachText(func(text string, request map[string]any) string {
			for name, value := range request["templateParameterValues"].(map[string]any) {
				text = strings.ReplaceAll(text, "{"+name+"}", fmt.Sprint(value))
			}
			return text
		}),
		// It is given <replace-this> and an Input, four times over; each must find what to replace.
		"ReplaceString": eachText(func(text string, request map[string]any) string {
			input := request["params"].(map[string]any)["Input"].(string)
			return strings.ReplaceAll(text, "<replace-this>", input+" <replace-this>")
		}),
		// It stands for a value, is given nothing, and its answer differs from one change to the next.
		"GenerateRandom": func(request map[string]any) map[string]any {
			calls++
			values := request["templateParameterValues"].(map[string]any)
			return macroSays(request, fmt.Sprintf("%v-%d", values["Input"], calls))
		},
	}
}

// eachText makes a macro that writes each text of its fragment anew.
func eachText(anew func(text string, request map[string]any) string) func(map[string]any) map[string]any {
	return func(request map[string]any) map[string]any {
		var all func(v any) any
		all = func(v any) any {
			switch v := v.(type) {
			case string:
				return anew(v, request)
			case []any:
				for i := range v {
					v[i] = all(v[i])
				}
			case map[string]any:
				for key := range v {
					v[key] = all(v[key])
				}
			}
			return v
		}
		return macroSays(request, all(request["fragment"]))
	}
}

// player compares what the engine says with a recording.
type player struct {
	*bench
	r recording
	// names gives what stands here for a placeholder or physical id of the
	// recording, taken the other way round: one stands for one.
	names, taken map[string]string
}

// apply plans and applies one template of the recording.
func (p *player) apply(step string, template json.RawMessage, parameters map[string]string) error {
	p.setParameters(step)
	change := changeset.Change{Stack: "app", File: "template.json", Template: template, Parameters: parameters}
	cs, err := p.engine.Plan(p.t.Context(), change)
	if err != nil {
		return fmt.Errorf("plan %s: %w", step, err)
	}
	for key, values := range map[string]bool{"describe-change-set-" + step + "-prop-values": true, "describe-change-set-" + step: false} {
		if err := p.compare(key, "Changes", listed(p.t, cs.Listing(values))); err != nil {
			return err
		}
	}
	if err := p.engine.Apply(p.t.Context(), cs, p.listen); err != nil {
		return fmt.Errorf("apply %s: %w", step, err)
	}
	s, err := p.engine.Stack(p.t.Context(), "app")
	if err != nil {
		return err
	}
	outputs := []any{}
	for _, o := range s.Outputs {
		outputs = append(outputs, map[string]any{"OutputKey": o.Name, "OutputValue": o.Value})
	}
	key := "post-create-" + step + "-describe"
	return cmp.Or(p.compare(key, "StackStatus", s.Status), p.compare(key, "Outputs", outputs))
}

// setParameters gives parameters of Systems Manager the values that the
// recording says they had.
func (p *player) setParameters(step string) {
	described, _ := p.r.Expected["describe-change-set-"+step].(map[string]any)
	list, _ := described["Parameters"].([]any)
	for _, item := range list {
		parameter := item.(map[string]any)
		if value, looked := parameter["ResolvedValue"].(string); looked {
			p.platform.SetParameter(parameter["ParameterValue"].(string), value)
		}
	}
}

// listed gives changes as the service's JSON.
func listed(t *testing.T, changes []changeset.ResourceChange) any {
	raw, err := json.Marshal(changes)
	if err != nil {
		t.Fatal(err)
	}
	var list []any
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	for i, c := range list {
		c.(map[string]any)["level"] = nil
		list[i] = map[string]any{"ResourceChange": c, "Type": "Resource"}
	}
	return list
}

// compare compares one member of one answer, after what is known of the
// recordings was taken out of both.
func (p *player) compare(answer, member string, got any) error {
	expected, recorded := p.r.Expected[answer].(map[string]any)
	if !recorded {
		return fmt.Errorf("the recording has no %s", answer)
	}
	path := []string{answer, member}
	want := p.known(path, expected[member])
	got = p.known(path, got)
	return p.same(strings.Join(path, "."), got, want)
}

// known takes out of an answer what the recordings are known to be peculiar in:
//   - the order of a list of details or changes follows from nothing;
//   - an Add has, or has not, a Replacement, and empty Scope and Details;
//   - what the recording's own decorators say was not stable.
func (p *player) known(path []string, v any) any {
	if p.skipped(path) {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, item := range v {
			if key == "Replacement" && v["Action"] == "Add" {
				continue
			}
			if item = p.known(append(slices.Clone(path), key), item); item != nil {
				m[key] = item
			}
		}
		return m
	case []any:
		if len(v) == 0 {
			return nil
		}
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = p.known(path, item)
		}
		if last := path[len(path)-1]; last == "Details" || last == "Changes" {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(order(a), order(b)) })
		}
		return list
	}
	return v
}

// order is what a detail or change is sorted by.
func order(v any) string {
	m, _ := v.(map[string]any)
	if c, ok := m["ResourceChange"].(map[string]any); ok {
		return fmt.Sprint(c["LogicalResourceId"])
	}
	target, _ := m["Target"].(map[string]any)
	return fmt.Sprint(target["Name"], m["Evaluation"], m["ChangeSource"], m["CausingEntity"])
}

var skippedPath = regexp.MustCompile(`'([^' ]+)'`)

// skipped says whether a decorator of the recording names the path. Its paths
// are written "$..A.B" and "A..B": two dots are any way down.
func (p *player) skipped(path []string) bool {
	for _, decorator := range p.r.Decorators {
		if !strings.Contains(decorator, "skip_snapshot_verify") {
			continue
		}
		for _, m := range skippedPath.FindAllStringSubmatch(decorator, -1) {
			pattern := regexp.QuoteMeta(strings.TrimPrefix(m[1], "$"))
			pattern = strings.ReplaceAll(pattern, `\.\.`, `(\..*)?\.`)
			if ok, err := regexp.MatchString(`^(\.)?`+pattern+`$`, "."+strings.Join(path, ".")); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// same compares an answer with the recorded one.
func (p *player) same(path string, got, want any) error {
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return unequal(path, got, want)
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if err := p.same(path+"."+key, m[key], want[key]); err != nil {
				return err
			}
		}
		for key := range m {
			if _, ok := want[key]; !ok {
				return unequal(path+"."+key, m[key], nil)
			}
		}
		return nil
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return unequal(path, got, want)
		}
		for i := range want {
			if err := p.same(fmt.Sprintf("%s[%d]", path, i), list[i], want[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		if text, ok := got.(string); ok && p.sameText(text, want) {
			return nil
		}
		return unequal(path, got, want)
	}
	if !reflect.DeepEqual(got, want) {
		return unequal(path, got, want)
	}
	return nil
}

func unequal(path string, got, want any) error {
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	return fmt.Errorf("%s:\n got %s\nwant %s", path, g, w)
}

// placeholders are what the recordings have in place of the stack's own facts.
var placeholders = strings.NewReplacer("<partition>", "aws", "<region>", "us-east-1", "<stack-name:1>", "app", "url_suffix", "amazonaws.com")

// physical is what the recordings say instead of a value made up by the service.
var physical = regexp.MustCompile(`^(arn:aws:sns:|CFN-|app-|<[a-z-]+:\d+>$|(parameter|topic|name|param)-)|^(arn:aws:cloudformation:)`)

// sameText compares texts; names that the service makes up stand for ours.
func (p *player) sameText(got, want string) bool {
	want = placeholders.Replace(want)
	if got == want {
		return true
	}
	if !physical.MatchString(want) {
		return false
	}
	name, known := p.names[want]
	if known {
		return name == got
	}
	if other, used := p.taken[got]; used {
		return other == want
	}
	p.names[want], p.taken[got] = got, want
	return true
}

// history compares the events of each resource, in their order. Recordings of
// two ages differ: the newer give the newest first and everything; the older
// ones (they call the stack "Stack") tell an event once for each status, leave
// out clean-ups, and go on to the delete or end before it. REVIEW_IN_PROGRESS is left
// out of both: a plan of ours writes nothing.
func (p *player) history() error {
	byResource, ok := p.r.Expected["per-resource-events"].(map[string]any)
	if !ok {
		return errors.New("the recording has no events")
	}
	ofStack, old := byResource["Stack"].([]any)
	if !old {
		for _, list := range byResource {
			slices.Reverse(list.([]any))
		}
	} else if ofStack[len(ofStack)-1].(map[string]any)["ResourceStatus"] == stack.DeleteComplete {
		if err := p.engine.Delete(p.t.Context(), "app", p.listen); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byResource)) {
		want := p.recordedEvents(byResource[id].([]any), old)
		got := p.ownEvents(strings.NewReplacer("<stack-name:1>", "app", "Stack", "app").Replace(id), old)
		if old && len(got) > len(want) { // it ends early
			got = got[:len(want)]
		}
		if err := p.same("events of "+id, got, want); err != nil {
			return err
		}
	}
	return p.order()
}

// order compares the order of all events, where it was recorded.
func (p *player) order() error {
	recorded, ok := p.r.Expected["all-events"].([]any)
	if !ok {
		return nil
	}
	var want, got, last []string
	for _, e := range recorded {
		pair := e.([]any)
		want = append(want, fmt.Sprint(placeholders.Replace(fmt.Sprint(pair[0])), " ", pair[1]))
	}
	for _, e := range p.events {
		if next := []string{e.LogicalID, e.Status}; e.Status != stack.UpdateCompleteCleanupInProgress && !slices.Equal(next, last) {
			got, last = append(got, e.LogicalID+" "+e.Status), next
		}
	}
	if want = want[1:]; !slices.Equal(got, want) { // the first is REVIEW_IN_PROGRESS
		return unequal("order of events", got, want)
	}
	return nil
}

func (p *player) recordedEvents(list []any, old bool) []any {
	var events []any
	for _, e := range list {
		m := e.(map[string]any)
		if m["ResourceStatus"] == "REVIEW_IN_PROGRESS" {
			continue
		}
		events = append(events, event(m["ResourceStatus"], m["ResourceStatusReason"], m["PhysicalResourceId"], old))
	}
	return events
}

func (p *player) ownEvents(id string, old bool) []any {
	var events []any
	last := ""
	for _, e := range p.events {
		if e.LogicalID != id || old && (e.Status == last || e.Status == stack.UpdateCompleteCleanupInProgress) {
			continue
		}
		last = e.Status
		events = append(events, event(e.Status, e.Reason, e.PhysicalID, old))
	}
	return events
}

func event(status, reason, physicalID any, old bool) any {
	m := map[string]any{"status": status}
	if reason != nil && reason != "" && !old {
		m["reason"] = reason
	}
	if physicalID != nil && physicalID != "" && !old {
		m["id"] = physicalID
	}
	return m
}
