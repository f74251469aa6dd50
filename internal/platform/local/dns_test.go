package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/dns"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/statefile"
	"makeitso/internal/testneed"
)

// dig asks the platform's DNS server with the program of that name, and gives
// what it prints.
func dig(t *testing.T, p *Platform, words ...string) string {
	t.Helper()
	program := testneed.Program(t, "dig", "apt-get install bind9-dnsutils")
	c, err := p.zonesConfig()
	if err != nil {
		t.Fatal(err)
	}
	words = append([]string{"@127.0.0.1", "-p", strconv.Itoa(c.Port), "+time=5", "+tries=1"}, words...)
	out, err := exec.CommandContext(t.Context(), program, words...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %v: %v\n%s", words, err, out)
	}
	return strings.TrimSpace(string(out))
}

func wantDig(t *testing.T, p *Platform, want string, words ...string) {
	t.Helper()
	if got := dig(t, p, append([]string{"+short"}, words...)...); got != want {
		t.Errorf("dig %v gives %q; want %q", words, got, want)
	}
}

func zoneRequest(name string) stack.Request {
	return machinetest.Request("AWS::Route53::HostedZone", "Zone", map[string]any{"Name": name})
}

func recordRequest(id, zone, name, typ string, values ...any) stack.Request {
	return machinetest.Request("AWS::Route53::RecordSet", id, map[string]any{
		"HostedZoneId": zone, "Name": name, "Type": typ, "TTL": "300", "ResourceRecords": values,
	})
}

func TestRoute53Contracts(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	count := func(of func(*dns.Config) int) func() int {
		return func() int {
			c, err := p.zonesConfig()
			if err != nil {
				t.Fatal(err)
			}
			return of(c)
		}
	}
	zone := zoneRequest("Example.com.")
	stacktest.Handler(t, machinetest.Handler(t, p, zone.Type), stacktest.Case{
		Name: "zone", Request: zone, Invalid: map[string]any{"Name": "a..b"},
		Update: map[string]any{"Name": "Example.com.", "HostedZoneConfig": map[string]any{"Comment": "kept"}},
		Count:  count(func(c *dns.Config) int { return len(c.Zones) }),
	})
	if err := p.dnsAlive(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the last zone: %v; want the server stopped", err)
	}
	id := machinetest.Create(t, p, zone).PhysicalID
	record := recordRequest("Record", id, "www.example.com", "A", "192.0.2.1")
	changed := recordRequest("Record", id, "www.example.com", "A", "192.0.2.2", "192.0.2.3")
	wrong := recordRequest("Record", id, "www.example.com", "A", "192.0.2.256")
	stacktest.Handler(t, machinetest.Handler(t, p, record.Type), stacktest.Case{
		Name: "record", Request: record, Update: changed.Properties, Invalid: wrong.Properties,
		Count: count(func(c *dns.Config) int { return len(c.Records) }),
	})
	group := func(values ...any) map[string]any {
		return map[string]any{"HostedZoneName": "example.com.", "RecordSets": []any{
			map[string]any{"Name": "a.example.com", "Type": "A", "TTL": 60, "ResourceRecords": values},
			map[string]any{"Name": "b.example.com", "Type": "A", "AliasTarget": map[string]any{"DNSName": "a.example.com", "HostedZoneId": id}},
		}}
	}
	stacktest.Handler(t, machinetest.Handler(t, p, "AWS::Route53::RecordSetGroup"), stacktest.Case{
		Name: "group", Request: machinetest.Request("AWS::Route53::RecordSetGroup", "Group", group("192.0.2.1")), Update: group("192.0.2.2"), Invalid: group("x"),
		Count: count(func(c *dns.Config) int { return len(c.Records) / 2 }),
	})
	check := func(threshold any) map[string]any {
		return map[string]any{"HealthCheckConfig": map[string]any{"Type": "TCP", "IPAddress": "127.0.0.1", "Port": 9, "FailureThreshold": threshold}}
	}
	stacktest.Handler(t, machinetest.Handler(t, p, "AWS::Route53::HealthCheck"), stacktest.Case{
		Name: "health check", Request: machinetest.Request("AWS::Route53::HealthCheck", "Check", check(1)), Update: check("2"), Invalid: check(11),
		Count: count(func(c *dns.Config) int { return len(c.Checks) }),
	})
}

