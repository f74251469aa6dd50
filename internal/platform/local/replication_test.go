package local

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

const needRedis = "apt-get install redis-server"

// carts is a replication group of the stack "data".
func carts(more map[string]any) stack.Request {
	properties := map[string]any{"ReplicationGroupDescription": "carts", "NumCacheClusters": "2", "CacheNodeType": "cache.t4g.micro"}
	maps.Copy(properties, more)
	return request(groupType, "Carts", properties)
}

// dial gives one connection to the server of an endpoint.
func dial(t *testing.T, made stack.Result, endpoint, password string) *goredis.Conn {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{
		Addr:     net.JoinHostPort(attribute(t, made, endpoint+".Address"), attribute(t, made, endpoint+".Port")),
		Password: password, MaxRetries: -1,
	})
	conn := c.Conn()
	t.Cleanup(func() { conn.Close(); c.Close() })
	return conn
}

// wantValue wants a server to have cart.
func wantValue(t *testing.T, when string, c *goredis.Conn, want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), "cart").Result(); err != nil || got != want {
		t.Errorf("%s, GET cart gives %q (%v); want %q", when, got, err, want)
	}
}

// putCart writes cart to a primary and waits until so many replicas have it.
func putCart(t *testing.T, c *goredis.Conn, value string, replicas int) {
	t.Helper()
	if err := c.Set(t.Context(), "cart", value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Wait(t.Context(), replicas, 10*time.Second).Result(); err != nil || int(n) != replicas {
		t.Fatalf("%d replicas have it (%v); want %d", n, err, replicas)
	}
}

func change(t *testing.T, p *Platform, r *stack.Request, change map[string]any) (stack.Result, error) {
	t.Helper()
	r.Previous, r.Properties = r.Properties, maps.Clone(r.Properties)
	maps.Copy(r.Properties, change)
	return handlerOf(t, p, r.Type).Update(t.Context(), *r)
}

func mustChange(t *testing.T, p *Platform, r *stack.Request, properties map[string]any) stack.Result {
	t.Helper()
	made, err := change(t, p, r, properties)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	return made
}

func TestReplicationGroupContract(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := carts(nil)
	stacktest.Handler(t, handlerOf(t, p, r.Type), stacktest.Case{
		Name: "group", Request: r, Update: carts(map[string]any{"NumCacheClusters": "3"}).Properties,
		Invalid: carts(map[string]any{"NumNodeGroups": "2"}).Properties,
		Count:   func() int { return redisCount(t, p, r.Token+"-001") },
	})
	if left, err := p.resources(); err != nil || len(left) != 0 {
		t.Errorf("left of a deleted group: %v, %v", left, err)
	}
}

func TestReplicasReplicateAndComeAndGo(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	const token = "a token of many letters"
	r := carts(map[string]any{"AuthToken": strings.ReplaceAll(token, " ", "-"), "AutomaticFailoverEnabled": "true"})
	password := r.Properties["AuthToken"].(string)
	made := create(t, p, r)
	primary, reader := dial(t, made, "PrimaryEndPoint", password), dial(t, made, "ReaderEndPoint", password)
	putCart(t, primary, "7", 1)
	wantValue(t, "on the replica", reader, "7")
	if err := dial(t, made, "ReaderEndPoint", password).Set(t.Context(), "cart", "8", 0).Err(); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("a replica that is written to: %v", err)
	}
	if err := dial(t, made, "PrimaryEndPoint", "").Get(t.Context(), "cart").Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without the AuthToken: %v", err)
	}
	for name, want := range map[string]string{
		"ReadEndPoint.Addresses": "[127.0.0.1, 127.0.0.1]",
		"ReadEndPoint.Ports":     "[" + attribute(t, made, "PrimaryEndPoint.Port") + ", " + attribute(t, made, "ReaderEndPoint.Port") + "]",
	} {
		if got := attribute(t, made, name); got != want {
			t.Errorf("%s is %s; want %s", name, got, want)
		}
	}

	// 2, 3, 1: nobody else's connection ends, and another password cuts none off.
	larger := mustChange(t, p, &r, map[string]any{"NumCacheClusters": "3"})
	putCart(t, primary, "8", 2)
	if ports := larger.Attributes["ReadEndPoint.PortsList"].([]any); len(ports) != 3 || ports[0] != attribute(t, made, "PrimaryEndPoint.Port") {
		t.Errorf("ports %v", ports)
	}
	wantValue(t, "on the replica that stays", reader, "8")
	password = "another-token-of-letters"
	// As a makeitso leaves it that is killed while it changes the token.
	set := goredis.NewStatusCmd(t.Context(), "CONFIG", "SET", "requirepass", password)
	if err := primary.Process(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	mustChange(t, p, &r, map[string]any{"AuthToken": password})
	putCart(t, primary, "9", 2)
	smaller := mustChange(t, p, &r, map[string]any{"NumCacheClusters": "1", "AutomaticFailoverEnabled": "false"})
	wantValue(t, "on the primary alone", primary, "9")
	if p1, p2 := attribute(t, smaller, "ReaderEndPoint.Port"), attribute(t, made, "PrimaryEndPoint.Port"); p1 != p2 {
		t.Errorf("without replicas, the reader is at %s; want %s", p1, p2)
	}
	if err := reader.Ping(t.Context()).Err(); err == nil {
		t.Error("a replica that was taken away still answers")
	}
	wantValue(t, "with the new token", dial(t, smaller, "PrimaryEndPoint", password), "9")
}

