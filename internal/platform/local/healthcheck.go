package local

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"makeitso/internal/dns"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

// healthCheck makes AWS::Route53::HealthCheck: the DNS server looks at what it
// names, and answers by what it sees.
type healthCheck struct{ p *Platform }

// What holds where a health check says nothing.
const (
	checkInterval  = 30
	checkThreshold = 3
	mostThreshold  = 10
)

func (h healthCheck) Check(_ context.Context, r *machine.Resource) error {
	if model.Unknown(r.Properties["HealthCheckConfig"]) {
		return nil
	}
	config, isObject := r.Properties["HealthCheckConfig"].(map[string]any)
	if !isObject {
		return r.Invalid("HealthCheckConfig", "is not an object")
	}
	const at = "HealthCheckConfig."
	typ := machine.TextIn(config, "Type")
	if model.Unknown(typ) {
		return nil
	}
	if !slices.Contains(dns.CheckTypes(), typ) {
		return r.Invalid(at+"Type", "%q is none of %s", typ, strings.Join(dns.CheckTypes(), " "))
	}
	children, _ := config["ChildHealthChecks"].([]any)
	if typ == "CALCULATED" && len(children) == 0 && !model.Unknown(config["ChildHealthChecks"]) {
		return r.Invalid(at+"ChildHealthChecks", "is required with Type CALCULATED")
	}
	if v, given := config["RequestInterval"]; given && !model.Unknown(v) && fmt.Sprint(v) != "10" && fmt.Sprint(v) != "30" {
		return r.Invalid(at+"RequestInterval", "%v is neither 10 nor 30", v)
	}
	if v, given := config["FailureThreshold"]; given && !model.Unknown(v) {
		if n, isNumber := machine.Number(v); !isNumber || n < 1 || n > mostThreshold {
			return r.Invalid(at+"FailureThreshold", "%v is no number from 1 to %d", v, mostThreshold)
		}
	}
	if !(dns.Check{Type: typ}).Looks() {
		return nil
	}
	return checkEndpoint(r, at, config)
}

// checkEndpoint judges what a check looks at.
func checkEndpoint(r *machine.Resource, at string, config map[string]any) error {
	typ, address := machine.TextIn(config, "Type"), machine.TextIn(config, "IPAddress")
	_, port := config["Port"]
	switch {
	case address == "" && machine.TextIn(config, "FullyQualifiedDomainName") == "":
		return r.Invalid(at+"IPAddress", "or FullyQualifiedDomainName must be given")
	case typ == "TCP" && !port:
		return r.Invalid(at+"Port", "is required with Type TCP")
	case strings.HasSuffix(typ, "_STR_MATCH") && machine.TextIn(config, "SearchString") == "":
		return r.Invalid(at+"SearchString", "is required with Type %s", typ)
	}
	if n, isNumber := machine.Number(config["Port"]); port && !model.Unknown(config["Port"]) && (!isNumber || n < 1 || n > 65535) {
		return r.Invalid(at+"Port", "%v is no number from 1 to 65535", config["Port"])
	}
	if _, err := netip.ParseAddr(address); address != "" && !model.Unknown(address) && err != nil {
		return r.Invalid(at+"IPAddress", "%q is no address such as 127.0.0.1", address)
	}
	return nil
}

func (h healthCheck) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.Check(ctx, r); err != nil { // all values are known now
		return err
	}
	config, _ := r.Properties["HealthCheckConfig"].(map[string]any)
	id := model.Digits(r.Token, "uuid", 32)
	r.PhysicalID = id[:8] + "-" + id[8:12] + "-4" + id[13:16] + "-8" + id[17:20] + "-" + id[20:]
	r.Attributes = map[string]any{"HealthCheckId": r.PhysicalID}
	k := dns.Check{
		Owner: r.Token, ID: r.PhysicalID, Type: machine.TextIn(config, "Type"),
		Address: machine.TextIn(config, "IPAddress"), Host: machine.TextIn(config, "FullyQualifiedDomainName"),
		Path: machine.TextIn(config, "ResourcePath"), Search: machine.TextIn(config, "SearchString"),
		Port: 80, Interval: checkInterval * time.Second, Threshold: checkThreshold,
		Inverted: isTrue(config, "Inverted"), Disabled: isTrue(config, "Disabled"),
		Unhealthy: machine.TextIn(config, "InsufficientDataHealthStatus") == "Unhealthy",
	}
	if strings.HasPrefix(k.Type, "HTTPS") {
		k.Port, k.SNI = 443, true
	}
	if _, given := config["EnableSNI"]; given {
		k.SNI = isTrue(config, "EnableSNI")
	}
	if port, given := machine.Number(config["Port"]); given {
		k.Port = port
	}
	if seconds, given := machine.Number(config["RequestInterval"]); given {
		k.Interval = time.Duration(seconds) * time.Second
	}
	if threshold, given := machine.Number(config["FailureThreshold"]); given {
		k.Threshold = threshold
	}
	children, _ := config["ChildHealthChecks"].([]any)
	for _, child := range children {
		k.Children = append(k.Children, fmt.Sprint(child))
	}
	k.Need = len(children)
	if threshold, given := machine.Number(config["HealthThreshold"]); given {
		k.Need = threshold
	}
	if err := h.p.changeZones(ctx, func(c *dns.Config) error { c.PutCheck(k); return nil }); err != nil {
		return err
	}
	if !k.Looks() && k.Type != "CALCULATED" {
		h.p.o.Announce(fmt.Sprintf("%s: nothing evaluates a health check of type %s on this machine; it is taken for healthy, or for what InsufficientDataHealthStatus says", r.Name(), k.Type))
	}
	return nil
}

// healthOf says how a health check stands.
func (p *Platform) healthOf(ctx context.Context, r *machine.Resource) string {
	c, err := p.zonesConfig()
	if err == nil {
		var state string
		if state, err = dns.State(ctx, c.Port, r.PhysicalID); err == nil {
			return state
		}
	}
	return "its state is not known: " + err.Error()
}

func (h healthCheck) Read(context.Context, *machine.Resource) error { return h.p.dnsAlive() }

func (h healthCheck) Remove(ctx context.Context, r *machine.Resource) error {
	return h.p.dropRecords(ctx, r)
}

// Tell says whether the DNS server has the health check.
func (h healthCheck) Tell(_ context.Context, r *machine.Resource) (map[string]any, error) {
	c, err := h.p.zonesConfig()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.Checks, func(k dns.Check) bool { return k.ID == r.PhysicalID }) {
		return nil, fault.New(fault.NotFound, "the DNS server has no health check %s", r.PhysicalID)
	}
	return r.Properties, nil
}
