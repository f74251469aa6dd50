package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// errKilled is what a dead process would never see: after it, nothing that the
// engine tries has an effect.
var errKilled = errors.New("killed")

// life is the life of one process: it ends at the boundary of that number.
// Boundaries are before and after the effect of each write and each call.
type life struct {
	mu     sync.Mutex
	passed int
	end    int // 0 is never
}

func (l *life) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed++
	return l.end == 0 || l.passed < l.end
}

// do has an effect if the process lives before it, and answers if after it.
func (l *life) do(effect func() error) error {
	if !l.alive() {
		return errKilled
	}
	err := effect()
	if !l.alive() {
		return errKilled
	}
	return err
}

type mortalStore struct {
	record.Store
	life *life
}

func (s mortalStore) Write(ctx context.Context, ops ...record.Op) error {
	return s.life.do(func() error { return s.Store.Write(ctx, ops...) })
}

func (s mortalStore) Append(ctx context.Context, stream string, values ...[]byte) (n int64, err error) {
	err = s.life.do(func() error { n, err = s.Store.Append(ctx, stream, values...); return err })
	return n, err
}

func (s mortalStore) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (n int64, err error) {
	err = s.life.do(func() error { n, err = s.Store.AppendWith(ctx, stream, values, ops...); return err })
	return n, err
}

type mortalPlatform struct {
	stack.Platform
	life *life
}

func (p mortalPlatform) Handler(typ string) (stack.Handler, error) {
	h, err := p.Platform.Handler(typ)
	if g, ok := h.(stack.Group); ok {
		return mortalGroup{mortalHandler{h, p.life}, g}, err
	}
	return mortalHandler{h, p.life}, err
}

// mortalGroup is a mortalHandler of groups.
type mortalGroup struct {
	mortalHandler
	stack.Group
}

func (g mortalGroup) Resize(ctx context.Context, r stack.Request, n int) error {
	return g.life.do(func() error { return g.Group.Resize(ctx, r, n) })
}

func (g mortalGroup) Terminate(ctx context.Context, r stack.Request, ids []string) error {
	return g.life.do(func() error { return g.Group.Terminate(ctx, r, ids) })
}

type mortalHandler struct {
	stack.Handler
	life *life
}

func (h mortalHandler) Create(ctx context.Context, r stack.Request) (result stack.Result, err error) {
	err = h.life.do(func() error { result, err = h.Handler.Create(ctx, r); return err })
	return result, err
}

func (h mortalHandler) Update(ctx context.Context, r stack.Request) (result stack.Result, err error) {
	err = h.life.do(func() error { result, err = h.Handler.Update(ctx, r); return err })
	return result, err
}

func (h mortalHandler) Find(ctx context.Context, r stack.Request, identifier map[string]string) (string, stack.Result, error) {
	return h.Handler.(stack.Importer).Find(ctx, r, identifier)
}

func (h mortalHandler) Delete(ctx context.Context, r stack.Request) error {
	return h.life.do(func() error { return h.Handler.Delete(ctx, r) })
}

const killBefore = `
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: first}}
  Reader: {Type: "Test::Thing", Properties: {Queue: !Ref Queue, From: !ImportValue base}}
  Plain: {Type: "Test::Thing", Properties: {Value: a}}
  Old: {Type: "Test::Thing", Properties: {Reader: !Ref Reader}}
  Kept: {Type: "Test::Thing", DeletionPolicy: Retain}
Outputs:
  Queue: {Value: !GetAtt Queue.QueueName, Export: {Name: queue}}
`

const killAfter = `
Resources:
  Queue: {Type: "AWS::SQS::Queue", Properties: {QueueName: second}}
  Reader: {Type: "Test::Thing", Properties: {Queue: !Ref Queue}}
  Plain: {Type: "Test::Thing", DeletionPolicy: Retain, Properties: {Value: a}}
  New: {Type: "Test::Thing", Properties: {Reader: !Ref Reader}}
  Last: {Type: "Test::Thing", DependsOn: New, Properties: {Value: !GetAtt New.Reader}}
Outputs:
  Name: {Value: !GetAtt Queue.QueueName, Export: {Name: name}}
`

