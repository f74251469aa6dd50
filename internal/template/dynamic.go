package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/diag"
)

// DynamicReference is a {{resolve:…}} in a resolved text: a value that is
// looked up when it is needed, and never stored.
type DynamicReference struct {
	Text      string // as it is written
	Service   string // ssm, ssm-secure or secretsmanager
	Name      string // of the parameter; of the secret, or its ARN
	Version   string // of the parameter; "" for the newest
	Key       string // of a secret that is a JSON object; "" for the whole
	Stage     string // of the secret's version; "" for AWSCURRENT
	VersionID string // of the secret
}

const maxDynamic = 60 // in a template

var (
	dynamicText = regexp.MustCompile(`\{\{resolve:[^{}]*\}\}`)
	ssmText     = regexp.MustCompile(`^([a-zA-Z0-9_.\-/]+)(?::(\d+))?$`)
	secretARN   = regexp.MustCompile(`^arn:[a-z0-9-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:[^:]+`)
)

// parseDynamic reads one reference; the second answer says what is wrong.
func parseDynamic(written string) (DynamicReference, string) {
	inner := strings.TrimSuffix(strings.TrimPrefix(written, "{{resolve:"), "}}")
	service, rest, _ := strings.Cut(inner, ":")
	d := DynamicReference{Text: written, Service: service}
	switch service {
	case "ssm", "ssm-secure":
		m := ssmText.FindStringSubmatch(rest)
		if m == nil {
			return d, "the form is {{resolve:" + service + ":name:version}}, the version is a number and may be left out"
		}
		d.Name, d.Version = m[1], m[2]
		return d, ""
	case "secretsmanager":
		d.Name = secretARN.FindString(rest)
		if d.Name == "" {
			d.Name, _, _ = strings.Cut(rest, ":")
		}
		parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(rest, d.Name), ":"), ":")
		if d.Name == "" || len(parts) > 4 || parts[0] != "SecretString" && parts[0] != "" {
			return d, "the form is {{resolve:secretsmanager:id:SecretString:key:stage:version}}, what comes after the id may be left out"
		}
		parts = append(parts, "", "", "")
		d.Key, d.Stage, d.VersionID = parts[1], parts[2], parts[3]
		if d.Stage != "" && d.VersionID != "" {
			return d, "give the stage or the version id of a secret, not both"
		}
		return d, ""
	}
	return d, "the services are ssm, ssm-secure and secretsmanager"
}

// ReplaceDynamic gives a copy of a resolved value with every dynamic reference
// replaced by what lookup gives for it.
func ReplaceDynamic(value any, lookup func(DynamicReference) (string, error)) (any, error) {
	var failed error
	replaced := Rewrite(value, func(leaf any) any {
		text, ok := leaf.(string)
		if !ok || failed != nil {
			return leaf
		}
		text, failed = replaceText(text, lookup)
		return text
	})
	return replaced, failed
}

// DynamicPaths gives where in a resolved value dynamic references stand, as
// paths with "/" between their parts, in order.
func DynamicPaths(value any) []string {
	var paths []string
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			paths = append(paths, below(strconv.Itoa(i), item)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			paths = append(paths, below(key, value[key])...)
		}
	}
	return paths
}

func below(part string, value any) []string {
	if text, ok := value.(string); ok && strings.Contains(text, "{{resolve:") {
		return []string{part}
	}
	paths := DynamicPaths(value)
	for i := range paths {
		paths[i] = part + "/" + paths[i]
	}
	return paths
}

func replaceText(s string, lookup func(DynamicReference) (string, error)) (string, error) {
	if !strings.Contains(s, "{{resolve:") {
		return s, nil
	}
	var failed error
	s = dynamicText.ReplaceAllStringFunc(s, func(written string) string {
		d, wrong := parseDynamic(written)
		if wrong != "" && failed == nil {
			failed = fmt.Errorf("dynamic reference %s: %s", written, wrong)
		}
		if failed != nil {
			return written
		}
		found, err := lookup(d)
		if err != nil {
			failed = fmt.Errorf("dynamic reference %s: %w", written, err)
		}
		return found
	})
	return s, failed
}

// dynamic judges the dynamic references of a resource's properties.
func (c *checker) dynamic(r *Resource) {
	c.texts(r.Properties, func(v *Value) {
		for _, written := range dynamicText.FindAllString(v.Text, -1) {
			if strings.Contains(written, "${") {
				continue
			}
			if c.references++; c.references == maxDynamic+1 {
				c.diags.Errorf(v.Pos, "Template error: more than %d dynamic references", maxDynamic)
			}
			d, wrong := parseDynamic(written)
			if wrong != "" {
				c.diags.Errorf(v.Pos, "Template error: dynamic reference %s cannot be read", written).Hint = wrong
			}
			c.secure(r, d, v.Pos)
		}
	})
}

// secureTypes take {{resolve:ssm-secure:…}} in some property.
var secureTypes = []string{"AWS::DirectoryService::MicrosoftAD", "AWS::DirectoryService::SimpleAD", "AWS::ElastiCache::ReplicationGroup",
	"AWS::IAM::User", "AWS::KinesisFirehose::DeliveryStream", "AWS::OpsWorks::App", "AWS::OpsWorks::Stack", "AWS::RDS::DBCluster",
	"AWS::RDS::DBInstance", "AWS::Redshift::Cluster"}

func (c *checker) secure(r *Resource, d DynamicReference, pos diag.Pos) {
	if d.Service == "ssm-secure" && !slices.Contains(secureTypes, r.Type) {
		c.diags.Errorf(pos, "SSM Secure reference is not supported in: [%s/Properties]", r.Type).Hint = "use secretsmanager"
	}
}

// texts calls visit for every text that is written in v.
func (c *checker) texts(v *Value, visit func(*Value)) {
	if v == nil {
		return
	}
	if v.Kind == Text {
		visit(v)
	}
	for _, item := range v.Items {
		c.texts(item, visit)
	}
	for _, e := range v.Entries {
		c.texts(e.Value, visit)
	}
}
