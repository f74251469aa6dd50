package cfnapi

import (
	"context"
	"fmt"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/template"
)

type getTemplate struct{ StackName, ChangeSetName, TemplateStage string }

func (c call) getTemplate(ctx context.Context, in getTemplate) (any, error) {
	var result struct {
		TemplateBody    string
		StagesAvailable list[string]
	}
	if err := oneOf(in.TemplateStage, "TemplateStage", "Original", "Processed"); err != nil {
		return nil, err
	}
	of, err := c.changeNamed(ctx, in)
	if err != nil {
		return nil, err
	}
	result.TemplateBody, result.StagesAvailable = string(of.Template), listOf("Original")
	t, mistakes := template.Parse(of.File, of.Template)
	switch {
	case t != nil && !mistakes.HasErrors() && len(t.Transforms) == 0:
		result.StagesAvailable = listOf("Original", "Processed")
	case in.TemplateStage == "Processed":
		return nil, invalid("the template is kept as it was given, before its transforms; ask for TemplateStage Original")
	}
	return result, nil
}

// changeNamed gives the change of a stack or of a change set.
func (c call) changeNamed(ctx context.Context, in getTemplate) (changeset.Change, error) {
	if in.ChangeSetName != "" {
		cs, _, err := c.changeSet(ctx, in.ChangeSetName, in.StackName)
		if err != nil {
			return changeset.Change{}, err
		}
		return cs.Set.Change, nil
	}
	if in.StackName == "" {
		return changeset.Change{}, invalid("Either StackName or ChangeSetName must be specified")
	}
	s, err := c.made(ctx, in.StackName, withID)
	if err != nil {
		return changeset.Change{}, err
	}
	change, err := c.env.Stacks.Change(ctx, s.Name)
	if err == nil && len(change.Template) == 0 {
		err = invalid("stack %s is in %s state and has no template; delete it, and create it again", s.Name, s.Status)
	}
	return change, err
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

type validateTemplate struct{ TemplateBody, TemplateURL string }

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
	TemplateBody, TemplateURL, StackName string
	TemplateSummaryConfig                *struct{ TreatUnrecognizedResourceTypesAsWarnings bool } // they always are
}

func (c call) getTemplateSummary(ctx context.Context, in getTemplateSummary) (any, error) {
	var result struct {
		Parameters list[declaredParameter]
		judged
		ResourceTypes list[string]
		Version       string
	}
	t, err := c.summarized(ctx, in)
	if err != nil {
		return nil, err
	}
	result.Parameters, result.judged, result.ResourceTypes, result.Version = listOf(declared(t)...), judge(t), listOf(resourceTypes(t)...), "2010-09-09"
	return result, nil
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
	change, err := c.changeNamed(ctx, getTemplate{StackName: in.StackName})
	if err != nil {
		return nil, err
	}
	t, mistakes := template.Parse(change.File, change.Template)
	return t, mistakes.Err()
}