// domain is a stack with records of many kinds.
const domain = `
Resources:
  Zone:
    Type: AWS::Route53::HostedZone
    Properties: {Name: example.com}
  Www:
    Type: AWS::Route53::RecordSet
    Properties: {HostedZoneId: !Ref Zone, Name: WWW.example.com., Type: A, TTL: 300, ResourceRecords: [192.0.2.1]}
  Alias:
    Type: AWS::Route53::RecordSet
    Properties: {HostedZoneId: !Ref Zone, Name: example.com, Type: A, AliasTarget: {DNSName: !Ref Www, HostedZoneId: !Ref Zone}}
  Balancer:
    Type: AWS::Route53::RecordSet
    Properties: {HostedZoneId: !Ref Zone, Name: api.example.com, Type: A, AliasTarget: {DNSName: lb-1.us-east-1.elb.amazonaws.com, HostedZoneId: Z35SXDOTRQ7X7K}}
  Others:
    Type: AWS::Route53::RecordSetGroup
    Properties:
      HostedZoneId: !Ref Zone
      RecordSets:
        - {Name: example.com, Type: MX, TTL: 60, ResourceRecords: ["10 mail.example.com", "20 mail2.example.com"]}
        - {Name: example.com, Type: TXT, TTL: 60, ResourceRecords: ['"v=spf1 -all"']}
        - {Name: "\\052.dev.example.com", Type: CNAME, TTL: 60, ResourceRecords: [www.example.com]}
        - {Name: big.example.com, Type: A, TTL: 60, ResourceRecords: [VALUES]}
Outputs:
  Server: {Value: !Select [3, !GetAtt Zone.NameServers]}
`

// domainTemplate has a record that fits into no UDP message without EDNS.
func domainTemplate() string {
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	return strings.Replace(domain, "VALUES", strings.Join(many, ", "), 1)
}

func TestDigAnswersFromAStack(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, domainTemplate())
	p := d.Platform
	wantDig(t, p, "192.0.2.1", "www.example.com")
	wantDig(t, p, "192.0.2.1", "EXAMPLE.com", "A")
	wantDig(t, p, "127.0.0.1", "api.example.com")
	wantDig(t, p, "\"v=spf1 -all\"", "example.com", "TXT")
	wantDig(t, p, "www.example.com.\n192.0.2.1", "x.y.dev.example.com")
	if got := dig(t, p, "+short", "example.com", "MX"); !strings.Contains(got, "10 mail.example.com.") || !strings.Contains(got, "20 mail2.example.com.") {
		t.Errorf("MX: %s", got)
	}
	if got := dig(t, p, "+short", "example.com", "NS"); !strings.Contains(got, "ns-4.local.shop.localhost.") {
		t.Errorf("NS: %s", got)
	}
	for _, c := range []struct{ want, words string }{
		{"status: NXDOMAIN", "none.example.com"},
		{"status: REFUSED", "example.org"},
		{"hostmaster.ns-1.local.shop.localhost.", "none.example.com"},
		{"status: NOERROR", "www.example.com AAAA"},
		{"flags: qr aa tc", "+ignore +noedns big.example.com"},
		{"ANSWER: 60", "+noedns big.example.com"}, // over TCP then
		{"ANSWER: 60", "+bufsize=4096 +ignore big.example.com"},
		{"EDNS: version: 0", "www.example.com"},
	} {
		if got := dig(t, p, strings.Fields(c.words)...); !strings.Contains(got, c.want) {
			t.Errorf("dig %s gives no %q:\n%s", c.words, c.want, got)
		}
	}
	d.WantInSync(stack.ReportDrift)
	d.Apply(strings.Replace(domainTemplate(), "[192.0.2.1]", "[192.0.2.7]", 1))
	wantDig(t, p, "192.0.2.7", "example.com")

	// What somebody changed in the server's file is drift.
	c, err := p.zonesConfig()
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Records {
		if c.Records[i].Name == "www.example.com." {
			c.Records[i].Values = []string{"192.0.2.66"}
		}
	}
	if err := statefile.Write(p.zonesFile(), c); err != nil {
		t.Fatal(err)
	}
	d.WantModified("Www", "/ResourceRecords/0", "192.0.2.7", "192.0.2.66")
	d.WantInSync(stack.RepairDrift)
	wantDig(t, p, "192.0.2.7", "www.example.com")
}

func TestRecordsThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	zone := zoneRequest("example.com")
	id := machinetest.Create(t, p, zone).PhysicalID
	machinetest.Create(t, p, recordRequest("Www", id, "www.example.com", "A", "192.0.2.1"))
	err := machinetest.Handler(t, p, zone.Type).Delete(t.Context(), zone)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "The specified hosted zone contains non-required resource record sets and so cannot be deleted.") {
		t.Errorf("delete of a zone with a record: %v", err)
	}
	with := func(r stack.Request, key string, value any) stack.Request {
		if value == nil {
			delete(r.Properties, key)
		} else {
			r.Properties[key] = value
		}
		return r
	}
	good := func() stack.Request { return recordRequest("R", id, "r.example.com", "A", "192.0.2.1") }
	for _, c := range []struct {
		r    stack.Request
		want string
	}{
		{recordRequest("R", id, "WWW.example.com.", "A", "192.0.2.2"), "Tried to create resource record set [name='www.example.com.', type='A'] but it already exists"},
		{recordRequest("R", "Z1", "r.example.com", "A", "192.0.2.2"), "No hosted zone found with ID: Z1"},
		{recordRequest("R", id, "r.example.org", "A", "192.0.2.2"), "RRSet with DNS name r.example.org. is not permitted in zone example.com."},
		{with(with(good(), "HostedZoneId", nil), "HostedZoneName", "example.org."), "HostedZoneName example.org. is no hosted zone"},
		{with(good(), "HostedZoneName", "example.com."), "HostedZoneId or HostedZoneName must be given, and not both"},
		{with(good(), "TTL", nil), "Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none in Change with [Action=CREATE, Name=r.example.com., Type=A, SetIdentifier=null]"},
		{with(good(), "AliasTarget", map[string]any{}), "but found more than one in Change"},
		{with(good(), "TTL", -1), "TTL -1 is no number"},
		{with(good(), "Type", "B"), `Type "B" is none of A AAAA`},
		{with(good(), "Name", "a b"), `Name is wrong: "a b" is no domain name`},
		{with(good(), "Weight", 1), "SetIdentifier is required with Weight"},
		{with(good(), "SetIdentifier", "x"), "without a routing policy"},
		{with(with(good(), "Weight", 256), "SetIdentifier", "x"), "Weight 256 is no number from 0 to 255"},
		{with(with(with(good(), "Weight", 1), "SetIdentifier", "x"), "Region", "us-east-1"), "Weight and Region stand together"},
		{with(with(with(good(), "MultiValueAnswer", true), "SetIdentifier", "x"), "Type", "NS"), "MultiValueAnswer stands on"},
		{with(with(good(), "Failover", "THIRD"), "SetIdentifier", "x"), "Failover THIRD is neither PRIMARY nor SECONDARY"},
		{with(good(), "HealthCheckId", "none"), "HealthCheckId none is no health check of environment local"},
		{recordRequest("R", id, "r.example.com", "TXT", "no quotes"), `ResourceRecords[0] is wrong: "no quotes" is no value of type TXT`},
		{with(good(), "ResourceRecords", []any{"192.0.2.1", "::1"}), `ResourceRecords[1] is wrong: "::1" is no value of type A, such as 192.0.2.1`},
		{machinetest.Request("AWS::Route53::RecordSetGroup", "G", map[string]any{"RecordSets": []any{good().Properties, map[string]any{"Name": "x.example.com"}}}), "RecordSets[1].HostedZoneId or HostedZoneName must be given"},
		{machinetest.Request("AWS::Route53::RecordSetGroup", "G", map[string]any{"RecordSets": []any{good().Properties, good().Properties}}), "[name='r.example.com.', type='A'] but it already exists"},
	} {
		h := machinetest.Handler(t, p, c.r.Type)
		err := h.Check(t.Context(), c.r)
		if err == nil {
			_, err = h.Create(t.Context(), c.r)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v; want %q", err, c.want)
		}
	}
}

