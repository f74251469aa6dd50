package local

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"makeitso/internal/fault"
)

// container is a server as a container of the Docker Engine. It outlives
// makeitso, and the engine starts it again with the machine.
type container struct {
	resource *resource
	image    string
	port     int    // that it listens on inside
	data     string // where it keeps its data inside
	env      []string
	command  []string
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

// serveContainer starts a container unless it runs, and waits until it is ready.
func (p *Platform) serveContainer(ctx context.Context, s container, ready func(context.Context) error) error {
	c, err := p.docker()
	if err != nil {
		return err
	}
	defer c.Close()
	name := p.containerName(s.resource)
	if _, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{}); err != nil {
		if !errdefs.IsNotFound(err) {
			return fault.Wrap(fault.Unavailable, err, "look for container %s", name)
		}
		if err := p.createContainer(ctx, c, s); err != nil {
			return err
		}
	}
	if _, err := c.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
		return fault.Wrap(fault.Failed, err, "start container %s", name)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return awaitReady(ctx, nil, ready)
}

func (p *Platform) createContainer(ctx context.Context, c *client.Client, s container) error {
	data := filepath.Join(p.folder(s.resource), "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make the data folder of %s: %w", s.resource.name(), err)
	}
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
		Binds: []string{data + ":" + s.data},
		PortBindings: network.PortMap{inside: {{
			HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(s.resource.Port),
		}}},
		RestartPolicy: dockercontainer.RestartPolicy{Name: dockercontainer.RestartPolicyUnlessStopped},
	}
	_, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: p.containerName(s.resource)})
	if err != nil {
		return fault.Wrap(fault.Failed, err, "create container %s of %s", p.containerName(s.resource), s.image)
	}
	return nil
}

// containerAlive is fault.Unavailable unless the resource's container runs.
func (p *Platform) containerAlive(ctx context.Context, r *resource) error {
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
	if found.Container.State == nil || !found.Container.State.Running {
		return fault.New(fault.Unavailable, "the container %s of %s does not run", name, r.name()).
			WithHint("start what is missing, with its data: makeitso up")
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
		return fault.Wrap(fault.Unavailable, err, "remove the container of %s", r.name())
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
