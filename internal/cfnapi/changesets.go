package cfnapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// Statuses of change sets, in the service's words.
const (
	createComplete = "CREATE_COMPLETE"
	failed         = "FAILED"

	unavailable       = "UNAVAILABLE"
	available         = "AVAILABLE"
	executeInProgress = "EXECUTE_IN_PROGRESS"
	executeComplete   = "EXECUTE_COMPLETE"
	executeFailed     = "EXECUTE_FAILED"
	obsolete          = "OBSOLETE"
)

// noChanges is the reason of a change set that would change nothing.
const noChanges = "The submitted information didn't contain changes. Submit different information to create a change set."

// changeSet is a change set as it is kept. It holds secrets.
type changeSet struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Token       string         `json:"token,omitempty"`
	Description string         `json:"description,omitempty"`
	Created     time.Time      `json:"created"`
	Set         *changeset.Set `json:"set"`
}

func (cs changeSet) status() (status string, reason *string) {
	if cs.Set.Empty() {
		return failed, optional(noChanges)
	}
	return createComplete, nil
}

// execution says what became of a set, which follows from what became of its
// stack: the engine's records alone know what was begun.
func (cs changeSet) execution(s stack.Stack) string {
	executed := s.ID == cs.Set.StackID && s.Revision == cs.Set.Base+1 && s.Digest == cs.Set.Digest
	switch {
	case cs.Set.Empty():
		return unavailable
	case executed && underWay(s):
		return executeInProgress
	case executed && slices.Contains([]string{stack.CreateComplete, stack.UpdateComplete, stack.ImportComplete}, s.Status):
		return executeComplete
	case executed:
		return executeFailed
	case s.Revision != cs.Set.Base:
		return obsolete
	}
	return available
}

type createChangeSet struct {
	changeInput
	ChangeSetName           string `cfn:"required 1-128"`
	UsePreviousTemplate     bool
	ClientToken             string `cfn:"1-128"`
	Description             string `cfn:"1-1024"`
	ChangeSetType           string
	ResourcesToImport       []resourceToImport `cfn:"0-200"`
	IncludeNestedStacks     *bool              // they always are
	OnStackFailure          string
	ImportExistingResources bool
}

type resourceToImport struct {
	ResourceType       string `cfn:"required"`
	LogicalResourceId  string `cfn:"required"`
	ResourceIdentifier map[string]string
}

type changeSetID struct{ Id, StackId string }

