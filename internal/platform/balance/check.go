package balance

import (
	"fmt"
	"net/netip"
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
)

// Judge says what of r cannot be served on this machine, in a plan already.
func Judge(r model.Resource) error {
	switch r.Type {
	case TargetGroupType:
		return judgeGroup(r)
	case LoadBalancerType:
		if r.Text("Type") == "gateway" {
			return unsupported(r, "Type gateway", "use application or network")
		}
	case ListenerType:
		if err := judgeCertificates(r); err != nil {
			return err
		}
		return judgeActions(r, "DefaultActions")
	case RuleType:
		if err := judgeActions(r, "Actions"); err != nil {
			return err
		}
		return judgeConditions(r)
	}
	return nil
}

// Notes gives what of r has another meaning on this machine, for its plan.
func Notes(r model.Resource) []string {
	if r.Type != ListenerType || !Encrypted(r) {
		return nil
	}
	return []string{fmt.Sprintf("Certificates are only modelled: with Protocol %s the edge presents certificates of this project's own authority, which makeitso trust lets this machine trust", r.Text("Protocol"))}
}

// judgeCertificates wants the one certificate that a listener presents.
func judgeCertificates(r model.Resource) error {
	given := r.Properties["Certificates"]
	certificates, isList := given.([]any)
	switch {
	case !Encrypted(r) || given != nil && !isList: // or not known yet
		return nil
	case len(certificates) == 0:
		return r.Invalid("Certificates", "is missing: a listener with Protocol %s has exactly one, such as [{CertificateArn: …}]", r.Text("Protocol"))
	case len(certificates) > 1:
		return r.Invalid("Certificates", "has %d; a listener has exactly one, and more by AWS::ElasticLoadBalancingV2::ListenerCertificate", len(certificates))
	}
	return nil
}

func unsupported(r model.Resource, what, instead string) error {
	return fault.New(fault.Unsupported, "%s (%s): %s is not served on this machine", r.Name(), r.Type, what).WithHint("%s", instead)
}

// spoken are the protocols of target groups; whatever they carry, it must be HTTP.
var spoken = []string{"", "HTTP", "HTTPS", "TCP", "TLS"}

func judgeGroup(r model.Resource) error {
	if kind := r.Text("TargetType"); kind == "lambda" || kind == "alb" {
		return unsupported(r, "TargetType "+kind, "use instance or ip")
	}
	if protocol := r.Text("Protocol"); !model.Unknown(protocol) && !slices.Contains(spoken, protocol) {
		return unsupported(r, "Protocol "+protocol, "what goes through the edge is HTTP: use HTTP, HTTPS or TCP")
	}
	targets, _ := r.Properties["Targets"].([]any)
	for _, t := range targets {
		t, _ := t.(map[string]any)
		id := text(t, "Id")
		ip, err := netip.ParseAddr(id)
		if model.Unknown(id) || err != nil && r.Text("TargetType") != "ip" {
			continue // an instance
		}
		if err != nil || !ip.IsLoopback() {
			return r.Invalid("Targets", "has the target %q; allowed are addresses of this machine such as 127.0.0.1", id)
		}
	}
	return nil
}

func judgeActions(r model.Resource, property string) error {
	actions, _ := r.Properties[property].([]any)
	for _, a := range actions {
		a, _ := a.(map[string]any)
		if kind := text(a, "Type"); !model.Unknown(kind) && !slices.Contains([]string{"forward", "redirect", "fixed-response"}, kind) {
			return unsupported(r, "the action "+kind, "use forward, redirect or fixed-response")
		}
	}
	return nil
}

func judgeConditions(r model.Resource) error {
	for _, c := range conditions(r.Properties["Conditions"]) {
		if _, known := configs[c.Field]; !known && !model.Unknown(c.Field) {
			return r.Invalid("Conditions", "has the field %q; allowed are host-header, path-pattern, http-header, http-request-method, query-string, source-ip", c.Field)
		}
		for _, v := range c.Values {
			if _, err := netip.ParsePrefix(v); err != nil && c.Field == "source-ip" && !model.Unknown(v) {
				return r.Invalid("Conditions", "has the source %q, which is no network such as 10.0.0.0/8", v)
			}
		}
	}
	return nil
}
