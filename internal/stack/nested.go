package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/template"
)

// maxDepth is how deep stacks may be nested: one that names itself must end.
const maxDepth = 10

// Support says what becomes of resources of a type: what the platform does with
// them, or the engine itself.
func (e *Engine) Support(typ string) changeset.Support {
	if typ == changeset.NestedType {
		return changeset.Support{Level: changeset.Real, Note: "a stack of its own, changed and rolled back with its parent"}
	}
	return e.platform.Support(typ)
}

// handler gives what makes resources of a type, outside of an operation.
func (e *Engine) handler(typ string) (Handler, error) {
	if typ == changeset.NestedType {
		return nested{e: e}, nil
	}
	return e.platform.Handler(typ)
}

// handler gives what makes resources of a type as a part of the operation.
func (o *operation) handler(typ string) (Handler, error) {
	if typ == changeset.NestedType {
		return nested{o.e, o}, nil
	}
	return o.e.confidant(typ, o.hidden)
}

// whole says of a nested stack that it is not changed by itself.
func whole(s Stack) error {
	if s.Root == "" {
		return nil
	}
	return fault.New(fault.Conflict, "stack %s is nested in %s and is changed with it", s.Name, s.Root).
		WithHint("change the template, then: makeitso apply %s", s.Root)
}

// nestedName names the stack of a resource that is new in a change set: the
// same for the same plan.
func (e *Engine) nestedName(cs *changeset.Set, id string) string {
	_, uuid, _ := strings.Cut(e.stackID(cs.Stack+"/"+id, cs.Base), id+"/")
	return tokenOf(cs.Stack, id, strings.ReplaceAll(uuid, "-", "")[:13])
}

// nestedChange gives the change of a nested stack from the properties of its
// resource, as far as they are known.
func nestedChange(parent *changeset.Set, name string, properties map[string]any) changeset.Change {
	of := parent.Change
	c := changeset.Change{Stack: name, Parameters: map[string]string{}, Tags: maps.Clone(of.Tags), DisableRollback: parent.Leaves(), Files: of.Files,
		ImportExisting: of.ImportExisting, Joint: changeset.Joint{Stacks: of.Joint.Stacks, Exports: of.Joint.Exports}}
	given, _ := properties["Parameters"].(map[string]any)
	for key, value := range given {
		c.Parameters[key] = parameterText(value)
	}
	if minutes, err := strconv.Atoi(fmt.Sprint(properties["TimeoutInMinutes"])); err == nil {
		c.Timeout = time.Duration(minutes) * time.Minute
	}
	notified, _ := properties["NotificationARNs"].([]any)
	for _, arn := range notified {
		c.Noted.NotificationARNs = append(c.Noted.NotificationARNs, parameterText(arn))
	}
	tags, _ := properties["Tags"].([]any)
	for _, item := range tags {
		tag, _ := item.(map[string]any)
		if c.Tags == nil {
			c.Tags = map[string]string{}
		}
		c.Tags[parameterText(tag["Key"])] = parameterText(tag["Value"])
	}
	return c
}

