package stacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

// Call is one call of a handler that changes something.
type Call struct {
	Action    string // create, update, snapshot, delete
	LogicalID string
	Token     string
}

// String gives "action logical-id".
func (c Call) String() string { return c.Action + " " + c.LogicalID }

// Thing is one resource that exists on a Platform.
type Thing struct {
	Type, LogicalID, Token string
	Properties             map[string]any
	Tags                   map[string]string
}

// Platform is a stack.Platform in memory: it realises every type, keeps what
// exists by token, and records each call. Types whose name begins with
// "Refused::" are refused; those that begin with "Snapshot::" or "AWS::RDS::" have snapshots;
// those that begin with "AWS::IAM::" cannot be imported; those that begin with
// "Warned::" warn of what their property Says says;
// one is of groups of instances.
type Platform struct {
	mu      sync.Mutex
	things  map[string]Thing // by token
	calls   []Call
	running int
	peak    int
	hooks   map[string]func(context.Context, stack.Request) error

	parameters map[string]string
	fragments  map[string]string
	macros     map[string]func(request map[string]any) map[string]any
	fleets     map[string]*fleet        // by token
	alarms     map[string]chan struct{} // by ARN, closed when it goes off
}

// NewPlatform makes a platform on which nothing exists.
func NewPlatform() *Platform {
	return &Platform{things: map[string]Thing{}, hooks: map[string]func(context.Context, stack.Request) error{},
		parameters: map[string]string{}, fragments: map[string]string{}, macros: map[string]func(map[string]any) map[string]any{},
		fleets: map[string]*fleet{}, alarms: map[string]chan struct{}{}}
}

// On has hook run before each call of that action (check, create, read, find,
// update, snapshot, delete) on that logical id; an error of it is the call's answer. A
// nil hook takes it away; the logical id "" stands for all that have none.
func (p *Platform) On(action, logicalID string, hook func(context.Context, stack.Request) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := action + " " + logicalID
	if hook == nil {
		delete(p.hooks, key)
		return
	}
	p.hooks[key] = hook
}

// Fail has each call of that action on that logical id answer err.
func (p *Platform) Fail(action, logicalID string, err error) {
	p.On(action, logicalID, func(context.Context, stack.Request) error { return err })
}

// Block has the next call of that action on that logical id wait until release
// is called or its context ends. started is closed when the call waits.
func (p *Platform) Block(action, logicalID string) (started <-chan struct{}, release func()) {
	begun, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.On(action, logicalID, func(ctx context.Context, _ stack.Request) error {
		once.Do(func() { close(begun) })
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return begun, sync.OnceFunc(func() { close(gate) })
}

// Lose takes a thing away behind the engine's back.
func (p *Platform) Lose(logicalID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.things, func(_ string, t Thing) bool { return t.LogicalID == logicalID })
}

// Change gives a thing other properties behind the engine's back.
func (p *Platform) Change(logicalID string, properties map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token, t := range p.things {
		if t.LogicalID == logicalID {
			t.Properties = properties
			p.things[token] = t
		}
	}
}

// SetParameter gives a parameter of Systems Manager a value.
func (p *Platform) SetParameter(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parameters[name] = value
}

// Parameter makes the platform a stack.ParameterStore.
func (p *Platform) Parameter(_ context.Context, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	value, ok := p.parameters[name]
	if !ok {
		return "", fault.New(fault.NotFound, "there is no parameter %s", name)
	}
	return value, nil
}

// SetFragment puts a fragment where AWS::Include finds it.
func (p *Platform) SetFragment(location, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fragments[location] = text
}

// Fragment makes the platform a stack.FragmentStore.
func (p *Platform) Fragment(_ context.Context, location string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, ok := p.fragments[location]
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no fragment at %s", location)
	}
	return []byte(text), nil
}

// SetMacro has what a FunctionName names answer a macro's requests, with the
// documents of CloudFormation.
func (p *Platform) SetMacro(function string, macro func(request map[string]any) map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.macros[function] = macro
}

// CallMacro makes the platform a stack.MacroCaller.
func (p *Platform) CallMacro(_ context.Context, function string, request []byte) ([]byte, error) {
	p.mu.Lock()
	macro := p.macros[function]
	p.mu.Unlock()
	if macro == nil {
		return nil, fault.New(fault.Unavailable, "there is no function %s", function)
	}
	var document map[string]any
	if err := json.Unmarshal(request, &document); err != nil {
		return nil, err
	}
	return json.Marshal(macro(document))
}

// Things gives what exists, by logical id and token.
func (p *Platform) Things() []Thing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.things), func(a, b Thing) int {
		return strings.Compare(a.LogicalID+" "+a.Token, b.LogicalID+" "+b.Token)
	})
}

// Calls gives the calls so far, in the order in which they began.
func (p *Platform) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Peak gives the largest number of calls that ran at one time.
func (p *Platform) Peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak
}

// Support says that every type is modelled.
func (p *Platform) Support(typ string) changeset.Support {
	if strings.HasPrefix(typ, "Refused::") {
		return changeset.Support{Level: changeset.Refused, Note: "the test platform refuses it"}
	}
	return changeset.Support{Level: changeset.Modelled, Note: "in memory", Snapshots: strings.HasPrefix(typ, "Snapshot::") || strings.HasPrefix(typ, "AWS::RDS::"), Groups: typ == pace.GroupType}
}

