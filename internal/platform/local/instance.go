package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/process"
	"makeitso/internal/release"
)

// instance is what is kept of one instance, in a file of its own in the
// instance's folder.
type instance struct {
	Spec       release.InstanceSpec `json:"spec"`
	Port       int                  `json:"port"`
	Entrypoint []string             `json:"entrypoint,omitempty"` // set when the image is unpacked
	Env        []string             `json:"env,omitempty"`        // the image's own
	Log        string               `json:"log"`
}

func (p *Platform) instanceFolder(id string) string { return filepath.Join(p.Dir, "instances", id) }

func (p *Platform) instanceFile(id string) string {
	return filepath.Join(p.instanceFolder(id), "instance.json")
}

func (p *Platform) loadInstance(id string) (instance, error) {
	var i instance
	err := p.o.Key.ReadFile(p.instanceFile(id), "instance "+id, &i)
	if errors.Is(err, fs.ErrNotExist) {
		return i, fault.New(fault.NotFound, "environment %s has no instance %s", p.Env, id)
	}
	if err != nil {
		return i, fmt.Errorf("read instance %s: %w", id, err)
	}
	return i, nil
}

// instancePorts gives the ports of all instances.
func (p *Platform) instancePorts() ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(p.Dir, "instances"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var ports []int
	for _, e := range entries {
		i, err := p.loadInstance(e.Name())
		if fault.Is(err, fault.NotFound) {
			continue // being made or removed
		}
		if err != nil {
			return nil, err
		}
		ports = append(ports, i.Port)
	}
	return ports, nil
}

// Start starts an instance of an image, once for each spec.ID.
func (p *Platform) Start(ctx context.Context, spec release.InstanceSpec) (release.Instance, error) {
	if err := checkID(spec.ID); err != nil {
		return release.Instance{}, err
	}
	i, err := p.prepare(spec)
	if err != nil {
		return release.Instance{}, fmt.Errorf("start instance %s: %w", spec.ID, err)
	}
	if i.Entrypoint == nil {
		if i, err = p.unpack(ctx, i); err != nil {
			return release.Instance{}, fmt.Errorf("start instance %s: %w", spec.ID, err)
		}
	}
	running, err := p.runInstance(ctx, i)
	if err != nil {
		return release.Instance{}, err
	}
	return i.started(running), nil
}

func checkID(id string) error {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return fault.New(fault.Invalid, "the instance id %q is not safe as a file name", id)
	}
	return nil
}

func (i instance) started(running *process.Process) release.Instance {
	return release.Instance{ID: i.Spec.ID, Address: machine.Loopback(i.Port), PID: running.PID, Log: i.Log}
}

// prepare gives the instance its folder and port, or finds them.
func (p *Platform) prepare(spec release.InstanceSpec) (instance, error) {
	p.Ports.Lock()
	defer p.Ports.Unlock()
	i, err := p.loadInstance(spec.ID)
	if !fault.Is(err, fault.NotFound) {
		return i, err
	}
	taken, err := p.TakenPorts()
	if err != nil {
		return i, err
	}
	i.Spec = spec
	if i.Port, err = machine.FreePort(taken); err != nil {
		return i, err
	}
	service := spec.Service[strings.LastIndexByte(spec.Service, '/')+1:]
	if i.Log, err = p.LogFile(filepath.Join("instances", service+"-"+spec.ID)); err != nil {
		return i, err
	}
	if err := os.MkdirAll(p.instanceFolder(spec.ID), 0o700); err != nil {
		return i, fmt.Errorf("make its folder: %w", err)
	}
	return i, p.o.Key.WriteFile(p.instanceFile(spec.ID), "instance "+spec.ID, i)
}

