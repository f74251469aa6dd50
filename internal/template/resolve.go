package template

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/diag"
)

// Scope is what the values of a template depend on besides its text.
type Scope struct {
	Parameters map[string]any    // of Bind
	Pseudo     map[string]string // AWS::Region and so on, without AWS::NoValue
	// NotificationARNs is the pseudo parameter of that name, which is a list.
	NotificationARNs []string
	Conditions       map[string]bool // of Decide
	// Ref gives a resource's physical id, or Unknown.
	Ref func(logicalID string) any
	// GetAtt gives a resource's attribute, or Unknown.
	GetAtt func(logicalID, attribute string) (any, error)
	// Import gives the value of an export, or Unknown.
	Import func(name string) (any, error)
	// StackOutput gives an output of another stack; region is "" for this one.
	// Without it Fn::GetStackOutput is a mistake.
	StackOutput func(stack, output, region string) (string, error)
	// Zones gives a region's availability zones; without it they are a, b and c.
	Zones func(region string) []string
}

// noValue is what AWS::NoValue gives: whatever holds it loses it.
type noValue struct{}

// Resolve gives what v stands for: strings, lists ([]any), maps
// (map[string]any) and Unknown. Scalars are strings. The second answer is
// false if v is AWS::NoValue: it does not exist.
func (t *Template) Resolve(v *Value, s *Scope) (any, bool, diag.List) {
	r := &resolver{t: t, s: s}
	value := r.value(v)
	if _, none := value.(noValue); none {
		return nil, false, r.diags
	}
	return value, true, r.diags
}

// Decide evaluates all conditions. Parameters must be bound without mistakes.
func (t *Template) Decide(parameters map[string]any, pseudo map[string]string) (map[string]bool, diag.List) {
	r := &resolver{t: t, s: &Scope{Parameters: parameters, Pseudo: pseudo, Conditions: map[string]bool{}}}
	for _, name := range slices.Sorted(maps.Keys(t.Conditions)) {
		r.named(name)
	}
	return r.s.Conditions, r.diags
}

// resolver resolves one value; mistakes that only values show are collected.
type resolver struct {
	t       *Template
	s       *Scope
	diags   diag.List
	missing func(name string) any // gives a pseudo parameter that has no value; nil: it is ""
	bytes   int                   // of the texts that were made
}

// maxText is the longest text that a function may make, and maxTexts how much
// all together: far above CloudFormation's, so that texts made of texts cannot
// fill the memory.
const (
	maxText  = 1 << 20
	maxTexts = 64 << 20
)

// made counts a text that a function at v has made and refuses what is too long.
func (r *resolver) made(v *Value, s string) any {
	if r.bytes += len(s); len(s) <= maxText && r.bytes <= maxTexts {
		return s
	}
	if r.bytes < 2*maxTexts { // told once
		r.diags.Errorf(v.Pos, "Template error: %s makes more text than a template can have", v.Func).Allowed = fmt.Sprintf("%d bytes", maxText)
		r.bytes += 2 * maxTexts
	}
	return Unknown{Because: v.Func}
}

// named decides a condition once; the checker has made sure that there is no
// circle.
func (r *resolver) named(name string) bool {
	if decided, ok := r.s.Conditions[name]; ok {
		return decided
	}
	r.s.Conditions[name] = false // a circle ends here; the checker reports it
	decided := r.truth(r.t.Conditions[name])
	r.s.Conditions[name] = decided
	return decided
}

// truth evaluates a condition function.
func (r *resolver) truth(v *Value) bool {
	if v == nil {
		return false
	}
	switch v.Func {
	case "Condition":
		return r.named(v.Items[0].Text)
	case "Fn::Not":
		return !r.truth(v.Items[0])
	case "Fn::And", "Fn::Or":
		result := v.Func == "Fn::And"
		for _, item := range v.Items {
			if r.truth(item) != result {
				return !result
			}
		}
		return result
	case "Fn::Equals":
		return text(r.value(v.Items[0])) == text(r.value(v.Items[1]))
	}
	if functions[v.Func].rule {
		return r.ruleTruth(v)
	}
	r.diags.Errorf(v.Pos, "Template error: a condition function stands here, found %s", found(v)).Allowed = join(conditionFunctions)
	return false
}

func found(v *Value) string {
	if v.Kind == Call {
		return v.Func
	}
	return [...]string{"a text", "a list", "a map"}[v.Kind]
}

func (r *resolver) value(v *Value) any {
	switch v.Kind {
	case Text:
		return v.Text
	case List:
		return r.list(v.Items)
	case Map:
		m := make(map[string]any, len(v.Entries))
		for _, e := range v.Entries {
			value := r.value(e.Value)
			if _, none := value.(noValue); !none {
				m[e.Key] = value
			}
		}
		return m
	}
	return r.call(v)
}

// list resolves items; those that are AWS::NoValue vanish.
func (r *resolver) list(items []*Value) []any {
	list := make([]any, 0, len(items))
	for _, item := range items {
		value := r.value(item)
		if _, none := value.(noValue); !none {
			list = append(list, value)
		}
	}
	return list
}

