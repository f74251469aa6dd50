package balance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/template"
)

type object = map[string]any

// resource makes one whose physical id is its logical one.
func resource(typ, id string, properties object) model.Resource {
	return model.Resource{Type: typ, Stack: "s", LogicalID: id, PhysicalID: id, Properties: properties, Attributes: object{"TargetGroupName": id, "DNSName": id + ".localhost"}}
}

func forwarding(groups ...any) []any {
	return []any{object{"Type": "authenticate"}, object{"Type": "forward", "ForwardConfig": object{"TargetGroups": groups}}}
}

// listed gives balancers as text, one rule a line.
func listed(t *testing.T, balancers []edge.Balancer) string {
	t.Helper()
	var b strings.Builder
	for _, one := range balancers {
		fmt.Fprintln(&b, one.Name, one.Port, one.TLS, one.Hosts)
		for _, rule := range one.Rules {
			text, err := json.Marshal(rule)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, string(text))
		}
	}
	return b.String()
}

func TestListenersBecomeBalancers(t *testing.T) {
	t.Parallel()
	group := func(id, weight string) object { return object{"TargetGroupArn": id, "Weight": weight} }
	condition := func(field, config string, values ...any) object {
		return object{"Field": field, config: object{"Values": values}}
	}
	p := Parts{
		Environment: "local", Hosts: func(own string) []string { return []string{own, "www.shop.localhost"} },
		Targets: map[string][]edge.Instance{"blue": {{ID: "i-1", Address: "127.0.0.1:1"}}, "green": {{ID: "i-1", Address: "127.0.0.1:1"}}},
		Resources: map[string][]model.Resource{
			TargetGroupType:  {resource(TargetGroupType, "blue", object{"Protocol": "HTTP"}), resource(TargetGroupType, "green", object{"Protocol": "HTTP"})},
			LoadBalancerType: {resource(LoadBalancerType, "front", nil), resource(LoadBalancerType, "idle", nil)},
			ListenerType: {
				resource(ListenerType, "Plain", object{"LoadBalancerArn": "front", "Port": "80", "Protocol": "HTTP", "DefaultActions": []any{
					object{"Type": "redirect", "RedirectConfig": object{"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}}}),
				resource(ListenerType, "Sealed", object{"LoadBalancerArn": "front", "Port": "443", "Protocol": "HTTPS", "DefaultActions": forwarding(group("blue", "3"), group("green", "1"))}),
			},
			RuleType: {
				resource(RuleType, "Last", object{"ListenerArn": "Sealed", "Priority": "100", "Actions": forwarding(group("gone", "1"))}),
				resource(RuleType, "First", object{"ListenerArn": "Sealed", "Priority": "20",
					"Conditions": []any{
						condition("host-header", "HostHeaderConfig", "Api.shop.localhost", "*.x"), object{"Field": "path-pattern", "Values": []any{"/a"}},
						condition("query-string", "QueryStringConfig", object{"Key": "k", "Value": "v"}),
						object{"Field": "http-header", "HttpHeaderConfig": object{"HttpHeaderName": "X-A", "Values": []any{"b"}}},
					},
					"Actions": []any{object{"Type": "fixed-response", "FixedResponseConfig": object{"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "no"}}},
				}),
			},
		},
	}
	services, balancers := p.Edge()
	const want = `local/balancer/s/front/Plain 80 false [front.localhost www.shop.localhost 80.front.localhost]
{"redirect":{"protocol":"HTTPS","host":"#{host}","port":"443","path":"/#{path}","query":"#{query}","status":301}}
local/balancer/s/front/Sealed 443 true [front.localhost www.shop.localhost api.shop.localhost]
{"if":[{"field":"host-header","values":["Api.shop.localhost","*.x"]},{"field":"path-pattern","values":["/a"]},{"field":"query-string","query":[{"key":"k","value":"v"}]},{"field":"http-header","header":"X-A","values":["b"]}],"fixed":{"status":404,"type":"text/plain","body":"no"}}
{"fixed":{"status":503}}
{"forward":[{"service":"local/targets/blue","weight":3},{"service":"local/targets/green","weight":1}]}
`
	if got := listed(t, balancers); got != want {
		t.Errorf("they are\n%swant\n%s", got, want)
	}
	if err := (edge.Config{Version: 1, Services: services, Balancers: balancers}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestTargetGroupsBecomeServices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		properties object
		want       string
	}{
		{object{"Protocol": "HTTP"}, "/ 200 30s 5s 2 5 []"},
		{object{"Protocol": "TCP", "HealthCheckIntervalSeconds": "7"}, "  7s 5s 2 5 []"},
		{object{"Protocol": "HTTP", "HealthCheckEnabled": "false"}, " 200 30s 5s 2 5 []"},
		{object{"Protocol": "TCP", "HealthCheckProtocol": "HTTP", "HealthCheckPath": "/up", "Matcher": object{"HttpCode": "200-299"}, "HealthCheckTimeoutSeconds": "3",
			"UnhealthyThresholdCount": "4", "HealthyThresholdCount": "6"}, "/up 200-299 30s 3s 4 6 []"},
		{object{"Protocol": "HTTP", "Port": "81", "Targets": []any{object{"Id": "127.0.0.1"}, object{"Id": "127.0.0.2", "Port": "82"}, object{"Id": "i-1"}}},
			"/ 200 30s 5s 2 5 [{g/127.0.0.1:81 127.0.0.1:81 false} {g/127.0.0.2:82 127.0.0.2:82 false}]"},
	} {
		s, _ := Parts{Resources: map[string][]model.Resource{TargetGroupType: {resource(TargetGroupType, "g", c.properties)}}}.Edge()
		got := fmt.Sprint(s[0].Health, " ", s[0].HealthCodes, " ", s[0].HealthInterval, " ", s[0].HealthTimeout, " ", s[0].UnhealthyAfter, " ", s[0].HealthyAfter, " ", s[0].Arms[0].Instances)
		if got != c.want {
			t.Errorf("%v gives %s; want %s", c.properties, got, c.want)
		}
	}
	drain := resource(TargetGroupType, "g", object{"TargetGroupAttributes": []any{object{"Key": "deregistration_delay.timeout_seconds", "Value": "9"}}})
	if got := fmt.Sprint(Drain(drain), Drain(resource(TargetGroupType, "g", nil))); got != "9s 5m0s" {
		t.Errorf("they drain for %s", got)
	}
}

func TestWhatCannotBeServedIsRefused(t *testing.T) {
	t.Parallel()
	late := template.KnownAfterApply
	for _, c := range []struct {
		typ        string
		properties object
		want       fault.Code // "" for none
	}{
		{TargetGroupType, object{"TargetType": "lambda"}, fault.Unsupported},
		{TargetGroupType, object{"Protocol": "UDP"}, fault.Unsupported},
		{TargetGroupType, object{"TargetType": "ip", "Targets": []any{object{"Id": "10.0.0.1"}}}, fault.Invalid},
		{TargetGroupType, object{"TargetType": "ip", "Protocol": late, "Targets": []any{object{"Id": "127.0.0.1"}, object{"Id": late}}}, ""},
		{LoadBalancerType, object{"Type": "gateway"}, fault.Unsupported},
		{LoadBalancerType, object{"Type": "network"}, ""},
		{ListenerType, object{"DefaultActions": []any{object{"Type": "authenticate-oidc"}}}, fault.Unsupported},
		{ListenerType, object{"DefaultActions": []any{object{"Type": late}}}, ""},
		{ListenerType, object{"Protocol": "HTTPS"}, fault.Invalid},
		{ListenerType, object{"Protocol": "TLS", "Certificates": []any{object{}, object{}}}, fault.Invalid},
		{ListenerType, object{"Protocol": "HTTPS", "Certificates": []any{object{"CertificateArn": late}}}, ""},
		{ListenerType, object{"Protocol": "HTTPS", "Certificates": late}, ""},
		{RuleType, object{"Actions": []any{object{"Type": "jwt-validation"}}}, fault.Unsupported},
		{RuleType, object{"Conditions": []any{object{"Field": "moon"}}}, fault.Invalid},
		{RuleType, object{"Conditions": []any{object{"Field": "source-ip", "SourceIpConfig": object{"Values": []any{"here"}}}}}, fault.Invalid},
		{RuleType, object{"Conditions": []any{object{"Field": "source-ip", "SourceIpConfig": object{"Values": []any{"10.0.0.0/8", late}}}}}, ""},
	} {
		err := Judge(resource(c.typ, "r", c.properties))
		if (err == nil) != (c.want == "") || err != nil && !fault.Is(err, c.want) {
			t.Errorf("%s %v: %v; want %q", c.typ, c.properties, err, c.want)
		}
	}
}

func TestPlanTellsOfTLS(t *testing.T) {
	t.Parallel()
	for protocol, told := range map[string]bool{"HTTPS": true, "TLS": true, "HTTP": false, "": false} {
		got := strings.Join(Notes(resource(ListenerType, "r", object{"Protocol": protocol, "Port": "443"})), "")
		if strings.Contains(got, "makeitso trust") != told || strings.Contains(got, "Protocol "+protocol) != told {
			t.Errorf("of Protocol %q it tells %q", protocol, got)
		}
	}
}
