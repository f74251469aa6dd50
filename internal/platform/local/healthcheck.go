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

func (h healthCheck) check(_ context.Context, r *resource) error {
	if unknown(r.Properties["HealthCheckConfig"]) {
		return nil
	}
	config, isObject := r.Properties["HealthCheckConfig"].(map[string]any)
	if !isObject {
		return r.invalid("HealthCheckConfig", "is not an object")
	}
	const at = "HealthCheckConfig."
	typ := textIn(config, "Type")
	if unknown(typ) {
		return nil
	}
	if !slices.Contains(dns.CheckTypes(), typ) {
		return r.invalid(at+"Type", "%q is none of %s", typ, strings.Join(dns.CheckTypes(), " "))
	}
	children, _ := config["ChildHealthChecks"].([]any)
	if typ == "CALCULATED" && len(children) == 0 && !unknown(config["ChildHealthChecks"]) {
		return r.invalid(at+"ChildHealthChecks", "is required with Type CALCULATED")
	}
	if v, given := config["RequestInterval"]; given && !unknown(v) && fmt.Sprint(v) != "10" && fmt.Sprint(v) != "30" {
		return r.invalid(at+"RequestInterval", "%v is neither 10 nor 30", v)
	}
	if v, given := config["FailureThreshold"]; given && !unknown(v) {
		if n, isNumber := number(v); !isNumber || n < 1 || n > mostThreshold {
			return r.invalid(at+"FailureThreshold", "%v is no number from 1 to %d", v, mostThreshold)
		}
	}
	if !(dns.Check{Type: typ}).Looks() {
		return nil
	}
	return checkEndpoint(r, at, config)
}

// checkEndpoint judges what a check looks at.
func checkEndpoint(r *resource, at string, config map[string]any) error {
	typ, address := textIn(config, "Type"), textIn(config, "IPAddress")
	_, port := config["Port"]
	switch {
	case address == "" && textIn(config, "FullyQualifiedDomainName") == "":
		return r.invalid(at+"IPAddress", "or FullyQualifiedDomainName must be given")
	case typ == "TCP" && !port:
		return r.invalid(at+"Port", "is required with Type TCP")
	case strings.HasSuffix(typ, "_STR_MATCH") && textIn(config, "SearchString") == "":
		return r.invalid(at+"SearchString", "is required with Type %s", typ)
	}
	if n, isNumber := number(config["Port"]); port && !unknown(config["Port"]) && (!isNumber || n < 1 || n > 65535) {
		return r.invalid(at+"Port", "%v is no number from 1 to 65535", config["Port"])
	}
	if _, err := netip.ParseAddr(address); address != "" && !unknown(address) && err != nil {
		return r.invalid(at+"IPAddress", "%q is no address such as 127.0.0.1", address)
	}
	return nil
}

func (h healthCheck) make(ctx context.Context, r *resource) error {
	if err := h.check(ctx, r); err != nil { // all values are known now
		return err
	}
	config, _ := r.Properties["HealthCheckConfig"].(map[string]any)
	id := digits(r.Token, "uuid", 32)
	r.PhysicalID = id[:8] + "-" + id[8:12] + "-4" + id[13:16] + "-8" + id[17:20] + "-" + id[20:]
	r.Attributes = map[string]any{"HealthCheckId": r.PhysicalID}
	k := dns.Check{
		Owner: r.Token, ID: r.PhysicalID, Type: textIn(config, "Type"),
		Address: textIn(config, "IPAddress"), Host: textIn(config, "FullyQualifiedDomainName"),
		Path: textIn(config, "ResourcePath"), Search: textIn(config, "SearchString"),
		Port: 80, Interval: checkInterval * time.Second, Threshold: checkThreshold,
		Inverted: isTrue(config, "Inverted"), Disabled: isTrue(config, "Disabled"),
		Unhealthy: textIn(config, "InsufficientDataHealthStatus") == "Unhealthy",
	}
	if strings.HasPrefix(k.Type, "HTTPS") {
		k.Port, k.SNI = 443, true
	}
	if _, given := config["EnableSNI"]; given {
		k.SNI = isTrue(config, "EnableSNI")
	}
	if port, given := number(config["Port"]); given {
		k.Port = port
	}
	if seconds, given := number(config["RequestInterval"]); given {
		k.Interval = time.Duration(seconds) * time.Second
	}
	if threshold, given := number(config["FailureThreshold"]); given {
		k.Threshold = threshold
	}
	children, _ := config["ChildHealthChecks"].([]any)
	for _, child := range children {
		k.Children = append(k.Children, fmt.Sprint(child))
	}
	k.Need = len(children)
	if threshold, given := number(config["HealthThreshold"]); given {
		k.Need = threshold
	}
	if err := h.p.changeZones(ctx, func(c *dns.Config) error { c.PutCheck(k); return nil }); err != nil {
		return err
	}
	if !k.Looks() && k.Type != "CALCULATED" {
		h.p.o.Announce(fmt.Sprintf("%s: nothing evaluates a health check of type %s on this machine; it is taken for healthy, or for what InsufficientDataHealthStatus says", r.name(), k.Type))
	}
	return nil
}

// healthOf says how a health check stands.
func (p *Platform) healthOf(ctx context.Context, r *resource) string {
	c, err := p.zonesConfig()
	if err == nil {
		var state string
		if state, err = dns.State(ctx, c.Port, r.PhysicalID); err == nil {
			return state
		}
	}
	return "its state is not known: " + err.Error()
}

func (h healthCheck) read(context.Context, *resource) error { return h.p.dnsAlive() }

func (h healthCheck) remove(ctx context.Context, r *resource) error { return h.p.dropRecords(ctx, r) }

// tell says whether the DNS server has the health check.
func (h healthCheck) tell(_ context.Context, r *resource) (map[string]any, error) {
	c, err := h.p.zonesConfig()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.Checks, func(k dns.Check) bool { return k.ID == r.PhysicalID }) {
		return nil, fault.New(fault.NotFound, "the DNS server has no health check %s", r.PhysicalID)
	}
	return r.Properties, nil
}
