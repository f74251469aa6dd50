package cfnapi

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/diag"
	"makeitso/internal/pace"
	"makeitso/internal/stack"
	"makeitso/internal/template"
)

// changeInput is what the requests that want something of a stack have in common.
type changeInput struct {
	StackName             string `cfn:"required"`
	TemplateBody          string `cfn:"1-"`
	TemplateURL           string `cfn:"1-5120"`
	Parameters            []parameter
	Capabilities          []string
	ResourceTypes         []string
	RoleARN               string `cfn:"20-2048"`
	RollbackConfiguration *rollbackConfiguration
	NotificationARNs      []string `cfn:"0-5"`
	Tags                  []tag    `cfn:"0-50"`
}

type parameter struct {
	ParameterKey     string
	ParameterValue   *string
	UsePreviousValue *bool
	ResolvedValue    *string
}

type tag struct{ Key, Value string }

type rollbackConfiguration struct {
	RollbackTriggers        *list[rollbackTrigger]
	MonitoringTimeInMinutes *int `cfn:"0-180"`
}

type rollbackTrigger struct{ Arn, Type string }

// wanted is a change that was asked for.
type wanted struct {
	changeset.Change
	template *template.Template
}

// How many bytes a template may have in a request, and at all.
const (
	maxTemplateBody = 51_200
	maxTemplate     = 1_000_000
)

// text reads what is given in the request or by an address; "" if neither is.
func (c call) text(ctx context.Context, what, body, address string) (file string, text []byte, err error) {
	switch {
	case body != "" && address != "":
		return "", nil, invalid("only one of %sBody and %sURL can be given", what, what)
	case address == "":
		return what + "Body", []byte(body), nil
	}
	location, known := stack.BucketAddress(address)
	if !known {
		return "", nil, invalid("%sURL must be a supported URL. Found %s; give the address of an object in a bucket of the environment", what, address)
	}
	location, _, _ = strings.Cut(location, "?versionId=") // the newest version is read
	text, err = c.env.Object(ctx, location)
	return location, text, err
}

// template reads the template of a request, checked as far as that is possible
// without values.
func (c call) template(ctx context.Context, body, address string) (*template.Template, []byte, error) {
	if body == "" && address == "" {
		return nil, nil, invalid("Either Template URL or Template Body must be specified.")
	}
	file, text, err := c.text(ctx, "Template", body, address)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(body) > maxTemplateBody:
		return nil, nil, constraint(body, "TemplateBody", fmt.Sprintf("Member must have length less than or equal to %d; it has %d: put it into a bucket of the environment and name it by TemplateURL", maxTemplateBody, len(body)))
	case len(text) > maxTemplate:
		return nil, nil, invalid("Template may not exceed %d bytes in size: %s has %d", maxTemplate, file, len(text))
	}
	t, mistakes := template.Parse(file, text)
	return t, text, mistakes.Err()
}

// change makes a change of a request. former is what the stack was asked to be
// before, the zero Change for a new one.
func (c call) change(ctx context.Context, name string, in changeInput, usePrevious bool, former changeset.Change) (wanted, error) {
	var w wanted
	var err error
	switch {
	case usePrevious && (in.TemplateBody != "" || in.TemplateURL != ""):
		return w, invalid("UsePreviousTemplate cannot be given together with TemplateBody or TemplateURL")
	case usePrevious && len(former.Template) == 0:
		return w, invalid("there is no previous template of stack %s; give one by TemplateBody or TemplateURL", name)
	case usePrevious:
		var mistakes diag.List
		w.Change.File, w.Change.Template, w.Files = former.File, former.Template, former.Files
		if w.template, mistakes = template.Parse(former.File, former.Template); mistakes.HasErrors() {
			return w, mistakes
		}
	default:
		if w.template, w.Change.Template, err = c.template(ctx, in.TemplateBody, in.TemplateURL); err != nil {
			return w, err
		}
		w.File = w.template.File
	}
	w.Stack = name
	if err := allowedTypes(w.template, in.ResourceTypes); err != nil {
		return w, err
	}
	if w.Parameters, err = parametersOf(in.Parameters, former); err != nil {
		return w, err
	}
	w.Tags, w.Rollback = former.Tags, former.Rollback
	if w.Noted, err = notedOf(in, former.Noted); err != nil {
		return w, err
	}
	if in.Tags != nil {
		w.Tags = map[string]string{}
		for _, t := range in.Tags {
			w.Tags[t.Key] = t.Value
		}
	}
	return w, in.RollbackConfiguration.into(&w.Rollback)
}

