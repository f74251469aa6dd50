package database

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/testneed"
)

func TestKeepBringsBackWhatEndsAndNothingElse(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	told := make(chan string, 10)
	p := onMachine(t, machine.Options{Announce: func(text string) { told <- text }})
	keeping, stop := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { p.Keep(keeping) })
	defer kept.Wait()
	defer stop()

	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	made := machinetest.Create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	for range 2 { // it comes back as often as it ends
		machinetest.Kill(t, p.Machine, r.Token)
		select {
		case text := <-told:
			if !strings.Contains(text, "was started again") {
				t.Fatal(text)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the killed server did not come back in 20 s")
		}
		if got := ask(t, made, "GET cart"); got != "7" {
			t.Fatalf("after the kill, GET cart gives %q; want 7", got)
		}
	}
	if err := machinetest.Handler(t, p, r.Type).Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	// Another resource makes it look again: then it has seen the deletion.
	other := machinetest.Request("AWS::ElastiCache::CacheCluster", "Other", databasetest.Cluster())
	machinetest.Create(t, p, other)
	if left := machinetest.Processes(t, p.Folder(machine.Requested(r))); len(left) != 0 {
		t.Errorf("a deleted server was brought back: %v", left)
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	kept.Wait()
	if all, err := p.Keeper.List(); err != nil || len(all) != 0 {
		t.Errorf("after Destroy: %v %v", all, err)
	}
	select {
	case text := <-told:
		t.Errorf("told too much: %s", text)
	default:
	}
}

// TestKeepTriesAgainWhatDidNotComeBack has another program on the port of a
// server when the environment is resumed.
func TestKeepTriesAgainWhatDidNotComeBack(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	told := make(chan string, 100)
	p := onMachine(t, machine.Options{Announce: func(text string) { told <- text }})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	made := machinetest.Create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	machinetest.Kill(t, p.Machine, r.Token)
	other, err := net.Listen("tcp", "127.0.0.1:"+machinetest.Attribute(t, made, "RedisEndpoint.Port"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(t.Context()); err == nil || !strings.Contains(err.Error(), "another program has port") {
		t.Errorf("resume answered %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	keeping, stop := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { p.Keep(keeping) })
	defer kept.Wait()
	defer stop()
	select {
	case text := <-told:
		if !strings.Contains(text, "is there again") {
			t.Error(text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("what had not come back is not tried again")
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("GET cart gives %q; want 7", got)
	}
}