func (r *resolver) call(v *Value) any {
	switch v.Func {
	case "Ref":
		return r.ref(v)
	case "Fn::GetAtt":
		return r.getAtt(v)
	case "Fn::Sub":
		return r.sub(v)
	case "Fn::Join":
		return r.join(v)
	case "Fn::Split":
		return r.split(v)
	case "Fn::Select":
		return r.choose(v)
	case "Fn::FindInMap":
		return r.findInMap(v)
	case "Fn::If":
		r.named(v.Items[0].Text) // conditions may use one another in Fn::If before all are decided
		return r.value(v.branch(r.s.Conditions))
	case "Fn::Base64":
		return r.onText(v, v.Items[0], func(s string) any { return r.made(v, base64.StdEncoding.EncodeToString([]byte(s))) })
	case "Fn::ImportValue":
		return r.onText(v, v.Items[0], func(name string) any { return r.imported(v, name) })
	case "Fn::GetAZs":
		return r.onText(v, v.Items[0], func(region string) any {
			if region == "" {
				region = r.s.Pseudo["AWS::Region"]
			}
			return r.zones(region)
		})
	case "Fn::GetStackOutput":
		return r.stackOutput(v)
	case "Fn::Length":
		list, unknown := r.listOf(v, v.Items[0])
		if unknown != nil {
			return unknown
		}
		return strconv.Itoa(len(list))
	case "Fn::ToJsonString":
		return r.toJSON(v)
	case "Fn::Transform":
		return Unknown{Because: v.Func} // Bind has refused the template
	case "Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll":
		return r.ruleValue(v)
	case "Fn::Cidr":
		return r.cidr(v)
	}
	return strconv.FormatBool(r.truth(v))
}

func (r *resolver) ref(v *Value) any {
	name := v.Items[0].Text
	if value, ok := r.s.Parameters[name]; ok {
		return value
	}
	switch {
	case name == "AWS::NoValue":
		return noValue{}
	case name == "AWS::NotificationARNs":
		list := make([]any, len(r.s.NotificationARNs))
		for i, arn := range r.s.NotificationARNs {
			list[i] = arn
		}
		return list
	case strings.HasPrefix(name, "AWS::"):
		if value, ok := r.s.Pseudo[name]; ok || r.missing == nil {
			return value
		}
		return r.missing(name)
	}
	if r.s.Ref == nil {
		r.diags.Errorf(v.Pos, "Template error: %s is not known before there are resources", name)
		return Unknown{Because: name}
	}
	return r.s.Ref(name)
}

func (r *resolver) getAtt(v *Value) any {
	return r.onText(v, v.Items[1], func(attribute string) any {
		if r.s.GetAtt == nil {
			r.diags.Errorf(v.Pos, "Template error: Fn::GetAtt cannot stand where there are no resources")
			return Unknown{Because: v.Items[0].Text}
		}
		value, err := r.s.GetAtt(v.Items[0].Text, attribute)
		if err != nil {
			r.diags.Errorf(v.Pos, "%v", err)
			return Unknown{Because: v.Items[0].Text + "." + attribute}
		}
		return scalars(value)
	})
}

// onText resolves arg to a text and goes on with f; Unknown stays Unknown.
func (r *resolver) onText(v, arg *Value, f func(string) any) any {
	switch value := r.value(arg).(type) {
	case string:
		return f(value)
	case Unknown:
		return value
	default:
		r.diags.Errorf(arg.Pos, "Template error: %s takes a text here, found %s", v.Func, describe(value))
		return Unknown{Because: v.Func}
	}
}

func describe(value any) string {
	switch value.(type) {
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	case noValue:
		return "AWS::NoValue"
	}
	return "a text"
}

func (r *resolver) sub(v *Value) any {
	var b strings.Builder
	var unknown any
	locals := map[string]any{}
	for _, p := range v.pieces {
		b.WriteString(p.literal)
		if b.Len() > maxText {
			break
		}
		part := p.ref
		if p.local != "" {
			part = v.Items[1].Get(p.local)
		}
		if part == nil {
			continue
		}
		value, again := locals[p.local]
		if p.local == "" || !again {
			value = r.value(part)
			locals[p.local] = value
		}
		switch value := value.(type) {
		case string:
			b.WriteString(value)
		case Unknown:
			unknown = value
		case []any:
			b.WriteString(text(value))
		default:
			r.diags.Errorf(part.Pos, "Template error: Fn::Sub takes texts, found %s", describe(value))
		}
	}
	if unknown != nil {
		return unknown
	}
	return r.made(v, b.String())
}

func (r *resolver) join(v *Value) any {
	list, unknown := r.listOf(v, v.Items[1])
	if unknown != nil {
		return unknown
	}
	parts := make([]string, 0, len(list))
	for _, item := range list {
		switch item := item.(type) {
		case string:
			parts = append(parts, item)
		case Unknown:
			return item
		default:
			r.diags.Errorf(v.Pos, "%s", functions["Fn::Join"].message)
			return Unknown{Because: v.Func}
		}
	}
	return r.made(v, strings.Join(parts, v.Items[0].Text))
}