// Handler gives the one handler that makes every type.
func (p *Platform) Handler(typ string) (stack.Handler, error) {
	if p.Support(typ).Level == changeset.Refused {
		return nil, fault.New(fault.Unsupported, "%s is refused", typ)
	}
	if p.Support(typ).Snapshots {
		return snapshotter{handler{p}}, nil
	}
	if p.Support(typ).Groups {
		return group{handler{p}}, nil
	}
	if strings.HasPrefix(typ, "AWS::IAM::") {
		return struct{ stack.Handler }{handler{p}}, nil
	}
	return handler{p}, nil
}

// Find gives the thing that has all values of an identifier among its
// properties and attributes.
func (h handler) Find(ctx context.Context, r stack.Request, identifier map[string]string) (string, stack.Result, error) {
	leave, err := h.enter(ctx, "find", r)
	defer leave()
	if err != nil {
		return "", stack.Result{}, err
	}
	for _, t := range h.p.Things() {
		found, same := result(t), t.Type == r.Type
		for name, value := range identifier {
			same = same && (t.Properties[name] == value || found.Attributes[name] == value)
		}
		if same {
			return t.Token, found, nil
		}
	}
	return "", stack.Result{}, fault.New(fault.NotFound, "there is no such %s", r.Type)
}

// snapshotter makes resources that have snapshots.
type snapshotter struct{ handler }

func (h snapshotter) Snapshot(ctx context.Context, r stack.Request) (string, error) {
	leave, err := h.enter(ctx, "snapshot", r)
	defer leave()
	return "snapshot of " + r.LogicalID, err
}

// Warn implements stack.Warner.
func (h handler) Warn(_ context.Context, r stack.Request) ([]string, error) {
	if !strings.HasPrefix(r.Type, "Warned::") {
		return nil, nil
	}
	return []string{fmt.Sprintf("it says %v", r.Properties["Says"])}, nil
}

// handler makes resources of any type on a Platform.
type handler struct{ p *Platform }

// enter records the call and runs its hook.
func (h handler) enter(ctx context.Context, action string, r stack.Request) (leave func(), err error) {
	p := h.p
	p.mu.Lock()
	if action == "create" || action == "update" || action == "snapshot" || action == "delete" {
		p.calls = append(p.calls, Call{Action: action, LogicalID: r.LogicalID, Token: r.Token})
	}
	p.running++
	p.peak = max(p.peak, p.running)
	hook := p.hooks[action+" "+r.LogicalID]
	if hook == nil {
		hook = p.hooks[action+" "]
	}
	p.mu.Unlock()
	leave = func() {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	}
	if hook != nil {
		err = hook(ctx, r)
	}
	return leave, err
}

func (h handler) Check(ctx context.Context, r stack.Request) error {
	leave, err := h.enter(ctx, "check", r)
	defer leave()
	if err != nil {
		return err
	}
	if _, bad := r.Properties["Invalid"]; bad {
		return fault.New(fault.Invalid, "property Invalid is not allowed")
	}
	return nil
}

func (h handler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	leave, err := h.enter(ctx, "create", r)
	defer leave()
	if err != nil {
		return stack.Result{}, err
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	t, exists := h.p.things[r.Token]
	if !exists {
		t = Thing{Type: r.Type, LogicalID: r.LogicalID, Token: r.Token, Properties: r.Properties, Tags: r.Tags}
		h.p.things[r.Token] = t
	}
	return result(t), nil
}

func (h handler) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	leave, err := h.enter(ctx, "read", r)
	defer leave()
	if err != nil {
		return stack.Result{}, err
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	t, exists := h.p.things[r.Token]
	if !exists {
		return stack.Result{}, fault.New(fault.NotFound, "%s %s does not exist", r.Type, r.Token)
	}
	return result(t), nil
}

func (h handler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	leave, err := h.enter(ctx, "update", r)
	defer leave()
	if err != nil {
		return stack.Result{}, err
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	t, exists := h.p.things[r.Token]
	if !exists {
		return stack.Result{}, fault.New(fault.NotFound, "%s %s does not exist", r.Type, r.Token)
	}
	facts, _ := registry.Type(r.Type)
	if r.Previous != nil && facts.Change(r.Previous, r.Properties) == registry.Always {
		return stack.Result{}, fault.New(fault.Unsupported, "%s %s cannot take these properties in place", r.Type, r.Token)
	}
	t.Properties, t.Tags = r.Properties, r.Tags
	h.p.things[r.Token] = t
	return result(t), nil
}

func (h handler) Delete(ctx context.Context, r stack.Request) error {
	leave, err := h.enter(ctx, "delete", r)
	defer leave()
	if err != nil {
		return err
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	delete(h.p.things, r.Token)
	return nil
}

// result derives a thing's attributes: every read-only one that the registry
// knows of its type, and its own scalar properties.
func result(t Thing) stack.Result {
	attributes := map[string]any{}
	for name, value := range t.Properties {
		if text, ok := value.(string); ok {
			attributes[name] = text
		}
	}
	facts, _ := registry.Type(t.Type)
	for _, name := range facts.ReadOnly {
		attributes[strings.ReplaceAll(name, "/", ".")] = fmt.Sprintf("%s/%s", t.Token, name)
	}
	return stack.Result{PhysicalID: t.Token, Attributes: attributes, Properties: t.Properties}
}