// It is compiled when it is needed: counted repeats take long.
var changeSetName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`) })

func (c call) createChangeSet(ctx context.Context, in createChangeSet) (any, error) {
	if err := oneOf(in.ChangeSetType, "ChangeSetType", "CREATE", "UPDATE", "IMPORT"); err != nil {
		return nil, err
	}
	if name, id := nameOf(in.StackName); id == "" {
		if err := newName(name); err != nil {
			return nil, err
		}
	}
	if !changeSetName().MatchString(in.ChangeSetName) {
		return nil, constraint(in.ChangeSetName, "ChangeSetName", "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*")
	}
	s, err := c.target(ctx, in)
	if err != nil {
		return nil, err
	}
	if id, err := c.again(ctx, s, in); id != nil || err != nil {
		return id, err
	}
	w, err := c.changeOf(ctx, s, in)
	if err != nil {
		return nil, err
	}
	set, err := c.plan(ctx, w, in.Capabilities, false)
	if err != nil {
		return nil, err
	}
	cs := changeSet{ID: changeSetARN(set.StackID, in.ChangeSetName), Name: in.ChangeSetName, Token: in.ClientToken,
		Description: in.Description, Created: now(), Set: set}
	if err := c.keepChangeSet(ctx, s, cs); err != nil {
		return nil, err
	}
	return changeSetID{cs.ID, set.StackID}, nil
}

// target gives the stack that a change set is to be for; one that is new has
// neither id nor status.
func (c call) target(ctx context.Context, in createChangeSet) (stack.Stack, error) {
	s, err := c.stack(ctx, in.StackName, inBrackets)
	exists := err == nil && s.Status != stack.DeleteComplete && s.Status != reviewInProgress
	switch {
	case err != nil && problemOf(err).Code != "ValidationError":
		return s, err
	case in.ChangeSetType == "CREATE" && exists:
		return s, invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", s.Name, in.ChangeSetName)
	case in.ChangeSetType == "CREATE", in.ChangeSetType == "IMPORT" && !exists:
		name, _ := nameOf(in.StackName)
		return c.known(ctx, name)
	case err != nil:
		return s, err
	}
	return s, updatable(s)
}

// again finds the change set of an earlier request that was the same, by its
// token. One of the same name that can be executed no more gives place: clients
// name change sets by the second, and on one machine several pass in one.
func (c call) again(ctx context.Context, s stack.Stack, in createChangeSet) (*changeSetID, error) {
	cs, err := c.changeSets.Get(ctx, c.key(s.Name)+"/"+in.ChangeSetName)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read change set %s: %w", in.ChangeSetName, err)
	case in.ClientToken != "" && cs.Token == in.ClientToken:
		return &changeSetID{cs.ID, cs.Set.StackID}, nil
	}
	if execution := cs.execution(s); execution != available && execution != executeInProgress {
		return nil, nil
	}
	return nil, &problem{Status: http.StatusBadRequest, Code: "AlreadyExistsException", Message: "ChangeSet [" + in.ChangeSetName + "] already exists; delete it, or give another name"}
}

func (c call) changeOf(ctx context.Context, s stack.Stack, in createChangeSet) (wanted, error) {
	if err := capabilities(in.Capabilities); err != nil {
		return wanted{}, err
	}
	former, err := c.env.Stacks.Change(ctx, s.Name)
	if err != nil {
		return wanted{}, err
	}
	w, err := c.change(ctx, s.Name, in.changeInput, in.UsePreviousTemplate, former)
	if err != nil {
		return w, err
	}
	w.OnFailure, w.ImportExisting = in.OnStackFailure, in.ImportExistingResources
	switch {
	case in.ChangeSetType == "IMPORT" && len(in.ResourcesToImport) == 0:
		return w, invalid("You must specify ResourcesToImport for a change set of type IMPORT")
	case in.ChangeSetType != "IMPORT" && len(in.ResourcesToImport) > 0:
		return w, invalid("ResourcesToImport can be specified for a change set of type IMPORT alone")
	}
	for _, r := range in.ResourcesToImport {
		if w.ResourcesToImport == nil {
			w.ResourcesToImport = map[string]map[string]string{}
		}
		declared := w.template.Resources[r.LogicalResourceId]
		if declared == nil || declared.Type != r.ResourceType {
			return w, invalid("ResourcesToImport: the template has no resource %s of type %s", r.LogicalResourceId, r.ResourceType)
		}
		w.ResourcesToImport[r.LogicalResourceId] = r.ResourceIdentifier
	}
	return w, capable(w.template, nil, in.Capabilities, false)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// changeSetARN gives the id of a new change set.
func changeSetARN(stackID, name string) string {
	prefix, _, _ := strings.Cut(stackID, ":stack/")
	return prefix + ":changeSet/" + name + "/" + newID()
}

// keepChangeSet stores a change set, and its stack in review if there is none
// yet. Those of a former stack of that name go.
func (c call) keepChangeSet(ctx context.Context, s stack.Stack, cs changeSet) error {
	op, err := c.changeSets.PutOp(c.key(s.Name)+"/"+cs.Name, cs, record.Any)
	if err != nil {
		return err
	}
	ops := []record.Op{op}
	if cs.Set.Action != changeset.Update && (s.Status == "" || s.Status == stack.DeleteComplete) {
		if _, err := c.stack(ctx, s.Name, withID); err != nil {
			op, err := c.reviews.PutOp(c.key(s.Name), review{s.Name, cs.Set.StackID, s.Revision, cs.Created}, record.Any)
			if err != nil {
				return err
			}
			ops = append(ops, op)
		}
	}
	return c.dropChangeSets(ctx, s.Name, func(old changeSet) bool { return old.Set.StackID != cs.Set.StackID && old.Name != cs.Name }, ops...)
}

// dropChangeSets removes change sets of a stack, together with other writes.
func (c call) dropChangeSets(ctx context.Context, name string, which func(changeSet) bool, ops ...record.Op) error {
	all, err := c.changeSets.List(ctx, c.key(name)+"/")
	if err != nil {
		return fmt.Errorf("list change sets of %s: %w", name, err)
	}
	for _, cs := range all {
		if which(cs) {
			ops = append(ops, c.changeSets.DeleteOp(c.key(name)+"/"+cs.Name))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if err := c.o.Store.Write(context.WithoutCancel(ctx), ops...); err != nil {
		return fmt.Errorf("store change sets of %s: %w", name, err)
	}
	return nil
}

// ownChangeSets gives the change sets of the stack that has a name now.
func (c call) ownChangeSets(ctx context.Context, name string) ([]changeSet, error) {
	s, err := c.stack(ctx, name, withID)
	if err != nil {
		return nil, err
	}
	all, err := c.changeSets.List(ctx, c.key(name)+"/")
	if err != nil {
		return nil, fmt.Errorf("list change sets of %s: %w", name, err)
	}
	return slices.DeleteFunc(all, func(cs changeSet) bool { return cs.Set.StackID != s.ID }), nil
}

// changeSet finds a change set by its name or id, and its stack.
func (c call) changeSet(ctx context.Context, nameOrID, stackName string) (changeSet, stack.Stack, error) {
	none := &problem{Status: http.StatusNotFound, Code: "ChangeSetNotFound", Message: "ChangeSet [" + nameOrID + "] does not exist"}
	byID := strings.HasPrefix(nameOrID, "arn:")
	if stackName == "" && !byID {
		return changeSet{}, stack.Stack{}, invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
	}
	prefix := c.key("")
	if stackName != "" {
		s, err := c.stack(ctx, stackName, inBrackets)
		if err != nil {
			return changeSet{}, s, err
		}
		prefix = c.key(s.Name) + "/"
	}
	all, err := c.changeSets.List(ctx, prefix)
	if err != nil {
		return changeSet{}, stack.Stack{}, fmt.Errorf("list change sets: %w", err)
	}
	for _, cs := range all {
		if cs.ID != nameOrID && (byID || cs.Name != nameOrID) {
			continue
		}
		s, err := c.stack(ctx, cs.Set.StackID, inBrackets)
		if err != nil { // its stack is no more
			return cs, s, none
		}
		return cs, s, nil
	}
	return changeSet{}, stack.Stack{}, none
}

type describedChangeSet struct {
	ChangeSetName           string
	ChangeSetId             string
	StackId                 string
	StackName               string
	Description             *string
	Parameters              list[parameter]
	CreationTime            *time.Time
	ExecutionStatus         string
	Status                  string
	StatusReason            *string
	NotificationARNs        list[string]
	RollbackConfiguration   *rollbackConfiguration
	Capabilities            list[string]
	Tags                    list[tag]
	Changes                 list[change]
	NextToken               *string
	IncludeNestedStacks     bool
	OnStackFailure          *string
	ImportExistingResources bool
}

type change struct {
	Type           string
	ResourceChange resourceChange
}

type resourceChange struct {
	PolicyAction       *string
	Action             string
	LogicalResourceId  string
	PhysicalResourceId *string
	ResourceType       string
	Replacement        *string
	Scope              list[string]
	Details            list[changeDetail]
	BeforeContext      *string
	AfterContext       *string
}

type changeDetail struct {
	Target        changeTarget
	Evaluation    string
	ChangeSource  string
	CausingEntity *string
}

type changeTarget struct {
	Attribute           string
	Name                *string
	RequiresRecreation  string
	Path                *string
	BeforeValue         *string
	AfterValue          *string
	AttributeChangeType *string
}

type describeChangeSet struct {
	ChangeSetName         string `cfn:"required 1-1600"`
	StackName             string
	NextToken             string `cfn:"1-1024"`
	IncludePropertyValues bool
}

// changesAtOnce is how many changes an answer has. The service counts bytes, and
// some clients never ask for more.
const changesAtOnce = 1000

func (c call) describeChangeSet(ctx context.Context, in describeChangeSet) (any, error) {
	cs, s, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
	if err != nil {
		return nil, err
	}
	d := describedChangeSet{
		ChangeSetName: cs.Name, ChangeSetId: cs.ID, StackId: cs.Set.StackID, StackName: cs.Set.Stack, Description: optional(cs.Description),
		Parameters: shownParameters(cs.Set.Change), CreationTime: when(cs.Created), ExecutionStatus: cs.execution(s),
		RollbackConfiguration: rollbackOf(cs.Set.Change.Rollback), Capabilities: listOf(cs.Set.Change.Noted.Capabilities...), NotificationARNs: listOf(cs.Set.Change.Noted.NotificationARNs...), Tags: shownTags(cs.Set.Change.Tags),
		IncludeNestedStacks: true, OnStackFailure: optional(cs.Set.Change.OnFailure), ImportExistingResources: cs.Set.Change.ImportExisting,
	}
	d.Status, d.StatusReason = cs.status()
	changes, next, err := page(cs.Set.Listing(in.IncludePropertyValues), func(r changeset.ResourceChange) string { return r.LogicalID }, in.NextToken, changesAtOnce)
	if err != nil {
		return nil, err
	}
	d.NextToken = next
	for _, r := range changes {
		shown, err := shownChange(r)
		if err != nil {
			return nil, err
		}
		d.Changes.Members = append(d.Changes.Members, change{"Resource", shown})
	}
	return d, nil
}

type describeChangeSetHooks struct {
	ChangeSetName     string `cfn:"required 1-1600"`
	StackName         string
	NextToken         string `cfn:"1-1024"`
	LogicalResourceId string
}

// describeChangeSetHooks says that there are no hooks here.
func (c call) describeChangeSetHooks(ctx context.Context, in describeChangeSetHooks) (any, error) {
	cs, _, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
	if err != nil {
		return nil, err
	}
	return struct {
		ChangeSetId, ChangeSetName string
		Hooks                      list[nothing]
		Status, StackId, StackName string
	}{cs.ID, cs.Name, list[nothing]{}, "PLANNED", cs.Set.StackID, cs.Set.Stack}, nil
}

func shownChange(r changeset.ResourceChange) (resourceChange, error) {
	shown := resourceChange{PolicyAction: optional(r.PolicyAction), Action: r.Action, LogicalResourceId: r.LogicalID, PhysicalResourceId: optional(r.PhysicalID),
		ResourceType: r.Type, Replacement: optional(r.Replacement), Scope: listOf(r.Scope...)}
	for _, context := range []struct {
		from map[string]any
		to   **string
	}{{r.BeforeContext, &shown.BeforeContext}, {r.AfterContext, &shown.AfterContext}} {
		if context.from == nil {
			continue
		}
		raw, err := json.Marshal(context.from)
		if err != nil {
			return shown, fmt.Errorf("write the context of %s: %w", r.LogicalID, err)
		}
		*context.to = optional(string(raw))
	}
	for _, d := range r.Details {
		before, err := shownValue(d.Target.BeforeValue)
		if err != nil {
			return shown, err
		}
		after, err := shownValue(d.Target.AfterValue)
		if err != nil {
			return shown, err
		}
		shown.Details.Members = append(shown.Details.Members, changeDetail{Evaluation: d.Evaluation, ChangeSource: d.ChangeSource, CausingEntity: optional(d.CausingEntity),
			Target: changeTarget{Attribute: d.Target.Attribute, Name: optional(d.Target.Name), RequiresRecreation: string(d.Target.RequiresRecreation),
				Path: optional(d.Target.Path), BeforeValue: before, AfterValue: after, AttributeChangeType: optional(d.Target.AttributeChangeType)}})
	}
	return shown, nil
}

// shownValue writes a value as the service does: a text as it is, else JSON.
func shownValue(v any) (*string, error) {
	if text, ok := v.(string); ok || v == nil {
		return optional(text), nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write a value: %w", err)
	}
	return optional(string(raw)), nil
}

type changeSetSummary struct {
	StackId                 string
	StackName               string
	ChangeSetId             string
	ChangeSetName           string
	ExecutionStatus         string
	Status                  string
	StatusReason            *string
	CreationTime            *time.Time
	Description             *string
	IncludeNestedStacks     bool
	ImportExistingResources bool
}

type listChangeSets struct {
	StackName string `cfn:"required"`
	NextToken string `cfn:"1-1024"`
}

func (c call) listChangeSets(ctx context.Context, in listChangeSets) (any, error) {
	var result struct {
		Summaries list[changeSetSummary]
		NextToken *string
	}
	s, err := c.stack(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	all, err := c.ownChangeSets(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	all, result.NextToken, err = page(all, func(cs changeSet) string { return cs.Name }, in.NextToken, pageSize)
	for _, cs := range all {
		summary := changeSetSummary{StackId: s.ID, StackName: s.Name, ChangeSetId: cs.ID, ChangeSetName: cs.Name, ExecutionStatus: cs.execution(s),
			CreationTime: when(cs.Created), Description: optional(cs.Description), IncludeNestedStacks: true, ImportExistingResources: cs.Set.Change.ImportExisting}
		summary.Status, summary.StatusReason = cs.status()
		result.Summaries.Members = append(result.Summaries.Members, summary)
	}
	return result, err
}

type executeChangeSet struct {
	ChangeSetName        string `cfn:"required 1-1600"`
	StackName            string
	ClientRequestToken   string `cfn:"1-128"`
	DisableRollback      *bool
	RetainExceptOnCreate bool
}

// executeChangeSet begins what a change set says. It answers when the engine has
// stored that it was begun; before that, nobody was told so, and the same may be
// asked again.
func (c call) executeChangeSet(ctx context.Context, in executeChangeSet) (any, error) {
	if err := noRetain(in.RetainExceptOnCreate); err != nil {
		return nil, err
	}
	cs, s, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
	if err != nil {
		return nil, err
	}
	before, err := c.known(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	if again, err := c.repeated(ctx, before, "ExecuteChangeSet", in.ClientRequestToken); again || err != nil {
		return nothing{}, err
	}
	status, _ := cs.status()
	switch execution := cs.execution(s); {
	case status != createComplete:
		return nil, notExecutable(cs, "status of ["+status+"]")
	case execution != available:
		return nil, notExecutable(cs, "execution status of ["+execution+"]")
	}
	if in.DisableRollback != nil && *in.DisableRollback && cs.Set.Change.OnFailure != "" {
		return nil, invalid("DisableRollback cannot be specified for a change set that was created with OnStackFailure")
	}
	if in.DisableRollback != nil && *in.DisableRollback != cs.Set.Change.DisableRollback {
		cs.Set.Change.DisableRollback = *in.DisableRollback
		if err := cs.Set.Seal(); err != nil {
			return nil, err
		}
		if err := c.changeSets.Put(ctx, c.key(cs.Set.Stack)+"/"+cs.Name, cs); err != nil { // what is begun is known by its digest
			return nil, fmt.Errorf("store change set %s: %w", cs.Name, err)
		}
	}
	err = c.begin(func(ctx context.Context, listen func(stack.Event)) error {
		return c.env.Stacks.Apply(ctx, cs.Set, listen)
	})
	if err != nil {
		return nil, err
	}
	return nothing{}, c.dropChangeSets(ctx, cs.Set.Stack, func(other changeSet) bool { return other.Name != cs.Name }, c.reviews.DeleteOp(c.key(cs.Set.Stack)))
}

func notExecutable(cs changeSet, in string) error {
	return &problem{Status: http.StatusBadRequest, Code: "InvalidChangeSetStatus", Message: "ChangeSet [" + cs.ID + "] cannot be executed in its current " + in}
}

type deleteChangeSet struct {
	ChangeSetName string `cfn:"required 1-1600"`
	StackName     string
}

func (c call) deleteChangeSet(ctx context.Context, in deleteChangeSet) (any, error) {
	cs, s, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
	if err != nil && problemOf(err).Code == "ChangeSetNotFound" {
		return nothing{}, nil // as it shall be
	}
	if err != nil {
		return nil, err
	}
	if cs.execution(s) == executeInProgress {
		return nil, &problem{Status: http.StatusBadRequest, Code: "InvalidChangeSetStatus", Message: "The changeset [" + cs.ID + "] cannot be deleted while it is executed"}
	}
	return nothing{}, c.changeSets.Delete(ctx, c.key(cs.Set.Stack)+"/"+cs.Name)
}
