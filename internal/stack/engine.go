// Package stack is a CloudFormation engine for platforms that have none: it
// plans change sets, applies them as a graph in parallel with every transition
// journaled, rolls back what fails, guards exports and goes on after a crash.
// It declares the contract of a platform and must not know where resources
// live.
package stack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/lease"
	"makeitso/internal/record"
	"makeitso/internal/template"
)

// ErrSuspend is the cause to cancel a context with when an operation shall
// stop where it stands, to be gone on with by Resume. Cancelling with any
// other cause rolls back.
var ErrSuspend = errors.New("suspended")

// Options are what an Engine may be told.
type Options struct {
	Account string // AWS::AccountId, default 000000000000
	Region  string // AWS::Region, default us-east-1
	// Holder names this process in leases; it must differ from that of every
	// other process, earlier ones included.
	Holder string
	// Alive says whether another holder still runs. The default takes every
	// other holder for dead, which is right where only one process at a time
	// may use the store.
	Alive func(holder string) bool
	// Beat is how often leases are renewed, where several processes use the
	// store: see lease.Options. Alive is not asked then.
	Beat time.Duration
	// Parallel is how many handlers are called at one time, default 50: the
	// more there are, the more transitions one sync of the store keeps. A
	// platform whose handlers do heavy work bounds that itself.
	Parallel int
	// Drifted is told what a look at a stack found, if it is not what the one
	// before found. Default: nobody.
	Drifted func(StackDrift)
}

const exportKind = "stack-export"

// Engine plans and applies the stacks of one environment.
type Engine struct {
	environment string
	platform    Platform
	store       record.Store
	o           Options

	stacks    record.Collection[Stack]
	sources   record.Collection[source]
	changes   record.Collection[changeset.Set] // under way
	resources record.Collection[resourceState]
	exports   record.Collection[Export]
	leases    *lease.Table
	drifts    record.Collection[StackDrift]
	verdicts  lease.Verdicts // by stack and revision, of updates under way
	left      chan struct{}  // has a value when a change was left half done
}

