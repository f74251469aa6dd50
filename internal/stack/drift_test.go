package stack_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

const drifting = `
Parameters: {Secret: {Type: String, NoEcho: true, Default: hunter22}}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: {DelaySeconds: 5, FifoQueue: true, QueueName: jobs.fifo, RedrivePolicy: {maxReceiveCount: 3, target: x}}
  Cluster:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties: {ReplicationGroupDescription: cache, AuthToken: !Ref Secret}
  Plain: {Type: Test::Thing, Properties: {Password: !Ref Secret}}
`

func (b *bench) drift(name string) map[string]stack.ResourceDrift {
	b.t.Helper()
	d, err := b.engine.Drift(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	byID := map[string]stack.ResourceDrift{"": {Status: d.Status}}
	for _, r := range d.Resources {
		byID[r.LogicalID] = r
	}
	return byID
}

func TestDrift(t *testing.T) {
	b := newBench(t)
	b.mustApply("app", drifting)
	for id, r := range b.drift("app") {
		if r.Status != stack.InSync {
			t.Errorf("undisturbed, %q is %+v", id, r)
		}
	}

	// Written otherwise, but the same; not set; not to be read back.
	b.platform.Change("Queue", map[string]any{"DelaySeconds": 5.0, "FifoQueue": "True", "QueueName": "jobs.fifo", "KmsMasterKeyId": "default",
		"RedrivePolicy": `{"target": "x", "maxReceiveCount": "3"}`})
	b.platform.Change("Cluster", map[string]any{"ReplicationGroupDescription": "cache"})
	if d := b.drift("app"); d[""].Status != stack.InSync {
		t.Errorf("what means the same has drifted: %+v", d)
	}

	b.platform.Change("Queue", map[string]any{"DelaySeconds": "6", "FifoQueue": "true", "RedrivePolicy": map[string]any{"maxReceiveCount": "3", "target": "x", "more": "y"}})
	b.platform.Change("Plain", map[string]any{"Password": "hunter22x"})
	b.platform.Lose("Cluster")
	d := b.drift("app")
	want := []registry.Difference{
		{Type: "NOT_EQUAL", Path: "/DelaySeconds", Expected: "5", Actual: "6"},
		{Type: "REMOVE", Path: "/QueueName", Expected: "jobs.fifo"},
		{Type: "ADD", Path: "/RedrivePolicy/more", Actual: "y"},
	}
	if got := d["Queue"]; got.Status != stack.Modified || !reflect.DeepEqual(got.Differences, want) {
		t.Errorf("the queue is %+v", got)
	}
	if d[""].Status != stack.Drifted || d["Cluster"].Status != stack.Deleted {
		t.Errorf("a lost resource gives %+v", d)
	}
	if got := d["Plain"].Differences; len(got) != 1 || got[0].Expected != stack.Masked || strings.Contains(got[0].Actual.(string), "hunter22") {
		t.Errorf("secrets are shown: %+v", got)
	}

	b.platform.Fail("read", "Queue", errors.New("no answer"))
	if got := b.drift("app")["Queue"]; got.Status != stack.Unknown || got.Reason != "no answer" {
		t.Errorf("what cannot be read is %+v", got)
	}
}

func TestDriftOfWhatIsNotThere(t *testing.T) {
	b := newBench(t)
	if _, err := b.engine.Drift(t.Context(), "app"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	b.mustApply("app", chain)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.engine.Drift(ctx, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled, it answered %v", err)
	}
}
