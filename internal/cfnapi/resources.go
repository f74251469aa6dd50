package cfnapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// resource is a resource in the three forms of the service, which name its time
// and what it belongs to otherwise.
type resource struct {
	StackName            *string
	StackId              *string
	LogicalResourceId    string
	PhysicalResourceId   *string
	ResourceType         string
	Timestamp            *time.Time
	LastUpdatedTimestamp *time.Time
	ResourceStatus       string
	ResourceStatusReason *string
	DriftInformation     *resourceDriftInformation
}

type resourceDriftInformation struct {
	StackResourceDriftStatus string
	LastCheckTimestamp       *time.Time
}

// resources gives the resources of a stack, with what a look found of them last.
func (c call) resources(ctx context.Context, s stack.Stack) ([]resource, error) {
	if s.Status == reviewInProgress || s.Status == stack.DeleteComplete {
		return nil, nil
	}
	all, err := c.env.Stacks.Resources(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	last, err := c.env.Stacks.LastDrift(ctx, s)
	if err != nil {
		return nil, err
	}
	found := make([]resource, len(all))
	for i, r := range all {
		drift := &resourceDriftInformation{StackResourceDriftStatus: stack.NotChecked}
		if at := slices.IndexFunc(last.Resources, func(d stack.ResourceDrift) bool { return d.LogicalID == r.LogicalID }); at >= 0 {
			drift.StackResourceDriftStatus, drift.LastCheckTimestamp = last.Resources[at].Status, when(last.Time)
		}
		found[i] = resource{LogicalResourceId: r.LogicalID, PhysicalResourceId: optional(r.PhysicalID), ResourceType: r.Type, Timestamp: when(r.Time),
			ResourceStatus: r.Status, ResourceStatusReason: optional(r.Reason), DriftInformation: drift}
	}
	return found, nil
}

// of adds the stack.
func (r resource) of(s stack.Stack) resource {
	r.StackName, r.StackId = &s.Name, &s.ID
	return r
}

// updated names the time as lists and details do.
func (r resource) updated() resource {
	r.LastUpdatedTimestamp, r.Timestamp = r.Timestamp, nil
	return r
}

type describeStackResource struct {
	StackName         string `cfn:"required"`
	LogicalResourceId string `cfn:"required"`
}

func (c call) describeStackResource(ctx context.Context, in describeStackResource) (any, error) {
	var result struct{ StackResourceDetail resource }
	s, err := c.stack(ctx, in.StackName, "Stack '%s' does not exist")
	if err != nil {
		return nil, err
	}
	all, err := c.resources(ctx, s)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(r resource) bool { return r.LogicalResourceId == in.LogicalResourceId })
	if at < 0 {
		return nil, noResource(in.LogicalResourceId, s)
	}
	result.StackResourceDetail = all[at].of(s).updated()
	return result, nil
}

func noResource(id string, s stack.Stack) error {
	return invalid("Resource %s does not exist for stack %s", id, s.Name)
}

type describeStackResources struct{ StackName, LogicalResourceId, PhysicalResourceId string }

func (c call) describeStackResources(ctx context.Context, in describeStackResources) (any, error) {
	var result struct{ StackResources list[resource] }
	var stacks []stack.Stack
	switch {
	case in.StackName != "" && in.PhysicalResourceId != "":
		return nil, invalid("You cannot specify both StackName and PhysicalResourceId")
	case in.StackName != "":
		s, err := c.stack(ctx, in.StackName, withID)
		if err != nil {
			return nil, err
		}
		stacks = []stack.Stack{s}
	case in.PhysicalResourceId != "":
		var err error
		if stacks, err = c.env.Stacks.Stacks(ctx); err != nil {
			return nil, err
		}
	default:
		return nil, invalid("Either StackName or PhysicalResourceId must be specified")
	}
	for _, s := range stacks {
		all, err := c.resources(ctx, s)
		if err != nil {
			return nil, err
		}
		has := func(r resource) bool {
			return in.PhysicalResourceId == "" || r.PhysicalResourceId != nil && *r.PhysicalResourceId == in.PhysicalResourceId
		}
		if !slices.ContainsFunc(all, has) && in.PhysicalResourceId != "" {
			continue
		}
		for _, r := range all { // of the whole stack, as the service does it
			if in.LogicalResourceId == "" || r.LogicalResourceId == in.LogicalResourceId {
				result.StackResources.Members = append(result.StackResources.Members, r.of(s))
			}
		}
		return result, nil
	}
	return nil, invalid("Stack for %s does not exist", in.PhysicalResourceId)
}

type listStackResources struct {
	StackName string `cfn:"required"`
	NextToken string `cfn:"1-1024"`
}

func (c call) listStackResources(ctx context.Context, in listStackResources) (any, error) {
	var result struct {
		StackResourceSummaries list[resource]
		NextToken              *string
	}
	s, err := c.stack(ctx, in.StackName, withID)
	if err != nil {
		return nil, err
	}
	all, err := c.resources(ctx, s)
	if err != nil {
		return nil, err
	}
	all, result.NextToken, err = page(all, func(r resource) string { return r.LogicalResourceId }, in.NextToken, pageSize)
	for _, r := range all {
		result.StackResourceSummaries.Members = append(result.StackResourceSummaries.Members, r.updated())
	}
	return result, err
}

type export struct{ ExportingStackId, Name, Value string }

type listExports struct {
	NextToken string `cfn:"1-1024"`
}

func (c call) listExports(ctx context.Context, in listExports) (any, error) {
	var result struct {
		Exports   list[export]
		NextToken *string
	}
	all, err := c.env.Stacks.Exports(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(x stack.Export) bool { return x.Leaving })
	all, result.NextToken, err = page(all, func(x stack.Export) string { return x.Name }, in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		s, err := c.known(ctx, x.Stack)
		if err != nil {
			return nil, err
		}
		result.Exports.Members = append(result.Exports.Members, export{s.ID, x.Name, x.Value})
	}
	return result, nil
}

type listImports struct {
	ExportName string `cfn:"required"`
	NextToken  string `cfn:"1-1024"`
}

func (c call) listImports(ctx context.Context, in listImports) (any, error) {
	var result struct {
		Imports   list[string]
		NextToken *string
	}
	all, err := c.env.Stacks.Exports(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(x stack.Export) bool { return x.Name == in.ExportName })
	if at < 0 || len(all[at].Importers) == 0 {
		return nil, invalid("Export '%s' is not imported by any stack.", in.ExportName)
	}
	importers := slices.Sorted(slices.Values(all[at].Importers))
	result.Imports.Members, result.NextToken, err = page(importers, strings.Clone, in.NextToken, pageSize)
	return result, err
}

type signalResource struct {
	StackName         string `cfn:"required"`
	LogicalResourceId string `cfn:"required"`
	UniqueId          string `cfn:"required 1-64"`
	Status            string `cfn:"required"`
}

func (c call) signalResource(ctx context.Context, in signalResource) (any, error) {
	if err := oneOf(in.Status, "Status", "SUCCESS", "FAILURE"); err != nil {
		return nil, err
	}
	s, err := c.made(ctx, in.StackName, withID)
	if err != nil {
		return nil, err
	}
	err = c.env.Stacks.Signal(ctx, s.Name, in.LogicalResourceId, stack.Signal{Status: in.Status, UniqueID: in.UniqueId})
	if fault.Is(err, fault.NotFound) {
		return nil, noResource(in.LogicalResourceId, s)
	}
	return nil, err
}
