package model

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Exists gives what exists of a type in the environment.
type Exists func(typ string) ([]Resource, error)

// Check judges the values of r that are known; what the registry says of its
// properties is judged elsewhere. It gives the first mistake.
func (t Type) Check(r Resource, exists Exists) error {
	for _, c := range t.checks {
		if err := c(item{r: &r, values: r.Properties}, exists); err != nil {
			return err
		}
	}
	return nil
}

// Is says whether other is this very resource. When planning there is no token
// yet: one that exists is known by its physical id, and a new one is no other,
// not even what a former one of its name has left behind.
func (r *Resource) Is(other *Resource) bool {
	if r.Token == "" {
		return r.PhysicalID != "" && r.PhysicalID == other.PhysicalID
	}
	return r.Token == other.Token
}

// item is what a check looks at: the properties of a resource, or one of a
// list of objects in them.
type item struct {
	r      *Resource
	at     string // before the names of its properties
	values map[string]any
}

// check judges one thing. It lets through what is absent or not known yet.
type check func(i item, exists Exists) error

func (i item) invalid(name, format string, args ...any) error {
	return i.r.Invalid(i.at+name, format, args...)
}

// text gives a value that is known and a text.
func (i item) text(name string) (string, bool) {
	text, isText := i.values[name].(string)
	return text, isText && !Unknown(text)
}

// given gives those of some properties that are given.
func (i item) given(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return i.values[name] == nil })
}

func all(checks ...check) check {
	return func(i item, exists Exists) error {
		for _, c := range checks {
			if err := c(i, exists); err != nil {
				return err
			}
		}
		return nil
	}
}

// number wants a whole number.
func number(name string, least, most int) check {
	return func(i item, _ Exists) error {
		text, known := i.text(name)
		if n, err := strconv.Atoi(text); known && (err != nil || n < least || n > most) {
			return i.invalid(name, "is %s; allowed are %d to %d", text, least, most)
		}
		return nil
	}
}

// rising wants numbers none of which is below the one before it.
func rising(names ...string) check {
	return func(i item, _ Exists) error {
		before, last := "", 0
		for _, name := range names {
			text, known := i.text(name)
			if !known {
				continue
			}
			n, err := strconv.Atoi(text)
			if err != nil {
				return i.invalid(name, "is %q, which is no whole number", text)
			}
			if before != "" && n < last {
				return i.invalid(name, "is %d, which is less than %s, %d", n, before, last)
			}
			before, last = name, n
		}
		return nil
	}
}

// words wants one of some words.
func words(name string, allowed ...string) check {
	return func(i item, _ Exists) error {
		if text, known := i.text(name); known && !slices.Contains(allowed, text) {
			return i.invalid(name, "is %q; allowed are %s", text, strings.Join(allowed, ", "))
		}
		return nil
	}
}

// name wants up to so many letters, digits, "-" and "_".
func name(property string, limit int) check {
	return func(i item, _ Exists) error {
		text, known := i.text(property)
		foreign := strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
		if known && (foreign != "" || text == "" || len(text) > limit) {
			return i.invalid(property, "%q is not 1 to %d letters, digits, '-' and '_'", text, limit)
		}
		return nil
	}
}

// begins wants a text that begins with another.
func begins(name, prefix string) check {
	return func(i item, _ Exists) error {
		if text, known := i.text(name); known && !strings.HasPrefix(text, prefix) {
			return i.invalid(name, "%q does not begin with %s", text, prefix)
		}
		return nil
	}
}

// path judges the Path of what IAM has.
func path(i item, _ Exists) error {
	if text, known := i.text("Path"); known && (!strings.HasPrefix(text, "/") || !strings.HasSuffix(text, "/")) {
		return i.invalid("Path", "%q does not begin and end with /", text)
	}
	return nil
}

// schedule judges when a rule is to act.
func schedule(i item, _ Exists) error {
	text, known := i.text("ScheduleExpression")
	if known && (!strings.HasPrefix(text, "rate(") && !strings.HasPrefix(text, "cron(") || !strings.HasSuffix(text, ")")) {
		return i.invalid("ScheduleExpression", "%q is neither rate(…) nor cron(…)", text)
	}
	return nil
}

