// Package balance turns resources of ElasticLoadBalancingV2 into what the edge
// serves: target groups into services, listeners and their rules into
// balancers. It only computes; it must not know where resources are kept, nor
// how their targets run.
package balance

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/platform/model"
)

// The types of resources that this package reads.
const (
	LoadBalancerType = "AWS::ElasticLoadBalancingV2::LoadBalancer"
	TargetGroupType  = "AWS::ElasticLoadBalancingV2::TargetGroup"
	ListenerType     = "AWS::ElasticLoadBalancingV2::Listener"
	RuleType         = "AWS::ElasticLoadBalancingV2::ListenerRule"
)

// Types are all of them.
var Types = []string{LoadBalancerType, TargetGroupType, ListenerType, RuleType}

// Parts is everything of an environment that decides where requests go.
type Parts struct {
	Environment string
	Resources   map[string][]model.Resource // by type
	// Targets gives the instances registered with a target group, by its ARN,
	// besides those that its properties name.
	Targets map[string][]edge.Instance
	// Hosts gives all host names that lead to a DNSName, itself too.
	Hosts func(dnsName string) []string
}

// Edge gives what the edge is to serve, by name.
func (p Parts) Edge() (services []edge.Service, balancers []edge.Balancer) {
	names := map[string]string{} // of services, by the ARN of their target group
	for _, r := range p.Resources[TargetGroupType] {
		s := p.service(r)
		names[r.PhysicalID] = s.Name
		services = append(services, s)
	}
	taken := map[bool]map[string]bool{false: {}, true: {}} // host names, of HTTP and of HTTPS
	for _, b := range p.Resources[LoadBalancerType] {
		balancers = append(balancers, p.balancers(b, names, taken)...)
	}
	slices.SortFunc(services, func(a, b edge.Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(balancers, func(a, b edge.Balancer) int { return cmp.Compare(a.Name, b.Name) })
	return services, balancers
}

// balancers gives those of a load balancer's listeners. The first for HTTP and the
// first for HTTPS answer at its names. All but the very first have a name of their
// own too: the edge's own ports, of which it has one of each kind, tell by names.
func (p Parts) balancers(b model.Resource, services map[string]string, taken map[bool]map[string]bool) (all []edge.Balancer) {
	own, _ := b.Attributes["DNSName"].(string)
	for i, l := range p.listeners(b) {
		next := edge.Balancer{Name: p.balancer(b, l), Port: number(l.Properties, "Port", 0), TLS: Encrypted(l), Rules: p.rules(l, services)}
		if !slices.ContainsFunc(all, func(b edge.Balancer) bool { return b.TLS == next.TLS }) {
			next.Hosts = slices.Concat(p.Hosts(own), hostsOf(next.Rules))
		}
		if i > 0 {
			next.Hosts = append(next.Hosts, Host(own, l))
		}
		next.Hosts = slices.DeleteFunc(next.Hosts, func(host string) bool {
			again := taken[next.TLS][host]
			taken[next.TLS][host] = true
			return again
		})
		all = append(all, next)
	}
	return all
}

// FullNames gives what load balancers and target groups are called in metrics, by
// the names of the balancers and services that Edge gives for them.
func (p Parts) FullNames() map[string]string {
	names := map[string]string{}
	for _, r := range p.Resources[TargetGroupType] {
		names[p.service(r).Name], _ = r.Attributes["TargetGroupFullName"].(string)
	}
	for _, b := range p.Resources[LoadBalancerType] {
		for _, l := range p.listeners(b) {
			names[p.balancer(b, l)], _ = b.Attributes["LoadBalancerFullName"].(string)
		}
	}
	return names
}

// balancer is the name that the edge has for a listener of a load balancer.
func (p Parts) balancer(b, listener model.Resource) string {
	return p.Environment + "/balancer/" + b.Name() + "/" + listener.LogicalID
}

// Encrypted says whether a listener gets what is encrypted.
func Encrypted(listener model.Resource) bool {
	protocol := listener.Text("Protocol")
	return protocol == "HTTPS" || protocol == "TLS"
}

// Host is the host name of a listener that is not the first of its load
// balancer, such as 8081.front-1a2b3c.elb.local.shop.localhost.
func Host(dnsName string, listener model.Resource) string {
	return listener.Text("Port") + "." + dnsName
}

// listeners gives those of a load balancer, those for HTTPS first, by their ports.
func (p Parts) listeners(b model.Resource) []model.Resource {
	all := slices.DeleteFunc(slices.Clone(p.Resources[ListenerType]), func(l model.Resource) bool { return l.Text("LoadBalancerArn") != b.PhysicalID })
	slices.SortFunc(all, func(a, b model.Resource) int {
		plain := func(l model.Resource) int {
			if Encrypted(l) {
				return 0
			}
			return 1
		}
		return cmp.Or(plain(a)-plain(b), number(a.Properties, "Port", 0)-number(b.Properties, "Port", 0))
	})
	return all
}

// hostsOf gives the host names that rules tell requests by, written out.
func hostsOf(rules []edge.Rule) []string {
	found := map[string]bool{}
	for _, rule := range rules {
		for _, c := range rule.If {
			for _, host := range c.Values {
				if c.Field == edge.ByHost && !strings.ContainsAny(host, "*?") {
					found[strings.ToLower(host)] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Check is how the instances of a target group are asked whether they are well.
func Check(r model.Resource) edge.Check {
	c := edge.Check{Timeout: seconds(r.Properties, "HealthCheckTimeoutSeconds", 5)}
	protocol := cmp.Or(r.Text("HealthCheckProtocol"), r.Text("Protocol"), "HTTP")
	if protocol != "HTTP" && protocol != "HTTPS" {
		return c
	}
	c.Path = cmp.Or(r.Text("HealthCheckPath"), "/")
	matcher, _ := r.Properties["Matcher"].(map[string]any)
	c.Codes = cmp.Or(text(matcher, "HttpCode"), "200")
	return c
}

// Interval is the time between two checks of a target.
func Interval(r model.Resource) time.Duration {
	return seconds(r.Properties, "HealthCheckIntervalSeconds", 30)
}

// Failures is how many failed checks in a row make a target unhealthy.
func Failures(r model.Resource) int { return number(r.Properties, "UnhealthyThresholdCount", 2) }

// Drain is how long requests under way at a target may take once it leaves.
func Drain(r model.Resource) time.Duration {
	attributes, _ := r.Properties["TargetGroupAttributes"].([]any)
	for _, a := range attributes {
		a, _ := a.(map[string]any)
		if text(a, "Key") == "deregistration_delay.timeout_seconds" {
			return seconds(a, "Value", 300)
		}
	}
	return 300 * time.Second
}

// answerTime is how long a target may take until it answers.
const answerTime = time.Minute

func (p Parts) service(r model.Resource) edge.Service {
	name, _ := r.Attributes["TargetGroupName"].(string)
	check := Check(r)
	s := edge.Service{
		Name: p.Environment + "/targets/" + name, RequestTimeout: answerTime,
		Health: check.Path, HealthCodes: check.Codes, HealthTimeout: check.Timeout, HealthInterval: Interval(r),
		UnhealthyAfter: Failures(r), HealthyAfter: number(r.Properties, "HealthyThresholdCount", 5),
	}
	if r.Text("HealthCheckEnabled") == "false" {
		s.Health = ""
	}
	arm := edge.Arm{Name: name, Weight: 1}
	for _, in := range slices.Concat(p.Targets[r.PhysicalID], declared(r)) {
		in.ID = name + "/" + in.ID // one instance may be of several target groups
		arm.Instances = append(arm.Instances, in)
	}
	s.Arms = []edge.Arm{arm}
	return s
}

// declared gives the targets that the properties of a target group name.
func declared(r model.Resource) (all []edge.Instance) {
	targets, _ := r.Properties["Targets"].([]any)
	for _, t := range targets {
		t, _ := t.(map[string]any)
		if ip, err := netip.ParseAddr(text(t, "Id")); err == nil {
			address := netip.AddrPortFrom(ip, uint16(number(t, "Port", number(r.Properties, "Port", 80)))).String()
			all = append(all, edge.Instance{ID: address, Address: address})
		}
	}
	return all
}

// rules gives those of a listener by their priority, its default at the end.
func (p Parts) rules(l model.Resource, services map[string]string) (all []edge.Rule) {
	own := slices.DeleteFunc(slices.Clone(p.Resources[RuleType]), func(r model.Resource) bool { return r.Text("ListenerArn") != l.PhysicalID })
	slices.SortFunc(own, func(a, b model.Resource) int {
		return number(a.Properties, "Priority", 0) - number(b.Properties, "Priority", 0)
	})
	for _, r := range own {
		rule := rule(r.Properties["Actions"], services)
		rule.If = conditions(r.Properties["Conditions"])
		all = append(all, rule)
	}
	return append(all, rule(l.Properties["DefaultActions"], services))
}

// rule reads a list of actions, of which the last decides.
func rule(actions any, services map[string]string) edge.Rule {
	list, _ := actions.([]any)
	for _, a := range list {
		a, _ := a.(map[string]any)
		switch text(a, "Type") {
		case "forward":
			if forward := shares(a, services); len(forward) > 0 {
				return edge.Rule{Forward: forward}
			}
		case "redirect":
			c, _ := a["RedirectConfig"].(map[string]any)
			d := edge.Redirect{
				Protocol: cmp.Or(text(c, "Protocol"), "#{protocol}"), Host: cmp.Or(text(c, "Host"), "#{host}"), Port: cmp.Or(text(c, "Port"), "#{port}"),
				Path: cmp.Or(text(c, "Path"), "/#{path}"), Query: cmp.Or(text(c, "Query"), "#{query}"), Status: 302,
			}
			if text(c, "StatusCode") == "HTTP_301" {
				d.Status = 301
			}
			return edge.Rule{Redirect: &d}
		case "fixed-response":
			c, _ := a["FixedResponseConfig"].(map[string]any)
			return edge.Rule{Fixed: &edge.Fixed{Status: number(c, "StatusCode", 503), Type: text(c, "ContentType"), Body: text(c, "MessageBody")}}
		}
	}
	return edge.Rule{Fixed: &edge.Fixed{Status: 503}} // what it forwards to is gone
}

// shares reads what an action forwards to.
func shares(action map[string]any, services map[string]string) (all []edge.Share) {
	config, _ := action["ForwardConfig"].(map[string]any)
	groups, _ := config["TargetGroups"].([]any)
	if len(groups) == 0 {
		groups = []any{action}
	}
	for _, g := range groups {
		g, _ := g.(map[string]any)
		if name := services[text(g, "TargetGroupArn")]; name != "" {
			all = append(all, edge.Share{Service: name, Weight: float64(number(g, "Weight", 1))})
		}
	}
	return all
}

// configs are the places of the values of conditions, by their fields.
var configs = map[string]string{
	edge.ByHost: "HostHeaderConfig", edge.ByPath: "PathPatternConfig", edge.ByHeader: "HttpHeaderConfig",
	edge.ByMethod: "HttpRequestMethodConfig", edge.ByQuery: "QueryStringConfig", edge.BySource: "SourceIpConfig",
}

func conditions(list any) (all []edge.Condition) {
	given, _ := list.([]any)
	for _, g := range given {
		g, _ := g.(map[string]any)
		c := edge.Condition{Field: text(g, "Field")}
		config, _ := g[configs[c.Field]].(map[string]any)
		c.Header = text(config, "HttpHeaderName")
		values, _ := either(config["Values"], g["Values"]).([]any)
		for _, v := range values {
			if pair, isPair := v.(map[string]any); isPair {
				c.Query = append(c.Query, edge.Pair{Key: text(pair, "Key"), Value: text(pair, "Value")})
				continue
			}
			c.Values = append(c.Values, fmt.Sprint(v))
		}
		all = append(all, c)
	}
	return all
}

func either(a, b any) any {
	if a == nil {
		return b
	}
	return a
}

func text(values map[string]any, name string) string {
	text, _ := values[name].(string)
	return text
}

func number(values map[string]any, name string, fallback int) int {
	if n, err := strconv.Atoi(text(values, name)); err == nil {
		return n
	}
	return fallback
}

func seconds(values map[string]any, name string, fallback int) time.Duration {
	return time.Duration(number(values, name, fallback)) * time.Second
}
