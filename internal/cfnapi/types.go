package cfnapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"makeitso/internal/changeset"
	"makeitso/internal/registry"
)

// Facts of every type there is here: they are AWS's own.
const (
	resourceType = "RESOURCE"
	public       = "PUBLIC"
	live         = "LIVE"
	mutable      = "FULLY_MUTABLE"
)

type typeSummary struct{ Type, TypeName, TypeArn, Description string }

type listTypes struct {
	Visibility       string
	ProvisioningType string
	DeprecatedStatus string
	Type             string
	Filters          *struct{ Category, PublisherId, TypeNamePrefix string }
	MaxResults       *int   `cfn:"1-100"`
	NextToken        string `cfn:"1-1024"`
}

// listTypes gives the types that resources can have in the environment, with
// what stands for each. None is registered by anybody: the private ones, which
// the service lists unless it is asked for others, are none.
func (c call) listTypes(_ context.Context, in listTypes) (any, error) {
	var result struct {
		TypeSummaries list[typeSummary]
		NextToken     *string
	}
	for at, allowed := range map[string][]string{"Visibility": {public, "PRIVATE"}, "ProvisioningType": {mutable, "IMMUTABLE", "NON_PROVISIONABLE"},
		"DeprecatedStatus": {live, "DEPRECATED"}, "Type": {resourceType, "MODULE", "HOOK"}} {
		given := map[string]string{"Visibility": in.Visibility, "ProvisioningType": in.ProvisioningType, "DeprecatedStatus": in.DeprecatedStatus, "Type": in.Type}[at]
		if err := oneOf(given, at, allowed...); err != nil {
			return nil, err
		}
	}
	is := func(asked, fact string) bool { return asked == "" || asked == fact }
	if in.Visibility != public || !is(in.Type, resourceType) || !is(in.DeprecatedStatus, live) || !is(in.ProvisioningType, mutable) {
		return result, nil
	}
	prefix := ""
	if in.Filters != nil {
		if prefix = in.Filters.TypeNamePrefix; in.Filters.PublisherId != "" || !is(in.Filters.Category, "AWS_TYPES") {
			return result, nil
		}
	}
	var all []typeSummary
	for _, name := range slices.Sorted(slices.Values(registry.Names())) {
		if support := c.env.Stacks.Support(name); support.Level != changeset.Refused && strings.HasPrefix(name, prefix) {
			all = append(all, typeSummary{resourceType, name, c.typeARN(name), describedSupport(support)})
		}
	}
	most := pageSize
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	var err error
	result.TypeSummaries.Members, result.NextToken, err = page(all, func(t typeSummary) string { return t.TypeName }, in.NextToken, most)
	return result, err
}

// describedSupport says in a sentence what stands for a type.
func describedSupport(s changeset.Support) string {
	return strings.TrimSuffix(string(s.Level)+": "+s.Note, ": ")
}

func (c call) typeARN(name string) string {
	return "arn:aws:cloudformation:" + c.env.Stacks.Region() + "::type/resource/" + strings.ReplaceAll(name, "::", "-")
}

type describeType struct {
	Type      string
	TypeName  string `cfn:"10-204"`
	Arn       string `cfn:"1-1024"`
	VersionId string `cfn:"1-128"` // there is one version of each
}

func (c call) describeType(_ context.Context, in describeType) (any, error) {
	if err := oneOf(in.Type, "Type", resourceType, "MODULE", "HOOK"); err != nil {
		return nil, err
	}
	name := in.TypeName
	if _, given, isARN := strings.Cut(in.Arn, "::type/resource/"); isARN {
		name = strings.ReplaceAll(given, "-", "::")
	}
	if name == "" {
		return nil, invalid("Either Arn, or Type and TypeName must be specified")
	}
	support := c.env.Stacks.Support(name)
	if _, known := registry.Type(name); !known || support.Level == changeset.Refused || in.Type != "" && in.Type != resourceType {
		return nil, &problem{Status: http.StatusNotFound, Code: "TypeNotFoundException", Message: "The type '" + name + "' cannot be found"}
	}
	return struct{ Arn, Type, TypeName, Description, ProvisioningType, DeprecatedStatus, Visibility string }{
		c.typeARN(name), resourceType, name, describedSupport(support), mutable, live, public}, nil
}
