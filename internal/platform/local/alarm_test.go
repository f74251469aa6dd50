package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/pace"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

const alarmTemplate = `
Resources:
  Errors: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: errors, ComparisonOperator: GreaterThanThreshold, EvaluationPeriods: 1}}
`

// TestAlarmRollsBack watches an alarm while a stack is made, and after it.
func TestAlarmRollsBack(t *testing.T) {
	d := newDrifting(t, alarmTemplate)
	const arn = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors"
	change := changeset.Change{Stack: "web", Template: []byte(`Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}`),
		Rollback: pace.Alarms{ARNs: []string{arn}, Monitor: time.Hour}}
	cs, err := d.Engine.Plan(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Engine.Apply(t.Context(), cs, func(ev stack.Event) {
		if ev.LogicalID == "V" && ev.Status == stack.CreateComplete {
			if err := d.Platform.SetAlarm(context.Background(), "errors", string(metric.On), "too many"); err != nil {
				t.Error(err)
			}
		}
	})
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "alarm "+arn+" is in state ALARM") {
		t.Errorf("answered %v", err)
	}
	s, err := d.Engine.Stacks(t.Context())
	if err != nil || len(s) != 2 || s[1].Status != stack.RollbackComplete {
		t.Errorf("the stacks are %+v (%v)", s, err)
	}
	if err := d.Platform.SetAlarm(t.Context(), arn, string(metric.OK), ""); err != nil {
		t.Error(err)
	}
	change.Rollback.Monitor = 0
	if cs, err = d.Engine.Plan(t.Context(), change); err == nil {
		err = d.Engine.Apply(t.Context(), cs, nil)
	}
	if err != nil {
		t.Errorf("with the alarm off, answered %v", err)
	}
	for what, wrong := range map[string]struct{ name, state, want string }{
		"name":  {"none", string(metric.OK), "has no alarm none"},
		"state": {"errors", "LOUD", `"LOUD" is no state of an alarm`},
	} {
		if err := d.Platform.SetAlarm(t.Context(), wrong.name, wrong.state, ""); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("a wrong %s answered %v", what, err)
		}
	}
}

// TestAlarmsAreTold looks at what who watches an alarm learns of it.
func TestAlarmsAreTold(t *testing.T) {
	d := newDrifting(t, alarmTemplate)
	const arn = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors"
	watch := func() (told chan error) {
		told = make(chan error, 1)
		go func() { told <- d.Platform.WaitAlarm(t.Context(), arn) }()
		return told
	}
	first := watch()
	for _, state := range []string{string(metric.Insufficient), string(metric.OK), string(metric.On)} {
		select {
		case err := <-first:
			t.Fatalf("before it was %s, a watch ended with %v", state, err)
		default:
		}
		if err := d.Platform.SetAlarm(t.Context(), "errors", state, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	again, err := New("local", d.Platform.o) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.WaitAlarm(t.Context(), arn); err != nil {
		t.Error(err)
	}
	off := make(chan string, 1)
	go func() {
		state, reason, err := again.AwaitAlarm(t.Context(), "errors", func(state string) bool { return state != string(metric.On) })
		off <- fmt.Sprintln(state, reason, err)
	}()
	if err := d.Platform.SetAlarm(t.Context(), "errors", string(metric.OK), "all is well"); err != nil {
		t.Fatal(err)
	}
	if got := <-off; got != "OK all is well <nil>\n" {
		t.Errorf("that it is off was told as %q", got)
	}

	other := changeset.Change{Stack: "other", Template: []byte(alarmTemplate)}
	cs, err := d.Engine.Plan(t.Context(), other)
	if err == nil {
		err = d.Engine.Apply(t.Context(), cs, nil)
	}
	if err == nil || !strings.Contains(err.Error(), "identifier 'errors' already exists") {
		t.Errorf("a second alarm of that name answered %v", err)
	}

	const none = `Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}`
	d.Apply(none)
	d.Apply(alarmTemplate) // another one of that name, of which nothing was said
	second := watch()
	select {
	case err := <-second:
		t.Errorf("the state of a former alarm was told: %v", err)
	default:
	}
	d.Apply(none)
	if err := <-second; !fault.Is(err, fault.NotFound) {
		t.Errorf("a watch of an alarm that was deleted answered %v", err)
	}
	if left, err := d.Platform.alarmStates().List(t.Context(), ""); err != nil || len(left) > 0 {
		t.Errorf("of alarms that are gone is kept %+v (%v)", left, err)
	}
	watched := changeset.Change{Stack: "web", Template: []byte(none), Rollback: pace.Alarms{ARNs: []string{arn}}}
	if _, err := d.Engine.Plan(t.Context(), watched); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "has no alarm "+arn) || !strings.Contains(fault.HintOf(err), "make one first") {
		t.Errorf("a plan with no such alarm answered %v", fault.Text(err))
	}
}

// TestFragment nests a stack whose template lies in a bucket, and includes a
// part of another one from there.
func TestFragment(t *testing.T) {
	p := newPlatform(t, Options{})
	engine := stack.New("local", layer{p}, record.NewMemory(), stack.Options{Holder: "test"})
	apply := func(name, template string) error {
		cs, err := engine.Plan(t.Context(), changeset.Change{Stack: name, File: name + ".yaml", Template: []byte(template)})
		if err == nil {
			err = engine.Apply(t.Context(), cs, nil)
		}
		return err
	}
	if err := apply("base", `Resources: {B: {Type: AWS::S3::Bucket, Properties: {BucketName: parts}}}`); err != nil {
		t.Fatal(fault.Text(err))
	}
	bucket, err := p.Bucket("parts")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, text string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := bucket.Put(t.Context(), key, path, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("inner.yaml", `Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}`)
	put("cidr.json", `{"CidrBlock": "10.1.0.0/16"}`)
	user := `
Resources:
  Inner: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: "https://parts.s3.amazonaws.com/inner.yaml"}}
  V: {Type: AWS::EC2::VPC, Properties: {"Fn::Transform": {Name: AWS::Include, Parameters: {Location: s3://parts/cidr.json}}}}
`
	if err := apply("user", user); err != nil {
		t.Fatal(fault.Text(err))
	}
	resources, err := engine.Resources(t.Context(), "user")
	if err != nil || len(resources) != 2 || resources[1].Attributes["CidrBlock"] != "10.1.0.0/16" {
		t.Errorf("the resources are %+v (%v)", resources, err)
	}
	for location, want := range map[string]string{"s3://parts/none": "bucket parts has no object none", "s3://none/x": "has no bucket none", "s3://parts": "is no s3://bucket/key"} {
		if _, err := p.Fragment(t.Context(), location); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s answered %v", location, err)
		}
	}
}

// layer stands over a platform, as that of custom resources does.
type layer struct{ stack.Platform }

func (l layer) Beneath() stack.Platform { return l.Platform }
