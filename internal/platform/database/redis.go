package database

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
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/resp"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// redis makes AWS::ElastiCache::CacheCluster, and the nodes of replication
// groups, which are such clusters too.
type redis struct{ d *Databases }

const (
	redisInstall = "apt-get install redis-server | dnf install valkey | brew install redis"
	redisImage   = "redis:7-alpine"
	redisPort    = 6379 // inside a container
	redisFile    = "redis.conf"
)

func (h redis) Check(ctx context.Context, r *machine.Resource) error {
	if nodes := fmt.Sprint(r.Properties["NumCacheNodes"]); !model.Unknown(nodes) && nodes != "1" {
		return r.Invalid("NumCacheNodes", "is %s; a cluster of this engine has 1", nodes)
	}
	return h.checkEngine(ctx, r)
}

// checkEngine judges what is the same for a cluster and a group of them.
func (h redis) checkEngine(ctx context.Context, r *machine.Resource) error {
	if engine := r.Text("Engine"); engine != "" && !model.Unknown(engine) && !slices.Contains([]string{"redis", "valkey"}, engine) {
		return r.Invalid("Engine", "%q is not served on this machine; allowed are redis and valkey", engine)
	}
	if err := h.d.checkSeed(ctx, r); err != nil {
		return err
	}
	path, found := h.program(r)
	switch {
	case found:
		return checkVersion(ctx, r, path, redisInstall)
	case h.d.DockerAnswers(ctx):
		return checkImage(r, redisImage)
	case h.d.Options.Embedded:
		return nil
	}
	return machine.Missing(r, "redis-server or valkey-server", redisInstall)
}

func (h redis) Named(r *machine.Resource) string { return strings.ToLower(r.Text("ClusterName")) }

// program finds the engine declared, or else the one that speaks the same.
func (h redis) program(r *machine.Resource) (path string, found bool) {
	names := []string{"redis-server", "valkey-server"}
	if r.Text("Engine") == "valkey" {
		slices.Reverse(names)
	}
	for _, name := range names {
		if path, found := h.d.FindProgram(name); found {
			return path, true
		}
	}
	return "", false
}

func (h redis) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.d.ClaimPort(r); err != nil {
		return err
	}
	if err := h.choose(ctx, r); err != nil {
		return err
	}
	if err := h.start(ctx, r); err != nil {
		return err
	}
	r.PhysicalID = strings.ToLower(r.DeclaredOr("ClusterName", 50))
	r.Attributes = map[string]any{"RedisEndpoint.Address": "127.0.0.1", "RedisEndpoint.Port": strconv.Itoa(r.Port)}
	if r.By == machine.ByEmbedded {
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
func (h redis) start(ctx context.Context, r *machine.Resource) error {
	log, err := h.d.LogFile(r.Token)
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return h.enter(ctx, r) }
	if r.By == machine.ByDocker {
		err = h.d.ServeContainer(ctx, h.container(ctx, r), log, ready)
	} else {
		spec, specErr := h.spec(ctx, r, log)
		if specErr != nil {
			return specErr
		}
		err = h.d.Serve(ctx, spec, r.Port, ready)
	}
	if err != nil {
		return h.d.FailedToStart(r, log, err)
	}
	return nil
}

// choose decides once what serves the cluster.
func (h redis) choose(ctx context.Context, r *machine.Resource) error {
	if r.By != "" {
		return nil
	}
	path, found := h.program(r)
	switch {
	case found:
		r.By = machine.ByProgram
		if engine := r.Text("Engine"); !strings.HasPrefix(filepath.Base(path), engine) {
			h.d.Options.Announce(fmt.Sprintf("%s: %s stands in for %s", r.Name(), filepath.Base(path), engine))
		}
	case h.d.DockerHas(ctx, redisImage):
		r.By = machine.ByDocker
		h.d.Options.Announce(fmt.Sprintf("%s: served by Docker, image %s", r.Name(), redisImage))
	case h.d.Options.Embedded:
		r.By = machine.ByEmbedded
		h.d.Options.Announce(fmt.Sprintf("%s: a stand-in inside makeitso serves it; it forgets its data when it ends", r.Name()))
	default:
		return machine.Missing(r, "redis-server or valkey-server", redisInstall)
	}
	return h.d.Save(r)
}

