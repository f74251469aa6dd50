package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/resp"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

// TestDockerEngine is for containers what the fake engine cannot show.
func TestDockerEngine(t *testing.T) {
	t.Parallel()
	c := dockerEngine(t)
	needImage(t, c, redisImage, redisRoot)
	needImage(t, c, postgresImage, postgresRoot)
	t.Run("redis", func(t *testing.T) { t.Parallel(); testRedisContainer(t, c) })
	t.Run("redis kept", func(t *testing.T) { t.Parallel(); testRedisContainerKeepsData(t, c) })
	t.Run("lost port", func(t *testing.T) { t.Parallel(); testLostPort(t, c) })
	t.Run("broken data", func(t *testing.T) { t.Parallel(); testBrokenData(t, c) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); testPostgresContainer(t, c) })
	t.Run("postgres kept", func(t *testing.T) { t.Parallel(); testPostgresContainerKeepsData(t, c) })
	t.Run("half a database", func(t *testing.T) { t.Parallel(); testHalfADatabase(t, c) })
	for _, r := range []stack.Request{
		request("AWS::ElastiCache::CacheCluster", "Redis", redisProperties()),
		request("AWS::RDS::DBInstance", "Database", postgresProperties()),
	} {
		for _, moment := range []string{"create", "start"} {
			t.Run(r.LogicalID+" killed after "+moment, func(t *testing.T) {
				t.Parallel()
				testKilledWhileCreating(t, c, r, moment)
			})
		}
	}
}

// dockerEngine is the engine that docker itself would use.
func dockerEngine(t *testing.T) *client.Client {
	t.Helper()
	p := newPlatform(t, Options{})
	testneed.DockerEngine(t, p.dockerAnswers(t.Context()))
	c, err := p.docker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// onDocker is a platform that finds no programs; none of its containers may
// outlive the test.
func onDocker(t *testing.T, c *client.Client, o Options) *Platform {
	t.Helper()
	var p *Platform
	t.Cleanup(func() { // after the platform's own
		if left := containersOf(context.Background(), t, c, p); len(left) != 0 {
			t.Errorf("containers left: %v", left)
		}
	})
	o.Path = []string{t.TempDir()}
	p = newPlatform(t, o)
	return p
}

func containersOf(ctx context.Context, t *testing.T, c *client.Client, p *Platform) []dockercontainer.Summary {
	t.Helper()
	labelled := make(client.Filters).Add("label", environmentLabel+"="+p.dir)
	list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labelled})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// oneContainer gives what the engine knows of the platform's only container.
func oneContainer(t *testing.T, c *client.Client, p *Platform) dockercontainer.InspectResponse {
	t.Helper()
	all := containersOf(t.Context(), t, c, p)
	if len(all) != 1 {
		t.Fatalf("containers %v; want 1", all)
	}
	found, err := c.ContainerInspect(t.Context(), all[0].ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found.Container
}

// dockerKill does what "docker kill" does, and waits for the end.
func dockerKill(t *testing.T, c *client.Client, p *Platform) {
	t.Helper()
	id := oneContainer(t, c, p).ID
	ended := c.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: dockercontainer.WaitConditionNextExit})
	if _, err := c.ContainerKill(t.Context(), id, client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		t.Fatal(err)
	}
}

func testRedisContainer(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::ElastiCache::CacheCluster", "Redis", redisProperties())
	larger := redisProperties()
	larger["CacheNodeType"] = "cache.m7g.large"
	stacktest.Handler(t, handlerOf(t, p, r.Type), stacktest.Case{
		Name: "contract", Request: r, Update: larger,
		Count: func() int { return len(containersOf(t.Context(), t, c, p)) },
	})
}

func testRedisContainerKeepsData(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::ElastiCache::CacheCluster", "Redis", redisProperties())
	made := create(t, p, r)
	onLoopbackOnly(t, attribute(t, made, "RedisEndpoint.Port"))
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	id := oneContainer(t, c, p).ID
	if _, err := c.ContainerPause(t.Context(), id, client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := handlerOf(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Errorf("read of a container that does not answer: %v; want unavailable", err)
	}
	if _, err := c.ContainerUnpause(t.Context(), id, client.ContainerUnpauseOptions{}); err != nil {
		t.Fatal(err)
	}
	endByItself(t, c, p, attribute(t, made, "RedisEndpoint.Port"))
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("after it ended by itself, GET cart gives %q; want 7", got)
	}
	dockerKill(t, c, p)
	if _, err := handlerOf(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a killed container: %v; want unavailable", err)
	}
	// As after a restart of makeitso: another platform on the same folder.
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("after a kill and Resume, GET cart gives %q; want 7", got)
	}
	if _, err := c.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("after its container was removed, GET cart gives %q; want 7", got)
	}
}