// New makes the engine of an environment.
func New(environment string, platform Platform, store record.Store, o Options) *Engine {
	if o.Account == "" {
		o.Account = "000000000000"
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Parallel == 0 {
		o.Parallel = 50
	}
	return &Engine{
		environment: environment, platform: platform, store: store, o: o,
		stacks:    record.Of[Stack](store, "stack"),
		sources:   record.Of[source](store, "stack-source"),
		changes:   record.Of[changeset.Set](store, "stack-change"),
		resources: record.Of[resourceState](store, "stack-resource"),
		exports:   record.Of[Export](store, exportKind),
		leases:    lease.New(store, "stack", environment+"/", lease.Options{Holder: o.Holder, Alive: o.Alive, Beat: o.Beat}),
		drifts:    record.Of[StackDrift](store, "stack-drift"),
		verdicts:  lease.NewVerdicts(store, "stack"),
		left:      make(chan struct{}, 1),
	}
}

// Region is AWS::Region.
func (e *Engine) Region() string { return e.o.Region }

// key is the record key of a stack or an export.
func (e *Engine) key(name string) string { return e.environment + "/" + name }

func (e *Engine) resourceKey(stack, id string) string { return e.key(stack) + "/" + id }

func (e *Engine) stream(stack string) string { return "stack/" + e.key(stack) }

// find gives a stack's record, the zero Stack if there never was one.
func (e *Engine) find(ctx context.Context, name string) (Stack, error) {
	s, err := e.stacks.Get(ctx, e.key(name))
	if fault.Is(err, fault.NotFound) {
		return Stack{Environment: e.environment, Name: name}, nil
	}
	if err != nil {
		return Stack{}, fmt.Errorf("read stack %s: %w", name, err)
	}
	return s, nil
}

// Stack gives a stack, fault.NotFound if it does not exist.
func (e *Engine) Stack(ctx context.Context, name string) (Stack, error) {
	s, err := e.find(ctx, name)
	if err == nil && (s.Status == "" || s.Status == DeleteComplete) {
		err = fault.New(fault.NotFound, "Stack with id %s does not exist", name).
			WithHint("apply it first: makeitso apply %s", name)
	}
	return s, err
}

// Known gives the last stack of a name, also if it was deleted; fault.NotFound
// if there never was one.
func (e *Engine) Known(ctx context.Context, name string) (Stack, error) {
	s, err := e.find(ctx, name)
	if err == nil && s.Status == "" {
		err = fault.New(fault.NotFound, "Stack with id %s does not exist", name)
	}
	return s, err
}

// Change gives what a stack was asked to be last: the change under way, or
// else the one that it was made by. That of a stack whose creation was rolled
// back, or that was deleted, is the zero Change. It holds secrets.
func (e *Engine) Change(ctx context.Context, name string) (changeset.Change, error) {
	src, err := e.asked(ctx, name)
	return src.Change, err
}

// asked is Change, with what was looked up for it.
func (e *Engine) asked(ctx context.Context, name string) (source, error) {
	cs, err := e.changes.Get(ctx, e.key(name))
	if err == nil && cs.Action != changeset.Delete {
		return source{Change: cs.Change, Imports: cs.Imports, Outside: cs.Outside}, nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return source{}, fmt.Errorf("read the change of stack %s under way: %w", name, err)
	}
	return e.present(ctx, name)
}

// Stacks gives all stacks of the environment that exist, by name.
func (e *Engine) Stacks(ctx context.Context) ([]Stack, error) {
	all, err := e.AllKnown(ctx)
	return slices.DeleteFunc(all, func(s Stack) bool { return s.Status == DeleteComplete }), err
}

// AllKnown gives the last stack of every name, those too that were deleted.
func (e *Engine) AllKnown(ctx context.Context) ([]Stack, error) {
	all, err := e.stacks.List(ctx, e.key(""))
	if err != nil {
		return nil, fmt.Errorf("list stacks: %w", err)
	}
	return all, nil
}

// Outputs gives the outputs of a stack by name, fault.NotFound if it does not
// exist.
func (e *Engine) Outputs(ctx context.Context, name string) (map[string]string, error) {
	s, err := e.Stack(ctx, name)
	if err != nil {
		return nil, err
	}
	outputs := map[string]string{}
	for _, o := range s.Outputs {
		outputs[o.Name] = o.Value
	}
	return outputs, nil
}

// Resources gives the resources of a stack by logical id, fault.NotFound if
// the stack does not exist.
func (e *Engine) Resources(ctx context.Context, name string) ([]Resource, error) {
	if _, err := e.Stack(ctx, name); err != nil {
		return nil, err
	}
	states, err := e.resources.List(ctx, e.resourceKey(name, ""))
	if err != nil {
		return nil, fmt.Errorf("list resources of %s: %w", name, err)
	}
	resources := make([]Resource, len(states))
	for i, s := range states {
		r := Resource{LogicalID: s.LogicalID, Type: s.typ(), Status: s.Status, Reason: s.Reason, Time: s.Time}
		r.Level = e.Support(r.Type).Level
		if s.Current != nil {
			r.PhysicalID, r.Token, r.Attributes = s.Current.PhysicalID, s.Current.Token, s.Current.Attributes
			if s.Current.NoEcho {
				r.Attributes = template.Rewrite(r.Attributes, func(any) any { return changeset.Masked }).(map[string]any)
			}
		}
		resources[i] = r
	}
	return resources, nil
}

// Exports gives all exports of the environment, by name.
func (e *Engine) Exports(ctx context.Context) ([]Export, error) {
	exports, err := e.exports.List(ctx, e.key(""))
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	return exports, nil
}

// eventsAtOnce bounds what one Read of the store brings into memory.
const eventsAtOnce = 1000

// Events gives the events of a stack with numbers above after, oldest first.
// They outlive the stack.
func (e *Engine) Events(ctx context.Context, name string, after int64) ([]Event, error) {
	var events []Event
	for {
		more, err := e.readEvents(ctx, name, after, eventsAtOnce)
		if err != nil {
			return nil, err
		}
		if events = append(events, more...); len(more) < eventsAtOnce {
			return events, nil
		}
		after = more[len(more)-1].Number
	}
}

// EventsBefore gives the last events of a stack with numbers below before, the
// newest first and at most so many; 0 is below none.
func (e *Engine) EventsBefore(ctx context.Context, name string, before int64, most int) ([]Event, error) {
	if before == 0 {
		last, err := e.store.Last(ctx, e.stream(name))
		if err != nil {
			return nil, fmt.Errorf("read events of %s: %w", name, err)
		}
		before = last + 1
	}
	from := max(before-int64(most), 1)
	events, err := e.readEvents(ctx, name, from-1, int(before-from))
	// Where old ones were removed, those come that are not before.
	events = slices.DeleteFunc(events, func(ev Event) bool { return ev.Number >= before })
	slices.Reverse(events)
	return events, err
}

// AwaitEvent returns nil when a stack has an event with a number above after, or
// ctx's error.
func (e *Engine) AwaitEvent(ctx context.Context, name string, after int64) error {
	return e.store.Wait(ctx, e.stream(name), after)
}

func (e *Engine) readEvents(ctx context.Context, name string, after int64, most int) ([]Event, error) {
	items, err := e.store.Read(ctx, e.stream(name), after, most)
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", name, err)
	}
	events := make([]Event, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item.Value, &events[i]); err != nil {
			return nil, fmt.Errorf("decode event %d of %s: %w", item.Number, name, err)
		}
		events[i].Number = item.Number
	}
	return events, nil
}

var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]*$`)

// pseudo gives the pseudo parameters of a stack.
func (e *Engine) pseudo(name, id string) map[string]string {
	return map[string]string{
		"AWS::AccountId": e.o.Account, "AWS::Region": e.o.Region, "AWS::StackName": name, "AWS::StackId": id,
		"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
	}
}

// stackID names a new stack: the same for the same plan, another for each
// stack of that name.
func (e *Engine) stackID(name string, base int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%s/%d", e.o.Account, e.o.Region, e.environment, name, base))
	return strings.Join([]string{"arn:aws:cloudformation", e.o.Region, e.o.Account, "stack/" + name + "/" + uuid(sum)}, ":")
}

// uuid writes the beginning of a digest in the form of ids.
func uuid(sum [sha256.Size]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// now is the time written in records, in a form that a record gives back unchanged.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
