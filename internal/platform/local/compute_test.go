package local

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
)

type object = map[string]any

// testEdge is an edge of a test, and what drives it.
type testEdge struct {
	*edge.Client
	address string

	mu      sync.Mutex
	version int64
}

// newEdge runs an edge until the test ends.
func newEdge(t *testing.T) *testEdge {
	t.Helper()
	dir := t.TempDir()
	e := &testEdge{Client: edge.NewClient(filepath.Join(dir, "s"))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- edge.Main(ctx, edge.Options{Listen: "127.0.0.1:0", Socket: filepath.Join(dir, "s")}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until(t, "the edge answers", func() bool {
		stats, err := e.Stats(t.Context())
		e.address = stats.Listen
		return err == nil
	})
	return e
}

func (e *testEdge) SetBalancing(ctx context.Context, _ string, services []edge.Service, balancers []edge.Balancer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version++
	return e.Configure(ctx, edge.Config{Version: e.version, Services: services, Balancers: balancers})
}

// get asks a host at the edge.
func (e *testEdge) get(host, path string) (string, error) { return e.ask(http.MethodGet, host, path) }

func (e *testEdge) ask(method, host, path string) (string, error) {
	req, err := http.NewRequest(method, "http://"+e.address+path, nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s%s: %s: %s", method, host, path, res.Status, body)
	}
	return string(body), err
}

// until polls for what no event tells of.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 20 s it is not so that %s", what)
		}
	}
}

// site is a group of two instances behind a load balancer.
type balancedSite struct {
	p        *Platform
	edge     *testEdge
	template stack.Request
	group    stack.Request
	targets  stack.Result
	listener stack.Result
	host     string
}

func newBalancedSite(t *testing.T, o Options) *balancedSite {
	t.Helper()
	unpacked := atomic.Int32{}
	o.Unpack = func(ctx context.Context, digest, into string) ([]string, []string, error) {
		unpacked.Add(1)
		n := 0
		return unpackProgram(&n)(ctx, digest, into)
	}
	s := &balancedSite{edge: newEdge(t)}
	o.Edge = s.edge
	s.p = newPlatform(t, o)
	s.template = machinetest.Request(templateType, "Template", object{"LaunchTemplateData": launchData("one")})
	template := machinetest.Create(t, s.p, s.template)
	s.targets = machinetest.Create(t, s.p, machinetest.Request(balance.TargetGroupType, "Targets", object{
		"Port": "80", "Protocol": "HTTP", "HealthCheckIntervalSeconds": "1", "UnhealthyThresholdCount": "2",
	}))
	front := machinetest.Create(t, s.p, machinetest.Request(balance.LoadBalancerType, "Front", object{}))
	s.host = machinetest.Attribute(t, front, "DNSName")
	s.group = machinetest.Request(pace.GroupType, "Group", object{
		"MinSize": "2", "MaxSize": "4", "TargetGroupARNs": []any{s.targets.PhysicalID}, "HealthCheckType": "ELB",
		"LaunchTemplate": object{"LaunchTemplateId": template.PhysicalID, "Version": machinetest.Attribute(t, template, "LatestVersionNumber")},
	})
	machinetest.Create(t, s.p, s.group)
	s.listener = machinetest.Create(t, s.p, machinetest.Request(balance.ListenerType, "Listener", object{
		"LoadBalancerArn": front.PhysicalID, "Port": "80", "Protocol": "HTTP", "DefaultActions": []any{forward(s.targets)},
	}))
	return s
}

func launchData(user string) object {
	return object{"ImageId": "web@sha256:1", "UserData": base64.StdEncoding.EncodeToString([]byte(user))}
}

func forward(targets stack.Result) object {
	return object{"Type": "forward", "TargetGroupArn": targets.PhysicalID}
}

// instances gives the ids of a group's instances that are to stay.
func (s *balancedSite) instances(t *testing.T) (ids []string) {
	t.Helper()
	fleet, err := machinetest.Handler(t, s.p, s.group.Type).(stack.Group).Fleet(t.Context(), s.group)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range fleet.Instances {
		ids = append(ids, fmt.Sprint(i.ID, " ", i.Current))
	}
	return ids
}

