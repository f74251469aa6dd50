package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/beanstalk"
	"makeitso/internal/platform/fleet"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/stack"
)

// The types of what groups of instances are launched from.
const (
	templateType      = "AWS::EC2::LaunchTemplate"
	configurationType = "AWS::AutoScaling::LaunchConfiguration"
)

// Edge is what load balancers need of the data plane.
type Edge interface {
	// SetBalancing puts an environment's target groups and load balancers in
	// force, in place of those that it had, and returns when they are.
	SetBalancing(ctx context.Context, environment string, services []edge.Service, balancers []edge.Balancer) error
	// Stats gives the edge's report.
	Stats(ctx context.Context) (edge.Stats, error)
	// Traffic gives what the edge has seen of requests.
	Traffic(ctx context.Context) (edge.Traffic, error)
}

// newFleets makes what keeps the groups of instances.
func (p *Platform) newFleets() *fleet.Runner {
	return fleet.New(fleet.Options{
		Environment: p.Env, Records: p.o.Records, Instances: p, Route: p.Balance, InFlight: p.inFlight, Announce: p.o.Announce,
		Hold: p.Hold,
	})
}

// inFlight gives how many requests are under way at an instance of a group.
func (p *Platform) inFlight(ctx context.Context, id string) (n int64, err error) {
	if p.o.Edge == nil {
		return 0, nil
	}
	stats, err := p.o.Edge.Stats(ctx)
	for name, count := range stats.InFlight {
		if strings.HasSuffix(name, "/"+id) {
			n += count
		}
	}
	return n, err
}

// Balance has the edge serve the load balancers of the environment as they are.
func (p *Platform) Balance(ctx context.Context) error {
	if p.o.Edge == nil {
		return nil
	}
	p.balancing.Lock()
	defer p.balancing.Unlock()
	services, balancers, err := p.balanced(ctx)
	if err != nil {
		return err
	}
	if err := p.o.Edge.SetBalancing(ctx, p.Env, services, balancers); err != nil {
		return fmt.Errorf("put the load balancers in force: %w", err)
	}
	return nil
}

// balancers gives the load balancers of the environment, without targets.
func (p *Platform) balancers(ctx context.Context) (balance.Parts, error) {
	parts := balance.Parts{
		Environment: p.Env, Resources: map[string][]model.Resource{}, Targets: map[string][]edge.Instance{},
		Hosts: func(own string) []string { return []string{own} },
	}
	all, err := p.recordsOf(ctx, balance.Types...)
	for _, r := range all {
		parts.Resources[r.Type] = append(parts.Resources[r.Type], r.Resource)
	}
	return parts, err
}

// balanced gives what the edge is to serve of load balancers and of Beanstalk.
func (p *Platform) balanced(ctx context.Context) (services []edge.Service, balancers []edge.Balancer, err error) {
	parts, err := p.balancers(ctx)
	if err != nil {
		return nil, nil, err
	}
	links, err := p.links()
	if err != nil {
		return nil, nil, err
	}
	parts.Hosts = func(own string) []string { return leadingTo(links, own) }
	groups, err := p.fleets.Groups(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range groups {
		r, err := p.Load(g.Name)
		if fault.Is(err, fault.NotFound) {
			continue // being removed
		}
		if err != nil {
			return nil, nil, err
		}
		for _, arn := range targetsOf(r) {
			parts.Targets[arn] = append(parts.Targets[arn], g.Routed()...)
		}
		if r.Type != beanstalk.EnvironmentType {
			continue
		}
		service, balancer, err := p.served(ctx, r, links, g)
		if err != nil {
			return nil, nil, err
		}
		services, balancers = append(services, service), append(balancers, balancer)
	}
	elb, fronts := parts.Edge()
	return append(services, elb...), append(balancers, fronts...), nil
}

// targetsOf gives the ARNs of the target groups that a group's instances are
// registered with.
func targetsOf(r *machine.Resource) (arns []string) {
	list, _ := r.Properties["TargetGroupARNs"].([]any)
	for _, arn := range list {
		arns = append(arns, fmt.Sprint(arn))
	}
	return arns
}

// balancing makes the types of ElasticLoadBalancingV2, by which the edge chooses
// where requests go.
type balancing struct{ modelled }

func (h balancing) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil {
		return err
	}
	return balance.Judge(r.Resource)
}

