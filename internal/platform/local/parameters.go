package local

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

// parameterGroup makes AWS::ElastiCache::ParameterGroup: the servers of the
// clusters that name it run with its parameters.
type parameterGroup struct{ p *Platform }

// setting is a parameter of a server that a group has set, in the server's own
// words: what it was before, and what it was right after.
type setting struct {
	Was string `json:"was,omitempty"` // not kept where a server goes back by itself
	Is  string `json:"is"`
	// Start is what is told to the server when it starts, in the group's words;
	// "" for what is told to one that runs.
	Start string `json:"start,omitempty"`
}

// ourParameters are where and how this platform runs a server and keeps its
// data; a group has no say in them.
var ourParameters = []string{"appendonly", "appendfsync", "bind", "cluster-enabled", "daemonize", "dbfilename", "dir", "logfile", "masterauth", "port", "protected-mode", "replicaof", "requirepass", "save", "unixsocket"}

// groupProperties names the property of a group that holds the parameters.
const groupProperties = "Properties"

func (h parameterGroup) make(ctx context.Context, r *resource) error {
	r.PhysicalID = strings.ToLower(r.declaredOr("CacheParameterGroupName", 255))
	r.Attributes = map[string]any{"CacheParameterGroupName": r.PhysicalID}
	clusters, err := h.clusters(r)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		if err := (redis{h.p}).setParameters(ctx, cluster, parametersOf(r.Properties[groupProperties])); err != nil {
			return err
		}
	}
	return nil
}

func (h parameterGroup) named(r *resource) string {
	return strings.ToLower(r.text("CacheParameterGroupName"))
}

func (h parameterGroup) check(context.Context, *resource) error  { return nil }
func (h parameterGroup) read(context.Context, *resource) error   { return nil }
func (h parameterGroup) remove(context.Context, *resource) error { return nil }

// clusters gives those that name the group and have a server with parameters,
// the nodes of replication groups among them.
func (h parameterGroup) clusters(r *resource) ([]*resource, error) {
	all, err := h.p.complete(clusterType)
	return slices.DeleteFunc(all, func(c *resource) bool {
		return !strings.EqualFold(c.text("CacheParameterGroupName"), r.PhysicalID) || c.By == byEmbedded
	}), err
}

// tell gives the parameters as the servers have them. One that does not answer
// is told of by its own cluster.
func (h parameterGroup) tell(ctx context.Context, r *resource) (map[string]any, error) {
	clusters, err := h.clusters(r)
	if err != nil {
		return nil, err
	}
	return toldParameters(r, groupProperties, clusters, func(cluster *resource, name string) (string, bool) {
		is, known, err := cluster.server().Parameter(ctx, name)
		return is, known && err == nil
	}), nil
}

// toldParameters gives a group's properties with the parameters that servers
// have otherwise than they were set.
func toldParameters(r *resource, property string, servers []*resource, ask func(server *resource, name string) (is string, known bool)) map[string]any {
	parameters := map[string]any{}
	for name, value := range parametersOf(r.Properties[property]) {
		parameters[name] = value
	}
	for _, server := range servers {
		for name, set := range server.Settings {
			if _, wanted := parameters[name]; !wanted {
				continue
			}
			if is, known := ask(server, name); known && is != set.Is {
				parameters[name] = is
			}
		}
	}
	told := maps.Clone(r.Properties)
	if len(parameters) > 0 {
		told[property] = parameters
	}
	return told
}

// warn implements warner: Redis is asked itself which parameters it takes only
// when it starts, by setting each to what it is.
func (h parameterGroup) warn(ctx context.Context, r *resource) ([]string, error) {
	before := h.p.existing(r)
	if before == nil {
		return nil, nil
	}
	clusters, err := h.clusters(before)
	if err != nil {
		return nil, err
	}
	was, will := parametersOf(before.Properties[groupProperties]), parametersOf(r.Properties[groupProperties])
	var told []string
	for _, cluster := range clusters {
		var names []string
		for _, name := range changedNames(was, will) {
			is, known, err := cluster.server().Parameter(ctx, name)
			if err != nil || !known || slices.Contains(ourParameters, name) {
				continue // one that does not run is interrupted by nothing
			}
			if _, err := cluster.server().Ask(ctx, "CONFIG", "SET", name, is); atStartOnly(err) {
				names = append(names, name)
			}
		}
		told = append(told, interruption(cluster, names)...)
	}
	return told, nil
}

// interruption tells that a server is restarted for parameters.
func interruption(server *resource, parameters []string) []string {
	if len(parameters) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("some interruption: the server of %s is restarted, with its data, for %s; its connections end", server.name(), strings.Join(parameters, ", "))}
}

