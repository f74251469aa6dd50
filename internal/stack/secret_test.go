package stack_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// TestSecrets hands a resource what a secret holds, and keeps it out of
// everything that is stored or shown.
func TestSecrets(t *testing.T) {
	b := newBench(t)
	b.mustApply("base", `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: '{"user":"ann","pin":1234}'}}}`)
	wants := func(reference string) string {
		return `Resources: {Thing: {Type: Test::Thing, Properties: {Login: "as {{resolve:secretsmanager:` + reference + `}}"}}}`
	}
	cs := b.plan("app", wants("db:SecretString:user"), nil)
	if err := b.engine.Apply(t.Context(), cs, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.things(); !strings.Contains(got, `Thing{"Login":"as ann"}`) {
		t.Errorf("what exists: %s", got)
	}
	if raw, err := json.Marshal(cs); err != nil || strings.Contains(string(raw), "ann") {
		t.Errorf("the change set holds the secret: %s (%v)", raw, err)
	}
	for _, kind := range []string{"stack-source", "stack-resource", "stack-change"} {
		entries, err := b.store.List(t.Context(), kind, "local/app")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text := strings.ReplaceAll(string(e.Value), `"attributes":{"Login":"as ann"}`, "") // this platform tells all it is given
			if strings.Contains(text, "ann") {
				t.Errorf("%s holds the secret: %s", kind, e.Value)
			}
		}
	}
	if cs := b.plan("app", wants("db:SecretString:user"), nil); !cs.Empty() {
		t.Errorf("without change it plans %s", cs.Summary())
	}
	b.mustApply("app", wants("db:SecretString:pin"))
	if got := b.things(); !strings.Contains(got, `Thing{"Login":"as 1234"}`) {
		t.Errorf("what exists: %s", got)
	}
	b.mustApply("app", wants("db"))
	if got := b.things(); !strings.Contains(got, `\"user\":\"ann\"`) {
		t.Errorf("what exists: %s", got)
	}
	for reference, want := range map[string]string{
		"none":                            "Secrets Manager can't find the specified secret: none",
		"db:SecretString:city":            "secret db has no key city",
		"db:SecretString:user:AWSPENDING": "its current version alone",
	} {
		_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "other", File: "other.yaml", Template: []byte(wants(reference))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s answered %v", reference, err)
		}
	}
	// A secret that goes while it is needed fails the change, which goes back.
	cs = b.plan("late", wants("db"), nil)
	if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "can't find the specified secret") {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("late", stack.RollbackComplete)
}

// shown gives all that is shown of a stack: its record, resources, events and
// the drift that was found last.
func (b *bench) shown(name string) string {
	b.t.Helper()
	s, err := b.engine.Stack(b.t.Context(), name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.t.Fatal(err)
	}
	resources, err := b.engine.Resources(b.t.Context(), name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.t.Fatal(err)
	}
	for i := range resources {
		resources[i].Attributes = nil // this platform tells all it is given
	}
	events, err := b.engine.Events(b.t.Context(), name, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	drift, err := b.store.List(b.t.Context(), "stack-drift", "local/"+name)
	if err != nil {
		b.t.Fatal(err)
	}
	raw, err := json.Marshal([]any{s, resources, events})
	if err != nil {
		b.t.Fatal(err)
	}
	all := string(raw)
	for _, d := range drift {
		all += string(d.Value)
	}
	return all
}

// wantNone says that a text holds none of the secrets.
func wantNone(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s is shown in %s", secret, text)
		}
	}
}