// scene is an operation to be killed at every boundary.
type scene struct {
	name    string
	present string            // the template applied before, "" for none
	wanted  string            // the template to apply, "" to delete
	drift   stack.DriftPolicy // what becomes of what prepare did, in place of applying
	prepare func(*stacktest.Platform)
	leave   changeset.Leave // of a delete that has failed before
	signals bool            // what is launched or made says that it is well
	onFail  string
	cancel  string                  // a resource whose making has the update cancelled
	change  func(*changeset.Change) // what is wanted besides the template
	status  string
	tagged  bool   // whether another tag is wanted of what it has made
	base    string // the template of stack base that is applied before, in one plan with it; "" for none
}

func scenes() []scene {
	fail := func(action, id string) func(*stacktest.Platform) {
		return func(p *stacktest.Platform) { p.Fail(action, id, errors.New("broken")) }
	}
	drift := func(p *stacktest.Platform) {
		p.Change("Queue", map[string]any{"QueueName": "first", "DelaySeconds": "7"})
		p.Change("Plain", map[string]any{"Value": "b"})
		p.Lose("Old")
		p.Lose("Kept")
	}
	driftInside := func(p *stacktest.Platform) {
		p.Lose("Thing")
		p.Change("Queue", map[string]any{"QueueName": "one", "DelaySeconds": "7"})
		p.Change("Last", map[string]any{"Name": "other"})
	}
	return []scene{
		{name: "create", wanted: killBefore, status: stack.CreateComplete},
		{name: "create that fails", wanted: killBefore, prepare: fail("create", "Old"), status: stack.RollbackComplete},
		{name: "update", present: killBefore, wanted: killAfter, status: stack.UpdateComplete},
		{name: "update that fails", present: killBefore, wanted: killAfter, prepare: fail("create", "Last"), status: stack.UpdateRollbackComplete},
		{name: "update that is cancelled", present: killBefore, wanted: killAfter, cancel: "New", status: stack.UpdateRollbackComplete},
		{name: "delete", present: killBefore, status: "gone"},
		{name: "delete that leaves", present: killBefore, prepare: fail("delete", "Reader"), leave: changeset.Leave{Resources: []string{"Reader"}}, status: "gone"},
		{name: "delete that leaves what fails", present: nesting("small", "one"), prepare: fail("delete", "Thing"), leave: changeset.Leave{Failing: true}, status: "gone"},
		{name: "update that deletes first", present: attachment("one"), wanted: attachment("two"), status: stack.UpdateComplete},
		{name: "update that deletes first and fails", present: attachment("one"), wanted: attachment("two") + "  More: {Type: Test::Thing, DependsOn: Last}\n",
			prepare: fail("create", "More"), status: stack.UpdateRollbackComplete},
		{name: "create with signals", wanted: killSignals, signals: true, status: stack.CreateComplete},
		{name: "create with signals that fails", wanted: killSignals + "  Last: {Type: Test::Thing, DependsOn: Thing}\n", signals: true,
			prepare: fail("create", "Last"), status: stack.RollbackComplete},
		{name: "create that is deleted when it fails", wanted: killBefore, prepare: fail("create", "Old"), onFail: changeset.OnFailureDelete, status: "gone"},
		{name: "rolling update", present: group("one", 3), wanted: group("two", 3), signals: true, status: stack.UpdateComplete},
		{name: "rolling update that fails", present: group("one", 3), wanted: group("two", 3) + "  Last: {Type: Test::Thing, DependsOn: Group}\n", signals: true,
			prepare: fail("create", "Last"), status: stack.UpdateRollbackComplete},
		{name: "move", present: killBefore, wanted: movedQueue, status: stack.UpdateComplete},
		{name: "move that fails", present: killBefore, wanted: movedQueue, prepare: fail("create", "Extra"), status: stack.UpdateRollbackComplete},
		{name: "import", present: killBefore, wanted: killBeforeAnd(killAdopted), change: importKept, status: stack.ImportComplete},
		{name: "import that fails", present: killBefore, wanted: killBeforeAnd(killAdopted), change: importKept, prepare: fail("read", "Second"), status: stack.ImportRollbackComplete},
		{name: "import that makes a stack", wanted: "Resources:\n" + killAdopted, change: importKept, status: stack.ImportComplete},
		{name: "import that makes no stack", wanted: "Resources:\n" + killAdopted, change: importKept, prepare: fail("read", "Second"), status: stack.ImportRollbackComplete},
		{name: "update that adopts", present: killBefore, wanted: killBeforeAnd(killAdopted + "  Last: {Type: Test::Thing, DependsOn: [Plain, Second]}\n"),
			change: importExisting, status: stack.UpdateComplete},
		{name: "update that adopts and fails", present: killBefore, wanted: killBeforeAnd(killAdopted + "  Last: {Type: Test::Thing, DependsOn: [Plain, Second]}\n"),
			change: importExisting, prepare: fail("create", "Last"), status: stack.UpdateRollbackComplete},
		{name: "create of 30", wanted: large("a"), status: stack.CreateComplete},
		{name: "update of 30", present: large("a"), wanted: large("b"), status: stack.UpdateComplete},
		{name: "update of 30 that fails", present: large("a"), wanted: large("b") + last, prepare: fail("create", "Last"), status: stack.UpdateRollbackComplete},
		{name: "delete of 30", present: large("a"), status: "gone"},
		{name: "update after what it imports was replaced", present: killBefore, wanted: killBefore, base: `{"Resources":{"Y":{"Type":"Test::Thing"}},"Outputs":{"X":{"Value":{"Ref":"Y"},"Export":{"Name":"base"}}}}`,
			status: stack.UpdateComplete},
		{name: "update of tags", present: tagged, wanted: tagged, tagged: true, status: stack.UpdateComplete},
		{name: "update of tags that fails", present: tagged, wanted: tagged + "  Last: {Type: Test::Thing, DependsOn: Bucket}\n", tagged: true, prepare: fail("create", "Last"), status: stack.UpdateRollbackComplete},
		{name: "create with a nested stack", wanted: nesting("small", "one"), status: stack.CreateComplete},
		{name: "create with a nested stack that fails", wanted: nesting("small", "one"), prepare: fail("create", "Last"), status: stack.RollbackComplete},
		{name: "create in which a nested stack fails", wanted: nesting("small", "one"), prepare: fail("create", "Thing"), status: stack.RollbackComplete},
		{name: "update with a nested stack", present: nesting("small", "one"), wanted: nesting("large", "two"), status: stack.UpdateComplete},
		{name: "update with a nested stack that fails", present: nesting("small", "one"), wanted: nesting("large", "two") + "  More: {Type: Test::Thing, DependsOn: Last}\n",
			prepare: fail("create", "More"), status: stack.UpdateRollbackComplete},
		{name: "update in which a nested stack fails", present: nesting("small", "one"), wanted: nesting("large", "three"), prepare: fail("create", "Extra"), status: stack.UpdateRollbackComplete},
		{name: "update without the nested stack", present: nesting("small", "one"), wanted: "Resources: {First: {Type: Test::Thing}}", status: stack.UpdateComplete},
		{name: "delete with a nested stack", present: nesting("small", "one"), status: "gone"},
		{name: "repair", present: killBefore, drift: stack.RepairDrift, prepare: drift, status: stack.CreateComplete},
		{name: "repair of a nested stack", present: nesting("small", "one"), drift: stack.RepairDrift, prepare: driftInside, status: stack.CreateComplete},
		{name: "adoption in a nested stack", present: nesting("small", "one"), drift: stack.AdoptDrift, prepare: driftInside, status: stack.CreateComplete},
		{name: "adopt", present: killBefore, drift: stack.AdoptDrift, prepare: drift, status: stack.CreateComplete},
	}
}