// fifo wants the ending .fifo for names of first-in-first-out kinds, and of no
// others.
func fifo(name, flag string) check {
	return func(i item, _ Exists) error {
		text, known := i.text(name)
		is, decided := i.text(flag)
		if !known || !decided && i.values[flag] != nil || strings.HasSuffix(text, ".fifo") == (is == "true") {
			return nil
		}
		if is == "true" {
			return i.invalid(name, "%q does not end with .fifo, although %s is true", text, flag)
		}
		return i.invalid(name, "%q ends with .fifo, although %s is not true", text, flag)
	}
}

// needs wants properties of an object in a list; what the type itself needs,
// the registry says.
func needs(names ...string) check {
	return func(i item, _ Exists) error {
		for _, name := range names {
			if i.values[name] == nil {
				return i.invalid(name, "is required and missing")
			}
		}
		return nil
	}
}

// anyOf wants at least one of some properties, oneOf exactly one.
func anyOf(names ...string) check {
	return func(i item, _ Exists) error {
		if len(i.given(names)) == 0 {
			return i.invalid(strings.Join(names, " or "), "is required and missing")
		}
		return nil
	}
}

func oneOf(names ...string) check { return all(anyOf(names...), notBoth(names...)) }

// notBoth wants at most one of some properties.
func notBoth(names ...string) check {
	return func(i item, _ Exists) error {
		if given := i.given(names); len(given) > 1 {
			return i.invalid(strings.Join(given, " and "), "cannot be given together")
		}
		return nil
	}
}

// object wants an object.
func object(name string) check {
	return func(i item, _ Exists) error {
		v := i.values[name]
		if _, isObject := v.(map[string]any); v != nil && !isObject && !Unknown(v) {
			return i.invalid(name, "is not an object")
		}
		return nil
	}
}

// jsonText wants an object, or one that is written in a text.
func jsonText(name string) check {
	return func(i item, _ Exists) error {
		text, known := i.text(name)
		if known && json.Unmarshal([]byte(text), &map[string]any{}) != nil {
			return i.invalid(name, "is not a JSON object")
		}
		return nil
	}
}

