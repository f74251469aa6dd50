package cfnapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/registry"
	"makeitso/internal/template"
)

type getTemplate struct {
	StackName     string
	ChangeSetName string `cfn:"1-1600"`
	TemplateStage string
}

func (c call) getTemplate(ctx context.Context, in getTemplate) (any, error) {
	var result struct {
		TemplateBody    string
		StagesAvailable list[string]
	}
	if err := oneOf(in.TemplateStage, "TemplateStage", "Original", "Processed"); err != nil {
		return nil, err
	}
	of, err := c.named(ctx, in)
	if err != nil {
		return nil, err
	}
	result.TemplateBody, result.StagesAvailable = string(of.original), listOf("Original", "Processed")
	processed, err := of.processed()
	var mistakes diag.List
	switch {
	case errors.As(err, &mistakes): // of what only an apply will know
		result.StagesAvailable = listOf("Original")
		err = nil
		if in.TemplateStage == "Processed" {
			err = invalid("the template is not processed before what it depends on is there: %s; ask for TemplateStage Original", messageOf(mistakes))
		}
	case in.TemplateStage == "Processed":
		result.TemplateBody = processed
	}
	return result, err
}

// asked is a template that is asked for.
type asked struct {
	file      string
	original  []byte
	processed func() (string, error)
}

// named gives the template of a stack or of a change set.
func (c call) named(ctx context.Context, in getTemplate) (asked, error) {
	if in.ChangeSetName != "" {
		cs, _, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
		if err != nil {
			return asked{}, err
		}
		return asked{cs.Set.Change.File, cs.Set.Change.Template, func() (string, error) { return c.env.Stacks.ProcessedOf(cs.Set) }}, nil
	}
	if in.StackName == "" {
		return asked{}, invalid("Either StackName or ChangeSetName must be specified")
	}
	s, err := c.made(ctx, in.StackName, withID)
	if err != nil {
		return asked{}, err
	}
	change, err := c.env.Stacks.Change(ctx, s.Name)
	if err == nil && len(change.Template) == 0 {
		err = invalid("stack %s is in %s state and has no template; delete it, and create it again", s.Name, s.Status)
	}
	return asked{change.File, change.Template, func() (string, error) { return c.env.Stacks.Processed(ctx, s.Name) }}, err
}

type declaredParameter struct {
	ParameterKey         string
	DefaultValue         *string
	ParameterType        string
	NoEcho               bool
	Description          *string
	ParameterConstraints parameterConstraints
}

type parameterConstraints struct{ AllowedValues list[string] }

// judged is what a template says of itself.
type judged struct {
	Description        *string
	Capabilities       list[string]
	CapabilitiesReason *string
	DeclaredTransforms list[string]
}

func judge(t *template.Template) judged {
	j := judged{Description: optional(t.Description), DeclaredTransforms: listOf(t.Transforms...)}
	var reasons []string
	if need, types := iamNeeded(t); need != "" {
		j.Capabilities.Members = append(j.Capabilities.Members, need)
		reasons = append(reasons, fmt.Sprintf("The following resource(s) require capabilities: [%s]", strings.Join(types, ", ")))
	}
	if len(t.Transforms) > 0 {
		j.Capabilities.Members = append(j.Capabilities.Members, autoExpand)
		reasons = append(reasons, fmt.Sprintf("The following transform(s) require capabilities: [%s]", strings.Join(t.Transforms, ", ")))
	}
	j.CapabilitiesReason = optional(strings.Join(reasons, "; "))
	return j
}

func declared(t *template.Template) (all []declaredParameter) {
	for _, p := range parameterList(t) {
		all = append(all, declaredParameter{ParameterKey: p.Name, DefaultValue: p.Default, ParameterType: p.Type, NoEcho: p.NoEcho,
			Description: optional(p.Description), ParameterConstraints: parameterConstraints{listOf(p.AllowedValues...)}})
	}
	return all
}

type validateTemplate struct {
	TemplateBody string `cfn:"1-"`
	TemplateURL  string `cfn:"1-5120"`
}

func (c call) validateTemplate(ctx context.Context, in validateTemplate) (any, error) {
	type parameter struct {
		ParameterKey string
		DefaultValue *string
		NoEcho       bool
		Description  *string
	}
	var result struct {
		Parameters list[parameter]
		judged
	}
	t, _, err := c.template(ctx, in.TemplateBody, in.TemplateURL)
	if err != nil {
		return nil, err
	}
	result.judged = judge(t)
	for _, p := range declared(t) {
		result.Parameters.Members = append(result.Parameters.Members, parameter{p.ParameterKey, p.DefaultValue, p.NoEcho, p.Description})
	}
	return result, nil
}

type getTemplateSummary struct {
	TemplateBody          string `cfn:"1-"`
	TemplateURL           string `cfn:"1-5120"`
	StackName             string
	TemplateSummaryConfig *struct{ TreatUnrecognizedResourceTypesAsWarnings bool } // they always are
}

func (c call) getTemplateSummary(ctx context.Context, in getTemplateSummary) (any, error) {
	var result struct {
		Parameters list[declaredParameter]
		judged
		ResourceTypes               list[string]
		Version                     string
		ResourceIdentifierSummaries list[identifierSummary]
		Warnings                    struct{ UnrecognizedResourceTypes list[string] }
	}
	t, err := c.summarized(ctx, in)
	if err != nil {
		return nil, err
	}
	types := resourceTypes(t)
	result.Parameters, result.judged, result.ResourceTypes, result.Version = listOf(declared(t)...), judge(t), listOf(types...), "2010-09-09"
	for _, typ := range types {
		if c.env.Stacks.Support(typ).Level == changeset.Refused {
			result.Warnings.UnrecognizedResourceTypes.Members = append(result.Warnings.UnrecognizedResourceTypes.Members, typ)
		}
		if facts, known := registry.Type(typ); known && len(facts.PrimaryIdentifier) > 0 {
			result.ResourceIdentifierSummaries.Members = append(result.ResourceIdentifierSummaries.Members, identifierSummary{typ, listOf(resourcesOf(t, typ)...), listOf(facts.PrimaryIdentifier...)})
		}
	}
	return result, nil
}

// identifierSummary says by which properties resources of a type are imported.
type identifierSummary struct {
	ResourceType        string
	LogicalResourceIds  list[string]
	ResourceIdentifiers list[string]
}

// resourcesOf gives the resources of a type.
func resourcesOf(t *template.Template, typ string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
		if t.Resources[id].Type == typ {
			ids = append(ids, id)
		}
	}
	return ids
}

// summarized reads the template that a summary is asked of.
func (c call) summarized(ctx context.Context, in getTemplateSummary) (*template.Template, error) {
	if in.StackName == "" {
		t, _, err := c.template(ctx, in.TemplateBody, in.TemplateURL)
		return t, err
	}
	if in.TemplateBody != "" || in.TemplateURL != "" {
		return nil, invalid("only one of StackName, TemplateBody and TemplateURL can be given")
	}
	s, err := c.stack(ctx, in.StackName, withID)
	if err != nil {
		return nil, err
	}
	if s.Status == reviewInProgress {
		return nil, invalid("GetTemplateSummary cannot be called on REVIEW_IN_PROGRESS stacks.")
	}
	change, err := c.named(ctx, getTemplate{StackName: in.StackName})
	if err != nil {
		return nil, err
	}
	t, mistakes := template.Parse(change.file, change.original)
	return t, mistakes.Err()
}