// changedNames gives the names of parameters that differ, by name.
func changedNames(was, will map[string]string) []string {
	all := map[string]bool{}
	for name, value := range will {
		before, had := was[name]
		all[name] = !had || before != value
	}
	for name := range was {
		if _, stays := will[name]; !stays {
			all[name] = true
		}
	}
	maps.DeleteFunc(all, func(_ string, changes bool) bool { return !changes })
	return slices.Sorted(maps.Keys(all))
}

func parametersOf(declared any) map[string]string {
	parameters := map[string]string{}
	values, _ := declared.(map[string]any)
	for name, value := range values {
		if !unknown(value) {
			parameters[name] = fmt.Sprint(value)
		}
	}
	return parameters
}

// groupNamed gives the properties of the group of a type and name, none if
// there is no such group.
func (p *Platform) groupNamed(typ, name string) (map[string]any, error) {
	groups, err := p.complete(typ)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if strings.EqualFold(group.PhysicalID, name) {
			return group.Properties, nil
		}
	}
	return nil, nil
}

// configure gives a cluster's server the parameters of the group it names.
func (h redis) configure(ctx context.Context, r *resource) error {
	group, err := h.p.groupNamed("AWS::ElastiCache::ParameterGroup", r.text("CacheParameterGroupName"))
	if err != nil {
		return err
	}
	return h.setParameters(ctx, r, parametersOf(group[groupProperties]))
}

// setParameters gives a server the parameters wanted, and those that a group
// had set before and does not set any more what they were. Parameters of the
// service that the server does not know have no effect on this machine. One
// that does not start again is given back what it had.
func (h redis) setParameters(ctx context.Context, r *resource, wanted map[string]string) error {
	before := maps.Clone(r.Settings)
	settings := map[string]setting{}
	for name := range wanted {
		was, known, err := r.server().Parameter(ctx, name)
		if err != nil {
			return fmt.Errorf("read parameter %s of %s: %w", name, r.name(), err)
		}
		set, again := r.Settings[name]
		if !again {
			set = setting{Was: was}
		}
		if known && !slices.Contains(ourParameters, name) {
			settings[name] = set
		}
	}
	gone := maps.Clone(r.Settings)
	maps.DeleteFunc(gone, func(name string, _ setting) bool { _, stays := settings[name]; return stays })
	maps.Copy(settings, gone)
	if r.Settings = settings; len(settings) == 0 {
		return nil
	}
	if err := h.p.save(r); err != nil { // what they were is known from here on
		return err
	}
	restart := false
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		set, value := settings[name], wanted[name]
		_, leaves := gone[name]
		if leaves {
			value = set.Was
		}
		_, err := r.server().Ask(ctx, "CONFIG", "SET", name, value)
		switch {
		case atStartOnly(err) && leaves:
			restart = restart || set.Start != ""
		case atStartOnly(err):
			restart = restart || set.Start != value && set.Is != value
			set.Start = value
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "%s: the server refuses parameter %s = %q", r.name(), name, value)
		}
		if settings[name] = set; leaves {
			delete(settings, name)
		}
	}
	if restart {
		if err := h.restart(ctx, r, before); err != nil {
			return err
		}
	}
	return h.measure(ctx, r)
}

// restart starts a server anew with its settings; if it does not come up, with
// those that it had before.
func (h redis) restart(ctx context.Context, r *resource, before map[string]setting) error {
	if err := h.follow(ctx, r); err != nil { // its primary may just have been restarted
		return err
	}
	if err := h.p.stop(ctx, r); err != nil {
		return err
	}
	err := h.start(ctx, r)
	if err == nil {
		return h.follow(ctx, r)
	}
	r.Settings = before
	if again := h.start(ctx, r); again != nil {
		return fmt.Errorf("%w; then start it as it was: %w", err, again)
	}
	if saved := h.p.save(r); saved != nil {
		return saved
	}
	return err
}

// measure writes down what the parameters set have become in the server's words.
func (h redis) measure(ctx context.Context, r *resource) error {
	for name, set := range r.Settings {
		is, _, err := r.server().Parameter(ctx, name)
		if err != nil {
			return err
		}
		set.Is = is
		r.Settings[name] = set
	}
	return h.p.save(r)
}

// atStartOnly says whether a server refuses a parameter since it takes it only
// when it starts.
func atStartOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), "immutable config")
}

// warner is a maker that can tell, of a resource that is planned, what its
// properties alone do not say.
type warner interface {
	warn(ctx context.Context, r *resource) ([]string, error)
}

// Warn implements stack.Warner.
func (h *handler) Warn(ctx context.Context, r stack.Request) ([]string, error) {
	w, can := h.maker.(warner)
	if !can {
		return nil, nil
	}
	return w.warn(ctx, requested(r))
}
