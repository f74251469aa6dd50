package template

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// function is what the reader knows of one.
type function struct {
	// shape brings the argument into the list that the resolver expects, nil
	// if it is not what the function takes.
	shape     func(arg *Value) []*Value
	message   string // the service's words for a wrong shape
	condition bool   // its arguments may be conditions
	name      bool   // with LanguageExtensions functions may give the name that it takes
	extension bool   // it needs LanguageExtensions
	rule      bool   // it stands in Rules only
}

// functions is the table of the language. It is never changed.
var functions = map[string]function{
	"Ref":       {name: true, shape: oneName, message: "Template error: every Ref object must have a single String value."},
	"Condition": {shape: oneName, message: "Template error: every Condition object must have a single String value."},
	"Fn::GetAtt": {name: true, shape: getAttShape,
		message: "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute"},
	"Fn::Sub": {shape: subShape,
		message: "Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as first argument, and an optional second argument to specify a mapping of values to replace in the string"},
	"Fn::Join": {shape: delimiterShape,
		message: "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."},
	"Fn::Split": {shape: splitShape,
		message: "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a function that returns a string to be split."},
	"Fn::Select":      {shape: selectShape, message: selectMessage},
	"Fn::FindInMap":   {shape: listOf(3, 4), message: "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for return value"},
	"Fn::If":          {shape: ifShape, message: "Template error: every Fn::If object requires a list of 3 parameters: the condition name, the value if true and the value if false."},
	"Fn::Equals":      {shape: listOf(2, 2), message: "Template error: every Fn::Equals object requires a list of 2 string parameters."},
	"Fn::And":         {shape: listOf(2, 10), message: "Template error: every Fn::And object requires a list of at least 2 and at most 10 boolean parameters.", condition: true},
	"Fn::Or":          {shape: listOf(2, 10), message: "Template error: every Fn::Or object requires a list of at least 2 and at most 10 boolean parameters.", condition: true},
	"Fn::Not":         {shape: listOf(1, 1), message: "Template error: every Fn::Not object requires a list of 1 boolean parameter.", condition: true},
	"Fn::Base64":      {shape: oneValue, message: "Template error: every Fn::Base64 object must have a String-typed value."},
	"Fn::ImportValue": {shape: oneValue, message: "Template error: the attribute in Fn::ImportValue must be a string or a function that returns a string"},
	"Fn::GetAZs":      {shape: oneValue, message: "Template error: every Fn::GetAZs object must have a String-typed value."},
	"Fn::Cidr":        {shape: listOf(1, 3), message: "Template error: every Fn::Cidr object requires two parameters, (1) an IP address block and (2) a count of subnets, and may have (3) the number of host bits"},

	"Fn::GetStackOutput": {shape: stackOutputShape, message: "Template error: every Fn::GetStackOutput object requires StackName and OutputName, and may have Region and RoleArn"},
	"Fn::Length":         {shape: listValue, extension: true, message: "Template error: every Fn::Length object requires a list or a function that returns a list"},
	"Fn::ToJsonString":   {shape: compoundValue, extension: true, message: "Template error: every Fn::ToJsonString object requires a list or an object"},
	"Fn::Transform":      {shape: compoundValue, message: nameMessage},

	"Fn::Contains":         {shape: listOf(2, 2), rule: true, message: "Template error: every Fn::Contains object requires a list of strings and a string."},
	"Fn::EachMemberEquals": {shape: listOf(2, 2), rule: true, message: "Template error: every Fn::EachMemberEquals object requires a list of strings and a string."},
	"Fn::EachMemberIn":     {shape: listOf(2, 2), rule: true, message: "Template error: every Fn::EachMemberIn object requires two lists of strings."},
	"Fn::RefAll":           {shape: oneName, rule: true, message: "Template error: every Fn::RefAll object requires a parameter type."},
	"Fn::ValueOf":          {shape: listOf(2, 2), rule: true, message: "Template error: every Fn::ValueOf object requires a parameter name and an attribute."},
	"Fn::ValueOfAll":       {shape: listOf(2, 2), rule: true, message: "Template error: every Fn::ValueOfAll object requires a parameter type and an attribute."},
}

const selectMessage = "Template error: Fn::Select requires a list argument with two elements: an integer index and a list"

func functionNames() []string { return slices.Sorted(maps.Keys(functions)) }

func oneName(arg *Value) []*Value {
	if arg.Kind != Text || arg.Text == "" {
		return nil
	}
	return []*Value{arg}
}

func listValue(arg *Value) []*Value {
	if arg.Kind != List && arg.Kind != Call {
		return nil
	}
	return []*Value{arg}
}

func compoundValue(arg *Value) []*Value {
	if arg.Kind == Text {
		return nil
	}
	return []*Value{arg}
}

