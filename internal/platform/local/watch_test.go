package local

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/pace"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/watch"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

const guardTemplate = `
Resources:
  Group: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /makeitso/local/web, RetentionInDays: 7}}
  Stream: {Type: AWS::Logs::LogStream, Properties: {LogGroupName: !Ref Group, LogStreamName: batch/1}}
  Filter:
    Type: AWS::Logs::MetricFilter
    Properties:
      LogGroupName: !Ref Group
      FilterPattern: '{ $.status = 5* }'
      MetricTransformations: [{MetricName: errors, MetricNamespace: web, MetricValue: "1"}]
  Errors:
    Type: AWS::CloudWatch::Alarm
    Properties:
      {AlarmName: errors, Namespace: web, MetricName: errors, Statistic: Sum, Period: 10, EvaluationPeriods: 1, Threshold: 1,
       ComparisonOperator: GreaterThanOrEqualToThreshold, AlarmActions: ["arn:aws:sns:us-east-1:000000000000:people"]}
  Both: {Type: AWS::CloudWatch::CompositeAlarm, Properties: {AlarmName: both, AlarmRule: !Sub 'ALARM("${Errors}") AND NOT FALSE'}}
`

// TestLogsRollBack has a service's line in a log roll a stack back, by way of a
// filter, an alarm and a composite alarm: all of it real, and with the watcher
// that a server runs.
func TestLogsRollBack(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{AlarmChanged: told(t)})
	d := newDriftingOn(t, p, guardTemplate)
	log, err := p.LogFile(filepath.Join("instances", "web-local.web-3.1"))
	if err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if err := p.Watch(watching); err != nil {
			t.Error(err)
		}
	})
	defer watcher.Wait()
	defer stop()
	change := changeset.Change{Stack: "web", Template: []byte(`Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}`),
		Rollback: pace.Alarms{ARNs: []string{"arn:aws:cloudwatch:us-east-1:000000000000:alarm:both"}, Monitor: time.Hour}}
	cs, err := d.Engine.Plan(t.Context(), change)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	if err := os.WriteFile(log, []byte("starting\n{\"status\": 200}\n{\"status\": 503}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "alarm:both is in state ALARM") {
		t.Errorf("answered %v", err)
	}
}

