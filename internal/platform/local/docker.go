package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"makeitso/internal/fault"
)

// container is a server as a container of the Docker Engine. It outlives
// makeitso, and once it was ready the engine starts it again when it ends and
// with the machine.
type container struct {
	resource *resource
	image    string
	port     int    // that it listens on inside
	data     string // where it keeps its data inside
	env      []string
	command  []string
	fill     func(data string) error // puts into the data folder what it starts from, again and again; nil for nothing
}

// environmentLabel marks the containers of one environment folder.
const environmentLabel = "makeitso.environment"

func (p *Platform) containerName(r *resource) string {
	return "makeitso-" + p.env + "-" + digits(p.dir, r.Token, 16)
}

// docker opens the Docker Engine's client.
func (p *Platform) docker() (*client.Client, error) {
	options := []client.Opt{client.FromEnv}
	if p.o.DockerHost != "" {
		options = append(options, client.WithHost(p.o.DockerHost))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reach the Docker Engine")
	}
	return c, nil
}

// dockerAnswers says whether a Docker Engine runs.
func (p *Platform) dockerAnswers(ctx context.Context) bool {
	c, err := p.docker()
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err == nil
}

// dockerHas says whether the engine runs and has the image or can pull it.
func (p *Platform) dockerHas(ctx context.Context, image string) bool {
	if !p.dockerAnswers(ctx) {
		return false
	}
	c, err := p.docker()
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := c.ImageInspect(ctx, image); err == nil {
		return true
	}
	p.o.Announce("docker pull " + image)
	pull, err := c.ImagePull(ctx, image, client.ImagePullOptions{})
	if err == nil {
		defer pull.Close()
		err = pull.Wait(ctx)
	}
	if err != nil {
		p.o.Announce(fmt.Sprintf("docker pull %s: %v", image, err))
	}
	return err == nil
}

// serveContainer starts a container unless it runs, and waits until it is
// ready. One that does not come up is stopped again, and what it printed is
// put into log.
func (p *Platform) serveContainer(ctx context.Context, s container, log string, ready func(context.Context) error) error {
	c, err := p.docker()
	if err != nil {
		return err
	}
	defer c.Close()
	name := p.containerName(s.resource)
	if err := p.prepareContainer(ctx, c, s); err != nil {
		return err
	}
	if _, err := c.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
		return fault.Wrap(fault.Failed, err, "start container %s", name)
	}
	waiting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err = awaitContainer(waiting, c, name, ready); err == nil {
		return setRestart(ctx, c, name, dockercontainer.RestartPolicyUnlessStopped)
	}
	// Not ctx: what does not work is to be stopped even if nobody waits.
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*stopTime)
	defer stop()
	if logErr := saveOutput(stopping, c, name, log); logErr != nil {
		err = fmt.Errorf("%w; then keep what it printed: %w", err, logErr)
	}
	if _, stopErr := c.ContainerStop(stopping, name, client.ContainerStopOptions{}); stopErr != nil {
		return fmt.Errorf("%w; then stop it: %w", err, stopErr)
	}
	return err
}

// prepareContainer sees to it that the container exists and can be started.
func (p *Platform) prepareContainer(ctx context.Context, c *client.Client, s container) error {
	found, err := c.ContainerInspect(ctx, p.containerName(s.resource), client.ContainerInspectOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return fault.Wrap(fault.Unavailable, err, "look for container %s", p.containerName(s.resource)).
			WithHint("start Docker, then try again")
	}
	exists := err == nil
	switch {
	case exists && runs(found):
		return nil
	case !s.resource.Complete:
		// Nobody has used it yet, and what a killed attempt left may be half
		// of a database: it is begun anew.
		if err := p.removeContainer(ctx, s.resource); err != nil {
			return err
		}
		if err := os.RemoveAll(p.containerData(s.resource)); err != nil {
			return fmt.Errorf("clear the data folder of %s: %w", s.resource.name(), err)
		}
		exists = false
	case exists:
		if err := rest(ctx, c, p.containerName(s.resource)); err != nil {
			return err
		}
	}
	if err := portIsFree(s.resource.Port); err != nil {
		return err
	}
	if err := os.MkdirAll(p.containerData(s.resource), 0o700); err != nil {
		return fmt.Errorf("make the data folder of %s: %w", s.resource.name(), err)
	}
	if s.fill != nil {
		if err := s.fill(p.containerData(s.resource)); err != nil {
			return err
		}
	}
	if !exists {
		return p.createContainer(ctx, c, s)
	}
	return nil
}

// rest keeps the engine from starting a container over and over, which would
// hold its port and hide why it ends.
func rest(ctx context.Context, c *client.Client, name string) error {
	if _, err := c.ContainerStop(ctx, name, client.ContainerStopOptions{}); err != nil {
		return fault.Wrap(fault.Unavailable, err, "stop container %s", name)
	}
	return setRestart(ctx, c, name, dockercontainer.RestartPolicyDisabled)
}

