package database

import (
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/resp"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

// portOf gives the port of a cluster.
func portOf(t *testing.T, made stack.Result) int {
	t.Helper()
	port, isNumber := machine.Number(machinetest.Attribute(t, made, "RedisEndpoint.Port"))
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
	d := drift(t, cache)
	resources, err := d.Engine.Resources(t.Context(), "app")
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
	d.WantInSync(stack.ReportDrift) // 100mb is 104857600, and nothing has a reserved-memory-percent
	if got := ask(t, made["Cache"], "CONFIG SET maxmemory-policy volatile-ttl"); got != "+OK" {
		t.Fatal(got)
	}
	d.WantModified("Group", "/Properties/maxmemory-policy", "allkeys-lru", "volatile-ttl")
	d.WantInSync(stack.RepairDrift)
	if got := parameter("maxmemory-policy"); got != "allkeys-lru" {
		t.Errorf("repaired, maxmemory-policy is %s", got)
	}

	ask(t, made["Cache"], "CONFIG SET maxmemory 5000000")
	d.WantModified("Group", "/Properties/maxmemory", "100mb", "5000000")
	d.WantInSync(stack.AdoptDrift)
	if got := parameter("maxmemory"); got != "5000000" {
		t.Errorf("adopted, maxmemory is %s", got)
	}

	// A parameter that a group does not set any more is what it was before.
	d.Apply(`
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
	p := onMachine(t, machine.Options{})
	group := machinetest.Request("AWS::ElastiCache::ParameterGroup", "Group", map[string]any{"CacheParameterGroupName": "Small", "Properties": map[string]any{"maxmemory-policy": "allkeys-lru"}})
	machinetest.Create(t, p, group)
	properties := databasetest.Cluster()
	properties["CacheParameterGroupName"] = "small"
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", properties)
	made := machinetest.Create(t, p, r)
	machinetest.Kill(t, p.Machine, r.Token)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := (resp.Server{Port: portOf(t, made)}).Parameter(t.Context(), "maxmemory-policy"); err != nil || got != "allkeys-lru" {
		t.Errorf("after a kill and Resume, maxmemory-policy is %q (%v)", got, err)
	}
	group.Properties = map[string]any{"CacheParameterGroupName": "Small", "Properties": map[string]any{"maxmemory-policy": "never"}}
	if _, err := machinetest.Handler(t, p, group.Type).Update(t.Context(), group); !fault.Is(err, fault.Invalid) {
		t.Errorf("a value that the server refuses gives %v", err)
	}
}