// TestErrorsNameNoSecret has handlers say what they were given when they fail:
// nothing that is told or kept of it holds a secret, and its code and hint stay.
func TestErrorsNameNoSecret(t *testing.T) {
	const secrets = `{"Parameters":{"Word":{"Type":"CommaDelimitedList","NoEcho":true,"Default":"hunter2,hunter2longer"}},"Resources":{`
	const one = secrets + `"Thing":{"Type":"%s","Properties":{"MinSize":"1","MaxSize":"2","Word":{"Ref":"Word"},"Login":"{{resolve:secretsmanager:db}}","Kind":"%s"}%s}}}`
	const rolling = `,"UpdatePolicy":{"AutoScalingRollingUpdate":{"MinInstancesInService":"0"}}`
	before, after := fmt.Sprintf(one, "Test::Thing", "a", ""), fmt.Sprintf(one, "Test::Thing", "b", "")
	with := func(more string) string {
		return strings.TrimSuffix(after, "}}") + `,"Last":{"Type":"Test::Thing","DependsOn":"Thing"}` + more + "}}"
	}
	for name, test := range map[string]struct {
		action string // that fails
		before string
		do     func(b *bench) error
		quiet  bool // it is no error
	}{
		"check": {"check", "", func(b *bench) error {
			_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app", Template: []byte(before)})
			return err
		}, false},
		"create": {"create", "", func(b *bench) error { return b.apply("app", before) }, false},
		"update": {"update", before, func(b *bench) error { return b.apply("app", after) }, false},
		"restore": {"create Last", before, func(b *bench) error {
			b.platform.On("create", "Last", func(context.Context, stack.Request) error { b.sayAll("update"); return errors.New("broken") })
			return b.apply("app", with(""))
		}, false},
		"delete": {"delete", before, func(b *bench) error { return b.engine.Delete(t.Context(), "app", nil) }, false},
		"delete of what never was": {"create", "", func(b *bench) error {
			c := changeset.Change{Stack: "app", File: "app", Template: []byte(before), DisableRollback: true}
			if err := b.applyChange(c); err == nil {
				return errors.New("the create did not fail")
			}
			b.sayAll("delete")
			err := b.engine.Delete(t.Context(), "app", nil)
			return errors.Join(err, b.engine.Delete(t.Context(), "app", nil))
		}, false},
		"clean up": {"delete", before, func(b *bench) error { return b.apply("app", strings.Replace(before, `"Thing"`, `"Other"`, 1)) }, true},
		"read":     {"read", before, func(b *bench) error { _, err := b.settle(stack.ReportDrift); return err }, true},
		"repair": {"update", before, func(b *bench) error {
			b.platform.Change("Thing", map[string]any{"Kind": "c"})
			_, err := b.settle(stack.RepairDrift)
			return err
		}, false},
		"adopt": {"delete", before, func(b *bench) error {
			b.platform.Lose("Thing")
			_, err := b.settle(stack.AdoptDrift)
			return err
		}, false},
		"group": {"launch", fmt.Sprintf(strings.ReplaceAll(one, "Kind", "LaunchConfigurationName"), "AWS::AutoScaling::AutoScalingGroup", "a", rolling), func(b *bench) error {
			return b.apply("app", fmt.Sprintf(strings.ReplaceAll(one, "Kind", "LaunchConfigurationName"), "AWS::AutoScaling::AutoScalingGroup", "b", rolling))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply("base", `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: sesame}}}`)
			if test.before != "" {
				b.mustApply("app", test.before)
			}
			b.sayAll(test.action)
			err := test.do(b)
			if (err == nil) != test.quiet {
				t.Errorf("answered %v", err)
			}
			told := fmt.Sprint(err) + fault.HintOf(err) + b.shown("app")
			wantNone(t, told, "hunter2", "longer", "sesame")
			if !strings.Contains(told, "was given") || !strings.Contains(told, changeset.Masked) {
				t.Errorf("what the handler said is not told: %s", told)
			}
			if name == "check" && (!fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "try without ****") {
				t.Errorf("answered %v of code %s with hint %s", err, fault.CodeOf(err), fault.HintOf(err))
			}
		})
	}
}

// sayAll has an action on Thing fail with all that it was given.
func (b *bench) sayAll(action string) {
	b.platform.On(action, "Thing", func(_ context.Context, r stack.Request) error {
		return fault.New(fault.Unavailable, "was given %v", r.Properties).WithHint("try without %v", r.Properties["Login"])
	})
}