// spec is the server as a process of this machine.
func (h redis) spec(ctx context.Context, r *machine.Resource, log string) (process.Spec, error) {
	spec := process.Spec{Name: r.Token, Dir: h.d.Folder(r), Log: log, Env: []string{"PATH=" + os.Getenv("PATH")}}
	if r.By == machine.ByEmbedded {
		command := h.d.Command("redis", machine.Loopback(r.Port))
		spec.Path, spec.Args = command[0], command[1:]
		return spec, nil
	}
	path, found := h.program(r)
	if !found {
		return spec, machine.Missing(r, "redis-server or valkey-server", redisInstall)
	}
	data := h.d.DataFolder(r)
	if err := h.d.DataIsThere(r, data); err != nil {
		return spec, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return spec, fmt.Errorf("make the data folder of %s: %w", r.Name(), err)
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

func (h redis) container(ctx context.Context, r *machine.Resource) machine.Container {
	return machine.Container{
		Resource: r, Image: redisImage, Port: redisPort, Data: "/data",
		Command: append([]string{"redis-server", "/data/" + redisFile}, redisSettings()...),
		Fill:    func(data string) error { return h.fill(ctx, r, data) },
	}
}

// fill puts into a data folder what the server is to start from: the data of
// a snapshot, and a file with what is no business of those who list processes.
func (h redis) fill(ctx context.Context, r *machine.Resource, data string) error {
	if !r.Complete {
		if err := h.d.seedRedis(ctx, r, data); err != nil {
			return err
		}
	}
	var file bytes.Buffer
	if token := r.Text("AuthToken"); token != "" {
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

// serverOf is how r's server is asked.
func serverOf(r *machine.Resource) resp.Server {
	return resp.Server{Port: r.Port, Password: r.Password}
}

// enter looks that the server answers, and with which password: the one it
// had, or that declared, if it was started with it or a change was cut short.
func (h redis) enter(ctx context.Context, r *machine.Resource) error {
	err := serverOf(r).Ping(ctx)
	declared := resp.Server{Port: r.Port, Password: r.Text("AuthToken")}
	if err != nil && declared.Password != r.Password && declared.Ping(ctx) == nil {
		r.Password, err = declared.Password, nil
	}
	return err
}

// authenticate gives the server the password declared. Connections that are
// open stay so.
func (h redis) authenticate(ctx context.Context, r *machine.Resource) error {
	token := r.Text("AuthToken")
	if r.Password != token {
		for _, name := range []string{"masterauth", "requirepass"} {
			if _, err := serverOf(r).Ask(ctx, "CONFIG", "SET", name, token); err != nil {
				return fmt.Errorf("give %s its new AuthToken: %w", r.Name(), err)
			}
		}
		r.Password = token
	}
	return h.d.Save(r)
}

func (h redis) Read(ctx context.Context, r *machine.Resource) error {
	var err error
	if r.By == machine.ByDocker {
		err = h.d.ContainerAlive(ctx, r, func(ctx context.Context) error { return serverOf(r).Ping(ctx) })
	} else {
		err = h.d.Alive(r)
	}
	if err != nil || r.By == machine.ByEmbedded {
		return err
	}
	return h.healthy(ctx, r)
}

// healthy is fault.Unavailable for a server that runs and cannot do its work.
func (h redis) healthy(ctx context.Context, r *machine.Resource) error {
	persistence, err := serverOf(r).Info(ctx, "persistence")
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the server of %s does not answer", r.Name()).
			WithHint("wait for it: makeitso up")
	}
	if persistence["aof_last_write_status"] == "err" {
		return fault.New(fault.Unavailable, "the server of %s cannot write its data, and refuses every change", r.Name()).
			WithHint("make room on the disk, it goes on by itself then: df -h %s", h.d.Folder(r))
	}
	return h.linked(ctx, r)
}

func (h redis) Remove(ctx context.Context, r *machine.Resource) error {
	if r.By == machine.ByDocker {
		return h.d.RemoveContainer(ctx, r)
	}
	return h.d.StopServer(ctx, r.Token)
}