// killLeft is a stack that leaves two buckets behind; killAdopted is both as
// another stack wants them.
const (
	killLeft = `
Resources:
  Left: {Type: "AWS::S3::Bucket", DeletionPolicy: Retain, Properties: {BucketName: left, Kind: old}}
  Right: {Type: "AWS::S3::Bucket", DeletionPolicy: Retain, Properties: {BucketName: right}}
`
	killAdopted = `
  First: {Type: "AWS::S3::Bucket", DeletionPolicy: Retain, Properties: {BucketName: left, Kind: new}}
  Second: {Type: "AWS::S3::Bucket", DeletionPolicy: RetainExceptOnCreate, DependsOn: First, Properties: {BucketName: right}}
`
)

// killBeforeAnd is killBefore with more resources.
func killBeforeAnd(more string) string {
	return strings.Replace(killBefore, "Outputs:", strings.TrimLeft(more, "\n")+"Outputs:", 1)
}

func importKept(c *changeset.Change) {
	c.ResourcesToImport = map[string]map[string]string{"First": {"": "left"}, "Second": {"BucketName": "right"}}
}

func importExisting(c *changeset.Change) { c.ImportExisting = true }

// movedQueue gives the queue another logical id and changes it in place.
var movedQueue = strings.NewReplacer(
	"Queue: {Type: \"AWS::SQS::Queue\", Properties: {QueueName: first}}",
	"Jobs: {Type: \"AWS::SQS::Queue\", Metadata: {makeitso: {movedFrom: Queue}}, Properties: {QueueName: first, DelaySeconds: 2}}\n"+
		"  Extra: {Type: Test::Thing, DependsOn: [Old, Plain, Kept]}",
	"!Ref Queue", "!Ref Jobs", "!GetAtt Queue.", "!GetAtt Jobs.").Replace(killBefore)