// TestSecretsForEveryCall hands a handler what a secret holds whatever it is
// asked; a secret that is gone is in the way of no read and no delete.
func TestSecretsForEveryCall(t *testing.T) {
	const base = `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: sesame}}}`
	const app = `Resources: {Thing: {Type: "Snapshot::Thing", DeletionPolicy: Snapshot, Properties: {Login: "{{resolve:secretsmanager:db%s}}"}}}`
	b := newBench(t)
	var told []string
	for _, action := range []string{"read", "snapshot", "delete"} {
		b.platform.On(action, "Thing", func(_ context.Context, r stack.Request) error {
			told = append(told, fmt.Sprint(action, " ", r.Properties["Login"]))
			return nil
		})
	}
	all := func() string { defer func() { told = nil }(); return strings.Join(told, ", ") }
	b.mustApply("base", base)
	b.mustApply("app", fmt.Sprintf(app, ""))
	b.drift("app")
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if got := all(); got != "read sesame, snapshot sesame, delete sesame" {
		t.Errorf("told were %s", got)
	}

	b.mustApply("app", fmt.Sprintf(app, ""))
	if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
		t.Fatal(err)
	}
	if got := b.drift("app")["Thing"]; got.Status != stack.InSync {
		t.Errorf("without the secret, it is %+v", got)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	if got := all(); got != "read {{resolve:secretsmanager:db}}, snapshot {{resolve:secretsmanager:db}}, delete {{resolve:secretsmanager:db}}" {
		t.Errorf("told were %s", got)
	}

	// What cannot be looked up although it is there is in the way.
	b.mustApply("base", strings.Replace(base, "sesame", `'{"word":"sesame"}'`, 1))
	b.mustApply("app", fmt.Sprintf(app, ":SecretString:word"))
	b.mustApply("base", base)
	if got := b.drift("app")["Thing"]; got.Status != stack.Unknown || !strings.Contains(got.Reason, "is no JSON object") {
		t.Errorf("with a secret that is none, it is %+v", got)
	}
	if err := b.engine.Delete(t.Context(), "app", nil); !fault.Is(err, fault.Failed) || len(told) > 0 {
		t.Errorf("a delete answered %v and told %s", err, told)
	}
}

// TestSecretsOfNestedStacks gives a nested stack a reference as it is written:
// its own resources get what it stands for. What the parent hides, the errors
// in it hide too.
func TestSecretsOfNestedStacks(t *testing.T) {
	const parent = `
Parameters: {Word: {Type: String, NoEcho: true, Default: hunter22}}
Resources: {Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml, Parameters: {Login: "{{resolve:secretsmanager:db}}", Word: !Ref Word, Kind: a}}}}
`
	b := newBench(t)
	b.files = map[string][]byte{"inner.yaml": []byte(`
Parameters: {Login: {Type: String}, Word: {Type: String}, Kind: {Type: String}}
Resources: {Thing: {Type: Test::Thing, Properties: {Login: !Ref Login, Word: !Ref Word, Kind: !Ref Kind}}}
`)}
	b.mustApply("base", `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: sesame}}}`)
	b.mustApply("app", parent)
	if got := b.things(); !strings.Contains(got, `Thing{"Kind":"a","Login":"sesame","Word":"hunter22"}`) {
		t.Errorf("what exists: %s", got)
	}
	b.wantPlanEmpty(parent)
	var inner resourceRecord
	b.record("stack-resource", "local/app/Inner", &inner)
	for _, kind := range []string{"stack-source", "stack-change"} {
		entries, err := b.store.List(t.Context(), kind, "local/"+inner.Current.Token)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			wantNone(t, string(e.Value), "sesame")
		}
	}
	b.sayAll("update")
	err := b.apply("app", strings.Replace(parent, "Kind: a", "Kind: b", 1))
	if err == nil || !strings.Contains(b.shown(inner.Current.Token), "was given") {
		t.Errorf("an update that fails answered %v", err)
	}
	wantNone(t, fmt.Sprint(err)+b.shown("app")+b.shown(inner.Current.Token), "hunter22", "sesame")
	b.platform.On("update", "Thing", nil)
	if err := b.engine.ContinueRollback(t.Context(), "app", nil, nil); err != nil {
		t.Fatal(err)
	}
	b.sayAll("delete")
	if err = b.engine.Delete(t.Context(), "app", nil); err == nil {
		t.Error("a delete that fails answered nil")
	}
	wantNone(t, fmt.Sprint(err)+b.shown("app")+b.shown(inner.Current.Token), "hunter22", "sesame")
}

