package stacktest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/stack"
)

// fleet is the instances of a group on a Platform.
type fleet struct {
	made      int // instances so far
	instances []instance
	suspended []string
}

// instance was made from a launch configuration.
type instance struct{ id, from string }

// group makes groups of instances, AWS::AutoScaling::AutoScalingGroup.
type group struct{ handler }

func (g group) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	return g.sized(ctx, r, g.handler.Create)
}

func (g group) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	return g.sized(ctx, r, g.handler.Update)
}

// sized brings the group to the size that its properties say. New instances are
// made by calls of their own, so that these have hooks.
func (g group) sized(ctx context.Context, r stack.Request, do func(context.Context, stack.Request) (stack.Result, error)) (stack.Result, error) {
	result, err := do(ctx, r)
	if err != nil {
		return result, err
	}
	size, _, err := sizes(r)
	if err != nil {
		return result, err
	}
	return result, g.Resize(ctx, r, size)
}

func (g group) Delete(ctx context.Context, r stack.Request) error {
	if err := g.handler.Delete(ctx, r); err != nil {
		return err
	}
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	delete(g.p.fleets, r.Token)
	return nil
}

// sizes gives how many instances a group is to have, and may have.
func sizes(r stack.Request) (size, most int, err error) {
	least, ok := r.Properties["DesiredCapacity"]
	if !ok {
		least = r.Properties["MinSize"]
	}
	size, err = strconv.Atoi(fmt.Sprint(least))
	if err == nil {
		most, err = strconv.Atoi(fmt.Sprint(r.Properties["MaxSize"]))
	}
	if err != nil {
		err = fault.Wrap(fault.Invalid, err, "the sizes of group %s are no numbers", r.LogicalID)
	}
	return size, most, err
}

func (g group) Fleet(_ context.Context, r stack.Request) (pace.Fleet, error) {
	size, most, err := sizes(r)
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	f := pace.Fleet{Size: size, Most: most}
	for _, i := range g.p.fleet(r.Token).instances {
		f.Instances = append(f.Instances, pace.Instance{ID: i.id, Current: i.from == launchedFrom(r)})
	}
	return f, err
}

func launchedFrom(r stack.Request) string { return fmt.Sprint(r.Properties["LaunchConfigurationName"]) }

// fleet gives the instances of a group; p.mu is held.
func (p *Platform) fleet(token string) *fleet {
	f := p.fleets[token]
	if f == nil {
		f = &fleet{}
		p.fleets[token] = f
	}
	return f
}

// Resize calls the hook "launch" for each new instance, whose id is the
// request's PhysicalID.
func (g group) Resize(ctx context.Context, r stack.Request, n int) error {
	for {
		g.p.mu.Lock()
		f := g.p.fleet(r.Token)
		f.instances = f.instances[:min(n, len(f.instances))]
		if len(f.instances) == n {
			g.p.mu.Unlock()
			return nil
		}
		f.made++
		launched := r
		launched.PhysicalID = fmt.Sprintf("i-%d", f.made)
		f.instances = append(f.instances, instance{launched.PhysicalID, launchedFrom(r)})
		g.p.mu.Unlock()
		leave, err := g.enter(ctx, "launch", launched)
		leave()
		if err != nil {
			return err
		}
	}
}

func (g group) Terminate(_ context.Context, r stack.Request, ids []string) error {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	f := g.p.fleet(r.Token)
	f.instances = slices.DeleteFunc(f.instances, func(i instance) bool { return slices.Contains(ids, i.id) })
	return nil
}

func (g group) Suspend(_ context.Context, r stack.Request, processes []string) error {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	g.p.fleet(r.Token).suspended = processes
	return nil
}

// Instances gives the instances of a group as "id:launch configuration …", and
// its suspended processes.
func (p *Platform) Instances(logicalID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for token, t := range p.things {
		if t.LogicalID != logicalID {
			continue
		}
		for _, i := range p.fleet(token).instances {
			all = append(all, i.id+":"+i.from)
		}
		for _, process := range p.fleet(token).suspended {
			all = append(all, "without "+process)
		}
	}
	return strings.Join(all, " ")
}

// AddAlarm makes an alarm; what it gives sets it off.
func (p *Platform) AddAlarm(arn string) (goOff func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	off := make(chan struct{})
	p.alarms[arn] = off
	return sync.OnceFunc(func() { close(off) })
}

// HasAlarm makes the platform a stack.AlarmStore.
func (p *Platform) HasAlarm(_ context.Context, arn string) error {
	_, err := p.alarm(arn)
	return err
}

func (p *Platform) alarm(arn string) (off <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off, exists := p.alarms[arn]; exists {
		return off, nil
	}
	return nil, fault.New(fault.NotFound, "there is no alarm %s", arn)
}

// WaitAlarm implements stack.AlarmStore.
func (p *Platform) WaitAlarm(ctx context.Context, arn string) error {
	off, err := p.alarm(arn)
	if err != nil {
		return err
	}
	select {
	case <-off:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