// attachment is a stack with a resource of which there can be only one at a
// time, so that the old one goes before the new one comes.
func attachment(vpc string) string {
	return `
Resources:
  Gate: {Type: "AWS::EC2::VPCGatewayAttachment", Properties: {VpcId: ` + vpc + `}}
  Last: {Type: "Test::Thing", Properties: {Of: !Ref Gate, Value: ` + vpc + `}}
`
}

// nesting is a stack with a nested one, for a size and the name of a template
// in nestedFiles.
func nesting(size, inner string) string {
	text, _, _ := strings.Cut(strings.NewReplacer("SIZE", size, "parts/inner.yaml", inner+".yaml").Replace(parent), "Outputs:\n  Inner")
	return text
}

func nestedFiles() map[string][]byte {
	extra := "Resources:\n  Extra: {Type: Test::Thing, DependsOn: Thing}"
	return map[string][]byte{
		"one.yaml":   []byte(strings.ReplaceAll(inner, "QUEUE", "one")),
		"two.yaml":   []byte(strings.ReplaceAll(inner, "QUEUE", "two")),
		"three.yaml": []byte(strings.NewReplacer("QUEUE", "three", "Resources:", extra).Replace(inner)),
	}
}

// last comes after all that large holds.
const last = "  Last: {Type: Test::Thing, DependsOn: [Join0, Join1, Join2, Join3, Join4, Join5, Join6, Join7, Join8, Join9]}\n"

// large is a stack of 30 resources: ten queues, of which a change replaces
// every second, each with a reader that is pointed at it, and what joins them.
func large(value string) string {
	var b strings.Builder
	b.WriteString("Resources:\n")
	for i := range 10 {
		property := "DelaySeconds"
		if i%2 == 0 {
			property = "QueueName"
		}
		fmt.Fprintf(&b, "  Queue%d: {Type: \"AWS::SQS::Queue\", Properties: {%s: %s%d}}\n", i, property, value, i)
		fmt.Fprintf(&b, "  Reader%d: {Type: \"Test::Thing\", Properties: {Queue: !Ref Queue%d}}\n", i, i)
		fmt.Fprintf(&b, "  Join%d: {Type: \"Test::Thing\", Properties: {Left: !Ref Reader%d, Right: !Ref Reader%d, Value: %s}}\n", i, i, (i+1)%10, value)
	}
	return b.String()
}

