package local

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/resp"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

// drifting is a stack on a platform of the test's own.
type drifting struct {
	t      *testing.T
	p      *Platform
	engine *stack.Engine
}

func newDrifting(t *testing.T, template string) drifting {
	t.Helper()
	return newDriftingOn(t, newPlatform(t, Options{}), template)
}

func newDriftingOn(t *testing.T, p *Platform, template string) drifting {
	t.Helper()
	d := drifting{t, p, stack.New("local", p, record.NewMemory(), stack.Options{Holder: "test"})}
	d.apply(template)
	return d
}

func (d drifting) apply(template string) {
	d.t.Helper()
	cs, err := d.engine.Plan(d.t.Context(), changeset.Change{Stack: "app", Template: []byte(template)})
	if err == nil {
		err = d.engine.Apply(d.t.Context(), cs, nil)
	}
	if err != nil {
		d.t.Fatal(fault.Text(err))
	}
}

// look gives what has drifted by logical id, after the policy has acted.
func (d drifting) look(policy stack.DriftPolicy) map[string]stack.ResourceDrift {
	d.t.Helper()
	found, err := d.engine.Drift(d.t.Context(), "app", policy, nil)
	if err != nil {
		d.t.Fatal(fault.Text(err))
	}
	drifted := map[string]stack.ResourceDrift{}
	for _, r := range found.Resources {
		if r.Status != stack.InSync {
			drifted[r.LogicalID] = r
		}
	}
	return drifted
}

func (d drifting) wantInSync(policy stack.DriftPolicy) {
	d.t.Helper()
	if drifted := d.look(policy); len(drifted) != 0 {
		d.t.Errorf("with policy %s, this has drifted: %+v", policy, drifted)
	}
}

// wantModified wants one difference of one resource.
func (d drifting) wantModified(id, path string, expected, actual any) {
	d.t.Helper()
	drifted := d.look(stack.ReportDrift)
	got := drifted[id]
	if len(drifted) != 1 || got.Status != stack.Modified || len(got.Differences) != 1 ||
		got.Differences[0].Path != path || got.Differences[0].Expected != expected || got.Differences[0].Actual != actual {
		d.t.Errorf("got %+v; want %s %s: %v, %v", drifted, id, path, expected, actual)
	}
}

// portOf gives the port of a cluster.
func portOf(t *testing.T, made stack.Result) int {
	t.Helper()
	port, isNumber := number(attribute(t, made, "RedisEndpoint.Port"))
	if !isNumber {
		t.Fatalf("the port is %v", made.Attributes)
	}
	return port
}

const cache = `
Resources:
  Group:
    Type: AWS::ElastiCache::ParameterGroup
    Properties:
      CacheParameterGroupFamily: redis7
      Description: small
      Properties: {maxmemory: 100mb, maxmemory-policy: allkeys-lru, reserved-memory-percent: 25}
  Cache:
    Type: AWS::ElastiCache::CacheCluster
    Properties: {Engine: redis, CacheNodeType: cache.t4g.micro, NumCacheNodes: 1, CacheParameterGroupName: !Ref Group}
`