// TestDNSComesBack kills the server, and then makeitso with it.
func TestDNSComesBack(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	p := newPlatform(t, Options{Options: machine.Options{Announce: func(text string) { told <- text }}})
	keeping, stop := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { p.Keep(keeping) })
	defer kept.Wait()
	defer stop()
	zone := zoneRequest("example.com")
	made := machinetest.Create(t, p, zone)
	machinetest.Create(t, p, recordRequest("Www", made.PhysicalID, "www.example.com", "A", "192.0.2.1"))
	all, err := p.Zones()
	if text := <-told; err != nil || len(all) != 1 || all[0].Zone != "example.com" || !strings.Contains(text, all[0].Address) {
		t.Fatalf("zones %v, %v, told %q", all, err, text)
	}
	machinetest.Kill(t, p.Machine, dnsProcess)
	select {
	case text := <-told:
		if !strings.Contains(text, "was started again") {
			t.Fatal(text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the killed server did not come back in 20 s")
	}
	wantDig(t, p, "192.0.2.1", "www.example.com")
	stop()
	kept.Wait()
	machinetest.Kill(t, p.Machine, dnsProcess)
	if _, err := machinetest.Handler(t, p, zone.Type).Read(t.Context(), zone); !fault.Is(err, fault.Unavailable) {
		t.Errorf("read of a zone whose server was killed: %v", err)
	}
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if after, err := again.Zones(); err != nil || after[0] != all[0] {
		t.Errorf("after a kill it answers at %v (%v); want %v", after, err, all)
	}
	wantDig(t, again, "192.0.2.1", "www.example.com")
}

// TestDNSOutlivesMakeitso kills a makeitso that has made a zone.
func TestDNSOutlivesMakeitso(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := zoneRequest("example.com")
	makeitso := exec.Command(os.Args[0], "internal", "create", p.o.State, encoded(t, r))
	if err := makeitso.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = makeitso.Process.Kill() }) // if the test does not come to that
	answers := func(context.Context) error {
		_, err := machinetest.Handler(t, p, r.Type).Read(t.Context(), r)
		return err
	}
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := machine.AwaitReady(waiting, nil, answers); err != nil {
		t.Fatal(err)
	}
	if err := makeitso.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = makeitso.Wait() // it was killed
	wantDig(t, p, "ns-1.local.shop.localhost. hostmaster.ns-1.local.shop.localhost. 1 7200 900 1209600 86400", "example.com", "SOA")
	before, err := p.Keeper.Find(dnsProcess)
	if err != nil {
		t.Fatal(err)
	}
	machinetest.Create(t, p, r)
	if after, err := p.Keeper.Find(dnsProcess); err != nil || after.PID != before.PID {
		t.Errorf("a second create made process %v of %v (%v)", after, before, err)
	}
}

