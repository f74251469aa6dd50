package database

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

// engine speaks the part of the Docker Engine's API that the platform uses. A
// container of it is a redis-server on the published port, with its data in
// the bound folder.
type engine struct {
	t      *testing.T
	redis  string
	mu     sync.Mutex
	images map[string]bool // that are here or can be pulled
	pulled []string
	made   map[string]*fakeContainer
}

type fakeContainer struct {
	port, data string
	running    *exec.Cmd
}

// newEngine serves an engine and gives its address.
func newEngine(t *testing.T, images map[string]bool) (*engine, string) {
	t.Helper()
	e := &engine{t: t, images: images, made: map[string]*fakeContainer{}}
	e.redis = testneed.Program(t, "redis-server", "apt-get install redis-server")
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-served })
	return e, "unix://" + socket
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.IndexByte(path[1:], '/')+1:]
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/_ping":
	case parts[0] == "images" && parts[1] == "create":
		e.pull(w, r.URL.Query().Get("fromImage")+":"+r.URL.Query().Get("tag"))
	case parts[0] == "images":
		answer(w, e.images[parts[1]], map[string]any{"Id": "sha256:1"})
	case path == "/containers/create":
		e.create(w, r)
	case parts[0] == "containers":
		e.container(w, r, parts)
	default:
		e.t.Errorf("the engine was asked %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusNotImplemented)
	}
}

func answer(w http.ResponseWriter, found bool, value any) {
	if !found {
		w.WriteHeader(http.StatusNotFound)
		value = map[string]string{"message": "no such thing"}
	}
	json.NewEncoder(w).Encode(value)
}

func (e *engine) pull(w http.ResponseWriter, image string) {
	image = strings.TrimPrefix(image, "docker.io/library/")
	_, known := e.images[image]
	if known {
		e.images[image] = true
		e.pulled = append(e.pulled, image)
	}
	answer(w, known, map[string]string{"status": "done"})
}

func (e *engine) create(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Image      string
		HostConfig struct {
			Mounts       []struct{ Source string }
			PortBindings map[string][]struct{ HostIp, HostPort string }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		e.t.Error(err)
	}
	binding := body.HostConfig.PortBindings["6379/tcp"]
	if len(binding) != 1 || binding[0].HostIp != "127.0.0.1" || !e.images[body.Image] || len(body.HostConfig.Mounts) != 1 {
		e.t.Errorf("the engine was asked to create %+v", body)
		return
	}
	e.made[r.URL.Query().Get("name")] = &fakeContainer{port: binding[0].HostPort, data: body.HostConfig.Mounts[0].Source}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, `{"Id":"1"}`)
}

func (e *engine) container(w http.ResponseWriter, r *http.Request, parts []string) {
	name := parts[1]
	c, found := e.made[name]
	switch {
	case !found:
		answer(w, false, nil)
	case r.Method == http.MethodDelete:
		c.stop()
		delete(e.made, name)
		w.WriteHeader(http.StatusNoContent)
	case parts[2] == "json":
		answer(w, true, map[string]any{"Id": "1", "State": map[string]any{"Running": c.running != nil}})
	case parts[2] == "update":
		answer(w, true, map[string]any{})
	case parts[2] == "stop":
		c.stop()
		w.WriteHeader(http.StatusNoContent)
	case parts[2] == "start":
		if c.running == nil {
			c.running = exec.Command(e.redis, "--port", c.port, "--bind", "127.0.0.1", "--dir", c.data, "--appendonly", "yes")
			if err := c.running.Start(); err != nil {
				e.t.Error(err)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// stop kills the container's program.
func (c *fakeContainer) stop() {
	if c.running != nil {
		c.running.Process.Kill()
		c.running.Wait()
		c.running = nil
	}
}

func (e *engine) stopAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.made {
		c.stop()
	}
}

func (e *engine) count(t *testing.T) int {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.made)
}

func TestDockerServesWhereAProgramIsMissing(t *testing.T) {
	t.Parallel()
	e, host := newEngine(t, map[string]bool{redisImage: false})
	p := onMachine(t, machine.Options{Path: []string{t.TempDir()}, DockerHost: host, Embedded: true})
	r := machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster())
	stacktest.Handler(t, machinetest.Handler(t, p, r.Type), stacktest.Case{Name: "redis by docker", Request: r, Count: func() int { return e.count(t) }})

	made := machinetest.Create(t, p, r)
	if len(e.pulled) != 1 || e.pulled[0] != redisImage {
		t.Errorf("pulled %q; want %s once", e.pulled, redisImage)
	}
	if got := ask(t, made, "SET cart 7"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	e.stopAll()
	if _, err := machinetest.Handler(t, p, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a stopped container: %v; want unavailable", err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got := ask(t, made, "GET cart"); got != "7" {
		t.Errorf("after Resume, GET cart gives %q; want 7", got)
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := e.count(t); n != 0 {
		t.Errorf("%d containers after Destroy", n)
	}
}

func TestDockerWithoutTheImageIsPassedOver(t *testing.T) {
	t.Parallel()
	e, host := newEngine(t, map[string]bool{})
	var said []string
	p := onMachine(t, machine.Options{
		Path: []string{t.TempDir()}, DockerHost: host, Embedded: true,
		Announce: func(text string) { said = append(said, text) },
	})
	machinetest.Create(t, p, machinetest.Request("AWS::ElastiCache::CacheCluster", "Redis", databasetest.Cluster()))
	if all := strings.Join(said, "\n"); e.count(t) != 0 || !strings.Contains(all, "no such thing") || !strings.Contains(all, "a stand-in") {
		t.Errorf("%d containers, announced %q", e.count(t), said)
	}
}
