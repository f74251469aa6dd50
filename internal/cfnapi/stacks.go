package cfnapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// reviewInProgress is the status of a stack that is nothing yet but change sets.
const reviewInProgress = "REVIEW_IN_PROGRESS"

// review is a stack in review. It counts while the engine's last stack of that
// name is still of the same revision.
type review struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Revision int64     `json:"revision"`
	Created  time.Time `json:"created"`
}

func (r review) stack() stack.Stack {
	return stack.Stack{Name: r.Name, ID: r.ID, Status: reviewInProgress, Reason: "User Initiated", Revision: r.Revision, Created: r.Created, Updated: r.Created}
}

// key is the record key of what is about a stack of the environment.
func (c call) key(stack string) string { return c.env.Name + "/" + stack }

var stackARN = regexp.MustCompile(`^arn:[^:]+:cloudformation:[^:]*:[^:]*:stack/([^/]+)/[^/]+$`)

// nameOf gives the name in a stack's name or id, and the id, "" if it is none.
func nameOf(nameOrID string) (name, id string) {
	if m := stackARN.FindStringSubmatch(nameOrID); m != nil {
		return m[1], nameOrID
	}
	return nameOrID, ""
}

// It is compiled when it is needed: counted repeats take long.
var stackName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`) })

// newName refuses what cannot be the name of a new stack.
func newName(name string) error {
	if stackName().MatchString(name) {
		return nil
	}
	return constraint(name, "StackName", "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*, of at most 128 characters")
}

// Forms in which the service says that a stack is not there.
const (
	withID     = "Stack with id %s does not exist"
	inBrackets = "Stack [%s] does not exist"
)

// stack gives a stack by its name or id, one in review too; by its id also
// when it was deleted. absent is how it is said that there is none.
func (c call) stack(ctx context.Context, nameOrID, absent string) (stack.Stack, error) {
	name, id := nameOf(nameOrID)
	s, err := c.known(ctx, name)
	if err != nil {
		return s, err
	}
	gone := s.Status == "" || s.Status == stack.DeleteComplete
	if gone && (id == "" || s.ID != id) {
		r, err := c.reviews.Get(ctx, c.key(name))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return s, fmt.Errorf("read stack %s in review: %w", name, err)
		}
		if err == nil && r.Revision == s.Revision && (id == "" || r.ID == id) {
			return r.stack(), nil
		}
		return s, invalid(absent, nameOrID)
	}
	if id != "" && s.ID != id {
		return s, invalid(absent, nameOrID)
	}
	return s, nil
}

// known is the engine's last stack of a name, the zero Stack if there never was
// one.
func (c call) known(ctx context.Context, name string) (stack.Stack, error) {
	s, err := c.env.Stacks.Known(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return stack.Stack{Name: name}, nil
	}
	return s, err
}

// made gives a stack that exists and is more than change sets.
func (c call) made(ctx context.Context, nameOrID, absent string) (stack.Stack, error) {
	s, err := c.stack(ctx, nameOrID, absent)
	if err == nil && (s.Status == stack.DeleteComplete || s.Status == reviewInProgress) {
		err = invalid(absent, nameOrID)
	}
	return s, err
}

// request is the last that was asked of a stack under a token, and the stack as
// it was before.
type request struct {
	Token    string    `json:"token"`
	Action   string    `json:"action"`
	Revision int64     `json:"revision"`
	Updated  time.Time `json:"updated"`
	Events   int64     `json:"events"` // the number of its last event
}

// of says whether an event comes from what was asked.
func (r request) of(s stack.Stack, ev stack.Event) bool {
	return ev.Number > r.Events && s.Revision <= r.Revision+1
}

// lastRequest gives the zero request if there was none.
func (c call) lastRequest(ctx context.Context, name string) (request, error) {
	last, err := c.requests.Get(ctx, c.key(name))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return request{}, fmt.Errorf("read what was asked of stack %s: %w", name, err)
	}
	return last, nil
}

// repeated says whether the same was asked before, under the same token, and was
// begun. Otherwise it notes what is asked, before anything is done.
func (c call) repeated(ctx context.Context, s stack.Stack, action, token string) (bool, error) {
	if token == "" {
		return false, nil
	}
	last, err := c.lastRequest(ctx, s.Name)
	if err != nil {
		return false, err
	}
	begun := last.Token == token && (s.Revision != last.Revision || !s.Updated.Equal(last.Updated))
	if begun && last.Action != action {
		return false, &problem{Status: http.StatusBadRequest, Code: "TokenAlreadyExistsException", Message: "the ClientRequestToken " + token + " was given for " + last.Action + "; give another"}
	}
	if begun {
		return true, nil
	}
	asked := request{Token: token, Action: action, Revision: s.Revision, Updated: s.Updated}
	if asked.Events, err = c.lastEvent(ctx, s.Name); err != nil {
		return false, err
	}
	if err := c.requests.Put(ctx, c.key(s.Name), asked); err != nil {
		return false, fmt.Errorf("note what is asked of stack %s: %w", s.Name, err)
	}
	return false, nil
}

type stackID struct{ StackId string }

type createStack struct {
	changeInput
	DisableRollback             *bool
	TimeoutInMinutes            *int `cfn:"1-"`
	OnFailure                   string
	StackPolicyBody             string `cfn:"1-16384"`
	StackPolicyURL              string `cfn:"1-5120"`
	ClientRequestToken          string `cfn:"1-128"`
	EnableTerminationProtection bool
	RetainExceptOnCreate        bool
}

func (c call) createStack(ctx context.Context, in createStack) (any, error) {
	if err := newName(in.StackName); err != nil {
		return nil, err
	}
	s, err := c.known(ctx, in.StackName)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, s, "CreateStack", in.ClientRequestToken); again || err != nil {
		return stackID{s.ID}, err
	}
	if _, err := c.stack(ctx, in.StackName, withID); err == nil {
		return nil, &problem{Status: http.StatusBadRequest, Code: "AlreadyExistsException", Message: "Stack [" + in.StackName + "] already exists"}
	}
	if err := noRetain(in.RetainExceptOnCreate); err != nil {
		return nil, err
	}
	w, err := c.change(ctx, in.StackName, in.changeInput, false, changeset.Change{})
	if err != nil {
		return nil, err
	}
	if w.Guard.Policy, err = c.policy(ctx, "StackPolicy", in.StackPolicyBody, in.StackPolicyURL); err != nil {
		return nil, err
	}
	w.Guard.Protect, w.OnFailure = in.EnableTerminationProtection, in.OnFailure
	if in.TimeoutInMinutes != nil {
		w.Timeout = time.Duration(*in.TimeoutInMinutes) * time.Minute
	}
	if in.DisableRollback != nil {
		if in.OnFailure != "" {
			return nil, invalid("Either DisableRollback or OnFailure can be specified, not both.")
		}
		w.DisableRollback = *in.DisableRollback
	}
	return c.apply(ctx, w, in.Capabilities)
}

// apply plans a change that nobody looks at, and begins it.
func (c call) apply(ctx context.Context, w wanted, given []string) (any, error) {
	if err := capabilities(given); err != nil {
		return nil, err
	}
	if err := capable(w.template, nil, given, true); err != nil {
		return nil, err
	}
	cs, err := c.plan(ctx, w, given, true)
	if err != nil {
		return nil, err
	}
	if cs.Empty() {
		return nil, invalid("No updates are to be performed.")
	}
	return stackID{cs.StackID}, c.begin(func(ctx context.Context, listen func(stack.Event)) error { return c.env.Stacks.Apply(ctx, cs, listen) })
}

// plan plans a change. That this machine lacks something is for a person to mend:
// clients would try again, if it were told as a failure that passes.
func (c call) plan(ctx context.Context, w wanted, given []string, direct bool) (*changeset.Set, error) {
	cs, err := c.env.Stacks.Plan(ctx, w.Change)
	switch {
	case fault.Is(err, fault.Unavailable):
		return nil, invalid("%s", messageOf(err))
	case err != nil:
		return nil, err
	}
	return cs, capable(w.template, cs.Nested, given, direct)
}

// noRetain refuses what the engine cannot do.
func noRetain(asked bool) error {
	if asked {
		return invalid("RetainExceptOnCreate is not there; give the resources a DeletionPolicy of RetainExceptOnCreate")
	}
	return nil
}

// policy reads a stack policy that is given in the request or by an address.
func (c call) policy(ctx context.Context, what, body, address string) (string, error) {
	_, text, err := c.text(ctx, what, body, address)
	return string(text), err
}

type updateStack struct {
	changeInput
	UsePreviousTemplate         bool
	StackPolicyDuringUpdateBody string `cfn:"1-16384"`
	StackPolicyDuringUpdateURL  string `cfn:"1-5120"`
	StackPolicyBody             string `cfn:"1-16384"`
	StackPolicyURL              string `cfn:"1-5120"`
	DisableRollback             bool
	ClientRequestToken          string `cfn:"1-128"`
	RetainExceptOnCreate        bool
}

func (c call) updateStack(ctx context.Context, in updateStack) (any, error) {
	s, err := c.stack(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, s, "UpdateStack", in.ClientRequestToken); again || err != nil {
		return stackID{s.ID}, err
	}
	if err := updatable(s); err != nil {
		return nil, err
	}
	if err := noRetain(in.RetainExceptOnCreate); err != nil {
		return nil, err
	}
	former, err := c.env.Stacks.Change(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	w, err := c.change(ctx, s.Name, in.changeInput, in.UsePreviousTemplate, former)
	if err != nil {
		return nil, err
	}
	w.DisableRollback = in.DisableRollback
	if w.Policy, err = c.policy(ctx, "StackPolicyDuringUpdate", in.StackPolicyDuringUpdateBody, in.StackPolicyDuringUpdateURL); err != nil {
		return nil, err
	}
	if w.Guard.Policy, err = c.policy(ctx, "StackPolicy", in.StackPolicyBody, in.StackPolicyURL); err != nil {
		return nil, err
	}
	return c.apply(ctx, w, in.Capabilities)
}

// updatable refuses the stacks that the engine would make anew: the service has
// them deleted first.
func updatable(s stack.Stack) error {
	switch s.Status {
	case stack.DeleteComplete, stack.RollbackComplete, reviewInProgress:
		return invalid("Stack:%s is in %s state and can not be updated.", s.ID, s.Status)
	}
	return nil
}

type deleteStack struct {
	StackName          string `cfn:"required"`
	RetainResources    []string
	RoleARN            string `cfn:"20-2048"`
	ClientRequestToken string `cfn:"1-128"`
	DeletionMode       string
}

// forceDelete leaves what cannot be deleted.
const forceDelete = "FORCE_DELETE_STACK"

func (c call) deleteStack(ctx context.Context, in deleteStack) (any, error) {
	if err := oneOf(in.DeletionMode, "DeletionMode", "STANDARD", forceDelete); err != nil {
		return nil, err
	}
	name, _ := nameOf(in.StackName)
	known, err := c.known(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := c.stack(ctx, in.StackName, withID)
	var absent *problem
	if errors.As(err, &absent) {
		return nil, nil // it is gone, as it shall be
	}
	if err != nil {
		return nil, err
	}
	switch {
	case s.Status == stack.DeleteComplete:
		return nil, nil
	case s.Status == reviewInProgress && len(in.RetainResources) > 0:
		return nil, invalid("Invalid operation on stack [%s]. When you delete a stack, specify which resources to retain only when the stack is in the DELETE_FAILED state.", s.ID)
	case s.Status != reviewInProgress:
		if again, err := c.repeated(ctx, known, "DeleteStack", in.ClientRequestToken); again || err != nil {
			return nil, err
		}
		err := c.begin(func(ctx context.Context, listen func(stack.Event)) error {
			return c.env.Stacks.DeleteLeaving(ctx, s.Name, changeset.Leave{Resources: in.RetainResources, Failing: in.DeletionMode == forceDelete}, listen)
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, c.dropChangeSets(ctx, s.Name, func(changeSet) bool { return true }, c.reviews.DeleteOp(c.key(s.Name)))
}

type describedStack struct {
	StackId                     string
	StackName                   string
	Description                 *string
	Parameters                  list[parameter]
	CreationTime                *time.Time
	DeletionTime                *time.Time
	LastUpdatedTime             *time.Time
	RollbackConfiguration       *rollbackConfiguration
	StackStatus                 string
	StackStatusReason           *string
	DisableRollback             bool
	NotificationARNs            list[string]
	TimeoutInMinutes            *int
	Capabilities                list[string]
	Outputs                     list[output]
	RoleARN                     *string
	Tags                        list[tag]
	EnableTerminationProtection bool
	ParentId                    *string
	RootId                      *string
	DriftInformation            driftInformation
}

type output struct {
	OutputKey   string
	OutputValue string
	Description *string
	ExportName  *string
}

type driftInformation struct {
	StackDriftStatus   string
	LastCheckTimestamp *time.Time
}

type describeStacks struct {
	StackName string
	NextToken string `cfn:"1-1024"`
}

func (c call) describeStacks(ctx context.Context, in describeStacks) (any, error) {
	var result struct {
		Stacks    list[describedStack]
		NextToken *string
	}
	var stacks []stack.Stack
	if in.StackName != "" {
		s, err := c.settled(ctx, in.StackName)
		if err != nil {
			return nil, err
		}
		stacks = []stack.Stack{s}
	} else {
		all, err := c.all(ctx)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(s stack.Stack) bool { return s.Status == stack.DeleteComplete })
		if stacks, result.NextToken, err = page(all, func(s stack.Stack) string { return s.Name }, in.NextToken, pageSize); err != nil {
			return nil, err
		}
	}
	for _, s := range stacks {
		d, err := c.describe(ctx, s)
		if err != nil {
			return nil, err
		}
		result.Stacks.Members = append(result.Stacks.Members, d)
	}
	return result, nil
}

// shortly is how long after a change of its status a look at a stack waits for
// the next. Clients look again after half a minute, and most stacks on one
// machine are made in less than a second.
const shortly = 3 * time.Second

// settled gives a stack, after waiting a little for the end of what is under way.
func (c call) settled(ctx context.Context, nameOrID string) (stack.Stack, error) {
	s, err := c.stack(ctx, nameOrID, withID)
	if err != nil || s.Status == reviewInProgress {
		return s, err
	}
	waiting, done := context.WithDeadline(ctx, s.Updated.Add(shortly))
	defer done()
	for underWay(s) && waiting.Err() == nil {
		last, err := c.lastEvent(ctx, s.Name)
		if err == nil {
			s, err = c.stack(ctx, nameOrID, withID) // after its events, or its end could be missed
		}
		if err != nil || !underWay(s) {
			return s, err
		}
		if err := c.env.Stacks.AwaitEvent(waiting, s.Name, last); err != nil && waiting.Err() == nil {
			return s, err
		}
	}
	return s, ctx.Err()
}

func underWay(s stack.Stack) bool { return strings.HasSuffix(s.Status, "_IN_PROGRESS") }

// lastEvent gives the number of a stack's last event, 0 if there is none.
func (c call) lastEvent(ctx context.Context, name string) (int64, error) {
	events, err := c.env.Stacks.EventsBefore(ctx, name, 0, 1)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	return events[0].Number, nil
}

// pageSize is how many items an answer has, as many as the service's.
const pageSize = 100

// all gives every stack, in review and deleted ones too, by name.
func (c call) all(ctx context.Context) ([]stack.Stack, error) {
	all, err := c.env.Stacks.AllKnown(ctx)
	if err != nil {
		return nil, err
	}
	reviews, err := c.reviews.List(ctx, c.key(""))
	if err != nil {
		return nil, fmt.Errorf("list stacks in review: %w", err)
	}
	for _, r := range reviews {
		at := slices.IndexFunc(all, func(s stack.Stack) bool { return s.Name == r.Name })
		switch {
		case at < 0 && r.Revision == 0:
			all = append(all, r.stack())
		case at >= 0 && all[at].Revision == r.Revision && all[at].Status == stack.DeleteComplete:
			all[at] = r.stack()
		}
	}
	slices.SortFunc(all, func(a, b stack.Stack) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (c call) describe(ctx context.Context, s stack.Stack) (describedStack, error) {
	d := describedStack{
		StackId: s.ID, StackName: s.Name, Description: optional(s.Description), CreationTime: when(s.Created),
		StackStatus: s.Status, StackStatusReason: optional(s.Reason), Tags: shownTags(s.Tags), EnableTerminationProtection: s.Protected,
	}
	deleted, updated := changeTimes(s)
	d.DeletionTime, d.LastUpdatedTime = deleted, updated
	for _, o := range s.Outputs {
		d.Outputs.Members = append(d.Outputs.Members, output{o.Name, o.Value, optional(o.Description), optional(o.Export)})
	}
	var err error
	if d.ParentId, d.RootId, err = c.family(ctx, s); err != nil {
		return d, err
	}
	d.DriftInformation, err = c.driftOf(ctx, s)
	if err != nil || s.Status == reviewInProgress {
		return d, err
	}
	change, err := c.env.Stacks.Change(ctx, s.Name)
	if err != nil {
		return d, err
	}
	d.Parameters, d.RollbackConfiguration, d.DisableRollback = shownParameters(change), rollbackOf(change.Rollback), change.DisableRollback
	d.NotificationARNs, d.Capabilities, d.RoleARN = listOf(change.Noted.NotificationARNs...), listOf(change.Noted.Capabilities...), optional(change.Noted.RoleARN)
	if minutes := int(change.Timeout / time.Minute); minutes > 0 {
		d.TimeoutInMinutes = &minutes
	}
	return d, nil
}

// changeTimes gives when a stack was deleted and when it was updated, nil for
// never.
func changeTimes(s stack.Stack) (deleted, updated *time.Time) {
	switch {
	case s.Status == reviewInProgress:
	case strings.HasPrefix(s.Status, "DELETE_"):
		deleted = when(s.Updated)
	case !strings.HasPrefix(s.Status, "CREATE_") && !strings.HasPrefix(s.Status, "ROLLBACK_"):
		updated = when(s.Updated)
	}
	return deleted, updated
}

// family gives the ids of the stacks that a nested one is in.
func (c call) family(ctx context.Context, s stack.Stack) (parent, root *string, err error) {
	if s.Root == "" {
		return nil, nil, nil
	}
	p, err := c.known(ctx, s.Parent)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.known(ctx, s.Root)
	return optional(p.ID), optional(r.ID), err
}

// driftOf gives what a look at a stack found last.
func (c call) driftOf(ctx context.Context, s stack.Stack) (driftInformation, error) {
	if s.Status == reviewInProgress {
		return driftInformation{StackDriftStatus: stack.NotChecked}, nil
	}
	last, err := c.env.Stacks.LastDrift(ctx, s)
	return driftInformation{cmp.Or(last.Status, stack.NotChecked), when(last.Time)}, err
}

type stackSummary struct {
	StackId             string
	StackName           string
	TemplateDescription *string
	CreationTime        *time.Time
	LastUpdatedTime     *time.Time
	DeletionTime        *time.Time
	StackStatus         string
	StackStatusReason   *string
	ParentId            *string
	RootId              *string
	DriftInformation    driftInformation
}

type listStacks struct {
	NextToken         string `cfn:"1-1024"`
	StackStatusFilter []string
}

func (c call) listStacks(ctx context.Context, in listStacks) (any, error) {
	var result struct {
		StackSummaries list[stackSummary]
		NextToken      *string
	}
	all, err := c.all(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s stack.Stack) bool {
		return len(in.StackStatusFilter) > 0 && !slices.Contains(in.StackStatusFilter, s.Status)
	})
	stacks, next, err := page(all, func(s stack.Stack) string { return s.Name }, in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	result.NextToken = next
	for _, s := range stacks {
		d := stackSummary{StackId: s.ID, StackName: s.Name, TemplateDescription: optional(s.Description), CreationTime: when(s.Created),
			StackStatus: s.Status, StackStatusReason: optional(s.Reason)}
		d.DeletionTime, d.LastUpdatedTime = changeTimes(s)
		if d.ParentId, d.RootId, err = c.family(ctx, s); err == nil {
			d.DriftInformation, err = c.driftOf(ctx, s)
		}
		if err != nil {
			return nil, err
		}
		result.StackSummaries.Members = append(result.StackSummaries.Members, d)
	}
	return result, nil
}