func TestDNSPortTaken(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	zone := zoneRequest("example.com")
	machinetest.Create(t, p, zone)
	c, err := p.zonesConfig()
	if err != nil {
		t.Fatal(err)
	}
	machinetest.Kill(t, p.Machine, dnsProcess)
	for _, network := range []string{"udp", "tcp"} {
		var other interface{ Close() error }
		if network == "udp" {
			other, err = net.ListenPacket("udp4", machine.Loopback(c.Port))
		} else {
			other, err = net.Listen("tcp4", machine.Loopback(c.Port))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Resume(t.Context()); err == nil || !strings.Contains(err.Error(), "another program has") || !strings.Contains(err.Error(), strconv.Itoa(c.Port)) {
			t.Errorf("resumed while another has the %s port: %v", network, err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
}

func encoded(t *testing.T, r stack.Request) string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHealthChecksDecideAnswers(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "fine") }))
	defer endpoint.Close()
	_, port, err := net.SplitHostPort(endpoint.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	check := func(id, port, search string) string {
		return machinetest.Create(t, p, machinetest.Request("AWS::Route53::HealthCheck", id, map[string]any{"HealthCheckConfig": map[string]any{
			"Type": "HTTP_STR_MATCH", "FullyQualifiedDomainName": "x.localhost", "Port": port, "SearchString": search,
			"RequestInterval": 10, "FailureThreshold": 1,
		}})).PhysicalID
	}
	up, down := check("Up", port, "fine"), check("Down", port, "something else")
	zone := machinetest.Create(t, p, zoneRequest("example.com")).PhysicalID
	for role, check := range map[string]string{"PRIMARY": down, "SECONDARY": up} {
		r := recordRequest(role, zone, "www.example.com", "A", map[string]string{"PRIMARY": "192.0.2.1", "SECONDARY": "192.0.2.2"}[role])
		r.Properties["SetIdentifier"], r.Properties["Failover"], r.Properties["HealthCheckId"] = role, role, check
		machinetest.Create(t, p, r)
	}
	state := func(logicalID string) string {
		serving, err := p.Serving(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range serving {
			if s.Resource == "data/"+logicalID {
				return s.By
			}
		}
		return ""
	}
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err = machine.AwaitReady(waiting, nil, func(context.Context) error {
		if up, down := state("Up"), state("Down"); !strings.HasSuffix(up, ": Healthy") || !strings.Contains(down, `: Unhealthy: its answer does not hold "something else"`) {
			return fmt.Errorf("the checks say %q and %q", up, down)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantDig(t, p, "192.0.2.2", "www.example.com")
	wantDig(t, p, `"Healthy"`, "CH", "TXT", up)
}

// TestWhatIsNotMeasuredIsTold takes records by region and checks of metrics for
// something simpler, and says so.
func TestWhatIsNotMeasuredIsTold(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	p := newPlatform(t, Options{Options: machine.Options{Announce: func(text string) { told <- text }}})
	metric := machinetest.Create(t, p, machinetest.Request("AWS::Route53::HealthCheck", "Metric", map[string]any{"HealthCheckConfig": map[string]any{
		"Type": "CLOUDWATCH_METRIC", "InsufficientDataHealthStatus": "Unhealthy",
	}})).PhysicalID
	if text := <-told; !strings.Contains(text, "data/Metric: nothing evaluates a health check of type CLOUDWATCH_METRIC") {
		t.Error(text)
	}
	zone := machinetest.Create(t, p, zoneRequest("example.com")).PhysicalID
	<-told
	for region, address := range map[string]string{"eu-west-1": "192.0.2.1", "us-east-1": "192.0.2.2"} {
		r := recordRequest(region, zone, "www.example.com", "A", address)
		r.Properties["SetIdentifier"], r.Properties["Region"] = region, region
		machinetest.Create(t, p, r)
		if text := <-told; !strings.Contains(text, "that of region us-east-1") {
			t.Error(text)
		}
	}
	wantDig(t, p, "192.0.2.2", "www.example.com")
	wantDig(t, p, `"Unhealthy: nothing evaluates a check of type CLOUDWATCH_METRIC here"`, "CH", "TXT", metric)
}

// TestChangesThatWaitAreMadeTogether lets many come at a time, one of which
// fails: it alone does.
func TestChangesThatWaitAreMadeTogether(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	machinetest.Create(t, p, zoneRequest("example.com"))
	const many = 12
	failures := make([]error, many)
	var changing sync.WaitGroup
	p.zones.Lock()
	for i := range many {
		changing.Go(func() {
			failures[i] = p.changeZones(t.Context(), func(c *dns.Config) error {
				if i == 3 {
					return fault.New(fault.Conflict, "it is refused")
				}
				c.PutHost(dns.Host{Owner: strconv.Itoa(i), Name: fmt.Sprintf("h%d.example.com.", i)})
				return nil
			})
		})
	}
	err := machine.AwaitReady(t.Context(), nil, func(context.Context) error {
		p.waiting.Lock()
		defer p.waiting.Unlock()
		if len(p.changes) < many {
			return fmt.Errorf("%d wait", len(p.changes))
		}
		return nil
	})
	p.zones.Unlock()
	changing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range failures {
		if (err != nil) != (i == 3) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	wantDig(t, p, "127.0.0.1", "h11.example.com")
	wantDig(t, p, "", "h3.example.com")
}

// TestNamesOfDistributions are answered, whichever is made first.
func TestNamesOfDistributions(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{}))
	distribution := func(id string) stack.Request {
		return machinetest.Request("AWS::CloudFront::Distribution", id, distributionProperties(files.Attributes["DomainName"]))
	}
	first := machinetest.Attribute(t, machinetest.Create(t, p, distribution("First")), "DomainName")
	zone := machinetest.Create(t, p, zoneRequest("shop.localhost")).PhysicalID
	second := machinetest.Attribute(t, machinetest.Create(t, p, distribution("Second")), "DomainName")
	machinetest.Create(t, p, recordRequest("Www", zone, "www.shop.localhost", "CNAME", second))
	wantDig(t, p, "127.0.0.1", first)
	wantDig(t, p, second+".\n127.0.0.1", "www.shop.localhost")
	r := distribution("First")
	if err := machinetest.Handler(t, p, r.Type).Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantDig(t, p, "", first)
}

// TestTwoEnvironmentsServeZonesSideBySide gives each a server of its own.
func TestTwoEnvironmentsServeZonesSideBySide(t *testing.T) {
	t.Parallel()
	platforms := map[string]*Platform{"192.0.2.1": newPlatform(t, Options{}), "192.0.2.2": newPlatform(t, Options{})}
	for address, p := range platforms {
		zone := machinetest.Create(t, p, zoneRequest("example.com")).PhysicalID
		machinetest.Create(t, p, recordRequest("Www", zone, "www.example.com", "A", address))
	}
	for address, p := range platforms {
		wantDig(t, p, address, "www.example.com")
	}
}

func TestHealthChecksThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	h := machinetest.Handler(t, p, "AWS::Route53::HealthCheck")
	for want, config := range map[string]any{
		"HealthCheckConfig is not an object":                             "x",
		`HealthCheckConfig.Type "PING" is none of HTTP`:                  map[string]any{"Type": "PING"},
		"HealthCheckConfig.IPAddress or FullyQualifiedDomainName":        map[string]any{"Type": "HTTP"},
		`HealthCheckConfig.IPAddress "host" is no address`:               map[string]any{"Type": "HTTP", "IPAddress": "host"},
		"HealthCheckConfig.Port is required with Type TCP":               map[string]any{"Type": "TCP", "IPAddress": "127.0.0.1"},
		"HealthCheckConfig.Port 0 is no number from 1 to 65535":          map[string]any{"Type": "TCP", "IPAddress": "127.0.0.1", "Port": 0},
		"HealthCheckConfig.SearchString is required":                     map[string]any{"Type": "HTTP_STR_MATCH", "IPAddress": "127.0.0.1"},
		"HealthCheckConfig.RequestInterval 20 is neither 10 nor 30":      map[string]any{"Type": "HTTP", "IPAddress": "127.0.0.1", "RequestInterval": 20},
		"HealthCheckConfig.ChildHealthChecks is required with Type CALC": map[string]any{"Type": "CALCULATED"},
	} {
		err := h.Check(t.Context(), machinetest.Request("AWS::Route53::HealthCheck", "Check", map[string]any{"HealthCheckConfig": config}))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}

// TestWhatIsNotKnownYetIsLetThrough plans what other resources decide.
func TestWhatIsNotKnownYetIsLetThrough(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	const later = changeset.KnownAfterApply
	record := func(key string, value any) map[string]any {
		r := recordRequest("R", later, "www.example.com", "A", "192.0.2.1").Properties
		r[key] = value
		return r
	}
	alias := record("AliasTarget", map[string]any{"DNSName": later, "HostedZoneId": later})
	delete(alias, "TTL")
	delete(alias, "ResourceRecords")
	for _, r := range []stack.Request{
		machinetest.Request("AWS::Route53::HostedZone", "Z", map[string]any{"Name": later}),
		machinetest.Request("AWS::Route53::HealthCheck", "C", map[string]any{"HealthCheckConfig": later}),
		machinetest.Request("AWS::Route53::HealthCheck", "C", map[string]any{"HealthCheckConfig": map[string]any{"Type": "TCP", "IPAddress": later, "Port": later}}),
		machinetest.Request("AWS::Route53::RecordSetGroup", "G", map[string]any{"HostedZoneId": later, "RecordSets": later}),
		machinetest.Request("AWS::Route53::RecordSet", "R", alias),
		machinetest.Request("AWS::Route53::RecordSet", "R", record("Name", later)),
		machinetest.Request("AWS::Route53::RecordSet", "R", record("Type", later)),
		machinetest.Request("AWS::Route53::RecordSet", "R", record("TTL", later)),
		machinetest.Request("AWS::Route53::RecordSet", "R", record("ResourceRecords", later)),
		machinetest.Request("AWS::Route53::RecordSet", "R", record("ResourceRecords", []any{later})),
	} {
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); err != nil {
			t.Errorf("%v: %v", r.Properties, err)
		}
	}
}

// TestZonesAfterACrash finds records that were written for a create which was
// killed before anything else: it is gone on with, or taken back.
func TestZonesAfterACrash(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	zone := machinetest.Create(t, p, zoneRequest("example.com")).PhysicalID
	crash := func(r stack.Request) {
		t.Helper()
		machinetest.Kill(t, p.Machine, dnsProcess)
		if err := p.Save(machine.Requested(r)); err != nil {
			t.Fatal(err)
		}
		c, err := p.zonesConfig()
		if err != nil {
			t.Fatal(err)
		}
		name := r.Properties["Name"].(string) + "."
		if err := c.Put(r.Token, []dns.Record{{Zone: zone, Name: name, Type: "A", TTL: 300, Values: []string{"192.0.2.1"}}}); err != nil {
			t.Fatal(err)
		}
		if err := statefile.Write(p.zonesFile(), c); err != nil {
			t.Fatal(err)
		}
	}
	on, back := recordRequest("On", zone, "on.example.com", "A", "192.0.2.1"), recordRequest("Back", zone, "back.example.com", "A", "192.0.2.1")
	crash(on)
	machinetest.Create(t, p, on)
	crash(back)
	if err := machinetest.Handler(t, p, back.Type).Delete(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	wantDig(t, p, "192.0.2.1", "on.example.com")
	wantDig(t, p, "", "back.example.com")
}