// TestBalancerRollsBack has answers of a load balancer's target roll a stack back,
// by way of the edge's counts and an expression over them.
func TestBalancerRollsBack(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer target.Close()
	_, port, _ := strings.Cut(target.Listener.Addr().String(), ":")
	front := newEdge(t)
	p := newPlatform(t, Options{Edge: front})
	d := newDriftingOn(t, p, `
Resources:
  Front: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer}
  Targets: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {Port: 80, Protocol: HTTP, TargetType: ip, HealthCheckEnabled: false, Targets: [{Id: 127.0.0.1, Port: `+port+`}]}}
  Listener: {Type: AWS::ElasticLoadBalancingV2::Listener, Properties: {LoadBalancerArn: !Ref Front, Port: 80, Protocol: HTTP, DefaultActions: [{Type: forward, TargetGroupArn: !Ref Targets}]}}
  Rate:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmName: rate
      EvaluationPeriods: 1
      Threshold: 50
      ComparisonOperator: GreaterThanThreshold
      Metrics:
        - {Id: rate, Expression: "IF(requests > 1, 100 * errors / requests)"}
        - Id: errors
          ReturnData: false
          MetricStat:
            Period: 10
            Stat: Sum
            Metric:
              Namespace: AWS/ApplicationELB
              MetricName: HTTPCode_Target_5XX_Count
              Dimensions: &of
                - {Name: LoadBalancer, Value: !GetAtt Front.LoadBalancerFullName}
                - {Name: TargetGroup, Value: !GetAtt Targets.TargetGroupFullName}
        - Id: requests
          ReturnData: false
          MetricStat: {Period: 10, Stat: SampleCount, Metric: {Namespace: AWS/ApplicationELB, MetricName: TargetResponseTime, Dimensions: *of}}
Outputs: {Host: {Value: !GetAtt Front.DNSName}}
`)
	stacks, err := d.Engine.Stacks(t.Context())
	if err != nil || len(stacks) != 1 || len(stacks[0].Outputs) != 1 {
		t.Fatalf("the stacks are %+v (%v)", stacks, err)
	}
	host := stacks[0].Outputs[0].Value
	running, stop := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() {
		if err := p.Watch(running); err != nil {
			t.Error(err)
		}
	})
	beside.Go(func() {
		for running.Err() == nil { // as people do, while the change is watched
			if _, err := front.get(host, "/"); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error") {
				t.Errorf("the load balancer answered %v", err)
				return
			}
			select {
			case <-running.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	change := changeset.Change{Stack: "web", Template: []byte(`Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}`),
		Rollback: pace.Alarms{ARNs: []string{"arn:aws:cloudwatch:us-east-1:000000000000:alarm:rate"}, Monitor: time.Hour}}
	cs, err := d.Engine.Plan(t.Context(), change)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	if err := d.Engine.Apply(t.Context(), cs, nil); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "alarm:rate is in state ALARM") {
		t.Errorf("answered %v", err)
	}
}

// told wants to hear of the alarm errors, and that its action is not taken.
func told(t *testing.T) func(context.Context, string, string, string) {
	heard := false
	t.Cleanup(func() {
		if !heard {
			t.Error("nothing was told of the alarm")
		}
	})
	return func(_ context.Context, alarm, state, reason string) {
		if alarm == "errors" && state == string(metric.On) {
			heard = strings.Contains(reason, "Threshold Crossed: 1 out of the last 1 datapoints [1.0 (") && strings.Contains(reason, "AlarmActions are not taken on this machine: arn:aws:sns:us-east-1:000000000000:people")
		}
	}
}

// TestTrailInBucket writes events into a bucket of the real S3 server.
func TestTrailInBucket(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	const none = `Resources: {T: {Type: AWS::CloudTrail::Trail, Properties: {S3BucketName: none, IsLogging: true}}}`
	d := newDriftingOn(t, p, `
Resources:
  B: {Type: AWS::S3::Bucket, Properties: {BucketName: audit}}
  T: {Type: AWS::CloudTrail::Trail, Properties: {TrailName: all, S3BucketName: !Ref B, IsLogging: true}}
`)
	cs, err := d.Engine.Plan(t.Context(), changeset.Change{Stack: "other", Template: []byte(none)})
	if err == nil {
		err = d.Engine.Apply(t.Context(), cs, nil)
	}
	if err == nil || !strings.Contains(fault.Text(err), "S3 bucket none does not exist!") {
		t.Errorf("a trail without a bucket answered %v", err)
	}
	event := []byte(`{"time": "2026-01-02T12:00:00Z", "kind": "approval", "status": "approved", "environment": "local", "message": "approved by ann"}`)
	if _, err := p.o.Records.Append(t.Context(), "events", event); err != nil {
		t.Fatal(err)
	}
	stored := make(chan string, 1)
	o := p.watching()
	put := o.Put
	o.Put = func(ctx context.Context, bucket, key string, body []byte) error {
		err := put(ctx, bucket, key, body)
		stored <- key
		return err
	}
	watching, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch.New(o).Run(watching) }()
	key := <-stored
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(key, "AWSLogs/000000000000/CloudTrail/us-east-1/2026/01/02/") {
		t.Errorf("the key is %s", key)
	}
	text, err := p.Fragment(t.Context(), "s3://audit/"+key)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	unzip, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Records []map[string]any }
	if err := json.NewDecoder(unzip).Decode(&file); err != nil || len(file.Records) != 1 || file.Records[0]["eventName"] != "ApprovalApproved" {
		t.Errorf("the object is %+v (%v)", file, err)
	}
}