// resourceRecord is what tests look at in the record of a resource.
type resourceRecord struct {
	Current changeset.Physical   `json:"current"`
	Doomed  []changeset.Physical `json:"doomed"`
}

// altering is a platform whose answers to creates and updates are changed.
type altering struct {
	stack.Platform
	alter func(call string, r stack.Request, result *stack.Result)
}

func (a altering) Handler(typ string) (stack.Handler, error) {
	h, err := a.Platform.Handler(typ)
	return alteringHandler{h, a}, err
}

type alteringHandler struct {
	stack.Handler
	altering
}

func (h alteringHandler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	result, err := h.Handler.Create(ctx, r)
	h.alter("create", r, &result)
	return result, err
}

func (h alteringHandler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	result, err := h.Handler.Update(ctx, r)
	h.alter("update", r, &result)
	return result, err
}

// TestAnswersOfARepair repairs what answers with secrets: they are what others
// get of it from then on, and are shown to nobody.
func TestAnswersOfARepair(t *testing.T) {
	const app = `
Resources:
  Login: {Type: Test::Login, Properties: {User: ann}}
  Reader: {Type: Test::Thing, Properties: {Word: !Sub "is ${Login.Word}", Coded: {Fn::Base64: !GetAtt Login.Word}}}
Outputs: {Word: {Value: !GetAtt Login.Word}}
`
	b := newBench(t)
	platform := b.platform
	b.engine = stack.New("local", altering{platform, func(call string, r stack.Request, result *stack.Result) {
		if r.Type == "Test::Login" {
			result.Attributes, result.NoEcho = map[string]any{"Word": "secret-of-" + call}, call == "update"
		}
	}}, b.store, stack.Options{Holder: "test"})
	b.mustApply("app", app)
	platform.Change("Login", map[string]any{"User": "bob"})
	if _, err := b.settle(stack.RepairDrift); err != nil {
		t.Fatal(err)
	}
	var login resourceRecord
	b.record("stack-resource", "local/app/Login", &login)
	if !login.Current.NoEcho || login.Current.Attributes["Word"] != "secret-of-update" {
		t.Errorf("repaired, its record is %+v", login.Current)
	}
	resources, err := b.engine.Resources(t.Context(), "app")
	if err != nil || resources[0].Attributes["Word"] != changeset.Masked {
		t.Errorf("the resources are %+v (%v)", resources, err)
	}
	public, err := json.Marshal(b.plan("app", app, nil).Public())
	if err != nil || !strings.Contains(string(public), `"is ****"`) {
		t.Errorf("the next plan is %s (%v)", public, err)
	}
	for _, c := range b.plan("app", strings.Replace(app, "ann", "eve", 1), nil).Changes { // what is not known yet is no secret
		if shown := fmt.Sprint(c.AfterContext); c.LogicalID == "Reader" && !strings.Contains(shown, "Coded:"+changeset.KnownAfterApply) {
			t.Errorf("if it is changed, others become %s", shown)
		}
	}
	coded := base64.StdEncoding.EncodeToString([]byte("secret-of-update"))
	wantNone(t, string(public), "secret-of-update", coded)
	b.mustApply("app", app)
	if got := b.things(); !strings.Contains(got, `Reader{"Coded":"`+coded+`","Word":"is secret-of-update"}`) {
		t.Errorf("what exists: %s", got)
	}
	platform.Change("Reader", map[string]any{"Word": "rotated", "Coded": "rotated"})
	drift := fmt.Sprint(b.drift("app")["Reader"].Differences)
	if !strings.Contains(drift, "/Coded") {
		t.Errorf("the drift is %s", drift)
	}
	wantNone(t, drift, "rotated", "secret-of-update", coded)
}