func TestDriftOfRedis(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	d := newDrifting(t, cache)
	resources, err := d.engine.Resources(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]stack.Result{}
	for _, r := range resources {
		made[r.LogicalID] = stack.Result{PhysicalID: r.PhysicalID, Attributes: r.Attributes}
	}
	parameter := func(name string) string {
		t.Helper()
		value, _, err := resp.Server{Port: portOf(t, made["Cache"])}.Parameter(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	if policy, memory := parameter("maxmemory-policy"), parameter("maxmemory"); policy != "allkeys-lru" || memory != "104857600" {
		t.Fatalf("the server has maxmemory-policy %s and maxmemory %s", policy, memory)
	}
	d.wantInSync(stack.ReportDrift) // 100mb is 104857600, and nothing has a reserved-memory-percent
	if got := ask(t, made["Cache"], "CONFIG SET maxmemory-policy volatile-ttl"); got != "+OK" {
		t.Fatal(got)
	}
	d.wantModified("Group", "/Properties/maxmemory-policy", "allkeys-lru", "volatile-ttl")
	d.wantInSync(stack.RepairDrift)
	if got := parameter("maxmemory-policy"); got != "allkeys-lru" {
		t.Errorf("repaired, maxmemory-policy is %s", got)
	}

	ask(t, made["Cache"], "CONFIG SET maxmemory 5000000")
	d.wantModified("Group", "/Properties/maxmemory", "100mb", "5000000")
	d.wantInSync(stack.AdoptDrift)
	if got := parameter("maxmemory"); got != "5000000" {
		t.Errorf("adopted, maxmemory is %s", got)
	}

	// A parameter that a group does not set any more is what it was before.
	d.apply(`
Resources:
  Cache:
    Type: AWS::ElastiCache::CacheCluster
    Properties: {Engine: redis, CacheNodeType: cache.t4g.micro, NumCacheNodes: 1}
`)
	if policy, memory := parameter("maxmemory-policy"), parameter("maxmemory"); policy != "noeviction" || memory != "0" {
		t.Errorf("without a group, the server has maxmemory-policy %s and maxmemory %s", policy, memory)
	}
}

func TestRedisKeepsItsParametersWhenKilled(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	p := newPlatform(t, Options{})
	group := request("AWS::ElastiCache::ParameterGroup", "Group", map[string]any{"CacheParameterGroupName": "Small", "Properties": map[string]any{"maxmemory-policy": "allkeys-lru"}})
	create(t, p, group)
	properties := redisProperties()
	properties["CacheParameterGroupName"] = "small"
	r := request("AWS::ElastiCache::CacheCluster", "Redis", properties)
	made := create(t, p, r)
	killServer(t, p, r.Token)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := (resp.Server{Port: portOf(t, made)}).Parameter(t.Context(), "maxmemory-policy"); err != nil || got != "allkeys-lru" {
		t.Errorf("after a kill and Resume, maxmemory-policy is %q (%v)", got, err)
	}
	group.Properties = map[string]any{"CacheParameterGroupName": "Small", "Properties": map[string]any{"maxmemory-policy": "never"}}
	if _, err := handlerOf(t, p, group.Type).Update(t.Context(), group); !fault.Is(err, fault.Invalid) {
		t.Errorf("a value that the server refuses gives %v", err)
	}
}

const publicSite = `
Resources:
  Site:
    Type: AWS::S3::Bucket
    Properties: {BucketName: site, VersioningConfiguration: {Status: Enabled}, WebsiteConfiguration: {IndexDocument: index.html}}
  Open:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Site
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: "*", Action: "s3:GetObject", Resource: "arn:aws:s3:::site/*"}
`

func TestDriftOfABucket(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, publicSite)
	c, err := d.p.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, name := c.Client(), aws.String("site")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d.wantInSync(stack.ReportDrift)

	must(client.DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: name}))
	if drifted := d.look(stack.ReportDrift); len(drifted) != 1 || drifted["Open"].Status != stack.Deleted {
		t.Errorf("without its policy: %+v", drifted)
	}
	d.wantInSync(stack.RepairDrift)
	must(client.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: name}))

	wider := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::site/*"}]}`
	must(client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: name, Policy: &wider}))
	d.wantModified("Open", "/PolicyDocument/Statement/0/Action", "s3:GetObject", "s3:*")
	d.wantInSync(stack.RepairDrift)

	must(client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
	}))
	d.wantModified("Site", "/VersioningConfiguration/Status", "Enabled", "Suspended")
	d.wantInSync(stack.RepairDrift)

	must(client.DeleteBucketWebsite(t.Context(), &s3.DeleteBucketWebsiteInput{Bucket: name}))
	if drifted := d.look(stack.ReportDrift); len(drifted) != 1 || drifted["Site"].Status != stack.Modified {
		t.Errorf("without its website: %+v", drifted)
	}
	d.wantInSync(stack.RepairDrift)

	// Gone whole, it is given up, and made anew under its name by the next apply.
	must(client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: name}))
	if drifted := d.look(stack.ReportDrift); drifted["Site"].Status != stack.Deleted || drifted["Open"].Status != stack.Deleted {
		t.Errorf("without the bucket: %+v", drifted)
	}
	d.wantInSync(stack.AdoptDrift)
	d.apply(publicSite)
	d.wantInSync(stack.ReportDrift)
	must(client.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: name}))
}
