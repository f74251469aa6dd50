package machine

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
	"makeitso/internal/platform/model"
)

// Container is a server as a container of the Docker Engine. It outlives
// makeitso, and once it was ready the engine starts it again when it ends and
// with the machine.
type Container struct {
	Resource *Resource
	Image    string
	Port     int    // that it listens on inside
	Data     string // where it keeps its data inside
	Env      []string
	Command  []string
	Fill     func(data string) error // puts into the data folder what it starts from, again and again; nil for nothing
}

// EnvironmentLabel marks the containers of one environment folder.
const EnvironmentLabel = "makeitso.environment"

func (m *Machine) containerName(r *Resource) string {
	return "makeitso-" + m.Env + "-" + model.Digits(m.Dir, r.Token, 16)
}

// Docker opens the Docker Engine's client.
func (m *Machine) Docker() (*client.Client, error) {
	options := []client.Opt{client.FromEnv}
	if m.Options.DockerHost != "" {
		options = append(options, client.WithHost(m.Options.DockerHost))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reach the Docker Engine")
	}
	return c, nil
}

// DockerAnswers says whether a Docker Engine runs.
func (m *Machine) DockerAnswers(ctx context.Context) bool {
	c, err := m.Docker()
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err == nil
}

// DockerHas says whether the engine runs and has the image or can pull it.
func (m *Machine) DockerHas(ctx context.Context, image string) bool {
	if !m.DockerAnswers(ctx) {
		return false
	}
	c, err := m.Docker()
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := c.ImageInspect(ctx, image); err == nil {
		return true
	}
	m.Options.Announce("docker pull " + image)
	pull, err := c.ImagePull(ctx, image, client.ImagePullOptions{})
	if err == nil {
		defer pull.Close()
		err = pull.Wait(ctx)
	}
	if err != nil {
		m.Options.Announce(fmt.Sprintf("docker pull %s: %v", image, err))
	}
	return err == nil
}

// ServeContainer starts a container unless it runs, and waits until it is
// ready. One that does not come up is stopped again, and what it printed is
// put into log.
func (m *Machine) ServeContainer(ctx context.Context, s Container, log string, ready func(context.Context) error) error {
	c, err := m.Docker()
	if err != nil {
		return err
	}
	defer c.Close()
	name := m.containerName(s.Resource)
	if err := m.prepareContainer(ctx, c, s); err != nil {
		return err
	}
	if _, err := c.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
		return fault.Wrap(fault.Failed, err, "start container %s", name)
	}
	waiting, cancel := context.WithTimeout(ctx, StartTime)
	defer cancel()
	if err = awaitContainer(waiting, c, name, ready); err == nil {
		return setRestart(ctx, c, name, dockercontainer.RestartPolicyUnlessStopped)
	}
	// Not ctx: what does not work is to be stopped even if nobody waits.
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*StopTime)
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
func (m *Machine) prepareContainer(ctx context.Context, c *client.Client, s Container) error {
	found, err := c.ContainerInspect(ctx, m.containerName(s.Resource), client.ContainerInspectOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return fault.Wrap(fault.Unavailable, err, "look for container %s", m.containerName(s.Resource)).
			WithHint("start Docker, then try again")
	}
	exists := err == nil
	switch {
	case exists && runs(found):
		return nil
	case !s.Resource.Complete:
		// Nobody has used it yet, and what a killed attempt left may be half
		// of a database: it is begun anew.
		if err := m.RemoveContainer(ctx, s.Resource); err != nil {
			return err
		}
		if err := os.RemoveAll(m.DataFolder(s.Resource)); err != nil {
			return fmt.Errorf("clear the data folder of %s: %w", s.Resource.Name(), err)
		}
		exists = false
	case exists:
		if err := rest(ctx, c, m.containerName(s.Resource)); err != nil {
			return err
		}
	}
	if err := AwaitPort(ctx, "tcp", s.Resource.Port); err != nil {
		return err
	}
	if err := os.MkdirAll(m.DataFolder(s.Resource), 0o700); err != nil {
		return fmt.Errorf("make the data folder of %s: %w", s.Resource.Name(), err)
	}
	if s.Fill != nil {
		if err := s.Fill(m.DataFolder(s.Resource)); err != nil {
			return err
		}
	}
	if !exists {
		return m.createContainer(ctx, c, s)
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

// DataFolder is where a server keeps its data.
func (m *Machine) DataFolder(r *Resource) string { return filepath.Join(m.Folder(r), "data") }

// DataIsThere refuses to start a server anew whose data somebody has taken
// away: it would look as if all were well.
func (m *Machine) DataIsThere(r *Resource, data string) error {
	if _, err := os.Stat(data); !r.Complete || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.New(fault.Failed, "the data of %s is gone: there is no %s", r.Name(), data).
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
	return AwaitReady(ctx, nil, func(ctx context.Context) error {
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

func (m *Machine) createContainer(ctx context.Context, c *client.Client, s Container) error {
	data := m.DataFolder(s.Resource)
	inside := network.MustParsePort(strconv.Itoa(s.Port) + "/tcp")
	config := &dockercontainer.Config{
		Image: s.Image, Env: s.Env, Cmd: s.Command,
		ExposedPorts: network.PortSet{inside: {}},
		Labels:       map[string]string{EnvironmentLabel: m.Dir},
	}
	if uid := os.Geteuid(); uid != 0 {
		// Its files must be this user's, who is to remove them some day.
		config.User = fmt.Sprintf("%d:%d", uid, os.Getegid())
	}
	host := &dockercontainer.HostConfig{
		// Not Binds, which cannot name a folder with a colon.
		Mounts: []mount.Mount{{Type: mount.TypeBind, Source: data, Target: s.Data}},
		PortBindings: network.PortMap{inside: {{
			HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(s.Resource.Port),
		}}},
	}
	_, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: m.containerName(s.Resource)})
	if err != nil {
		return fault.Wrap(fault.Failed, err, "create container %s of %s", m.containerName(s.Resource), s.Image)
	}
	return nil
}

// ContainerAlive is fault.Unavailable unless the resource's container runs
// and answers: one that the engine has just started again does not yet.
func (m *Machine) ContainerAlive(ctx context.Context, r *Resource, answers func(context.Context) error) error {
	c, err := m.Docker()
	if err != nil {
		return err
	}
	defer c.Close()
	name := m.containerName(r)
	found, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the container of %s cannot be found", r.Name()).
			WithHint("start Docker, then: makeitso up")
	}
	if !runs(found) {
		return fault.New(fault.Unavailable, "the container %s of %s does not run", name, r.Name()).
			WithHint("start what is missing, with its data: makeitso up")
	}
	if err := answers(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the container %s of %s does not answer", name, r.Name()).
			WithHint("wait for it: makeitso up")
	}
	return nil
}

// stopContainer stops the resource's container, which is kept; none there is
// fine.
func (m *Machine) stopContainer(ctx context.Context, r *Resource) error {
	c, err := m.Docker()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := rest(ctx, c, m.containerName(r)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// RemoveContainer removes the resource's container; none there is fine.
func (m *Machine) RemoveContainer(ctx context.Context, r *Resource) error {
	c, err := m.Docker()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ContainerRemove(ctx, m.containerName(r), client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fault.Wrap(fault.Unavailable, err, "remove the container of %s", r.Name()).
			WithHint("start Docker, then try again")
	}
	return nil
}

// destroyContainers removes the containers of the environment's resources.
func (m *Machine) destroyContainers(ctx context.Context) error {
	all, err := m.Resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.By != ByDocker {
			continue
		}
		if err := m.RemoveContainer(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