// TestReplacedInARollBack brings a resource back with an update that answers
// with another thing: that is what the stack has, and the former one goes.
func TestReplacedInARollBack(t *testing.T) {
	const app = `Resources: {Thing: {Type: Test::Thing, Properties: {Kind: a}}}`
	b := newBench(t)
	platform := b.platform
	b.engine = stack.New("local", altering{platform, func(call string, r stack.Request, result *stack.Result) {
		result.PhysicalID = "first"
		if call == "update" && r.Properties["Kind"] == "a" {
			result.PhysicalID, result.Replaced, result.NoEcho = "second", true, true
			result.Attributes = map[string]any{"Word": "sesame"}
		}
	}}, b.store, stack.Options{Holder: "test"})
	b.mustApply("app", app)
	var before, after resourceRecord
	b.record("stack-resource", "local/app/Thing", &before)
	var gone []string
	platform.On("delete", "Thing", func(_ context.Context, r stack.Request) error {
		gone = append(gone, r.PhysicalID+" "+r.Token)
		return nil
	})
	platform.Fail("create", "Last", errors.New("broken"))
	err := b.apply("app", `Resources: {Thing: {Type: Test::Thing, Properties: {Kind: b}}, Last: {Type: Test::Thing, DependsOn: Thing}}`)
	if !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
	b.record("stack-resource", "local/app/Thing", &after)
	if is := after.Current; is.PhysicalID != "second" || is.Token == before.Current.Token || !is.NoEcho || is.Attributes["Word"] != "sesame" || len(after.Doomed) > 0 {
		t.Errorf("the record is %+v", after)
	}
	if want := "first " + before.Current.Token; len(gone) != 1 || gone[0] != want {
		t.Errorf("deleted were %q, want %s", gone, want)
	}
	b.wantPlanEmpty(app)
}

// TestSecretGoneBefore moves a resource away from a secret that is gone, and
// rolls a change to one back that goes before it is applied.
func TestSecretGoneBefore(t *testing.T) {
	const base = `Resources: {S: {Type: "AWS::SecretsManager::Secret", Properties: {Name: db, SecretString: sesame}}}`
	const plain = `Resources: {Thing: {Type: Test::Thing, Properties: {Login: plain}}}`
	const secret = `Resources: {Thing: {Type: Test::Thing, Properties: {Login: "{{resolve:secretsmanager:db}}"}}}`
	b := newBench(t)
	gone := func() {
		if err := b.engine.Delete(t.Context(), "base", nil); err != nil {
			t.Fatal(err)
		}
	}
	b.mustApply("base", base)
	b.mustApply("app", secret)
	gone()
	b.mustApply("app", plain)
	b.mustApply("base", base)
	cs := b.plan("app", secret, nil)
	gone()
	if err := b.engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "can't find the specified secret: db") {
		t.Errorf("answered %v", err)
	}
	b.wantStatus("app", stack.UpdateRollbackComplete)
}

