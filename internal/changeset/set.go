// Package changeset is the difference between a template and what exists: a
// complete value that a person reads before saying yes, and that an apply then
// follows. It resolves a stack's template as far as that is known (Program),
// compares it with what stands (Planner) and says what changes and why (Set). It
// only computes, and must not know how anything is stored or made.
package changeset

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"makeitso/internal/diag"
	"makeitso/internal/pace"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

// KnownAfterApply stands in a change set, and in the properties that
// Handler.Check is given, for a value that only the apply will know.
const KnownAfterApply = template.KnownAfterApply

// Masked stands for every value that comes from a NoEcho parameter.
const Masked = "****"

// Change is what somebody wants of a stack.
type Change struct {
	Stack      string            `json:"stack"`
	File       string            `json:"file"` // the template's name, for messages
	Template   []byte            `json:"template,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	// DisableRollback leaves everything as it is when the change fails, to be
	// looked at; Rollback then rolls it back.
	DisableRollback bool `json:"disableRollback,omitempty"`
	// Timeout is how long a creation may take, 0 for as long as it takes.
	Timeout time.Duration `json:"timeout,omitzero"`
	// OnFailure is what becomes of a stack whose creation fails: DO_NOTHING,
	// ROLLBACK (also if it is "") or DELETE.
	OnFailure string `json:"onFailure,omitempty"`
	// Rollback is the alarms that roll the change back.
	Rollback pace.Alarms `json:"rollback,omitzero"`
	// Policy stands in for the stack's own policy during this change.
	Policy string `json:"policy,omitempty"`
	// Guard is what the stack is guarded by from the beginning of the change on.
	Guard Guard `json:"guard,omitzero"`
	// Noted is what was asked for that changes nothing here and is shown again.
	Noted Noted `json:"noted,omitzero"`
	// Files are the templates of nested stacks that the template names by their
	// paths, by the path from where File starts.
	Files map[string][]byte `json:"files,omitempty"`
	// Joint is what the change goes by when it is part of a plan of several
	// stacks: see PlanAll.
	Joint Joint `json:"joint,omitzero"`
	// ResourcesToImport makes this an import, which may do nothing besides: by
	// logical id, the values of the type's primary identifier. Where that is one
	// property, its name may be "".
	ResourcesToImport map[string]map[string]string `json:"resourcesToImport,omitempty"`
	// ImportExisting takes into the stack what the template would create under
	// a name of its own, if it exists and belongs to no stack.
	ImportExisting bool `json:"importExistingResources,omitempty"`
}

// Guard is what keeps a stack from being changed by mistake. What it leaves out
// stays as it is.
type Guard struct {
	Protect bool   `json:"protect,omitempty"` // the stack must not be deleted
	Policy  string `json:"policy,omitempty"`  // the stack's own, for the updates to come
}

// Noted is what a client of the service says of a change to others.
type Noted struct {
	// NotificationARNs are the topics that the service would tell of events. It
	// is also what the pseudo parameter of that name gives.
	NotificationARNs []string `json:"notificationARNs,omitempty"`
	RoleARN          string   `json:"roleARN,omitempty"`      // with whose rights the service would work
	Capabilities     []string `json:"capabilities,omitempty"` // what its author knows of it
}

// IsZero says whether nothing was said.
func (n Noted) IsZero() bool {
	return len(n.NotificationARNs) == 0 && n.RoleARN == "" && len(n.Capabilities) == 0
}

// Leave is what the delete of a stack that could not be deleted leaves where it
// is: it belongs to no stack then.
type Leave struct {
	Resources []string `json:"resources,omitempty"` // these, by their logical ids
	Failing   bool     `json:"failing,omitempty"`   // whatever still cannot be deleted
}

// IsZero says whether nothing is left.
func (l Leave) IsZero() bool { return len(l.Resources) == 0 && !l.Failing }

// What becomes of a stack whose creation fails, in the service's words.
const (
	OnFailureNothing  = "DO_NOTHING"
	OnFailureRollback = "ROLLBACK"
	OnFailureDelete   = "DELETE"
)

// Action is what a change set does to a stack.
type Action string

// The actions of a change set.
const (
	Create Action = "CREATE"
	Update Action = "UPDATE"
	Delete Action = "DELETE"
	Import Action = "IMPORT"
)

// Set is the difference between a template and what exists: what a
// person reads before saying yes, and what Apply then follows. It is a whole
// value: it can be stored as JSON and applied later.
type Set struct {
	Environment string `json:"environment"`
	Stack       string `json:"stack"`
	StackID     string `json:"stackId"`
	Action      Action `json:"action"`
	// Base is the stack's revision that the set starts from, 0 for a stack
	// that never existed.
	Base    int64            `json:"base"`
	Change  Change           `json:"change"` // holds secrets: see Public
	Changes []ResourceChange `json:"changes"`
	// Likely is what the service lists besides when it is asked for no values.
	Likely  []ResourceChange `json:"likely,omitempty"`
	Outputs []OutputChange   `json:"outputs,omitempty"`
	// Moves is the resources that only get another logical id, by the new one.
	Moves map[string]string `json:"moves,omitempty"`
	// Found is what the resources to import are, by logical id.
	Found map[string]Physical `json:"found,omitempty"`
	// Imports is the exports that the template uses, with their values.
	Imports map[string]string `json:"imports,omitempty"`
	Outside
	// Nested is the change sets of the stacks within the stack that change, by
	// their logical ids.
	Nested map[string]*Set `json:"nested,omitempty"`
	// Leave is what a delete leaves where it is.
	Leave Leave `json:"leave,omitzero"`
	// Open names parameters whose values only an apply will know and that
	// decide what there is: what the set does is not known before either.
	Open []string `json:"open,omitempty"`
	// Other is what changes besides resources and outputs: Tags, Description,
	// Imports, NotificationARNs, DependsOn.
	Other    []string  `json:"other,omitempty"`
	Warnings diag.List `json:"warnings,omitempty"`
	// Digest names exactly what will be done; an approval is for a digest.
	Digest string `json:"digest"`

	// After is the outputs as they will be, KnownAfterApply where unknown. They
	// hold secrets, and are not written.
	After []Output `json:"-"`
	// Secrets is what may not be shown, of a set that was just made.
	Secrets []string `json:"-"`
}

// Outside is what was looked up for a template elsewhere than in the exports.
// It is frozen in a change set, and kept with what was made from it.
type Outside struct {
	Parameters map[string]string          `json:"ssmParameters,omitempty"` // of Systems Manager, by name
	Fragments  map[string][]byte          `json:"fragments,omitempty"`     // of AWS::Include, by location
	Macros     map[string]json.RawMessage `json:"macros,omitempty"`        // what macros answered, by macroID
}

// Empty says that applying the set would change nothing at all.
func (cs *Set) Empty() bool {
	return cs.Action != Create && cs.Action != Delete && len(cs.Changes)+len(cs.Outputs)+len(cs.Other)+len(cs.Open) == 0
}

// Leaves says whether a change that fails is left as it is.
func (cs *Set) Leaves() bool {
	return cs.Change.DisableRollback || cs.Action == Create && cs.Change.OnFailure == OnFailureNothing
}

// Public gives the set without template and parameter values, for showing to
// people who may read the change but not its secrets. It cannot be applied.
func (cs *Set) Public() *Set {
	public := *cs
	public.Change.Template, public.Change.Parameters, public.Change.Tags, public.Change.Files, public.Outside = nil, nil, nil, nil, Outside{}
	public.Nested = map[string]*Set{}
	for id, nested := range cs.Nested {
		public.Nested[id] = nested.Public()
	}
	return &public
}

// Seal computes the digest. Where the template came from is no part of it, nor
// beside what it was planned.
func (cs *Set) Seal() error {
	whole := *cs
	whole.Change = cs.Change.Planned()
	whole.Digest, whole.Change.File, whole.Change.Files, whole.Change.Joint, whole.Warnings = "", "", nil, Joint{}, nil
	whole.Nested = maps.Clone(cs.Nested)
	for id, nested := range cs.Nested { // their digests say it all
		whole.Nested[id] = &Set{Digest: nested.Digest}
	}
	raw, err := json.Marshal(whole)
	if err != nil {
		return fmt.Errorf("encode change set: %w", err)
	}
	sum := sha256.Sum256(raw)
	cs.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return nil
}

// Words of the service in a ResourceChange.
const (
	Add    = "Add"
	Modify = "Modify"
	Remove = "Remove"
	Adopt  = "Import"

	ReplaceTrue        = "True"
	ReplaceFalse       = "False"
	ReplaceConditional = "Conditional"
)

// ResourceChange is what happens to one resource, with the service's names.
type ResourceChange struct {
	Action        string         `json:"Action"` // Add, Modify, Remove, Import
	LogicalID     string         `json:"LogicalResourceId"`
	PhysicalID    string         `json:"PhysicalResourceId,omitempty"`
	Type          string         `json:"ResourceType"`
	Replacement   string         `json:"Replacement,omitempty"`  // Modify: True, False, Conditional
	PolicyAction  string         `json:"PolicyAction,omitempty"` // Delete, Retain, ReplaceAndDelete, …
	Scope         []string       `json:"Scope,omitempty"`
	Details       []Detail       `json:"Details,omitempty"`
	BeforeContext map[string]any `json:"BeforeContext,omitempty"` // {"Properties": …}, secrets masked
	AfterContext  map[string]any `json:"AfterContext,omitempty"`
	Level         Level          `json:"level"` // how honest the type is on the platform

	// Check is the true properties, KnownAfterApply where unknown, for
	// Handler.Check. They hold secrets, and are not written.
	Check map[string]any `json:"-"`
	// Pos is where the resource stands in the template, for what Check says.
	Pos diag.Pos `json:"-"`
}

// Detail is one cause of a Modify.
type Detail struct {
	Target        Target `json:"Target"`
	Evaluation    string `json:"Evaluation"`   // Static, Dynamic
	ChangeSource  string `json:"ChangeSource"` // DirectModification, ParameterReference, ResourceReference, ResourceAttribute
	CausingEntity string `json:"CausingEntity,omitempty"`
}

// Target is the part of a resource that a Detail speaks of.
type Target struct {
	Attribute           string              `json:"Attribute"` // Properties, Type, DeletionPolicy, UpdateReplacePolicy
	Name                string              `json:"Name,omitempty"`
	RequiresRecreation  registry.Recreation `json:"RequiresRecreation"`
	Path                string              `json:"Path,omitempty"`
	BeforeValue         any                 `json:"BeforeValue,omitempty"`
	AfterValue          any                 `json:"AfterValue,omitempty"`
	AttributeChangeType string              `json:"AttributeChangeType,omitempty"` // Add, Remove, Modify
}

// Output is a named value of a stack.
type Output struct {
	Name        string `json:"name"`
	Value       string `json:"value"`
	Description string `json:"description,omitempty"`
	Export      string `json:"export,omitempty"`
}

// OutputChange is what happens to one output. Values are masked as in Details.
type OutputChange struct {
	Action string `json:"action"` // Add, Modify, Remove
	Name   string `json:"name"`
	Export string `json:"export,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// WriteText writes what a person reads before saying yes.
func (cs *Set) WriteText(w io.Writer) error {
	var b strings.Builder
	cs.write(&b, fmt.Sprintf("stack %s in %s", cs.Stack, cs.Environment), "")
	_, err := io.WriteString(w, b.String())
	return err
}

// write writes the set under a heading, nested ones further in.
func (cs *Set) write(to *strings.Builder, heading, indent string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", heading, cs.Summary())
	width := 0
	for _, c := range cs.Changes {
		width = max(width, utf8.RuneCountInString(c.LogicalID))
	}
	for _, c := range cs.Changes {
		c.write(&b, width)
		if nested := cs.Nested[c.LogicalID]; nested != nil {
			nested.write(&b, "nested stack "+c.LogicalID, "      ")
		}
	}
	if len(cs.Outputs) > 0 {
		b.WriteString("  outputs\n")
	}
	for _, o := range cs.Outputs {
		o.write(&b)
	}
	if len(cs.Other) > 0 {
		fmt.Fprintf(&b, "  also changed: %s\n", strings.Join(cs.Other, ", "))
	}
	if len(cs.Change.Joint.Stacks) > 0 {
		fmt.Fprintf(&b, "  exports change that %s uses: what they name now is kept until it uses the new ones\n", strings.Join(cs.Change.Joint.Stacks, ", "))
	}
	for _, warning := range cs.Warnings {
		fmt.Fprintf(&b, "  %s\n", warning)
	}
	for line := range strings.Lines(b.String()) {
		to.WriteString(indent + line)
	}
}

// Summary says in a few words what the change set does.
func (cs *Set) Summary() string {
	if cs.Empty() {
		return "nothing to change"
	}
	if len(cs.Open) > 0 {
		return "depends on parameters that are known after apply: " + strings.Join(cs.Open, ", ")
	}
	var add, change, replace, remove, adopt int
	cs.eachChange(func(c ResourceChange) {
		switch {
		case c.Action == Add:
			add++
		case c.Action == Remove:
			remove++
		case c.Action == Adopt:
			adopt++
		case c.Replacement == ReplaceFalse:
			change++
		default:
			replace++
		}
	})
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{adopt, "import"}, {add, "add"}, {change, "change"}, {replace, "replace"}, {remove, "remove"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "no resource changes"
	}
	return strings.Join(parts, ", ")
}

// eachChange visits the changes of the set and of those nested in it.
func (cs *Set) eachChange(visit func(ResourceChange)) {
	for _, c := range cs.Changes {
		if c.Type != NestedType || cs.Nested[c.LogicalID] == nil {
			visit(c)
		}
	}
	for _, nested := range cs.Nested {
		nested.eachChange(visit)
	}
}

func (c ResourceChange) write(b *strings.Builder, width int) {
	fmt.Fprintf(b, "  %-3s %-*s  %s%s\n", c.mark(), width, c.LogicalID, c.Type, c.note())
	if c.Action == Add || c.Action == Adopt {
		properties, _ := c.AfterContext["Properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			fmt.Fprintf(b, "        %s: %s\n", name, Show(properties[name]))
		}
	}
	for i, d := range c.Details {
		if i > 0 && c.Details[i-1].Target.names() == d.Target.names() {
			continue // one more cause of the same
		}
		fmt.Fprintf(b, "        %s: %s → %s%s\n", d.Target.names(), Show(d.Target.BeforeValue), Show(d.Target.AfterValue), d.note())
	}
}

// names gives the property, or what else of the resource is meant: a tag may
// have the name of a property.
func (t Target) names() string {
	switch {
	case t.Attribute == "Tags":
		return "tag " + t.Name
	case t.Name != "":
		return t.Name
	}
	return t.Attribute
}

func (c ResourceChange) mark() string {
	switch {
	case c.Action == Add:
		return "+"
	case c.Action == Remove:
		return "-"
	case c.Action == Adopt:
		return "<-"
	case c.Replacement == ReplaceFalse:
		return "~"
	}
	return "-/+"
}

// note says what will be lost or kept.
func (c ResourceChange) note() string {
	lost := " with its data"
	if c.Level != Real {
		lost = ""
	}
	switch {
	case c.Action == Adopt:
		return "  (imported as it is: " + c.PhysicalID + ")"
	case c.Action == Remove && strings.HasPrefix(c.PolicyAction, "Retain"):
		return "  (kept outside the stack: DeletionPolicy Retain)"
	case c.Action == Remove && c.PolicyAction == "Snapshot":
		return "  (deleted, a snapshot is kept)"
	case c.Action == Remove:
		return "  (deleted" + lost + ")"
	case c.Action == Modify && c.Replacement == ReplaceConditional:
		return "  (may have to be replaced; then the old one is " + fateOf(c.PolicyAction, lost) + ")"
	case c.Action == Modify && c.Replacement == ReplaceTrue:
		return "  (replaced; the old one is " + fateOf(c.PolicyAction, lost) + ")"
	}
	return ""
}

func fateOf(policyAction, lost string) string {
	switch policyAction {
	case "ReplaceAndRetain":
		return "kept outside the stack"
	case "ReplaceAndSnapshot":
		return "deleted, a snapshot is kept"
	}
	return "deleted" + lost
}

func (d Detail) note() string {
	var notes []string
	switch d.Target.RequiresRecreation {
	case registry.Always:
		notes = append(notes, "needs a new resource")
	case registry.Conditionally:
		notes = append(notes, "may need a new resource")
	}
	if d.CausingEntity != "" {
		notes = append(notes, "because of "+d.CausingEntity)
	}
	if before, after := Show(d.Target.BeforeValue), Show(d.Target.AfterValue); before == after && strings.Contains(before, Masked) {
		notes = append(notes, "the secret changes")
	}
	if len(notes) == 0 {
		return ""
	}
	return "  (" + strings.Join(notes, ", ") + ")"
}

func (o OutputChange) write(b *strings.Builder) {
	exported := ""
	if o.Export != "" {
		exported = "  (export " + o.Export + ")"
	}
	switch o.Action {
	case Add:
		fmt.Fprintf(b, "  +   %s: %s%s\n", o.Name, Show(o.After), exported)
	case Remove:
		fmt.Fprintf(b, "  -   %s%s\n", o.Name, exported)
	default:
		fmt.Fprintf(b, "  ~   %s: %s → %s%s\n", o.Name, Show(o.Before), Show(o.After), exported)
	}
}

// Show writes a value on one line, as a person reads it.
func Show(v any) string {
	switch v := v.(type) {
	case nil:
		return "(none)"
	case template.Unknown:
		return "(known after apply)"
	case string:
		if v == KnownAfterApply {
			return "(known after apply)"
		}
		if v == "" || strings.ContainsAny(v, "\n\t") || strings.TrimSpace(v) != v {
			return fmt.Sprintf("%q", v)
		}
		return v
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.ReplaceAll(string(raw), `"`+KnownAfterApply+`"`, "(known after apply)")
}