// Warn implements machine.Warner.
func (h balancing) Warn(_ context.Context, r *machine.Resource) ([]string, error) {
	return balance.Notes(r.Resource), nil
}

func (h balancing) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Make(ctx, r); err != nil || r.Type != balance.LoadBalancerType {
		return err
	}
	name, _ := r.Attributes["LoadBalancerName"].(string)
	r.Attributes["DNSName"] = strings.ToLower(fmt.Sprintf("%s-%s.elb.%s.%s.localhost", name, model.Digits(r.Token, "dns", 6), h.p.Env, h.p.o.Project))
	return nil
}

// group makes AWS::AutoScaling::AutoScalingGroup.
type group struct {
	p *Platform
	t model.Type
}

func (h group) Named(r *machine.Resource) string { return r.Text("AutoScalingGroupName") }

func (h group) Check(ctx context.Context, r *machine.Resource) error {
	if err := modelled(h).judge(ctx, r); err != nil {
		return err
	}
	if r.Token == "" { // what it is launched from may not be there yet
		return nil
	}
	_, err := h.spec(ctx, r)
	return err
}

func (h group) Make(ctx context.Context, r *machine.Resource) error {
	if err := modelled(h).Make(ctx, r); err != nil {
		return err
	}
	r.Key = cmp.Or(r.Key, rand.Text())
	if err := h.p.Save(r); err != nil { // where its instances are registered, and what they sign their signals with
		return err
	}
	spec, err := h.spec(ctx, r)
	if err != nil {
		return err
	}
	if spec.Image == "" {
		h.p.o.Announce(fmt.Sprintf("%s: nothing is started, since %s names no image of this machine; ImageId may be a digest, sha256:…, or REPOSITORY_URI:TAG", r.Name(), spec.From))
	}
	return h.p.fleets.Apply(ctx, spec)
}

// Read lets a group be mended by who keeps it.
func (h group) Read(context.Context, *machine.Resource) error {
	if h.p.o.Signal == nil {
		return nil
	}
	_, err := h.p.takeSignals()
	return err
}

func (h group) Remove(ctx context.Context, r *machine.Resource) error {
	return h.p.fleets.Remove(ctx, r.Token)
}

// spec gives what a group shall be.
func (h group) spec(ctx context.Context, r *machine.Resource) (fleet.Spec, error) {
	launch, err := h.launch(ctx, r)
	if err != nil {
		return fleet.Spec{}, err
	}
	all, err := h.p.modelsOf(ctx, balance.TargetGroupType)
	if err != nil {
		return fleet.Spec{}, err
	}
	arns := targetsOf(r)
	s, err := fleet.Read(r.Resource, launch, slices.DeleteFunc(all, func(t model.Resource) bool { return !slices.Contains(arns, t.PhysicalID) }))
	if err != nil || h.p.o.Signal == nil || r.Key == "" {
		return s, err
	}
	port, err := h.p.takeSignals()
	s.Env["SIGNAL_URL"] = "http://" + machine.Loopback(port) + "/" + r.Token + "/" + r.Key
	return s, err
}

// refreshGroups tells groups of a change of what they are launched from or
// registered with. Only instances to come are made by it.
func (p *Platform) refreshGroups(ctx context.Context) error {
	all, err := p.Complete(pace.GroupType)
	if err != nil {
		return err
	}
	for _, r := range all {
		spec, err := group{p: p}.spec(ctx, r)
		if fault.Is(err, fault.Invalid) {
			continue // what it names is being removed, and it will be
		}
		if err == nil {
			err = p.fleets.Refresh(ctx, spec)
		}
		if err != nil {
			return fmt.Errorf("tell %s of a change: %w", r.Name(), err)
		}
	}
	return nil
}