// setRestart says whether the engine starts a container that ended again.
func setRestart(ctx context.Context, c *client.Client, name string, mode dockercontainer.RestartPolicyMode) error {
	policy := dockercontainer.RestartPolicy{Name: mode}
	if _, err := c.ContainerUpdate(ctx, name, client.ContainerUpdateOptions{RestartPolicy: &policy}); err != nil {
		return fault.Wrap(fault.Unavailable, err, "say when container %s is started again", name)
	}
	return nil
}

// containerData is the folder of this machine that a container keeps its data in.
func (p *Platform) containerData(r *resource) string { return p.dataFolder(r) }

// dataFolder is where a server keeps its data.
func (p *Platform) dataFolder(r *resource) string { return filepath.Join(p.folder(r), "data") }

// dataIsThere refuses to start a server anew whose data somebody has taken
// away: it would look as if all were well.
func (p *Platform) dataIsThere(r *resource, data string) error {
	if _, err := os.Stat(data); !r.Complete || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.New(fault.Failed, "the data of %s is gone: there is no %s", r.name(), data).
		WithHint("put the folder back, then: makeitso up; or give the data up: makeitso destroy %s, and apply the stack again", r.Stack)
}

// runs says whether a container's program runs; the engine counts one that it
// starts over and over as running.
func runs(found client.ContainerInspectResult) bool {
	state := found.Container.State
	return state != nil && state.Running && !state.Restarting
}

// awaitContainer waits until the container is ready, or has ended.
func awaitContainer(ctx context.Context, c *client.Client, name string, ready func(context.Context) error) error {
	return awaitReady(ctx, nil, func(ctx context.Context) error {
		err := ready(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		found, lookErr := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if lookErr != nil {
			return fault.Wrap(fault.Failed, lookErr, "look at container %s", name)
		}
		if !runs(found) {
			return fault.Wrap(fault.Failed, err, "it ended before it was ready")
		}
		return err
	})
}

// saveOutput writes what a container printed last into a file.
func saveOutput(ctx context.Context, c *client.Client, name, path string) error {
	printed, err := c.ContainerLogs(ctx, name, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "100"})
	if err != nil {
		return err
	}
	defer printed.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, printed); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

func (p *Platform) createContainer(ctx context.Context, c *client.Client, s container) error {
	data := p.containerData(s.resource)
	inside := network.MustParsePort(strconv.Itoa(s.port) + "/tcp")
	config := &dockercontainer.Config{
		Image: s.image, Env: s.env, Cmd: s.command,
		ExposedPorts: network.PortSet{inside: {}},
		Labels:       map[string]string{environmentLabel: p.dir},
	}
	if uid := os.Geteuid(); uid != 0 {
		// Its files must be this user's, who is to remove them some day.
		config.User = fmt.Sprintf("%d:%d", uid, os.Getegid())
	}
	host := &dockercontainer.HostConfig{
		// Not Binds, which cannot name a folder with a colon.
		Mounts: []mount.Mount{{Type: mount.TypeBind, Source: data, Target: s.data}},
		PortBindings: network.PortMap{inside: {{
			HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(s.resource.Port),
		}}},
	}
	_, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: p.containerName(s.resource)})
	if err != nil {
		return fault.Wrap(fault.Failed, err, "create container %s of %s", p.containerName(s.resource), s.image)
	}
	return nil
}

// containerAlive is fault.Unavailable unless the resource's container runs
// and answers: one that the engine has just started again does not yet.
func (p *Platform) containerAlive(ctx context.Context, r *resource, answers func(context.Context) error) error {
	c, err := p.docker()
	if err != nil {
		return err
	}
	defer c.Close()
	name := p.containerName(r)
	found, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the container of %s cannot be found", r.name()).
			WithHint("start Docker, then: makeitso up")
	}
	if !runs(found) {
		return fault.New(fault.Unavailable, "the container %s of %s does not run", name, r.name()).
			WithHint("start what is missing, with its data: makeitso up")
	}
	if err := answers(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the container %s of %s does not answer", name, r.name()).
			WithHint("wait for it: makeitso up")
	}
	return nil
}

// stopContainer stops the resource's container, which is kept; none there is
// fine.
func (p *Platform) stopContainer(ctx context.Context, r *resource) error {
	c, err := p.docker()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := rest(ctx, c, p.containerName(r)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// removeContainer removes the resource's container; none there is fine.
func (p *Platform) removeContainer(ctx context.Context, r *resource) error {
	c, err := p.docker()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ContainerRemove(ctx, p.containerName(r), client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fault.Wrap(fault.Unavailable, err, "remove the container of %s", r.name()).
			WithHint("start Docker, then try again")
	}
	return nil
}

// destroyContainers removes the containers of the environment's resources.
func (p *Platform) destroyContainers(ctx context.Context) error {
	all, err := p.resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.By != byDocker {
			continue
		}
		if err := p.removeContainer(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