// listOf resolves arg to a list; the second answer stands in for it if that
// cannot be.
func (r *resolver) listOf(v, arg *Value) ([]any, any) {
	switch value := r.value(arg).(type) {
	case []any:
		return value, nil
	case Unknown:
		return nil, value
	default:
		r.diags.Errorf(arg.Pos, "%s", functions[v.Func].message)
		return nil, Unknown{Because: v.Func}
	}
}

func (r *resolver) split(v *Value) any {
	return r.onText(v, v.Items[1], func(s string) any {
		parts := []any{}
		for part := range strings.SplitSeq(s, v.Items[0].Text) {
			parts = append(parts, part)
		}
		return parts
	})
}

func (r *resolver) choose(v *Value) any {
	return r.onText(v, v.Items[0], func(index string) any {
		list, unknown := r.listOf(v, v.Items[1])
		if unknown != nil {
			return unknown
		}
		i, err := strconv.Atoi(strings.TrimSpace(index))
		if err != nil || i < 0 || i >= len(list) {
			d := r.diags.Errorf(v.Pos, "%s", selectMessage)
			d.Hint = fmt.Sprintf("the index is %q, the list has %d items", index, len(list))
			return Unknown{Because: v.Func}
		}
		return list[i]
	})
}

func (r *resolver) findInMap(v *Value) any {
	var keys [3]string
	for i := range keys {
		unknown := r.onText(v, v.Items[i], func(s string) any { keys[i] = s; return nil })
		if unknown != nil {
			return unknown
		}
	}
	if value := r.t.Mappings[keys[0]].Get(keys[1]).Get(keys[2]); value != nil {
		return r.value(value)
	}
	if len(v.Items) == 4 {
		if fallback := v.Items[3].Get("DefaultValue"); fallback != nil {
			return r.value(fallback)
		}
	}
	r.diags.Errorf(v.Pos, "Template error: Unable to get mapping for %s::%s::%s", keys[0], keys[1], keys[2])
	return Unknown{Because: v.Func}
}

func (r *resolver) imported(v *Value, name string) any {
	if r.s.Import == nil {
		r.diags.Errorf(v.Pos, "Template error: Fn::ImportValue cannot stand where there are no resources")
		return Unknown{Because: "export " + name}
	}
	value, err := r.s.Import(name)
	if err != nil {
		r.diags.Errorf(v.Pos, "%v", err)
		return Unknown{Because: "export " + name}
	}
	return value
}

// cidr splits a block into count subnets that leave so many host bits.
func (r *resolver) cidr(v *Value) any {
	args := []string{"", "1", "8"}
	for i, item := range v.Items {
		unknown := r.onText(v, item, func(s string) any { args[i] = strings.TrimSpace(s); return nil })
		if unknown != nil {
			return unknown
		}
	}
	block, err := netip.ParsePrefix(args[0])
	count, err2 := strconv.Atoi(args[1])
	bits, err3 := strconv.Atoi(args[2])
	if err != nil || err2 != nil || err3 != nil || count < 1 || count > 256 || bits < 1 || bits > block.Addr().BitLen()-block.Bits() {
		r.diags.Errorf(v.Pos, "%s", functions["Fn::Cidr"].message).Hint = fmt.Sprintf("found block %q, count %q, host bits %q", args[0], args[1], args[2])
		return Unknown{Because: v.Func}
	}
	return subnets(block.Masked(), count, bits)
}

func subnets(block netip.Prefix, count, bits int) any {
	next := new(big.Int).SetBytes(block.Addr().AsSlice())
	step := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	list := []any{}
	for range count {
		raw := next.FillBytes(make([]byte, block.Addr().BitLen()/8))
		addr, _ := netip.AddrFromSlice(raw) // the length is right by construction
		if !block.Contains(addr) {
			break
		}
		list = append(list, netip.PrefixFrom(addr, block.Addr().BitLen()-bits).String())
		if next.Add(next, step); next.BitLen() > block.Addr().BitLen() {
			break
		}
	}
	return list
}

// text gives a resolved value as one text, as Fn::Sub and Fn::Equals see it.
func text(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case []any:
		parts := make([]string, len(value))
		for i, item := range value {
			parts[i] = text(item)
		}
		return strings.Join(parts, ",")
	case noValue:
		return ""
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(raw)
}

// scalars brings a value that a platform gave into the language's form:
// numbers and booleans become strings, lists and maps of any type plain ones.
func scalars(value any) any {
	switch value := value.(type) {
	case Unknown, string:
		return value
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(value)
	case int:
		return strconv.Itoa(value)
	case int64:
		return strconv.FormatInt(value, 10)
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	case []string:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = item
		}
		return list
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = scalars(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(value))
		for key, item := range value {
			m[key] = scalars(item)
		}
		return m
	}
	return fmt.Sprint(value)
}