// TestWatchedMistakes is what templates get wrong of what is watched.
func TestWatchedMistakes(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	for want, c := range map[string]struct {
		typ        string
		properties map[string]any
	}{
		"The specified log group does not exist.": {"AWS::Logs::LogStream", map[string]any{"LogGroupName": "none"}},
		"it ends where a ] is wanted":             {"AWS::Logs::MetricFilter", map[string]any{"FilterPattern": "[a"}},
		"AlarmRule ends where a ) is wanted":      {compositeType, map[string]any{"AlarmRule": "OK(a"}},
		"Threshold is much":                       {alarmType, map[string]any{"Threshold": "much"}},
	} {
		if _, err := machinetest.Handler(t, p, c.typ).Create(t.Context(), machinetest.Request(c.typ, "R", c.properties)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", c.typ, err, want)
		}
	}
	// What is known only later does not keep the rest from being judged.
	engine := stack.New("local", p, p.o.Records, stack.Options{Holder: "test"})
	const of = `Namespace: AWS/ApplicationELB, MetricName: RequestCount, Dimensions: [{Name: LoadBalancer, Value: !GetAtt B.LoadBalancerFullName}]`
	for want, alarm := range map[string]string{
		"bands of anomalies are not computed here":      of + `, Statistic: Sum, ThresholdMetricId: band`,
		`at 10 a number, an id, a function or a ( is`:   `Metrics: [{Id: rate, Expression: "errors / )"}, {Id: errors, ReturnData: false, MetricStat: {Stat: Sum, Metric: {` + of + `}}}]`,
		"STDDEV is no function that is computed here":   `Metrics: [{Id: e, Expression: STDDEV(m)}]`,
		`ExtendedStatistic is "TM(1%:9%)", and trimmed`: of + `, ExtendedStatistic: "TM(1%:9%)"`,
	} {
		template := `Resources: {B: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer}, A: {Type: AWS::CloudWatch::Alarm, Properties: {EvaluationPeriods: 1, Threshold: 1, ComparisonOperator: GreaterThanThreshold, ` + alarm + `}}}`
		if _, err := engine.Plan(t.Context(), changeset.Change{Stack: "web", Template: []byte(template)}); err == nil || !strings.Contains(fault.Text(err), want) {
			t.Errorf("a plan answered %v; want %s", err, want)
		}
	}
	for group, file := range map[string]string{"/makeitso/local/web": "web-local.web-3.1.log", "/makeitso/local/web-local": "web-local-local.web-local.test.7.log"} {
		for name, want := range map[string]bool{file: true, "web-admin-local.web-admin-3.1.log": false, "web-local.webs-3.1.log": false} {
			if has := p.logSources(group)[1].Has(name); has != want {
				t.Errorf("%s has %s: %v", group, name, has)
			}
		}
	}
	if got := len(p.logSources("/makeitso/other/web")); got != 1 {
		t.Errorf("a group of another environment has %d sources", got)
	}
}

// counting counts what is listed of a store.
type counting struct {
	record.Store
	listed atomic.Int64
}

func (c *counting) List(ctx context.Context, kind, prefix string) ([]record.Entry, error) {
	c.listed.Add(1)
	return c.Store.List(ctx, kind, prefix)
}

// TestResumeKeepsRecords starts an environment again that has an alarm and a
// secret: real as they are, they stay the records that they were, and nobody
// goes through all records for what has a folder.
func TestResumeKeepsRecords(t *testing.T) {
	t.Parallel()
	records := &counting{Store: record.NewMemory()}
	p := newPlatform(t, Options{Options: machine.Options{Records: records}})
	alarm := machinetest.Request(alarmType, "Alarm", map[string]any{"AlarmName": "errors", "EvaluationPeriods": "1", "ComparisonOperator": "GreaterThanThreshold"})
	hidden := machinetest.Request(secretType, "Secret", map[string]any{"Name": "contract", "SecretString": "open sesame"})
	machinetest.Create(t, p, alarm)
	machinetest.Create(t, p, hidden)
	if err := p.SetAlarm(t.Context(), "errors", string(metric.On), ""); err != nil {
		t.Fatal(err)
	}
	records.listed.Store(0)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if n := records.listed.Load(); n != 0 {
		t.Errorf("resumed, it listed records %d times", n)
	}
	for _, r := range []stack.Request{alarm, hidden} {
		if _, err := machinetest.Handler(t, p, r.Type).Read(t.Context(), r); err != nil {
			t.Errorf("%s: %v", r.Type, err)
		}
	}
	if err := p.WaitAlarm(t.Context(), "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors"); err != nil {
		t.Error(err)
	}
}