func TestKilledNodesComeBackWithTheirDataAndAddresses(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := carts(nil)
	made := create(t, p, r)
	putCart(t, dial(t, made, "PrimaryEndPoint", ""), "7", 1)
	for _, killed := range [][]string{{"-001"}, {"-002"}, {"-001", "-002"}} {
		for _, node := range killed {
			killServer(t, p, r.Token+node)
		}
		if _, err := handlerOf(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("read with %v killed: %v; want unavailable", killed, err)
		}
		if err := p.Resume(t.Context()); err != nil {
			t.Fatal(fault.Text(err))
		}
		primary := dial(t, made, "PrimaryEndPoint", "")
		wantValue(t, "after a kill, the primary", primary, "7")
		putCart(t, primary, "7", 1)
		wantValue(t, "after a kill, the replica", dial(t, made, "ReaderEndPoint", ""), "7")
	}
}

func TestAReplicaThatDoesNotReachItsPrimary(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := carts(nil)
	made := create(t, p, r)
	reader := dial(t, made, "ReaderEndPoint", "")
	if err := reader.Process(t.Context(), goredis.NewStatusCmd(t.Context(), "REPLICAOF", "127.0.0.1", "1")); err != nil {
		t.Fatal(err)
	}
	_, err := handlerOf(t, p, r.Type).Read(t.Context(), r)
	port := attribute(t, made, "PrimaryEndPoint.Port")
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "does not reach its primary on port "+port) || !strings.Contains(fault.HintOf(err), "redis-cli -p "+port+" ping") {
		t.Errorf("read: %s", fault.Text(err))
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	putCart(t, dial(t, made, "PrimaryEndPoint", ""), "7", 1)
}

func TestAKilledCreateOfAGroupIsGoneOnWith(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := carts(nil)
	left := requested(r) // as it is when the first node has just been begun
	left.PhysicalID = "data-carts"
	if err := p.save(left); err != nil {
		t.Fatal(err)
	}
	half := &resource{Resource: model.Resource{Token: r.Token + "-001", Type: clusterType, Stack: "data", LogicalID: "Carts-001"}, Group: r.Token}
	if err := p.claimPort(half); err != nil {
		t.Fatal(err)
	}
	made := create(t, p, r)
	putCart(t, dial(t, made, "PrimaryEndPoint", ""), "7", 1)
	if err := handlerOf(t, p, r.Type).Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if running, err := p.keeper.List(); err != nil || len(running) != 0 {
		t.Errorf("left running: %v %v", running, err)
	}
}

func TestGroupsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	for _, c := range []struct {
		properties map[string]any
		want       string
	}{
		{map[string]any{"NumNodeGroups": "3"}, "NumNodeGroups is 3, and data is not sharded"},
		{map[string]any{"NodeGroupConfiguration": []any{map[string]any{}, map[string]any{}}}, "NumNodeGroups is 2"},
		{map[string]any{"ClusterMode": "enabled"}, "ClusterMode is enabled"},
		{map[string]any{"NumCacheClusters": "7"}, "NumCacheClusters is 7; a group has a primary and up to 5 replicas"},
		{map[string]any{"ReplicasPerNodeGroup": "6"}, "ReplicasPerNodeGroup is 6"},
		{map[string]any{"NumCacheClusters": "1", "AutomaticFailoverEnabled": "true"}, "AutomaticFailoverEnabled is true"},
		{map[string]any{"AuthToken": "short"}, "AuthToken is not 16 to 128"},
		{map[string]any{"AuthToken": "with-a-slash/and-more"}, "AuthToken is not"},
		{map[string]any{"PrimaryClusterId": "other"}, "PrimaryClusterId has no counterpart"},
		{map[string]any{"Engine": "memcached"}, `Engine "memcached" is not served`},
		{map[string]any{"EngineVersion": "5.0.6"}, "EngineVersion is 5.0.6, and redis-server"},
		{map[string]any{"SnapshotName": "none-such"}, `SnapshotName "none-such" is no snapshot of environment local`},
		{map[string]any{"SnapshotArns": []any{"arn:aws:s3:::bucket"}}, "is not the ARN of a file"},
	} {
		r := carts(c.properties)
		if err := handlerOf(t, p, r.Type).Check(t.Context(), r); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %s", c.properties, err, c.want)
		}
	}
	none := newPlatform(t, Options{Path: []string{t.TempDir()}, DockerHost: "unix:///no/docker.sock", Embedded: true})
	r := carts(nil)
	if err := handlerOf(t, none, r.Type).Check(t.Context(), r); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "for replicas") {
		t.Errorf("replicas without a program: %v", err)
	}
}

// TestParametersThatRestart changes what Redis takes when it starts, among
// them a value with which it does not.
func TestParametersThatRestart(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	group := request("AWS::ElastiCache::ParameterGroup", "Group", map[string]any{
		"CacheParameterGroupName": "small", "Properties": map[string]any{"maxmemory": "100mb"},
	})
	group.PhysicalID = create(t, p, group).PhysicalID
	r := carts(map[string]any{"CacheParameterGroupName": "small"})
	made := create(t, p, r)
	primary := dial(t, made, "PrimaryEndPoint", "")
	putCart(t, primary, "7", 1)

	warned := func(parameters map[string]any) []string {
		t.Helper()
		planned := group
		planned.Token, planned.Properties = "", map[string]any{"CacheParameterGroupName": "small", "Properties": parameters}
		told, err := handlerOf(t, p, group.Type).(stack.Warner).Warn(t.Context(), planned)
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	if told := warned(map[string]any{"maxmemory": "200mb"}); len(told) != 0 {
		t.Errorf("told of maxmemory: %q", told)
	}
	mustChange(t, p, &group, map[string]any{"Properties": map[string]any{"maxmemory": "200mb"}})
	wantValue(t, "with another maxmemory, over the same connection", primary, "7")

	if told := warned(map[string]any{"databases": "3"}); len(told) != 2 || !strings.Contains(told[0], "the server of data/Carts-001 is restarted, with its data, for databases") {
		t.Errorf("told of databases: %q", told)
	}
	mustChange(t, p, &group, map[string]any{"Properties": map[string]any{"databases": "3"}})
	wantDatabases := func(when, want string) {
		t.Helper()
		for _, endpoint := range []string{"PrimaryEndPoint", "ReaderEndPoint"} {
			c := dial(t, made, endpoint, "")
			got, err := c.ConfigGet(t.Context(), "databases").Result()
			if err != nil || got["databases"] != want {
				t.Errorf("%s, %s has %v, %v; want %s databases", when, endpoint, got, err, want)
			}
			wantValue(t, when, c, "7")
		}
	}
	wantDatabases("restarted", "3")
	if _, err := change(t, p, &group, map[string]any{"Properties": map[string]any{"databases": "none"}}); err == nil || !strings.Contains(fault.HintOf(err), "couldn't be parsed") {
		t.Errorf("a value that Redis does not start with: %s", fault.Text(err))
	}
	wantDatabases("after a failure", "3")
	killServer(t, p, r.Token+"-001")
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	wantDatabases("killed", "3")
	mustChange(t, p, &group, map[string]any{"Properties": map[string]any{"maxmemory": "100mb"}})
	wantDatabases("without the parameter", "16")
}

func TestRedisSnapshotsOutliveAllAndStartNewOnes(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := carts(map[string]any{"AuthToken": "a-token-of-many-letters"})
	made := create(t, p, r)
	putCart(t, dial(t, made, "PrimaryEndPoint", "a-token-of-many-letters"), "7", 1)
	name := snapshotOf(t, p, r)
	if again := snapshotOf(t, p, r); again != name {
		t.Errorf("a second snapshot is %s; want %s", again, name)
	}
	killServer(t, p, r.Token+"-001") // one that does not run has its data all the same
	snapshotOf(t, p, r)
	if err := handlerOf(t, p, r.Type).Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if again := snapshotOf(t, p, r); again != name {
		t.Errorf("when all is deleted, the snapshot is %q", again)
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}

	second := carts(map[string]any{"SnapshotName": name})
	second.Token = "data-Carts-2"
	made = create(t, p, second)
	wantValue(t, "from the snapshot", dial(t, made, "PrimaryEndPoint", ""), "7")
	wantValue(t, "from the snapshot, the replica", dial(t, made, "ReaderEndPoint", ""), "7")
	putCart(t, dial(t, made, "PrimaryEndPoint", ""), "8", 1)
	killServer(t, p, second.Token+"-001")
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	wantValue(t, "after a kill, not the snapshot", dial(t, made, "PrimaryEndPoint", ""), "8")

	properties := redisProperties()
	properties["SnapshotName"] = name
	single := create(t, p, request(clusterType, "Single", properties))
	if got := ask(t, single, "GET cart"); got != "7" {
		t.Errorf("a cluster from the snapshot of a group has %q", got)
	}
	database := request(databaseType, "Database", map[string]any{"Engine": "postgres", "DBSnapshotIdentifier": name})
	if err := handlerOf(t, p, database.Type).Check(t.Context(), database); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "which is a snapshot of data/Carts") {
		t.Errorf("a database from it: %v", err)
	}
}