// launch finds what a group's new instances are launched from.
func (h group) launch(ctx context.Context, r *machine.Resource) (fleet.Launch, error) {
	if name := r.Text("LaunchConfigurationName"); name != "" {
		found, err := h.p.recordNamed(ctx, configurationType, name)
		return fleet.Launch{Name: name, Data: pinned(found, found.Properties)}, err
	}
	given, _ := r.Properties["LaunchTemplate"].(map[string]any)
	if mixed, is := r.Properties["MixedInstancesPolicy"].(map[string]any); is {
		given, _ = mixed["LaunchTemplate"].(map[string]any)
		given, _ = given["LaunchTemplateSpecification"].(map[string]any)
	}
	id := cmp.Or(machine.TextIn(given, "LaunchTemplateId"), machine.TextIn(given, "LaunchTemplateName"))
	if id == "" {
		return fleet.Launch{}, nil
	}
	found, err := h.p.recordNamed(ctx, templateType, id)
	if err != nil {
		return fleet.Launch{}, err
	}
	version := cmp.Or(machine.TextIn(given, "Version"), "$Default")
	n, err := strconv.Atoi(strings.NewReplacer("$Latest", strconv.Itoa(len(found.Launches)), "$Default", "1").Replace(version))
	if err != nil || n < 1 || n > len(found.Launches) {
		return fleet.Launch{}, r.Invalid("LaunchTemplate", "names version %s of %s, which has %d", version, id, len(found.Launches))
	}
	return fleet.Launch{Name: fmt.Sprintf("%s:%d", found.PhysicalID, n), Data: pinned(found, found.Launches[n-1])}, nil
}

// recordNamed finds a modelled resource by its physical id or its name.
func (p *Platform) recordNamed(ctx context.Context, typ, name string) (machine.Resource, error) {
	all, err := p.recordsOf(ctx, typ)
	if err != nil {
		return machine.Resource{}, err
	}
	for _, r := range all {
		if r.PhysicalID == name || r.Text("LaunchTemplateName") == name {
			return r, nil
		}
	}
	return machine.Resource{}, fault.New(fault.Invalid, "environment %s has no %s %s", p.Env, typ, name).WithHint("make it with a resource of that type")
}

// announce tells groups and the edge of what a change of a modelled resource may
// have changed.
func (p *Platform) announce(ctx context.Context, r *machine.Resource) error {
	if r.Type == templateType || r.Type == balance.TargetGroupType {
		if err := p.refreshGroups(ctx); err != nil {
			return err
		}
	}
	if !slices.Contains(balance.Types, r.Type) {
		return nil
	}
	return p.Balance(ctx)
}

// Wrap implements machine.Wrapper.
func (h group) Wrap(under *machine.Handler) stack.Handler { return &groupHandler{under, h} }

// groupHandler is the stack.Group of groups.
type groupHandler struct {
	*machine.Handler
	group group
}

// Fleet implements stack.Group.
func (h *groupHandler) Fleet(ctx context.Context, r stack.Request) (pace.Fleet, error) {
	spec, err := h.group.spec(ctx, machine.Requested(r))
	if err != nil {
		return pace.Fleet{}, err
	}
	g, err := h.group.p.fleets.Get(ctx, r.Token)
	g.Spec = spec
	return g.Fleet(), err
}

func (h *groupHandler) Resize(ctx context.Context, r stack.Request, n int) error {
	defer h.group.p.Begin()()
	return h.group.p.fleets.Resize(ctx, r.Token, n)
}

func (h *groupHandler) Terminate(ctx context.Context, r stack.Request, ids []string) error {
	defer h.group.p.Begin()()
	return h.group.p.fleets.Terminate(ctx, r.Token, ids)
}

func (h *groupHandler) Suspend(ctx context.Context, r stack.Request, processes []string) error {
	defer h.group.p.Begin()()
	return h.group.p.fleets.Suspend(ctx, r.Token, processes)
}