// parameterText writes a value as a parameter is given: a list joined by commas.
func parameterText(value any) string {
	switch value := value.(type) {
	case template.Unknown:
		return changeset.KnownAfterApply
	case []any:
		items := make([]string, len(value))
		for i, item := range value {
			items[i] = parameterText(item)
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(value)
}

// nesting gives what plans the nested stacks of a change set.
func (e *Engine) nesting(ctx context.Context, cs *changeset.Set, out changeset.Lookups, v view) func(string, map[string]any, string) (*changeset.Set, error) {
	if v.root == "" {
		v.root, v.tree = cs.Stack, map[string]string{}
	}
	v.depth++
	outer := v.frozen
	return func(id string, properties map[string]any, token string) (*changeset.Set, error) {
		if v.depth > maxDepth {
			return nil, fault.New(fault.Invalid, "stacks are nested more than %d deep", maxDepth).WithHint("does a template name itself?")
		}
		if token == "" {
			token = e.nestedName(cs, id)
		}
		c := nestedChange(cs, token, properties)
		var err error
		if c.File, c.Template, err = nestedTemplate(cs.Change, properties["TemplateURL"], out); err != nil {
			return nil, err
		}
		s, err := e.find(ctx, token)
		if err != nil {
			return nil, err
		}
		v := v
		if v.frozen = nil; outer != nil && outer.Nested[id] != nil {
			v.frozen = outer.Nested[id]
		}
		nested, err := e.compare(ctx, s, c, v)
		if err != nil {
			return nil, err
		}
		nested.Change.Files = nil // the root's set has them
		maps.Copy(v.tree, nested.Exports())
		return nested, nil
	}
}

// nestedTemplate gives the template of a nested stack and its name: a file
// beside the parent's, or what the platform has at a place of S3.
func nestedTemplate(parent changeset.Change, location any, out changeset.Lookups) (file string, text []byte, err error) {
	where, known := location.(string)
	if !known {
		return "", nil, fault.New(fault.Invalid, "TemplateURL of a nested stack must be known before apply").WithHint("make it of texts, parameters and mappings")
	}
	if !strings.Contains(where, "://") {
		file = path.Join(path.Dir(parent.File), where)
		if text, ok := parent.Files[file]; ok {
			return file, text, nil
		}
		return "", nil, fault.New(fault.NotFound, "there is no template %s", file).WithHint("TemplateURL is a path from the template that names it, or an s3:// or https:// address of a bucket")
	}
	if where, known = BucketAddress(where); !known || out.Fragment == nil {
		return "", nil, fault.New(fault.Invalid, "TemplateURL must be a supported URL.").WithHint("found %v; give a path from the template that names it, or the address of an object of S3", location)
	}
	text, err = out.Fragment(where)
	return where, text, err
}

// bucketHosts are the forms that the address of an object has: of S3, and of a
// server of this machine that stands for it.
var bucketHosts = []*regexp.Regexp{
	regexp.MustCompile(`^https://([a-z0-9.-]+)\.s3[.-][a-z0-9.-]*amazonaws\.com(?:\.cn)?/(.+)$`),
	regexp.MustCompile(`^https://s3[.-][a-z0-9.-]*amazonaws\.com(?:\.cn)?/([^/]+)/(.+)$`),
	regexp.MustCompile(`^http://(?:127\.0\.0\.1|localhost|s3\.localhost):[0-9]+/([^/]+)/(.+)$`),
	regexp.MustCompile(`^http://([a-z0-9.-]+)\.s3\.localhost:[0-9]+/(.+)$`),
}

// BucketAddress writes the addresses that an object of S3 has in one way,
// s3://bucket/key; false for what is no such address.
func BucketAddress(location string) (string, bool) {
	if strings.HasPrefix(location, "s3://") {
		return location, true
	}
	for _, host := range bucketHosts {
		if m := host.FindStringSubmatch(location); m != nil {
			return "s3://" + m[1] + "/" + m[2], true
		}
	}
	return "", false
}

// nestedSets puts the sets of nested stacks that change, or go, into a set.
func (e *Engine) nestedSets(ctx context.Context, cs *changeset.Set, p *changeset.Planner) error {
	cs.Nested = map[string]*changeset.Set{}
	for id, nested := range p.Nested {
		if !nested.Empty() {
			cs.Nested[id] = nested
		}
	}
	for _, c := range cs.Changes {
		if c.Action != changeset.Remove || c.Type != changeset.NestedType {
			continue
		}
		s, err := e.find(ctx, p.Exists[c.LogicalID].Token)
		if err != nil {
			return err
		}
		if cs.Nested[c.LogicalID], err = e.compareDelete(ctx, s, nil); err != nil {
			return err
		}
	}
	return nil
}

// nested makes the stacks within a stack. The operation of each is a part of
// its parent's: an update stays open, able to go back, until that is over.
type nested struct {
	e *Engine
	o *operation // nil outside of one: then it only reads
}

// Check implements Handler; a nested stack was judged with the plan.
func (n nested) Check(context.Context, Request) error { return nil }

// Read implements Handler.
func (n nested) Read(ctx context.Context, r Request) (Result, error) {
	s, err := n.e.Stack(ctx, r.Token)
	return nestedResult(s), err
}

func nestedResult(s Stack) Result {
	attributes := map[string]any{}
	for _, o := range s.Outputs {
		attributes["Outputs."+o.Name] = o.Value
	}
	return Result{PhysicalID: s.ID, Attributes: attributes}
}

// Create implements Handler.
func (n nested) Create(ctx context.Context, r Request) (Result, error) { return n.forward(ctx, r) }

// Update implements Handler.
func (n nested) Update(ctx context.Context, r Request) (Result, error) { return n.forward(ctx, r) }

// forward brings a nested stack to what its parent wants; what the parent's
// operation had begun before a crash is gone on with.
func (n nested) forward(ctx context.Context, r Request) (Result, error) {
	s, err := n.e.find(ctx, r.Token)
	if err != nil {
		return Result{}, halt{err}
	}
	var child *operation
	switch {
	case n.of(s) && strings.HasSuffix(s.Status, "COMPLETE") || n.of(s) && s.Status == UpdateCompleteCleanupInProgress:
		return nestedResult(s), nestedOutcome(s, nil)
	case n.of(s) && strings.HasSuffix(s.Status, "FAILED"):
		return Result{}, nestedOutcome(s, nil)
	case n.of(s):
		child, err = n.e.underWay(ctx, s, n.listen())
	case n.o.set.Nested[r.LogicalID] == nil && s.exists():
		return nestedResult(s), nil // only what the stack is not made from has changed
	case n.o.set.Nested[r.LogicalID] == nil:
		return Result{}, fault.New(fault.NotFound, "nested stack %s is gone", r.Token).WithHint("apply its parent again: makeitso apply %s", n.o.stack.root())
	default:
		child, err = n.begin(ctx, s, r)
	}
	if err != nil {
		return Result{}, err
	}
	child.idle, child.outer = n.o.idle, n.o
	err = child.run(ctx)
	return nestedResult(child.stack), nestedOutcome(child.stack, err)
}

// of says whether the parent's operation has begun to change a nested stack.
func (n nested) of(s Stack) bool { return s.ParentRevision == n.o.stack.Revision }

// nestedOutcome is the answer about a nested stack in the status in which its
// operation left it.
func nestedOutcome(s Stack, err error) error {
	switch {
	case halted(err):
		return err
	case s.Status == CreateComplete || s.Status == UpdateComplete || s.Status == UpdateCompleteCleanupInProgress:
		return nil
	}
	return fault.New(fault.Failed, "Embedded stack %s was not successfully created or updated: %s", s.ID, s.Reason)
}

// begin makes the first record of a nested stack's part in the operation.
func (n nested) begin(ctx context.Context, s Stack, r Request) (*operation, error) {
	approved := n.o.set.Nested[r.LogicalID]
	c := nestedChange(&n.o.set, r.Token, r.Properties)
	c.File, c.Template = approved.Change.File, approved.Change.Template
	cs := *approved
	cs.Change = c
	if len(cs.Open) > 0 {
		decided, err := n.e.compare(ctx, s, c, view{frozen: approved, root: n.o.stack.root(), tree: map[string]string{}})
		if err != nil {
			return nil, err
		}
		cs = *decided
	}
	s.Parent, s.Root, s.ParentRevision = n.o.stack.Name, n.o.stack.root(), n.o.stack.Revision
	child, err := n.e.begin(ctx, s, &cs, n.listen())
	if err != nil && !halted(err) {
		err = errors.Join(err, n.e.keepPresentImports(context.WithoutCancel(ctx), r.Token))
	}
	return child, err
}

// listen hands the events of a nested stack to who listens to its root, one at
// a time with the parent's own.
func (n nested) listen() func(Event) {
	if n.o.told.listen == nil {
		return nil
	}
	return n.o.told.pass
}

// Delete implements Handler.
func (n nested) Delete(ctx context.Context, r Request) error {
	s, err := n.e.find(ctx, r.Token)
	if err != nil {
		return halt{err}
	}
	if s.Status == "" || s.Status == DeleteComplete {
		return nil
	}
	child, err := n.e.beginDelete(ctx, s, changeset.Leave{Failing: n.o.set.Leave.Failing}, n.listen())
	if err != nil {
		return err
	}
	child.outer = n.o
	return child.remove(ctx)
}

// settleNested ends the open updates of the nested stacks, after their root's
// operation has succeeded.
func (o *operation) settleNested(ctx context.Context) error {
	return o.eachNested(ctx, func(child *operation) error {
		if child.stack.Status != UpdateCompleteCleanupInProgress {
			return nil
		}
		return child.cleanUp(ctx)
	})
}

// eachNested calls do for the operation of each nested stack that this one has
// begun.
func (o *operation) eachNested(ctx context.Context, do func(*operation) error) error {
	states := o.states()
	for _, id := range slices.Sorted(maps.Keys(states)) {
		current := states[id].Current
		if current == nil || current.Type != changeset.NestedType {
			continue
		}
		n := nested{o.e, o}
		s, err := o.e.find(ctx, current.Token)
		if err != nil {
			return halt{err}
		}
		if !n.of(s) || !unfinished(s) {
			continue
		}
		child, err := o.e.underWay(ctx, s, n.listen())
		if err != nil {
			return halt{err}
		}
		child.outer = o
		if err := do(child); err != nil {
			return err
		}
	}
	return nil
}

// restoreNested brings a nested stack back to what it was before the operation.
func (o *operation) restoreNested(ctx context.Context, s resourceState, old changeset.Physical) error {
	n := nested{o.e, o}
	child, err := o.e.find(ctx, old.Token)
	if err != nil {
		return halt{err}
	}
	if n.of(child) && child.Status != UpdateRollbackComplete && child.Status != UpdateComplete {
		op, err := o.e.underWay(ctx, child, n.listen())
		if err != nil {
			return halt{err}
		}
		op.outer = o
		if err := op.goBack(ctx); halted(err) {
			return err
		} else if op.stack.Status != UpdateRollbackComplete {
			return o.failed(ctx, o.restoring(s), fault.Wrap(fault.Failed, err, "nested stack %s", s.LogicalID))
		}
		child = op.stack
	}
	old.Attributes = nestedResult(child).Attributes
	s.Current, s.Step, s.Status, s.Reason = &old, nil, UpdateComplete, ""
	return o.save(ctx, s, old.PhysicalID)
}

// goBack rolls an update back from whatever status it is in.
func (o *operation) goBack(ctx context.Context) error {
	switch o.stack.Status {
	case UpdateRollbackInProgress, UpdateRollbackCompleteCleanupInProgress:
		return o.run(ctx)
	case UpdateRollbackFailed:
		if err := o.enter(ctx, UpdateRollbackInProgress, o.stack.Reason); err != nil {
			return err
		}
		return o.run(ctx)
	}
	return o.takeBack(ctx, "the update of "+o.stack.Parent+" is rolled back", errors.New(o.stack.Reason))
}

// at gives the operation and the logical id of a resource that may be in a
// nested stack, named "Nested.Resource".
func (o *operation) at(ctx context.Context, name string) (*operation, string, error) {
	id, rest, inside := strings.Cut(name, ".")
	if !inside {
		return o, id, nil
	}
	current := o.state(id).Current
	if current == nil || current.Type != changeset.NestedType {
		return nil, "", fault.New(fault.Invalid, "%s is no nested stack of stack %s", id, o.stack.Name)
	}
	s, err := o.e.find(ctx, current.Token)
	if err != nil {
		return nil, "", err
	}
	child, err := o.e.underWay(ctx, s, nested{o.e, o}.listen())
	if err != nil {
		return nil, "", err
	}
	return child.at(ctx, rest)
}