// snapshotOf keeps a snapshot and gives its name.
func snapshotOf(t *testing.T, p *Platform, r stack.Request) string {
	t.Helper()
	where, err := handlerOf(t, p, r.Type).(stack.Snapshotter).Snapshot(t.Context(), r)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	name, folder, _ := strings.Cut(strings.TrimSuffix(where, ")"), " (")
	if info, err := os.Stat(filepath.Join(folder, "snapshot.json")); err != nil || info.Mode().Perm() != 0o600 || filepath.Base(folder) != name {
		t.Fatalf("the snapshot is %q: %v", where, err)
	}
	return name
}

func TestRedisStartsFromAFileOfABucket(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	first := request(clusterType, "First", redisProperties())
	if got := ask(t, create(t, p, first), "SET cart 7"); got != "+OK" {
		t.Fatal(got)
	}
	dump, err := os.ReadFile(filepath.Join(p.snapshots(), snapshotOf(t, p, first), redisDump))
	if err != nil {
		t.Fatal(err)
	}
	create(t, p, request("AWS::S3::Bucket", "Dumps", map[string]any{"BucketName": "dumps"}))
	put(t, contentOf(t, p, "dumps"), "a/dump.rdb", string(dump), nil)
	properties := redisProperties()
	properties["SnapshotArns"] = []any{"arn:aws:s3:::dumps/a/dump.rdb"}
	if got := ask(t, create(t, p, request(clusterType, "Second", properties)), "GET cart"); got != "7" {
		t.Errorf("from a file of a bucket, GET cart gives %q", got)
	}
	properties = redisProperties()
	properties["SnapshotArns"] = []any{"arn:aws:s3:::dumps/none"}
	if _, err := handlerOf(t, p, clusterType).Create(t.Context(), request(clusterType, "Third", properties)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "get arn:aws:s3:::dumps/none") {
		t.Errorf("from a file that is not there: %v", err)
	}
}