// endByItself lets a Redis end, and waits until the engine has started it again.
func endByItself(t *testing.T, c *client.Client, p *Platform, port string) {
	t.Helper()
	started := c.Events(t.Context(), client.EventsListOptions{Filters: eventsOf(p, "start")})
	shutDown(t, port)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-started.Messages:
	case err := <-started.Err:
		t.Fatal(err)
	case <-ctx.Done():
		t.Fatal("the engine did not start it again")
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitReady(ctx, nil, func(ctx context.Context) error { return resp.Server{Port: number}.Ping(ctx) }); err != nil {
		t.Fatal(err)
	}
}

// shutDown tells a Redis to end, as if it had crashed.
func shutDown(t *testing.T, port string) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "*1\r\n$8\r\nSHUTDOWN\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); len(answer) != 0 {
		t.Fatalf("SHUTDOWN: %s %v", answer, err)
	}
}

// eventsOf are the events of one kind of the platform's containers.
func eventsOf(p *Platform, kind string) client.Filters {
	return make(client.Filters).Add("type", "container").Add("event", kind).Add("label", environmentLabel+"="+p.dir)
}

// onLoopbackOnly looks that nobody outside this machine can reach a port.
func onLoopbackOnly(t *testing.T, port string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip := a.(*net.IPNet).IP
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), port), time.Second)
		if err == nil {
			conn.Close()
			t.Errorf("port %s is published on %s", port, ip)
		}
	}
}

// testLostPort takes a stopped container's port.
func testLostPort(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::ElastiCache::CacheCluster", "Redis", redisProperties())
	create(t, p, r)
	res, err := p.load(r.Token)
	if err != nil {
		t.Fatal(err)
	}
	dockerKill(t, c, p)
	thief, err := net.Listen("tcp", loopback(res.Port))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Resume(t.Context())
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "another program has port "+strconv.Itoa(res.Port)) {
		t.Errorf("with its port taken: %v; want a failure that names port %d", err, res.Port)
	}
	if err := thief.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Errorf("with its port free again: %s", fault.Text(err))
	}
}

// testBrokenData breaks what a container needs to come up, so that the engine
// starts it in vain again and again, and mends it.
func testBrokenData(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::ElastiCache::CacheCluster", "Redis", redisProperties())
	made := create(t, p, r)
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	mend := breakRedis(t, p, r.Token)
	shutDown(t, attribute(t, made, "RedisEndpoint.Port"))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// No event tells it. The engine waits twice as long each time, by now
		// longer than what follows.
		found := oneContainer(t, c, p)
		if found.State.Restarting && found.RestartCount >= 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the engine restarted it %d times", found.RestartCount)
		}
	}
	err := p.Resume(t.Context())
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "ended before") || !strings.Contains(fault.HintOf(err), "Bad file format") {
		t.Errorf("with broken data: %v (hint %q); want a failure with Redis' last words", err, fault.HintOf(err))
	}
	if found := oneContainer(t, c, p); found.State.Running || found.HostConfig.RestartPolicy.IsUnlessStopped() {
		t.Errorf("a container that cannot come up is %s; want it stopped and left alone", found.State.Status)
	}
	mend()
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("with its data whole again, GET cart gives %q; want 7", got)
	}
}

// breakRedis spoils the log of changes of a Redis, until mend is called.
func breakRedis(t *testing.T, p *Platform, token string) (mend func()) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(p.containerData(&resource{Resource: model.Resource{Token: token}}), "appendonlydir", "*.incr.aof"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("append-only files %v, %v; want 1", logs, err)
	}
	whole, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(logs[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("no such log"))
	return func() { write(whole) }
}

func testPostgresContainer(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::RDS::DBInstance", "Database", postgresProperties())
	changed := postgresProperties()
	changed["MasterUserPassword"] = "another secret"
	stacktest.Handler(t, handlerOf(t, p, r.Type), stacktest.Case{
		Name: "contract", Request: r, Update: changed,
		Count: func() int { return len(containersOf(t.Context(), t, c, p)) },
	})
}

