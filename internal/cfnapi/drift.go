package cfnapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

// detection is a look at a stack, as it is remembered: the last of each.
type detection struct {
	ID      string    `json:"id"`
	StackID string    `json:"stackId"`
	Status  string    `json:"status"`
	Drifted int       `json:"drifted"`
	Time    time.Time `json:"time"`
}

type detectStackDrift struct {
	StackName          string   `cfn:"required"`
	LogicalResourceIds []string `cfn:"1-200"`
}

// detectStackDrift looks at the whole stack before it answers: what reads
// resources on one machine is fast enough.
func (c call) detectStackDrift(ctx context.Context, in detectStackDrift) (any, error) {
	if len(in.LogicalResourceIds) > 0 {
		return nil, invalid("LogicalResourceIds is not there: the whole stack is looked at; ask for one resource with DetectStackResourceDrift")
	}
	s, found, err := c.look(ctx, in.StackName)
	if err != nil {
		return nil, err
	}
	d := detection{ID: newID(), StackID: s.ID, Status: found.Status, Time: found.Time}
	for _, r := range found.Resources {
		if r.Status == stack.Modified || r.Status == stack.Deleted {
			d.Drifted++
		}
	}
	if err := c.detections.Put(ctx, c.key(s.Name), d); err != nil {
		return nil, fmt.Errorf("store the look at stack %s: %w", s.Name, err)
	}
	return struct{ StackDriftDetectionId string }{d.ID}, nil
}

func (c call) look(ctx context.Context, nameOrID string) (stack.Stack, stack.StackDrift, error) {
	s, err := c.made(ctx, nameOrID, inBrackets)
	if err != nil {
		return s, stack.StackDrift{}, err
	}
	found, err := c.env.Stacks.Drift(ctx, s.Name, stack.ReportDrift, nil)
	return s, found, err
}

type describeStackDriftDetectionStatus struct {
	StackDriftDetectionId string `cfn:"required 1-36"`
}

func (c call) describeStackDriftDetectionStatus(ctx context.Context, in describeStackDriftDetectionStatus) (any, error) {
	var result struct {
		StackId                   string
		StackDriftDetectionId     string
		StackDriftStatus          string
		DetectionStatus           string
		DriftedStackResourceCount int
		Timestamp                 *time.Time
	}
	all, err := c.detections.List(ctx, c.key(""))
	if err != nil {
		return nil, fmt.Errorf("list looks at stacks: %w", err)
	}
	at := slices.IndexFunc(all, func(d detection) bool { return d.ID == in.StackDriftDetectionId })
	if at < 0 {
		return nil, invalid("Drift detection with id %s does not exist; of each stack, the last is remembered", in.StackDriftDetectionId)
	}
	d := all[at]
	result.StackId, result.StackDriftDetectionId, result.StackDriftStatus, result.DetectionStatus = d.StackID, d.ID, d.Status, "DETECTION_COMPLETE"
	result.DriftedStackResourceCount, result.Timestamp = d.Drifted, when(d.Time)
	return result, nil
}

type resourceDrift struct {
	StackId                  string
	LogicalResourceId        string
	PhysicalResourceId       *string
	ResourceType             string
	ExpectedProperties       *string // JSON
	ActualProperties         *string // JSON
	PropertyDifferences      list[propertyDifference]
	StackResourceDriftStatus string
	Timestamp                *time.Time
	DriftStatusReason        *string
}

type propertyDifference struct{ PropertyPath, ExpectedValue, ActualValue, DifferenceType string }

func shownDrift(s stack.Stack, r stack.ResourceDrift, at time.Time) (resourceDrift, error) {
	shown := resourceDrift{StackId: s.ID, LogicalResourceId: r.LogicalID, PhysicalResourceId: optional(r.PhysicalID), ResourceType: r.Type,
		StackResourceDriftStatus: r.Status, Timestamp: when(at), DriftStatusReason: optional(r.Reason)}
	for _, v := range []struct {
		from map[string]any
		to   **string
	}{{r.Expected, &shown.ExpectedProperties}, {r.Actual(), &shown.ActualProperties}} {
		if v.from == nil {
			continue
		}
		text, err := shownValue(v.from)
		if err != nil {
			return shown, err
		}
		*v.to = text
	}
	for _, d := range r.Differences {
		difference, err := shownDifference(d)
		if err != nil {
			return shown, err
		}
		shown.PropertyDifferences.Members = append(shown.PropertyDifferences.Members, difference)
	}
	return shown, nil
}

func shownDifference(d registry.Difference) (propertyDifference, error) {
	shown := propertyDifference{PropertyPath: d.Path, ExpectedValue: "null", ActualValue: "null", DifferenceType: d.Type}
	for _, v := range []struct {
		from any
		to   *string
	}{{d.Expected, &shown.ExpectedValue}, {d.Actual, &shown.ActualValue}} {
		text, err := shownValue(v.from)
		if err != nil {
			return shown, err
		}
		if text != nil {
			*v.to = *text
		}
	}
	return shown, nil
}

type describeStackResourceDrifts struct {
	StackName                       string   `cfn:"required"`
	StackResourceDriftStatusFilters []string `cfn:"1-4"`
	NextToken                       string   `cfn:"1-1024"`
	MaxResults                      *int     `cfn:"1-100"`
}

func (c call) describeStackResourceDrifts(ctx context.Context, in describeStackResourceDrifts) (any, error) {
	var result struct {
		StackResourceDrifts list[resourceDrift]
		NextToken           *string
	}
	s, err := c.made(ctx, in.StackName, inBrackets)
	if err != nil {
		return nil, err
	}
	last, err := c.env.Stacks.LastDrift(ctx, s)
	if err != nil {
		return nil, err
	}
	resources := slices.DeleteFunc(last.Resources, func(r stack.ResourceDrift) bool {
		return len(in.StackResourceDriftStatusFilters) > 0 && !slices.Contains(in.StackResourceDriftStatusFilters, r.Status)
	})
	most := pageSize
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	resources, result.NextToken, err = page(resources, func(r stack.ResourceDrift) string { return r.LogicalID }, in.NextToken, most)
	if err != nil {
		return nil, err
	}
	for _, r := range resources {
		shown, err := shownDrift(s, r, last.Time)
		if err != nil {
			return nil, err
		}
		result.StackResourceDrifts.Members = append(result.StackResourceDrifts.Members, shown)
	}
	return result, nil
}

type detectStackResourceDrift struct {
	StackName         string `cfn:"required"`
	LogicalResourceId string `cfn:"required"`
}

func (c call) detectStackResourceDrift(ctx context.Context, in detectStackResourceDrift) (any, error) {
	var result struct{ StackResourceDrift resourceDrift }
	s, found, err := c.look(ctx, in.StackName)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(found.Resources, func(r stack.ResourceDrift) bool { return r.LogicalID == in.LogicalResourceId })
	if at < 0 {
		return nil, noResource(in.LogicalResourceId, s)
	}
	result.StackResourceDrift, err = shownDrift(s, found.Resources[at], found.Time)
	return result, err
}