// TestSecretsInQuotes has a handler quote what it was given, in the forms in
// which texts do.
func TestSecretsInQuotes(t *testing.T) {
	forms := map[string]func(v any) string{
		"JSON": func(v any) string { raw, _ := json.Marshal(v); return string(raw) },
		"plain JSON": func(v any) string {
			var text strings.Builder
			encoder := json.NewEncoder(&text)
			encoder.SetEscapeHTML(false)
			_ = encoder.Encode(v)
			return text.String()
		},
		"Go": func(v any) string { return fmt.Sprintf("%q", v) },
	}
	for _, word := range []string{`open"sesame`, "open\nsesame", "open<&>sesame", `open\sesame`, "ouvre-toi sésame", "open\x00sesame"} {
		for name, form := range forms {
			b := newBench(t)
			b.platform.On("create", "Thing", func(_ context.Context, r stack.Request) error {
				return errors.New("bad request " + form(r.Properties["Word"]))
			})
			raw, err := json.Marshal(word)
			if err != nil {
				t.Fatal(err)
			}
			err = b.apply("app", `{"Parameters":{"Word":{"Type":"String","NoEcho":true,"Default":`+string(raw)+`}},"Resources":{"Thing":{"Type":"Test::Thing","Properties":{"Word":{"Ref":"Word"}}}}}`)
			if told := fmt.Sprint(err) + b.shown("app"); err == nil || strings.Contains(told, "sesame") || strings.Contains(told, "sésame") || !strings.Contains(told, "bad request") {
				t.Errorf("%q quoted as %s shows: %v", word, name, err)
			}
		}
	}
}

// TestPartsOfSecrets has errors name a secret in Base64, alone and within a
// longer text, and single texts of one that is JSON.
func TestPartsOfSecrets(t *testing.T) {
	const word = `{"user": "carol", "keys": ["open sesame", "ouvre-toi"], "port": 1}`
	for name, said := range map[string]string{
		"Base64":              base64.StdEncoding.EncodeToString([]byte(word)),
		"Base64 of a field":   base64.StdEncoding.EncodeToString([]byte("open sesame")),
		"in a text, by one":   base64.StdEncoding.EncodeToString([]byte("-open sesame-")),
		"in a text, by two":   base64.URLEncoding.EncodeToString([]byte("p=open sesame\n")),
		"in a text, by three": base64.StdEncoding.EncodeToString([]byte("pw=open sesame")),
		"fields":              "carol and open sesame and ouvre-toi",
	} {
		b := newBench(t)
		b.platform.On("create", "Thing", func(context.Context, stack.Request) error { return errors.New("bad request " + said) })
		raw, err := json.Marshal(word)
		if err != nil {
			t.Fatal(err)
		}
		err = b.apply("app", `{"Parameters":{"Word":{"Type":"String","NoEcho":true,"Default":`+string(raw)+`}},"Resources":{"Thing":{"Type":"Test::Thing"}}}`)
		told := fmt.Sprint(err) + b.shown("app")
		if err == nil || !strings.Contains(told, "bad request") || !strings.Contains(told, changeset.Masked) {
			t.Errorf("%s: told %s", name, told)
		}
		wantNone(t, told, "carol", "sesame", "ouvre", "IHNlc2Ft", "BzZXNhb", "gc2VzYW") // sesame in Base64, wherever it begins
	}
}

// TestMacrosAndSignalsNameNoSecret has a macro and a signal say the value of a
// secret parameter.
func TestMacrosAndSignalsNameNoSecret(t *testing.T) {
	b := newBench(t)
	b.setMacros(map[string]func(map[string]any) map[string]any{"Adds": func(request map[string]any) map[string]any {
		return map[string]any{"requestId": request["requestId"], "status": "failed", "errorMessage": fmt.Sprint("was given ", request["templateParameterValues"])}
	}})
	_, err := b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(macroTemplate)})
	if err == nil || !strings.Contains(err.Error(), "Transform 000000000000::Adds failed with: was given map[Secret:****]") {
		t.Errorf("the macro's failure is told as %v", err)
	}

	b = newBench(t)
	leaks := bad("very-secret-1")
	leaks.Reason = "no very-secret-1"
	b.platform.On("create", "Machine", func(ctx context.Context, r stack.Request) error {
		return b.engine.Receive(ctx, r.Properties["Tell"].(string), leaks)
	})
	err = b.apply("app", "Parameters: {Secret: {Type: String, NoEcho: true, Default: very-secret-1}}"+strings.Replace(condition, "TIMEOUT", "600", 1))
	b.wantReason("Condition", "WaitCondition received failed message: 'no ****' for uniqueId: ****")
	wantNone(t, fmt.Sprint(err)+fault.HintOf(err)+b.shown("app"), "very-secret")
}