func testPostgresContainerKeepsData(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::RDS::DBInstance", "Database", postgresProperties())
	made := create(t, p, r)
	onLoopbackOnly(t, attribute(t, made, "Endpoint.Port"))
	const first, second = "it's a secret 1", "another secret"
	execute(t, made, first, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")
	if _, err := query(t, made, "wrong", "SELECT 1"); err == nil {
		t.Error("a wrong password was accepted")
	}
	const databases = "SELECT string_agg(datname || ' ' || pg_encoding_to_char(encoding) || ' ' || datcollate, ', ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate"
	if got, err := query(t, made, first, databases); err != nil || got != "postgres UTF8 C, shop UTF8 C" {
		t.Errorf("databases %q, %v; want those that a program of this machine has", got, err)
	}
	r.Previous, r.Properties = r.Properties, postgresProperties()
	r.Properties["MasterUserPassword"] = second
	if _, err := handlerOf(t, p, r.Type).Update(t.Context(), r); err != nil {
		t.Fatal(fault.Text(err))
	}
	if _, err := query(t, made, first, "SELECT 1"); err == nil {
		t.Error("the old password is still accepted")
	}
	dockerKill(t, c, p)
	if _, err := handlerOf(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a killed container: %v; want unavailable", err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got, err := query(t, made, second, "SELECT id FROM orders"); err != nil || got != "42" {
		t.Errorf("after a kill and Resume: %q, %v; want 42", got, err)
	}
}

// testKilledWhileCreating kills a makeitso at the moment that the engine says
// it has done something, and lets another go on.
func testKilledWhileCreating(t *testing.T, c *client.Client, r stack.Request, moment string) {
	p := onDocker(t, c, Options{})
	happened := c.Events(t.Context(), client.EventsListOptions{Filters: eventsOf(p, moment)})
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	makeitso := exec.Command(os.Args[0], "internal", "create", p.o.State, string(text))
	makeitso.Stderr = &said
	if err := makeitso.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- makeitso.Wait() }()
	select {
	case <-happened.Messages:
	case err = <-happened.Err:
	case err = <-ended:
		t.Fatalf("it ended by itself: %v\n%s", err, said.String())
	}
	if killErr := makeitso.Process.Kill(); killErr != nil || err != nil {
		t.Fatal(killErr, err)
	}
	<-ended
	if moment == "create" {
		create(t, p, r)
		oneContainer(t, c, p)
		return
	}
	before := oneContainer(t, c, p)
	create(t, p, r)
	if after := oneContainer(t, c, p); after.ID != before.ID || after.State.StartedAt != before.State.StartedAt {
		t.Errorf("container %s became %s, started %s", before.ID, after.ID, after.State.StartedAt)
	}
}

// testHalfADatabase leaves what remains when the machine ends while a database
// is made: a folder that looks as if it held one.
func testHalfADatabase(t *testing.T, c *client.Client) {
	p := onDocker(t, c, Options{})
	r := request("AWS::RDS::DBInstance", "Database", postgresProperties())
	left := requested(r)
	left.By = byDocker
	if err := p.save(left); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.containerData(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.containerData(left), "PG_VERSION"), []byte("16\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := create(t, p, r)
	if got, err := query(t, made, "it's a secret 1", "SELECT 1"); err != nil || got != "1" {
		t.Errorf("SELECT 1 gives %q, %v", got, err)
	}
}

// createResource is the hidden command "create" of this test binary: it
// creates a resource where there are no programs, and stays. args are the
// state folder and the request.
func createResource(args []string) error {
	var r stack.Request
	if err := json.Unmarshal([]byte(args[1]), &r); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	key, err := keyOf(args[0])
	if err != nil {
		return err
	}
	p, err := New("local", Options{State: args[0], Project: "shop", Records: record.NewMemory(), Key: key, Path: []string{"/no/programs"}})
	if err != nil {
		return err
	}
	defer p.Close()
	h, err := p.Handler(r.Type)
	if err != nil {
		return err
	}
	if _, err := h.Create(context.Background(), r); err != nil {
		return err
	}
	killed, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-killed.Done()
	return nil
}