func TestGroupAnswersThroughItsLoadBalancer(t *testing.T) {
	t.Parallel()
	s := newBalancedSite(t, Options{})
	if !strings.HasSuffix(s.host, ".elb.local.shop.localhost") {
		t.Errorf("its DNSName is %s", s.host)
	}
	body, err := s.edge.get(s.host, "/")
	if err != nil || !strings.HasPrefix(body, "hello image [one]") {
		t.Errorf("it says %q, %v", body, err)
	}
	if got := s.instances(t); len(got) != 2 {
		t.Errorf("its instances are %v", got)
	}
	// A rule shares the requests with a target of another kind.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") }))
	defer other.Close()
	_, port, _ := strings.Cut(other.Listener.Addr().String(), ":")
	others := machinetest.Create(t, s.p, machinetest.Request(balance.TargetGroupType, "Others", object{"Port": "80", "Protocol": "HTTP", "TargetType": "ip", "Targets": []any{object{"Id": "127.0.0.1", "Port": port}}}))
	machinetest.Create(t, s.p, machinetest.Request(balance.RuleType, "Shared", object{
		"ListenerArn": s.listener.PhysicalID, "Priority": "1", "Conditions": []any{object{"Field": "path-pattern", "Values": []any{"/shared*"}}},
		"Actions": []any{object{"Type": "forward", "ForwardConfig": object{"TargetGroups": []any{
			object{"TargetGroupArn": s.targets.PhysicalID, "Weight": "1"}, object{"TargetGroupArn": others.PhysicalID, "Weight": "3"},
		}}}},
	}))
	ours := 0
	for range 200 {
		body, err := s.edge.get(s.host, "/shared/x")
		if err != nil {
			t.Fatal(err)
		}
		if body != "other" {
			ours++
		}
	}
	if ours < 20 || ours > 90 {
		t.Errorf("of 200 requests %d came to the share of 1 in 4", ours)
	}
	smaller := s.group
	smaller.Previous, smaller.Properties = s.group.Properties, object{}
	for name, value := range s.group.Properties {
		smaller.Properties[name] = value
	}
	smaller.Properties["MinSize"] = "1"
	if _, err := machinetest.Handler(t, s.p, s.group.Type).Update(t.Context(), smaller); err != nil {
		t.Fatal(err)
	}
	if got := s.instances(t); len(got) != 1 {
		t.Errorf("of size 1 its instances are %v", got)
	}
	if _, err := s.edge.get(s.host, "/"); err != nil {
		t.Error(err)
	}
	if err := machinetest.Handler(t, s.p, s.group.Type).Delete(t.Context(), s.group); err != nil {
		t.Fatal(err)
	}
	if left := machinetest.Processes(t, s.p.o.State); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
	if _, err := s.edge.get(s.host, "/"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a group: %v", err)
	}
	listener := machinetest.Request(balance.ListenerType, "Listener", nil)
	if err := machinetest.Handler(t, s.p, listener.Type).Delete(t.Context(), listener); err != nil {
		t.Fatal(err)
	}
	if _, err := s.edge.get(s.host, "/"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("without a listener: %v", err)
	}
}

// TestRecordLeadsToALoadBalancer gives a load balancer another name by a record
// of a hosted zone, and takes it away again.
func TestRecordLeadsToALoadBalancer(t *testing.T) {
	t.Parallel()
	s := newBalancedSite(t, Options{})
	zone := machinetest.Create(t, s.p, machinetest.Request("AWS::Route53::HostedZone", "Zone", object{"Name": "example.com"}))
	for _, record := range []object{
		{"Name": "shop.example.com", "Type": "CNAME", "TTL": "60", "ResourceRecords": []any{s.host}},
		{"Name": "www.example.com", "Type": "A", "AliasTarget": object{"DNSName": s.host, "HostedZoneId": "Z35SXDOTRQ7X7K"}},
	} {
		record["HostedZoneId"] = zone.PhysicalID
		name := record["Name"].(string)
		if _, err := s.edge.get(name, "/"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("before there is a record, %s: %v", name, err)
		}
		r := machinetest.Request("AWS::Route53::RecordSet", "Record", record)
		machinetest.Create(t, s.p, r)
		if body, err := s.edge.get(name, "/"); err != nil || !strings.HasPrefix(body, "hello image") {
			t.Errorf("%s says %q, %v", name, body, err)
		}
		if err := machinetest.Handler(t, s.p, r.Type).Delete(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.edge.get(name, "/"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("after the record was deleted, %s: %v", name, err)
		}
	}
}

func TestInstanceOfAGroupThatEndsIsReplaced(t *testing.T) {
	t.Parallel()
	s := newBalancedSite(t, Options{})
	keeping, stop := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { s.p.Keep(keeping) })
	defer kept.Wait()
	defer stop()
	before := s.instances(t)
	if _, err := s.edge.ask(http.MethodPost, s.host, "/exit"); err == nil { // a GET would be repeated
		t.Fatal("it did not end")
	}
	until(t, "another instance stands in for one that ended", func() bool {
		now := s.instances(t)
		return len(now) == 2 && !slices.Equal(now, before)
	})
	if _, err := s.edge.get(s.host, "/"); err != nil {
		t.Error(err)
	}
}

