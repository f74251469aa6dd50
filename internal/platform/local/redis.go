package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/platform/resp"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// redis makes AWS::ElastiCache::CacheCluster, and the nodes of replication
// groups, which are such clusters too.
type redis struct{ p *Platform }

const (
	redisInstall = "apt-get install redis-server | dnf install valkey | brew install redis"
	redisImage   = "redis:7-alpine"
	redisPort    = 6379 // inside a container
	redisFile    = "redis.conf"
)

func (h redis) check(ctx context.Context, r *resource) error {
	if nodes := fmt.Sprint(r.Properties["NumCacheNodes"]); !unknown(nodes) && nodes != "1" {
		return r.invalid("NumCacheNodes", "is %s; a cluster of this engine has 1", nodes)
	}
	return h.checkEngine(ctx, r)
}

// checkEngine judges what is the same for a cluster and a group of them.
func (h redis) checkEngine(ctx context.Context, r *resource) error {
	if engine := r.text("Engine"); engine != "" && !unknown(engine) && !slices.Contains([]string{"redis", "valkey"}, engine) {
		return r.invalid("Engine", "%q is not served on this machine; allowed are redis and valkey", engine)
	}
	if err := h.p.checkSeed(ctx, r); err != nil {
		return err
	}
	path, found := h.program(r)
	switch {
	case found:
		return checkVersion(ctx, r, path, redisInstall)
	case h.p.dockerAnswers(ctx):
		return checkImage(r, redisImage)
	case h.p.o.Embedded:
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
	if err := h.start(ctx, r); err != nil {
		return err
	}
	r.PhysicalID = strings.ToLower(r.declaredOr("ClusterName", 50))
	r.Attributes = map[string]any{"RedisEndpoint.Address": "127.0.0.1", "RedisEndpoint.Port": strconv.Itoa(r.Port)}
	if r.By == byEmbedded {
		return nil
	}
	if err := h.authenticate(ctx, r); err != nil {
		return err
	}
	if err := h.configure(ctx, r); err != nil {
		return err
	}
	if err := h.follow(ctx, r); err != nil {
		return err
	}
	return h.healthy(ctx, r)
}

// start brings the server up, if it does not run, and waits for its answer.
func (h redis) start(ctx context.Context, r *resource) error {
	log, err := h.p.logFile(r.Token)
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return h.enter(ctx, r) }
	if r.By == byDocker {
		err = h.p.serveContainer(ctx, h.container(ctx, r), log, ready)
	} else {
		spec, specErr := h.spec(ctx, r, log)
		if specErr != nil {
			return specErr
		}
		err = h.p.serve(ctx, spec, r.Port, ready)
	}
	if err != nil {
		return h.p.failedToStart(r, log, err)
	}
	return nil
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
func (h redis) spec(ctx context.Context, r *resource, log string) (process.Spec, error) {
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
	data := h.p.dataFolder(r)
	if err := h.p.dataIsThere(r, data); err != nil {
		return spec, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return spec, fmt.Errorf("make the data folder of %s: %w", r.name(), err)
	}
	if err := h.fill(ctx, r, data); err != nil {
		return spec, err
	}
	spec.Path = path
	spec.Args = append([]string{filepath.Join(data, redisFile), "--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--dir", data}, redisSettings()...)
	return spec, nil
}

// redisSettings write every change to the append-only file before it is
// answered, so that data survives a kill, and let a replica begin at once: by
// default a primary waits for more of them.
func redisSettings() []string {
	return []string{"--appendonly", "yes", "--save", "", "--daemonize", "no", "--repl-diskless-sync-delay", "0"}
}

func (h redis) container(ctx context.Context, r *resource) container {
	return container{
		resource: r, image: redisImage, port: redisPort, data: "/data",
		command: append([]string{"redis-server", "/data/" + redisFile}, redisSettings()...),
		fill:    func(data string) error { return h.fill(ctx, r, data) },
	}
}

// fill puts into a data folder what the server is to start from: the data of
// a snapshot, and a file with what is no business of those who list processes.
func (h redis) fill(ctx context.Context, r *resource, data string) error {
	if !r.Complete {
		if err := h.p.seedRedis(ctx, r, data); err != nil {
			return err
		}
	}
	var file bytes.Buffer
	if token := r.text("AuthToken"); token != "" {
		fmt.Fprintf(&file, "requirepass %q\nmasterauth %q\n", token, token)
	}
	if r.Primary != 0 {
		fmt.Fprintf(&file, "replicaof 127.0.0.1 %d\n", r.Primary)
	}
	for name, set := range r.Settings {
		if set.Start != "" {
			fmt.Fprintf(&file, "%s %q\n", name, set.Start)
		}
	}
	return statefile.WriteBytes(filepath.Join(data, redisFile), file.Bytes())
}

// server is how r's server is asked.
func (r *resource) server() resp.Server { return resp.Server{Port: r.Port, Password: r.Password} }

// enter looks that the server answers, and with which password: the one it
// had, or that declared, if it was started with it or a change was cut short.
func (h redis) enter(ctx context.Context, r *resource) error {
	err := r.server().Ping(ctx)
	declared := resp.Server{Port: r.Port, Password: r.text("AuthToken")}
	if err != nil && declared.Password != r.Password && declared.Ping(ctx) == nil {
		r.Password, err = declared.Password, nil
	}
	return err
}

// authenticate gives the server the password declared. Connections that are
// open stay so.
func (h redis) authenticate(ctx context.Context, r *resource) error {
	token := r.text("AuthToken")
	if r.Password != token {
		for _, name := range []string{"masterauth", "requirepass"} {
			if _, err := r.server().Ask(ctx, "CONFIG", "SET", name, token); err != nil {
				return fmt.Errorf("give %s its new AuthToken: %w", r.name(), err)
			}
		}
		r.Password = token
	}
	return h.p.save(r)
}

func (h redis) read(ctx context.Context, r *resource) error {
	var err error
	if r.By == byDocker {
		err = h.p.containerAlive(ctx, r, func(ctx context.Context) error { return r.server().Ping(ctx) })
	} else {
		err = h.p.alive(r)
	}
	if err != nil || r.By == byEmbedded {
		return err
	}
	return h.healthy(ctx, r)
}

// healthy is fault.Unavailable for a server that runs and cannot do its work.
func (h redis) healthy(ctx context.Context, r *resource) error {
	persistence, err := r.server().Info(ctx, "persistence")
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the server of %s does not answer", r.name()).
			WithHint("wait for it: makeitso up")
	}
	if persistence["aof_last_write_status"] == "err" {
		return fault.New(fault.Unavailable, "the server of %s cannot write its data, and refuses every change", r.name()).
			WithHint("make room on the disk, it goes on by itself then: df -h %s", h.p.folder(r))
	}
	return h.linked(ctx, r)
}

func (h redis) remove(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return h.p.removeContainer(ctx, r)
	}
	return h.p.stopServer(ctx, r.Token)
}
