package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// redis makes AWS::ElastiCache::CacheCluster.
type redis struct{ p *Platform }

const (
	redisInstall = "apt-get install redis-server | dnf install valkey | brew install redis"
	redisImage   = "redis:7-alpine"
	redisPort    = 6379 // inside a container
)

func (h redis) check(ctx context.Context, r *resource) error {
	if engine := r.text("Engine"); !unknown(engine) && !slices.Contains([]string{"redis", "valkey"}, engine) {
		return r.invalid("Engine", "%q is not served on this machine; allowed are redis and valkey", engine)
	}
	if nodes := fmt.Sprint(r.Properties["NumCacheNodes"]); !unknown(nodes) && nodes != "1" {
		return r.invalid("NumCacheNodes", "is %s; a cluster of this engine has 1", nodes)
	}
	if _, found := h.program(r); found || h.p.o.Embedded || h.p.dockerAnswers(ctx) {
		return nil
	}
	return missing(r, "redis-server or valkey-server", redisInstall)
}

func (h redis) named(r *resource) string { return strings.ToLower(r.text("ClusterName")) }

// program finds the engine declared, or else the one that speaks the same.
func (h redis) program(r *resource) (path string, found bool) {
	names := []string{"redis-server", "valkey-server"}
	if r.text("Engine") == "valkey" {
		slices.Reverse(names)
	}
	for _, name := range names {
		if path, found := h.p.findProgram(name); found {
			return path, true
		}
	}
	return "", false
}

func (h redis) make(ctx context.Context, r *resource) error {
	if err := h.p.claimPort(r); err != nil {
		return err
	}
	if err := h.choose(ctx, r); err != nil {
		return err
	}
	log, err := h.p.logFile(r.Token)
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return pingRedis(ctx, r.Port) }
	switch r.By {
	case byProgram, byEmbedded:
		spec, specErr := h.spec(r, log)
		if specErr != nil {
			return specErr
		}
		err = h.p.serve(ctx, spec, r.Port, ready)
	case byDocker:
		err = h.p.serveContainer(ctx, h.container(r), log, ready)
	}
	if err != nil {
		return failedToStart(r, log, err)
	}
	r.PhysicalID = strings.ToLower(r.declaredOr("ClusterName", 50))
	port := strconv.Itoa(r.Port)
	r.Attributes = map[string]any{"RedisEndpoint.Address": "127.0.0.1", "RedisEndpoint.Port": port}
	return h.configure(ctx, r)
}

// choose decides once what serves the cluster.
func (h redis) choose(ctx context.Context, r *resource) error {
	if r.By != "" {
		return nil
	}
	path, found := h.program(r)
	switch {
	case found:
		r.By = byProgram
		if engine := r.text("Engine"); !strings.HasPrefix(filepath.Base(path), engine) {
			h.p.o.Announce(fmt.Sprintf("%s: %s stands in for %s", r.name(), filepath.Base(path), engine))
		}
	case h.p.dockerHas(ctx, redisImage):
		r.By = byDocker
		h.p.o.Announce(fmt.Sprintf("%s: served by Docker, image %s", r.name(), redisImage))
	case h.p.o.Embedded:
		r.By = byEmbedded
		h.p.o.Announce(fmt.Sprintf("%s: a stand-in inside makeitso serves it; it forgets its data when it ends", r.name()))
	default:
		return missing(r, "redis-server or valkey-server", redisInstall)
	}
	return h.p.save(r)
}

// spec is the server as a process of this machine.
func (h redis) spec(r *resource, log string) (process.Spec, error) {
	spec := process.Spec{Name: r.Token, Dir: h.p.folder(r), Log: log, Env: []string{"PATH=" + os.Getenv("PATH")}}
	if r.By == byEmbedded {
		command := h.p.command("redis", loopback(r.Port))
		spec.Path, spec.Args = command[0], command[1:]
		return spec, nil
	}
	path, found := h.program(r)
	if !found {
		return spec, missing(r, "redis-server or valkey-server", redisInstall)
	}
	data := filepath.Join(h.p.folder(r), "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return spec, fmt.Errorf("make the data folder of %s: %w", r.name(), err)
	}
	spec.Path = path
	spec.Args = append([]string{"--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--dir", data}, redisSettings()...)
	return spec, nil
}

// redisSettings write every change to the append-only file before it is
// answered, so that data survives a kill.
func redisSettings() []string {
	return []string{"--appendonly", "yes", "--save", "", "--daemonize", "no"}
}

func (h redis) container(r *resource) container {
	return container{
		resource: r, image: redisImage, port: redisPort, data: "/data",
		command: append([]string{"redis-server"}, redisSettings()...),
	}
}

func (h redis) read(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return h.p.containerAlive(ctx, r, func(ctx context.Context) error { return pingRedis(ctx, r.Port) })
	}
	return h.p.alive(r)
}

func (h redis) remove(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return h.p.removeContainer(ctx, r)
	}
	return h.p.stopServer(ctx, r.Token)
}

// pingRedis asks a server PING and wants PONG.
func pingRedis(ctx context.Context, port int) error {
	answer, err := askRedis(ctx, port, "PING")
	if fault.Is(err, fault.Failed) { // it is there, and is still loading its data
		return fault.Wrap(fault.Unavailable, err, "it does not answer PING with PONG")
	}
	if err != nil {
		return err
	}
	if len(answer) != 1 || answer[0] != "PONG" {
		return fault.New(fault.Unavailable, "it answers %q", answer)
	}
	return nil
}