// It is compiled when it is needed: counted repeats take long.
var topicARN = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$`)
})

// notedOf gives what a request says to others than this machine: no topic is told
// of events, and stacks are made with the rights of this machine's user. What it
// leaves out stays as it was said before, but for capabilities, which are of one
// request.
func notedOf(in changeInput, former changeset.Noted) (changeset.Noted, error) {
	noted := changeset.Noted{NotificationARNs: former.NotificationARNs, RoleARN: cmp.Or(in.RoleARN, former.RoleARN), Capabilities: in.Capabilities}
	if in.NotificationARNs != nil {
		noted.NotificationARNs = in.NotificationARNs
	}
	for _, arn := range in.NotificationARNs {
		if !topicARN().MatchString(arn) {
			return noted, invalid("NotificationARNs: %q is not the ARN of a topic; give arn:aws:sns:REGION:ACCOUNT:TOPIC, or follow the stack without one", arn)
		}
	}
	if in.RoleARN != "" && !strings.HasPrefix(in.RoleARN, "arn:") {
		return noted, invalid("Role %s is invalid or cannot be assumed", in.RoleARN)
	}
	return noted, nil
}

// into sets what a configuration gives; the rest stays.
func (r *rollbackConfiguration) into(a *pace.Alarms) error {
	if r == nil {
		return nil
	}
	if r.MonitoringTimeInMinutes != nil {
		a.Monitor = time.Duration(*r.MonitoringTimeInMinutes) * time.Minute
	}
	if r.RollbackTriggers == nil {
		return nil
	}
	a.ARNs = nil
	for _, t := range r.RollbackTriggers.Members {
		if t.Type != "AWS::CloudWatch::Alarm" && t.Type != "AWS::CloudWatch::CompositeAlarm" {
			return invalid("Rollback Trigger Type not supported: %s", t.Type)
		}
		a.ARNs = append(a.ARNs, t.Arn)
	}
	return nil
}

// rollbackOf is the way back.
func rollbackOf(a pace.Alarms) *rollbackConfiguration {
	if len(a.ARNs) == 0 && a.Monitor == 0 {
		return nil
	}
	minutes := int(a.Monitor / time.Minute)
	r := &rollbackConfiguration{RollbackTriggers: &list[rollbackTrigger]{}, MonitoringTimeInMinutes: &minutes}
	for _, arn := range a.ARNs {
		r.RollbackTriggers.Members = append(r.RollbackTriggers.Members, rollbackTrigger{arn, "AWS::CloudWatch::Alarm"})
	}
	return r
}

// parametersOf gives the values of parameters. One that keeps its value has the
// one that was given before, or the former template's default.
func parametersOf(given []parameter, former changeset.Change) (map[string]string, error) {
	values := map[string]string{}
	var before *template.Template
	for _, p := range given {
		keeps := p.UsePreviousValue != nil && *p.UsePreviousValue
		switch {
		case p.ParameterKey == "":
			return nil, invalid("a parameter has no ParameterKey")
		case keeps && p.ParameterValue != nil:
			return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true and a value", p.ParameterKey)
		case !keeps && p.ParameterValue == nil:
			return nil, invalid("Parameter '%s' should either have a ParameterValue or UsePreviousValue", p.ParameterKey)
		case !keeps:
			values[p.ParameterKey] = *p.ParameterValue
			continue
		}
		value, known := former.Parameters[p.ParameterKey]
		if before == nil {
			before, _ = template.Parse(former.File, former.Template) // it was judged when it was applied
		}
		if !known && before != nil && before.Parameters[p.ParameterKey] != nil && before.Parameters[p.ParameterKey].Default != nil {
			value, known = *before.Parameters[p.ParameterKey].Default, true
		}
		if !known {
			return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true for a parameter key not in the previous template", p.ParameterKey)
		}
		values[p.ParameterKey] = value
	}
	return values, nil
}

// shownParameters gives the parameters of a change as they are shown: secrets
// are masked.
func shownParameters(c changeset.Change) list[parameter] {
	var shown list[parameter]
	t, _ := template.Parse(c.File, c.Template)
	if t == nil {
		return shown
	}
	for _, p := range parameterList(t) {
		value, given := c.Parameters[p.Name]
		if !given && p.Default != nil {
			value = *p.Default
		}
		if p.NoEcho {
			value = changeset.Masked
		}
		shown.Members = append(shown.Members, parameter{ParameterKey: p.Name, ParameterValue: &value})
	}
	return shown
}

// parameterList gives a template's parameters in the order of the source.
func parameterList(t *template.Template) []*template.Parameter {
	var all []*template.Parameter
	for _, p := range t.Parameters {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *template.Parameter) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Column - b.Pos.Column
	})
	return all
}

func shownTags(tags map[string]string) list[tag] {
	var shown list[tag]
	for key, value := range tags {
		shown.Members = append(shown.Members, tag{key, value})
	}
	slices.SortFunc(shown.Members, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
	return shown
}

// allowedTypes refuses a template with a resource of a type that is not allowed;
// none means all are.
func allowedTypes(t *template.Template, allowed []string) error {
	for _, typ := range resourceTypes(t) {
		fits := func(pattern string) bool {
			ok, err := path.Match(pattern, typ)
			return ok && err == nil
		}
		if len(allowed) > 0 && !slices.ContainsFunc(allowed, fits) {
			return invalid("Resource type %s is not allowed by parameter ResourceTypes [%s]", typ, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// resourceTypes gives the types of a template's resources, each once.
func resourceTypes(t *template.Template) []string {
	var types []string
	for _, r := range t.Resources {
		types = append(types, r.Type)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// What somebody must know of a template who applies it.
const (
	iam        = "CAPABILITY_IAM"
	namedIAM   = "CAPABILITY_NAMED_IAM"
	autoExpand = "CAPABILITY_AUTO_EXPAND"
)

// iamName is the property that names a resource of a type of IAM, by type.
func iamName(typ string) string {
	switch kind := strings.TrimPrefix(typ, "AWS::IAM::"); kind {
	case "Group", "InstanceProfile", "ManagedPolicy", "Role", "User":
		return kind + "Name"
	}
	return ""
}

// iamNeeded gives the capability that a template's resources need, "" for none,
// and the types that need it.
func iamNeeded(t *template.Template) (capability string, types []string) {
	for _, r := range t.Resources {
		if !strings.HasPrefix(r.Type, "AWS::IAM::") {
			continue
		}
		types = append(types, r.Type)
		if name := iamName(r.Type); name != "" && r.Properties.Get(name) != nil {
			capability = namedIAM
		}
	}
	if capability == "" && len(types) > 0 {
		capability = iam
	}
	slices.Sort(types)
	return capability, slices.Compact(types)
}

// capable refuses a change whose author does not say that he knows what the
// template, or one nested in it, may do. direct is that nobody looks at the
// change before it is made.
func capable(t *template.Template, nested map[string]*changeset.Set, given []string, direct bool) error {
	var missing []string
	need, _ := iamNeeded(t)
	if need != "" && !slices.Contains(given, need) && !slices.Contains(given, namedIAM) {
		missing = append(missing, need)
	}
	if direct && len(t.Transforms) > 0 && !slices.Contains(given, autoExpand) {
		missing = append(missing, autoExpand)
	}
	if len(missing) > 0 {
		return &problem{Status: 400, Code: "InsufficientCapabilitiesException", Message: fmt.Sprintf("Requires capabilities : [%s]", strings.Join(missing, ", "))}
	}
	for _, set := range nested {
		inner, mistakes := template.Parse(set.Change.File, set.Change.Template)
		if mistakes.HasErrors() {
			return mistakes
		}
		if err := capable(inner, set.Nested, given, direct); err != nil {
			return err
		}
	}
	return nil
}

// capabilities refuses names of capabilities that there are not.
func capabilities(given []string) error {
	for _, name := range given {
		if err := oneOf(name, "Capabilities", iam, namedIAM, autoExpand); err != nil {
			return err
		}
	}
	return nil
}
