package database

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

// ask sends one command to a Redis and gives the first line of the answer.
func ask(t *testing.T, made stack.Result, command string) string {
	t.Helper()
	address := net.JoinHostPort(machinetest.Attribute(t, made, "RedisEndpoint.Address"), machinetest.Attribute(t, made, "RedisEndpoint.Port"))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	words := strings.Fields(command)
	fmt.Fprintf(conn, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(word), word)
	}
	reader := bufio.NewReader(conn)
	answer, err := reader.ReadString('\n')
	if err == nil && strings.HasPrefix(answer, "$") && answer != "$-1\r\n" {
		answer, err = reader.ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

func TestRedisContract(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	p := onMachine(t, machine.Options{})
	larger := databasetest.Cluster()
	larger["CacheNodeType"] = "cache.m7g.large"
	invalid := databasetest.Cluster()
	invalid["Engine"] = "memcached"
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	stacktest.Handler(t, machinetest.Handler(t, p, r.Type), stacktest.Case{
		Name: "redis", Request: r, Update: larger, Invalid: invalid,
		Count: func() int {
			return len(machinetest.Processes(t, p.Folder(machine.Requested(r)))) + redisCount(t, p, r.Token)
		},
	})
}

// redisCount is 1 if the server of token runs; a redis-server shows its
// address, not its arguments, as its command line.
func redisCount(t *testing.T, p *Databases, token string) int {
	t.Helper()
	all, err := p.Keeper.List()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, running := range all {
		if running.Name == token && running.Alive() {
			n++
		}
	}
	return n
}

func TestRedisKeepsDataAndAddressWhenKilled(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	p := onMachine(t, machine.Options{})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	made := machinetest.Create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	machinetest.Kill(t, p.Machine, r.Token)
	if _, err := machinetest.Handler(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a killed server: %v; want unavailable", err)
	}
	// As after a restart of makeitso: another platform on the same folder.
	again, err := open(p.Options)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("after a kill and Resume, GET cart gives %q; want 7", got)
	}
	before, err := again.Keeper.Find(r.Token)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := again.Keeper.Find(r.Token); err != nil || after.PID != before.PID {
		t.Errorf("Resume touched a server that ran: %v, %v", after, err)
	}
}

func TestRedisThatCannotComeUpIsExplained(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	p := onMachine(t, machine.Options{})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	machinetest.Create(t, p, r)
	res, err := p.Load(r.Token)
	if err != nil {
		t.Fatal(err)
	}
	machinetest.Kill(t, p.Machine, r.Token)
	thief, err := net.Listen("tcp", machine.Loopback(res.Port))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Resume(t.Context())
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), fmt.Sprintf("another program has port %d", res.Port)) {
		t.Errorf("with its port taken: %v; want a failure that names port %d", err, res.Port)
	}
	if err := thief.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Errorf("with its port free again: %v", err)
	}
}

func TestAPortLostBeforeTheFirstStartIsReplaced(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	p := onMachine(t, machine.Options{})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	res := machine.Requested(r) // as a killed Create would leave it
	if err := p.ClaimPort(res); err != nil {
		t.Fatal(err)
	}
	thief, err := net.Listen("tcp", machine.Loopback(res.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	made := machinetest.Create(t, p, r)
	if got := ask(t, made, "PING"); got != "+PONG" || machinetest.Attribute(t, made, "RedisEndpoint.Port") == fmt.Sprint(res.Port) {
		t.Errorf("PING gives %q on port %v", got, made.Attributes)
	}
}

func TestEmbeddedRedisAnnouncesItself(t *testing.T) {
	t.Parallel()
	var said []string
	p := onMachine(t, machine.Options{
		Path: []string{t.TempDir()}, DockerHost: "unix:///no/docker.sock", Embedded: true,
		Announce: func(text string) { said = append(said, text) },
	})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	made := machinetest.Create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("GET cart gives %q; want 7", got)
	}
	if len(said) != 1 || !strings.Contains(said[0], "data/Redis: a stand-in") {
		t.Errorf("announced %q", said)
	}
}