func TestGroupRollsWithoutALostRequest(t *testing.T) {
	t.Parallel()
	s := newBalancedSite(t, Options{})
	var asked, wrong atomic.Int64
	asking, stop := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			for asking.Err() == nil {
				asked.Add(1)
				if _, err := s.edge.get(s.host, "/"); err != nil && wrong.Add(1) == 1 {
					t.Error(err)
				}
			}
		})
	}
	defer askers.Wait()
	defer stop()
	s.template.Previous, s.template.Properties = s.template.Properties, object{"LaunchTemplateData": launchData("two")}
	if _, err := machinetest.Handler(t, s.p, templateType).Update(t.Context(), s.template); err != nil {
		t.Fatal(err)
	}
	template := s.group.Properties["LaunchTemplate"].(object)
	s.group.Properties = object{
		"MinSize": "2", "MaxSize": "4", "TargetGroupARNs": []any{s.targets.PhysicalID},
		"LaunchTemplate": object{"LaunchTemplateId": template["LaunchTemplateId"], "Version": "2"},
	}
	h := machinetest.Handler(t, s.p, s.group.Type)
	if _, err := h.Update(t.Context(), s.group); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.instances(t)); strings.Count(got, "false") != 2 {
		t.Errorf("before they are replaced, instances are %s", got)
	}
	policy := pace.Rolling{Batch: 1, InService: 1, Percent: 100}
	for {
		fleet, err := h.(stack.Group).Fleet(t.Context(), s.group)
		if err != nil {
			t.Fatal(err)
		}
		state := pace.State{Size: fleet.Size, Most: fleet.Most}
		for _, i := range fleet.Instances {
			if i.Current {
				state.Fresh++
				state.Kept++
			} else {
				state.Old = append(state.Old, i.ID)
			}
		}
		move, err := policy.Next(state)
		if err == nil && move.Grow > 0 {
			err = h.(stack.Group).Resize(t.Context(), s.group, move.Grow)
		} else if err == nil && len(move.Terminate) > 0 {
			err = h.(stack.Group).Terminate(t.Context(), s.group, move.Terminate)
		} else if err == nil {
			break
		}
		if err != nil {
			t.Fatal(fault.Text(err))
		}
	}
	if got := fmt.Sprint(s.instances(t)); strings.Count(got, "true") != 2 || strings.Contains(got, "false") {
		t.Errorf("after they were replaced, instances are %s", got)
	}
	stop()
	askers.Wait()
	if asked.Load() < 10 || wrong.Load() > 0 {
		t.Errorf("of %d requests %d were lost", asked.Load(), wrong.Load())
	}
}

func TestInstancesSignalTheirGroup(t *testing.T) {
	t.Parallel()
	signalled := make(chan string, 1)
	s := newBalancedSite(t, Options{Signal: func(_ context.Context, address string, _ stack.Signal) error {
		signalled <- address
		return nil
	}})
	g, err := s.p.fleets.Get(t.Context(), s.group.Token)
	if err != nil {
		t.Fatal(err)
	}
	put := func(url string) int {
		req, err := http.NewRequest(http.MethodPut, url, strings.NewReader(`{"Status":"SUCCESS","UniqueId":"i-1"}`))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := put(g.Env["SIGNAL_URL"]); got != http.StatusOK || <-signalled != s.group.Token {
		t.Errorf("a signal was answered %d", got)
	}
	if got := put(g.Env["SIGNAL_URL"] + "x"); got != http.StatusNotFound {
		t.Errorf("a signal to a wrong address was answered %d", got)
	}
}

func TestGroupIsToldOfOtherChecksAndLaunches(t *testing.T) {
	t.Parallel()
	s := newBalancedSite(t, Options{})
	targets := machinetest.Request(balance.TargetGroupType, "Targets", object{"Port": "80", "Protocol": "HTTP", "HealthCheckPath": "/well"})
	if _, err := machinetest.Handler(t, s.p, targets.Type).Update(t.Context(), targets); err != nil {
		t.Fatal(err)
	}
	s.group.Properties["LaunchTemplate"].(object)["Version"] = "$Latest"
	h := machinetest.Handler(t, s.p, s.group.Type)
	if _, err := h.Update(t.Context(), s.group); err != nil {
		t.Fatal(err)
	}
	s.template.Properties = object{"LaunchTemplateData": launchData("two")}
	if _, err := machinetest.Handler(t, s.p, templateType).Update(t.Context(), s.template); err != nil {
		t.Fatal(err)
	}
	g, err := s.p.fleets.Get(t.Context(), s.group.Token)
	if err != nil || g.Checks[0].Path != "/well" || g.Env["USER_DATA"] != "two" || len(g.Fleet().Instances) != 2 {
		t.Errorf("the group is %+v, %v", g, err)
	}
	s.group.Properties["LaunchTemplate"].(object)["Version"] = "3"
	if err := h.Check(t.Context(), s.group); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "has 2") {
		t.Errorf("a version that is not: %v", err)
	}
}
