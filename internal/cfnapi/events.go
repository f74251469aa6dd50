package cfnapi

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/stack"
)

type stackEvent struct {
	StackId              string
	EventId              string
	StackName            string
	LogicalResourceId    string
	PhysicalResourceId   *string
	ResourceType         string
	Timestamp            *time.Time
	ResourceStatus       string
	ResourceStatusReason *string
	ClientRequestToken   *string
}

type describeStackEvents struct {
	StackName string `cfn:"required"`
	NextToken string `cfn:"1-1024"`
}

// describeStackEvents gives the events of one stack, the newest first.
func (c call) describeStackEvents(ctx context.Context, in describeStackEvents) (any, error) {
	var result struct {
		StackEvents list[stackEvent]
		NextToken   *string
	}
	s, err := c.stack(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	result.StackEvents.Members, result.NextToken, err = c.eventsOf(ctx, s, in.NextToken, func(stack.Event) bool { return true })
	return result, err
}

// eventsOf gives a page of the events of a stack that are wanted. Those of a name
// are one stream: what a former stack of that name told comes before the first
// event of this one, and begins with its own last. What was found of a stack's
// drift is told in it too, which the service knows no status for.
func (c call) eventsOf(ctx context.Context, s stack.Stack, token string, wanted func(stack.Event) bool) (page []stackEvent, next *string, err error) {
	before, err := numberOf(token)
	if err != nil {
		return nil, nil, err
	}
	if s.Status == reviewInProgress {
		return c.inReview(s), nil, nil
	}
	asked, err := c.lastRequest(ctx, s.Name)
	if err != nil {
		return nil, nil, err
	}
	for {
		events, err := c.env.Stacks.EventsBefore(ctx, s.Name, before, pageSize)
		if err != nil {
			return nil, nil, err
		}
		for _, ev := range events {
			if ev.LogicalID == s.Name && ev.Type == changeset.NestedType && ev.PhysicalID != s.ID {
				return page, nil, nil
			}
			if len(page) == pageSize {
				return page, tokenOf(strconv.FormatInt(before, 10)), nil
			}
			if before = ev.Number; wanted(ev) && !slices.Contains([]string{stack.InSync, stack.Drifted, stack.Unknown}, ev.Status) {
				page = append(page, shownEvent(s, ev, asked))
			}
		}
		if len(events) < pageSize || before == 1 {
			return page, nil, nil
		}
	}
}

// inReview gives the one event of a stack in review.
func (c call) inReview(s stack.Stack) []stackEvent {
	return []stackEvent{{StackId: s.ID, EventId: s.ID, StackName: s.Name, LogicalResourceId: s.Name, PhysicalResourceId: &s.ID,
		ResourceType: changeset.NestedType, Timestamp: when(s.Created), ResourceStatus: s.Status, ResourceStatusReason: optional(s.Reason)}}
}

func shownEvent(s stack.Stack, ev stack.Event, asked request) stackEvent {
	token := ""
	if asked.of(s, ev) {
		token = asked.Token
	}
	return stackEvent{
		ClientRequestToken: optional(token), StackId: s.ID, EventId: fmt.Sprintf("%s-%s-%d", ev.LogicalID, ev.Status, ev.Number), StackName: s.Name, LogicalResourceId: ev.LogicalID,
		PhysicalResourceId: optional(ev.PhysicalID), ResourceType: ev.Type, Timestamp: when(ev.Time), ResourceStatus: ev.Status, ResourceStatusReason: optional(ev.Reason),
	}
}

// numberOf reads a token of events, 0 for none.
func numberOf(token string) (int64, error) {
	key, err := keyOf(token)
	if err != nil || token == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n < 1 {
		return 0, invalid("the NextToken %s is none that was given here; begin without one", token)
	}
	return n, nil
}

// operationEvent is an event with what it means for its operation.
type operationEvent struct {
	EventId              string
	StackId              string
	OperationType        *string
	OperationStatus      *string
	EventType            string
	LogicalResourceId    string
	PhysicalResourceId   *string
	ResourceType         string
	Timestamp            *time.Time
	ResourceStatus       *string
	ResourceStatusReason *string
	ClientRequestToken   *string
}

type describeEvents struct {
	StackName     string
	ChangeSetName string `cfn:"1-1600"`
	Filters       *struct{ FailedEvents bool }
	NextToken     string `cfn:"1-1024"`
}

// describeEvents gives the events of a stack by what they mean, or those of the
// making of a change set: what is wrong with one is told when it is asked for,
// so that there are none.
func (c call) describeEvents(ctx context.Context, in describeEvents) (any, error) {
	var result struct {
		OperationEvents list[operationEvent]
		NextToken       *string
	}
	if in.ChangeSetName != "" {
		_, _, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
		return result, err
	}
	if in.StackName == "" {
		return nil, invalid("One of ChangeSetName, OperationId or StackName must be specified")
	}
	s, err := c.stack(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	all := in.Filters == nil || !in.Filters.FailedEvents
	events, next, err := c.eventsOf(ctx, s, in.NextToken, func(ev stack.Event) bool { return all || strings.HasSuffix(ev.Status, "_FAILED") })
	for _, ev := range events {
		result.OperationEvents.Members = append(result.OperationEvents.Members, ev.meaning())
	}
	result.NextToken = next
	return result, err
}

// meaning tells the stack's own events from those of its resources.
func (ev stackEvent) meaning() operationEvent {
	m := operationEvent{EventId: ev.EventId, StackId: ev.StackId, EventType: "PROGRESS_EVENT", LogicalResourceId: ev.LogicalResourceId, PhysicalResourceId: ev.PhysicalResourceId,
		ResourceType: ev.ResourceType, Timestamp: ev.Timestamp, ResourceStatus: &ev.ResourceStatus, ResourceStatusReason: ev.ResourceStatusReason, ClientRequestToken: ev.ClientRequestToken}
	switch {
	case ev.LogicalResourceId == ev.StackName:
		m.EventType, m.ResourceStatus = "STACK_EVENT", nil
		m.OperationType, m.OperationStatus = operationOf(ev.ResourceStatus)
	case strings.HasSuffix(ev.ResourceStatus, "_FAILED"):
		m.EventType = "PROVISIONING_ERROR"
	}
	return m
}

// operationOf gives the operation that a stack in a status is in, and how far it
// is; nothing for an import and for a review, which the service has no words for.
func operationOf(status string) (operation, progress *string) {
	for _, o := range [][2]string{{"UPDATE_ROLLBACK_", "ROLLBACK"}, {"ROLLBACK_", "ROLLBACK"}, {"CREATE_", "CREATE_STACK"}, {"UPDATE_", "UPDATE_STACK"}, {"DELETE_", "DELETE_STACK"}} {
		if strings.HasPrefix(status, o[0]) {
			operation = &o[1]
			break
		}
	}
	if operation == nil {
		return nil, nil
	}
	for _, p := range [][2]string{{"_IN_PROGRESS", "IN_PROGRESS"}, {"_FAILED", "FAILED"}, {"_COMPLETE", "SUCCEEDED"}} {
		if strings.HasSuffix(status, p[0]) {
			progress = &p[1]
			break
		}
	}
	return operation, progress
}