// TestRedisOnAFullDisk needs a disk of its own to fill.
func TestRedisOnAFullDisk(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{State: smallDisk(t, 4<<20)})
	r := request(clusterType, "Redis", redisProperties())
	made := create(t, p, r)
	room := fillUp(t, p.o.State)
	c := dial(t, made, "RedisEndpoint", "")
	for range 100 { // it refuses from its second write on
		if err := c.Set(t.Context(), "cart", strings.Repeat("x", 10000), 0).Err(); err != nil {
			break
		}
	}
	_, err := handlerOf(t, p, r.Type).Read(t.Context(), r)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "cannot write its data") || !strings.Contains(fault.HintOf(err), "df -h") {
		t.Errorf("on a full disk: %s", fault.Text(err))
	}
	killServer(t, p, r.Token)
	if err := p.Resume(t.Context()); err == nil || !strings.Contains(fault.Text(err), "df -h") {
		t.Errorf("start on a full disk: %v", err)
	}
	room()
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if err := dial(t, made, "RedisEndpoint", "").Set(t.Context(), "cart", "7", 0).Err(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestDataThatSomebodyTookAway(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	r := request(clusterType, "Redis", redisProperties())
	made := create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatal(got)
	}
	killServer(t, p, r.Token)
	data := p.dataFolder(requested(r))
	if err := os.Rename(data, data+".away"); err != nil {
		t.Fatal(err)
	}
	err := p.Resume(t.Context())
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "the data of data/Redis is gone: there is no "+data) || !strings.Contains(fault.Text(err), "put the folder back") {
		t.Errorf("without its data: %s", fault.Text(err))
	}
	if where, err := handlerOf(t, p, r.Type).(stack.Snapshotter).Snapshot(t.Context(), r); where != "" || err != nil {
		t.Errorf("a snapshot of nothing: %q, %v", where, err)
	}
	if err := os.Rename(data+".away", data); err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("with its data again, GET cart gives %q", got)
	}
}

func TestWhatAGroupMeansHereIsSaid(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	p := newPlatform(t, Options{})
	path, _ := p.findProgram("redis-server")
	is, err := versionOf(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	r := carts(map[string]any{"AutomaticFailoverEnabled": "true", "TransitEncryptionEnabled": "true", "EngineVersion": major(is) + ".99"})
	if err := handlerOf(t, p, r.Type).Check(t.Context(), r); err != nil {
		t.Errorf("another minor version is refused: %v", err)
	}
	told, err := handlerOf(t, p, r.Type).(stack.Warner).Warn(t.Context(), r)
	text := strings.Join(told, "\n")
	for _, want := range []string{"version " + is + " serves", "no replica takes its place", "without TLS"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("told %q, %v; want %s", text, err, want)
		}
	}
}

// TestAStackIsWarnedAndKeepsItsSnapshot goes through the engine, as users do.
func TestAStackIsWarnedAndKeepsItsSnapshot(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	const template = `
Resources:
  Group:
    Type: AWS::ElastiCache::ParameterGroup
    Properties: {CacheParameterGroupFamily: redis7, Description: small, Properties: {databases: DATABASES}}
  Carts:
    Type: AWS::ElastiCache::ReplicationGroup
    DeletionPolicy: Snapshot
    Properties: {ReplicationGroupDescription: carts, NumCacheClusters: 2, CacheParameterGroupName: !Ref Group}
Outputs:
  All: {Value: !Join [",", !GetAtt Carts.ReadEndPoint.Ports.List]}
`
	d := newDrifting(t, strings.Replace(template, "DATABASES", "2", 1))
	cs, err := d.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(strings.Replace(template, "DATABASES", "3", 1))})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := cs.WriteText(&text); err != nil || !strings.Contains(text.String(), "app.yaml: warning: Group: some interruption: the server of app/Carts-001 is restarted, with its data, for databases") {
		t.Errorf("the plan reads %v\n%s", err, text.String())
	}
	d.wantInSync(stack.ReportDrift)
	if _, err := d.engine.Plan(t.Context(), changeset.Change{Stack: "app", Template: []byte(strings.Replace(template, "NumCacheClusters: 2", `NumCacheClusters: 2, EngineVersion: "3.2"`, 1))}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "EngineVersion is 3.2, and redis-server") {
		t.Errorf("a plan with a version that is not installed: %v", err)
	}
	told := ""
	if err := d.engine.Delete(t.Context(), "app", func(e stack.Event) { told += e.Reason + "\n" }); err != nil {
		t.Fatal(err)
	}
	if want := "snapshot kept: app-snapshot-carts-"; !strings.Contains(told, want) || !strings.Contains(told, d.p.snapshots()) {
		t.Errorf("told %q; want %s and where", told, want)
	}
}

func TestEndpointsInOrder(t *testing.T) {
	t.Parallel()
	got := endpoints([]*resource{{Port: 1}, {Port: 2}, {Port: 3}})
	for name, want := range map[string]string{
		"PrimaryEndPoint.Port": "1", "ReaderEndPoint.Port": "2", "ReadEndPoint.Ports": "[1, 2, 3]",
	} {
		if got[name] != want {
			t.Errorf("%s is %v; want %s", name, got[name], want)
		}
	}
	if _, err := strconv.Atoi(got["ReadEndPoint.Ports.List"].([]any)[2].(string)); err != nil {
		t.Error(err)
	}
}