// each judges the objects of a list.
func each(name string, c check) check {
	return func(i item, exists Exists) error {
		v := i.values[name]
		if v == nil || Unknown(v) {
			return nil
		}
		list, isList := v.([]any)
		if !isList {
			return i.invalid(name, "is not a list")
		}
		for n, one := range list {
			values, isObject := one.(map[string]any)
			at := fmt.Sprintf("%s%s[%d]", i.at, name, n)
			if !isObject && !Unknown(one) {
				return i.r.Invalid(at, "is not an object")
			}
			if isObject {
				if err := c(item{r: i.r, at: at + ".", values: values}, exists); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// atMost wants a list that is no longer.
func atMost(name string, n int) check {
	return func(i item, _ Exists) error {
		if list, isList := i.values[name].([]any); isList && len(list) > n {
			return i.invalid(name, "has %d items; allowed are %d", len(list), n)
		}
		return nil
	}
}

// document wants a policy: an object, or one that is written in a text, with
// statements that each allow or deny something.
func document(name string) check {
	return func(i item, exists Exists) error {
		v := i.values[name]
		if v == nil || Unknown(v) {
			return nil
		}
		policy, isObject := v.(map[string]any)
		if text, isText := v.(string); isText {
			isObject = json.Unmarshal([]byte(text), &policy) == nil
		}
		if !isObject || policy["Statement"] == nil {
			return i.invalid(name, "is not an object with a Statement")
		}
		if one, isOne := policy["Statement"].(map[string]any); isOne {
			policy = map[string]any{"Statement": []any{one}}
		}
		return each("Statement", statement)(item{r: i.r, at: i.at + name + ".", values: policy}, exists)
	}
}

// statement judges one statement of a policy.
func statement(i item, exists Exists) error {
	return all(needs("Effect"), words("Effect", "Allow", "Deny"), oneOf("Action", "NotAction"), notBoth("Resource", "NotResource"))(i, exists)
}

// inline judges a policy that is written in what it belongs to.
func inline(i item, exists Exists) error {
	return all(needs("PolicyName", "PolicyDocument"), document("PolicyDocument"))(i, exists)
}

// action judges what a listener does.
func action(i item, exists Exists) error {
	return all(needs("Type"), words("Type", "forward", "fixed-response", "redirect", "authenticate-cognito", "authenticate-oidc", "jwt-validation"))(i, exists)
}

// rule judges a rule of a security group.
func rule(i item, exists Exists) error {
	least, most := -1, 255 // types and codes of ICMP
	switch protocol, known := i.text("IpProtocol"); {
	case !known || protocol == "-1":
		return network4("CidrIp", 0, 32)(i, exists)
	case slices.Contains([]string{"tcp", "udp", "6", "17"}, protocol):
		least, most = 0, 65535
	case !slices.Contains([]string{"icmp", "icmpv6", "1", "58"}, protocol):
		if n, err := strconv.Atoi(protocol); err != nil || n < 0 || n > 255 {
			return i.invalid("IpProtocol", "is %q; allowed are tcp, udp, icmp, icmpv6, -1 and the numbers of protocols", protocol)
		}
	}
	checks := []check{network4("CidrIp", 0, 32), number("FromPort", least, most), number("ToPort", least, most)}
	if least == 0 {
		checks = append(checks, rising("FromPort", "ToPort"))
	}
	return all(checks...)(i, exists)
}

// network4 wants an IPv4 network whose prefix has a length.
func network4(name string, least, most int) check {
	return func(i item, _ Exists) error {
		text, known := i.text(name)
		if !known {
			return nil
		}
		network, err := netip.ParsePrefix(text)
		if err != nil || !network.Addr().Is4() {
			return i.invalid(name, "%q is not a network such as 10.0.0.0/16", text)
		}
		if network.Bits() < least || network.Bits() > most {
			return i.invalid(name, "%q has a prefix of %d bits; allowed are %d to %d", text, network.Bits(), least, most)
		}
		return nil
	}
}

// within wants a network inside that of the resource of a type that a property
// names, and apart from others of the same.
func within(name, typ, ref string) check {
	return func(i item, exists Exists) error {
		text, known := i.text(name)
		whole, decided := i.text(ref)
		if !known || !decided {
			return nil
		}
		network, _ := netip.ParsePrefix(text) // judged before
		holders, err := exists(typ)
		if err != nil {
			return err
		}
		for _, holder := range holders {
			around, err := netip.ParsePrefix(holder.Text(name))
			if holder.PhysicalID == whole && err == nil && (!around.Contains(network.Addr()) || network.Bits() < around.Bits()) {
				return i.invalid(name, "%q lies outside of %s, the network of %s", text, around, whole)
			}
		}
		others, err := exists(i.r.Type)
		if err != nil {
			return err
		}
		for _, other := range others {
			taken, err := netip.ParsePrefix(other.Text(name))
			if other.Text(ref) == whole && !i.r.Is(&other) && err == nil && taken.Overlaps(network) {
				return i.invalid(name, "%q overlaps with %s of %s", text, taken, other.Name())
			}
		}
		return nil
	}
}

// keySchema wants the keys of a table among its attributes.
func keySchema(i item, exists Exists) error {
	var defined []string
	definitions, isList := i.values["AttributeDefinitions"].([]any)
	for _, d := range definitions {
		definition, _ := d.(map[string]any)
		name, _ := definition["AttributeName"].(string)
		defined = append(defined, name)
		isList = isList && !Unknown(d) && !Unknown(name)
	}
	return each("KeySchema", all(needs("AttributeName", "KeyType"), words("KeyType", "HASH", "RANGE"), func(key item, _ Exists) error {
		if name, known := key.text("AttributeName"); isList && known && !slices.Contains(defined, name) {
			return key.invalid("AttributeName", "%q is none of the AttributeDefinitions: %s", name, strings.Join(defined, ", "))
		}
		return nil
	}))(i, exists)
}