// unpack puts the image's files into the instance's folder.
func (p *Platform) unpack(ctx context.Context, i instance) (instance, error) {
	unpack := p.o.Unpack
	if bundle, is := strings.CutPrefix(i.Spec.Artifact, ofBundle); is {
		unpack = func(ctx context.Context, _, into string) (command, env []string, err error) {
			command, err = p.unpackBundle(ctx, bundle, into)
			return command, nil, err
		}
	}
	if unpack == nil {
		return i, fault.New(fault.Internal, "the local platform was given no way to unpack an image")
	}
	root := p.rootFolder(i.Spec.ID)
	if err := os.RemoveAll(root); err != nil { // half an earlier attempt
		return i, fmt.Errorf("clear its root folder: %w", err)
	}
	// An unprivileged program must be able to look into its own root.
	if err := os.Mkdir(root, 0o755); err != nil {
		return i, fmt.Errorf("make its root folder: %w", err)
	}
	entrypoint, env, err := unpack(ctx, i.Spec.Artifact, root)
	if err != nil {
		return i, fmt.Errorf("unpack image %s: %w", i.Spec.Artifact, err)
	}
	if len(entrypoint) == 0 {
		return i, fault.New(fault.Invalid, "image %s says no program to run", i.Spec.Artifact).
			WithHint("give it an entrypoint: image: {binary: …} in makeitso.yaml")
	}
	i.Entrypoint, i.Env = entrypoint, env
	return i, p.o.Key.WriteFile(p.instanceFile(i.Spec.ID), "instance "+i.Spec.ID, i)
}

func (p *Platform) rootFolder(id string) string { return filepath.Join(p.instanceFolder(id), "root") }

// runInstance runs the program: as root on Linux in a mount namespace with
// the image as its root folder, else in the image's folder. An instance whose
// program has run and ended is not run again: its release replaces it.
func (p *Platform) runInstance(ctx context.Context, i instance) (*process.Process, error) {
	name := machine.InstanceProcess + i.Spec.ID
	if found, err := p.Keeper.Find(name); err == nil {
		return found, nil
	} else if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	spec := process.Spec{Name: name, Log: i.Log, Env: i.environment(), Path: i.Entrypoint[0], Args: i.Entrypoint[1:]}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		spec.Root = p.rootFolder(i.Spec.ID)
		running, err := p.Keeper.Start(ctx, spec)
		if !fault.Is(err, fault.Denied) {
			return running, err
		}
		p.o.Announce(fmt.Sprintf("instance %s: runs without a root folder of its own: %v", i.Spec.ID, err))
	}
	spec.Root, spec.Dir = "", p.rootFolder(i.Spec.ID)
	if inside := filepath.Join(spec.Dir, spec.Path); strings.HasPrefix(spec.Path, "/") {
		spec.Path = inside
	}
	return p.Keeper.Start(ctx, spec)
}

// environment is the image's own, overruled by the service's, and where to
// listen.
func (i instance) environment() []string {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, variable := range i.Env {
		key, value, _ := strings.Cut(variable, "=")
		env[key] = value
	}
	maps.Copy(env, i.Spec.Env)
	env["PORT"], env["HOST"] = strconv.Itoa(i.Port), "127.0.0.1"
	var list []string
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}

// Find gives a running instance, fault.NotFound if there is none of that id or
// its program has ended.
func (p *Platform) Find(_ context.Context, id string) (release.Instance, error) {
	i, err := p.loadInstance(id)
	if err != nil {
		return release.Instance{}, err
	}
	running, err := p.Keeper.Find(machine.InstanceProcess + id)
	if fault.Is(err, fault.NotFound) {
		return release.Instance{}, fault.New(fault.NotFound, "instance %s was begun and never ran", id)
	}
	if err != nil {
		return release.Instance{}, err
	}
	if !running.Alive() {
		ending := running.Ending()
		if ending == "" {
			ending = "in a way that was not seen"
		}
		return release.Instance{}, fault.New(fault.NotFound, "instance %s has ended: %s", id, ending).
			WithHint("its last words (%s):\n%s", i.Log, machine.Tail(i.Log))
	}
	return i.started(running), nil
}

// Exited is closed when the instance's program has ended, and at once if there
// is none of that id.
func (p *Platform) Exited(id string) <-chan struct{} {
	running, err := p.Keeper.Find(machine.InstanceProcess + id)
	if err != nil {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return running.Exited()
}

// Stop ends an instance and removes its folder; its log stays.
func (p *Platform) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := checkID(id); err != nil {
		return err
	}
	running, err := p.Keeper.Find(machine.InstanceProcess + id)
	if err == nil {
		err = running.Stop(ctx, grace)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("stop instance %s: %w", id, err)
	}
	if err := machine.RemoveFolder(p.instanceFolder(id), "instance.json"); err != nil {
		return fmt.Errorf("remove the folder of instance %s: %w", id, err)
	}
	return nil
}