// stackOutputShape gives the stack's name, the output's, and the region's if
// there is one. RoleArn says who asks the service; nobody is asked here.
func stackOutputShape(arg *Value) []*Value {
	items := []*Value{arg.Get("StackName"), arg.Get("OutputName")}
	if items[0] == nil || items[1] == nil {
		return nil
	}
	for _, e := range arg.Entries {
		switch e.Key {
		case "StackName", "OutputName":
		case "Region":
			items = append(items, e.Value)
		case "RoleArn":
			if e.Value.Kind != Text && e.Value.Kind != Call {
				return nil
			}
		default:
			return nil
		}
	}
	for _, item := range items {
		if item.Kind != Text && item.Kind != Call {
			return nil
		}
	}
	return items
}

func oneValue(arg *Value) []*Value {
	if arg.Kind != Text && arg.Kind != Call {
		return nil
	}
	return []*Value{arg}
}

func listOf(least, most int) func(*Value) []*Value {
	return func(arg *Value) []*Value {
		if arg.Kind != List || len(arg.Items) < least || len(arg.Items) > most {
			return nil
		}
		return arg.Items
	}
}

func getAttShape(arg *Value) []*Value {
	if arg.Kind == Text {
		id, attribute, _ := strings.Cut(arg.Text, ".")
		if id == "" || attribute == "" {
			return nil
		}
		return []*Value{{Kind: Text, Pos: arg.Pos, Text: id}, {Kind: Text, Pos: arg.Pos, Text: attribute}}
	}
	if arg.Kind != List || len(arg.Items) != 2 || arg.Items[0].Kind != Text || arg.Items[0].Text == "" {
		return nil
	}
	if a := arg.Items[1]; a.Kind == Text && a.Text != "" || a.Kind == Call {
		return arg.Items
	}
	return nil
}

func subShape(arg *Value) []*Value {
	if arg.Kind == Text {
		return []*Value{arg}
	}
	if arg.Kind != List || len(arg.Items) != 2 || arg.Items[0].Kind != Text || arg.Items[1].Kind != Map {
		return nil
	}
	return arg.Items
}

func delimiterShape(arg *Value) []*Value {
	if arg.Kind != List || len(arg.Items) != 2 || arg.Items[0].Kind != Text {
		return nil
	}
	if k := arg.Items[1].Kind; k != List && k != Call {
		return nil
	}
	return arg.Items
}

func splitShape(arg *Value) []*Value {
	if arg.Kind != List || len(arg.Items) != 2 || arg.Items[0].Kind != Text || arg.Items[0].Text == "" {
		return nil
	}
	if k := arg.Items[1].Kind; k != Text && k != Call {
		return nil
	}
	return arg.Items
}

func selectShape(arg *Value) []*Value {
	if arg.Kind != List || len(arg.Items) != 2 || arg.Items[0].Kind != Text && arg.Items[0].Kind != Call {
		return nil
	}
	if k := arg.Items[1].Kind; k != List && k != Call {
		return nil
	}
	return arg.Items
}

func ifShape(arg *Value) []*Value {
	if arg.Kind != List || len(arg.Items) != 3 || arg.Items[0].Kind != Text {
		return nil
	}
	return arg.Items
}

// piece is a part of a Fn::Sub's text: literal text, a name of its own map, or
// a reference.
type piece struct {
	literal string
	local   string // a key of the second argument
	ref     *Value // a Ref or Fn::GetAtt
}

var subName = regexp.MustCompile(`^[A-Za-z0-9_.:]+$`)

var placeholder = regexp.MustCompile(`\$\{([^{}]*)\}`)

// sub takes the text of a Fn::Sub apart.
func (r *reader) sub(call *Value) {
	text := call.Items[0]
	var names *Value
	if len(call.Items) == 2 {
		names = call.Items[1]
	}
	rest := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text.Text, -1) {
		call.pieces = append(call.pieces, piece{literal: text.Text[rest:m[0]]})
		rest = m[1]
		name := strings.TrimSpace(text.Text[m[2]:m[3]])
		switch {
		case strings.HasPrefix(name, "!"):
			call.pieces = append(call.pieces, piece{literal: "${" + name[1:] + "}"})
		case name == "" || names.Get(name) == nil && !subName.MatchString(name):
			r.diags.Errorf(text.Pos, "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, underscores, periods, and colons").
				Hint = "found ${" + name + "}; write ${!…} for a literal ${…}"
		case names.Get(name) != nil:
			call.pieces = append(call.pieces, piece{local: name})
		default:
			call.pieces = append(call.pieces, piece{ref: nameReference(text, name)})
		}
	}
	call.pieces = append(call.pieces, piece{literal: text.Text[rest:]})
}

// nameReference reads the name of a placeholder: A.b is an attribute.
func nameReference(text *Value, name string) *Value {
	id, attribute, dotted := strings.Cut(name, ".")
	ref := &Value{Kind: Call, Pos: text.Pos, Func: "Ref", Items: []*Value{{Kind: Text, Pos: text.Pos, Text: name}}}
	if dotted && !strings.Contains(id, "::") {
		ref.Func = "Fn::GetAtt"
		ref.Items = []*Value{{Kind: Text, Pos: text.Pos, Text: id}, {Kind: Text, Pos: text.Pos, Text: attribute}}
	}
	return ref
}