// play runs a scene, killing the process at a boundary (0 is never), and gives
// the boundaries passed and the end of it all.
func (s scene) play(t *testing.T, end int) (passed int, outcome string) {
	t.Helper()
	b := newBench(t)
	b.files = nestedFiles()
	b.mustApply("base", `{"Resources":{"X":{"Type":"Test::Thing"}},"Outputs":{"X":{"Value":"v","Export":{"Name":"base"}}}}`)
	if s.tagged {
		b.tags = map[string]string{"cost": "1"}
	}
	if s.present != "" {
		b.mustApply("app", s.present)
	}
	if s.tagged {
		b.tags = map[string]string{"cost": "2"}
	}
	var cs *changeset.Set
	var err error
	act := func(e *stack.Engine) error { return e.Apply(t.Context(), cs, nil) }
	if s.drift != "" {
		act = func(e *stack.Engine) error { return driftAll(t, e, s.drift) }
	} else if s.wanted == "" {
		if cs, err = b.engine.PlanDelete(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
	} else {
		change := changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(s.wanted), Files: b.files}
		if s.change != nil {
			b.leave(killLeft)
			s.change(&change)
		}
		if cs, err = b.engine.Plan(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	if s.base != "" {
		sets, err := b.planAll(changeset.Change{Stack: "base", File: "base.yaml", Template: []byte(s.base)},
			changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(s.wanted)})
		if err == nil {
			err = b.engine.Apply(t.Context(), sets[0], nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		cs = sets[1]
	}
	if s.onFail != "" {
		var err error
		if cs, err = b.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(s.wanted), OnFailure: s.onFail}); err != nil {
			t.Fatal(err)
		}
	}
	if s.prepare != nil {
		s.prepare(b.platform)
	}
	if s.signals {
		b.signalAll()
	}
	if !s.leave.IsZero() {
		if err := b.engine.Delete(t.Context(), "app", nil); !fault.Is(err, fault.Failed) {
			t.Fatal(err)
		}
		act = func(e *stack.Engine) error {
			err := e.DeleteLeaving(t.Context(), "app", s.leave, nil)
			if fault.Is(err, fault.NotFound) { // it has gone
				return nil
			}
			return err
		}
	}
	if s.cancel != "" {
		b.platform.On("create", s.cancel, func(ctx context.Context, _ stack.Request) error {
			if err := b.engine.CancelUpdate(ctx, "app"); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}
	l := &life{end: end}
	dying := stack.New("local", mortalPlatform{b.platform, l}, mortalStore{b.store, l}, stack.Options{Holder: "first"})
	first := act(dying)

	b.engine = stack.New("local", b.platform, b.store, stack.Options{Holder: "second"})
	if err := b.engine.Resume(t.Context(), nil); err != nil {
		t.Fatalf("killed at %d: resume: %v", end, err)
	}
	// What asked for the change asks again after a crash.
	again := act(b.engine)
	if (fault.Is(again, fault.Failed) || fault.Is(again, fault.Canceled)) != (strings.Contains(s.status, "ROLLBACK") || s.onFail != "") {
		t.Errorf("killed at %d: applying the set again answered %v", end, again)
	}
	if end == 0 && (first == nil) != (again == nil) {
		t.Errorf("undisturbed, the first answer was %v, the second %v", first, again)
	}
	b.wantStatus("app", s.status)
	return l.passed, b.everything()
}

// driftAll has the policy act on every stack.
func driftAll(t *testing.T, e *stack.Engine, policy stack.DriftPolicy) error {
	stacks, err := e.Stacks(t.Context())
	for _, s := range stacks {
		_, more := e.Drift(t.Context(), s.Name, policy, nil)
		err = errors.Join(err, more)
	}
	return err
}

var launched = regexp.MustCompile(`i-\d+`)

// signalAll has everything that is made or launched say, to whoever has the
// store, that it is well.
func (b *bench) signalAll() {
	for _, action := range []string{"create", "launch"} {
		for _, id := range []string{"Server", "Condition", "Group"} {
			b.signalOn(action, id, stack.Signal{Status: pace.Success, UniqueID: map[string]string{"create": "one"}[action]})
		}
	}
}

// killSignals is a stack that waits in every way there is.
const killSignals = `
Resources:
  Server: {Type: AWS::EC2::Instance, CreationPolicy: {ResourceSignal: {Timeout: PT1H}}}
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Condition: {Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: !Ref Handle, Timeout: 600, Count: 1}}
  Thing: {Type: Test::Thing, Properties: {Value: !GetAtt Condition.Data, Server: !Ref Server}}
`

// group is a stack with a group of instances, which are replaced one by one.
func group(launch string, size int) string {
	return fmt.Sprintf(`
Resources:
  Group:
    Type: AWS::AutoScaling::AutoScalingGroup
    UpdatePolicy:
      AutoScalingRollingUpdate: {MinInstancesInService: 2, WaitOnResourceSignals: true, PauseTime: PT1H, SuspendProcesses: [AZRebalance]}
    Properties: {MinSize: %d, MaxSize: %d, LaunchConfigurationName: %s}
  Thing: {Type: Test::Thing, Properties: {Group: !Ref Group}}
`, size, size+1, launch)
}

// everything is the whole end state, with random names taken out: what exists,
// what was ever created, and all records.
func (b *bench) everything() string {
	b.t.Helper()
	names := map[string]string{} // token to logical id
	made := map[string]int{}
	for _, c := range b.platform.Calls() {
		if c.Action == "create" && names[c.Token] == "" {
			names[c.Token] = c.LogicalID
			made[c.LogicalID]++
		}
	}
	var lines []string
	for _, t := range b.platform.Things() {
		raw, err := json.Marshal(t.Properties)
		if err != nil {
			b.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint("exists ", t.LogicalID, " ", string(raw), t.Tags["cost"]))
	}
	for _, kind := range []string{"stack", "stack-lease", "stack-change", "stack-export", "stack-resource", "stack-source", "stack-verdict"} {
		entries, err := b.store.List(b.t.Context(), kind, "")
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			lines = append(lines, kind+" "+e.Key+" "+b.essence(kind, e.Value))
		}
	}
	for _, t := range b.platform.Things() {
		if t.Type == pace.GroupType {
			lines = append(lines, "instances "+launched.ReplaceAllString(b.platform.Instances(t.LogicalID), "i"))
		}
	}
	slices.Sort(lines)
	text := strings.Join(lines, "\n") + fmt.Sprint("\nmade ", made)
	for token, id := range names {
		text = strings.ReplaceAll(text, token, "<"+id+">")
	}
	return text
}

// essence is what matters of a record: of a resource, not when and by which
// step it came to what it is.
func (b *bench) essence(kind string, value []byte) string {
	if kind == "stack" {
		var s stack.Stack
		if err := json.Unmarshal(value, &s); err != nil {
			b.t.Fatal(err)
		}
		return fmt.Sprint(s.Status, s.Outputs, s.Parent)
	}
	if kind != "stack-resource" {
		return string(value)
	}
	var r struct {
		Current *changeset.Physical
		Doomed  []changeset.Physical
		Status  string
	}
	if err := json.Unmarshal(value, &r); err != nil {
		b.t.Fatal(err)
	}
	r.Status = strings.TrimPrefix(strings.TrimPrefix(r.Status, "CREATE_"), "UPDATE_")
	raw, err := json.Marshal(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(raw)
}

func TestKilledAtEveryBoundary(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			boundaries, want := s.play(t, 0)
			if boundaries < 10 {
				t.Fatalf("only %d boundaries were passed", boundaries)
			}
			step := 1
			if boundaries > 200 {
				step = 2 // what is after one effect is before the next
			}
			for end := 1; end <= boundaries; end += step {
				if _, got := s.play(t, end); got != want {
					t.Errorf("killed at boundary %d of %d:\n%s\nundisturbed:\n%s", end, boundaries, got, want)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}
