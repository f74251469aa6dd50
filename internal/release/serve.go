package release

import (
	"context"
	"fmt"
	"slices"

	"makeitso/internal/fault"
	"makeitso/internal/span"
)

// temporaryRecord is an instance that belongs to a test, not to a service.
type temporaryRecord struct {
	ID string `json:"id"`
}

// Serve starts one instance outside of any release, for a test, and gives its
// address when it is healthy. The caller stops it; what a crash leaves behind
// is destroyed when Run begins.
func (c *Controller) Serve(ctx context.Context, s Service, digest string, config map[string]string) (address string, stop func(context.Context) error, err error) {
	id := fmt.Sprintf("%s.%s.test.%d", c.environment, s.Name, c.o.Clock.Now().UnixNano())
	c.mu.Lock()
	c.serving[id] = true
	c.mu.Unlock()
	if err := c.temporary.Put(ctx, c.environment+"/"+id, temporaryRecord{ID: id}); err != nil {
		return "", nil, fmt.Errorf("note temporary instance %s: %w", id, err)
	}
	stop = func(ctx context.Context) error { return c.stopTemporary(ctx, id) }
	i, err := c.instances.Start(ctx, InstanceSpec{ID: id, Service: edgeName(c.environment, s.Name), Artifact: digest, Env: config})
	if err == nil {
		err = c.healthy(ctx, i, s)
	}
	if err != nil {
		err = fault.Wrap(fault.Failed, err, "service %s does not come up for a test", s.Name).WithHint("see what it printed in %s", i.Log)
		return "", nil, joinStop(err, stop(context.WithoutCancel(ctx)))
	}
	return i.Address, stop, nil
}

func joinStop(err, stopping error) error {
	if stopping != nil {
		return fmt.Errorf("%w (and its instance could not be stopped: %v)", err, stopping)
	}
	return err
}

// healthy waits until an instance is well, ends, or takes too long.
func (c *Controller) healthy(ctx context.Context, i Instance, s Service) error {
	exited := c.instances.Exited(i.ID)
	late := c.o.Clock.After(c.o.Limits.Start)
	for {
		well := c.probe(ctx, i.Address, s)
		if well == nil {
			return nil
		}
		select {
		case <-exited:
			if _, err := c.instances.Find(ctx, i.ID); err != nil {
				return err
			}
			return fault.New(fault.Failed, "its process ended")
		case <-late:
			return fault.Wrap(fault.Failed, well, "not healthy within %s", span.Text(c.o.Limits.Start))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.o.Clock.After(c.o.StartInterval):
		}
	}
}

func (c *Controller) stopTemporary(ctx context.Context, id string) error {
	if err := c.instances.Stop(ctx, id, c.o.StopGrace); err != nil {
		return fmt.Errorf("stop temporary instance %s: %w", id, err)
	}
	return c.temporary.Delete(ctx, c.environment+"/"+id)
}

// destroyLeftovers ends the temporary instances of an earlier life. One that
// cannot be ended is told of and left for the next start: the services are more
// important.
func (c *Controller) destroyLeftovers(ctx context.Context) {
	left, err := c.temporary.List(ctx, c.environment+"/")
	if err != nil {
		c.observe("", "", EventTrouble, fmt.Sprintf("the instances that tests left cannot be listed: %v", err))
	}
	c.mu.Lock()
	left = slices.DeleteFunc(left, func(t temporaryRecord) bool { return c.serving[t.ID] })
	c.mu.Unlock()
	for _, t := range left {
		if err := c.stopTemporary(ctx, t.ID); err != nil {
			c.observe("", "", EventTrouble, err.Error())
		}
	}
}
