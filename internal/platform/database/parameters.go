package database

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

// parameterGroup makes AWS::ElastiCache::ParameterGroup: the servers of the
// clusters that name it run with its parameters.
type parameterGroup struct{ d *Databases }

// ourParameters are where and how this platform runs a server and keeps its
// data; a group has no say in them.
var ourParameters = []string{"appendonly", "appendfsync", "bind", "cluster-enabled", "daemonize", "dbfilename", "dir", "logfile", "masterauth", "port", "protected-mode", "replicaof", "requirepass", "save", "unixsocket"}

// groupProperties names the property of a group that holds the parameters.
const groupProperties = "Properties"

func (h parameterGroup) Make(ctx context.Context, r *machine.Resource) error {
	r.PhysicalID = strings.ToLower(r.DeclaredOr("CacheParameterGroupName", 255))
	r.Attributes = map[string]any{"CacheParameterGroupName": r.PhysicalID}
	clusters, err := h.clusters(r)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		if err := redis(h).setParameters(ctx, cluster, parametersOf(r.Properties[groupProperties])); err != nil {
			return err
		}
	}
	return nil
}

func (h parameterGroup) Named(r *machine.Resource) string {
	return strings.ToLower(r.Text("CacheParameterGroupName"))
}

func (h parameterGroup) Check(context.Context, *machine.Resource) error  { return nil }
func (h parameterGroup) Read(context.Context, *machine.Resource) error   { return nil }
func (h parameterGroup) Remove(context.Context, *machine.Resource) error { return nil }

// clusters gives those that name the group and have a server with parameters,
// the nodes of replication groups among them.
func (h parameterGroup) clusters(r *machine.Resource) ([]*machine.Resource, error) {
	all, err := h.d.Complete(clusterType)
	return slices.DeleteFunc(all, func(c *machine.Resource) bool {
		return !strings.EqualFold(c.Text("CacheParameterGroupName"), r.PhysicalID) || c.By == machine.ByEmbedded
	}), err
}

// Tell gives the parameters as the servers have them. One that does not answer
// is told of by its own cluster.
func (h parameterGroup) Tell(ctx context.Context, r *machine.Resource) (map[string]any, error) {
	clusters, err := h.clusters(r)
	if err != nil {
		return nil, err
	}
	return toldParameters(r, groupProperties, clusters, func(cluster *machine.Resource, name string) (string, bool) {
		is, known, err := serverOf(cluster).Parameter(ctx, name)
		return is, known && err == nil
	}), nil
}

// toldParameters gives a group's properties with the parameters that servers
// have otherwise than they were set.
func toldParameters(r *machine.Resource, property string, servers []*machine.Resource, ask func(server *machine.Resource, name string) (is string, known bool)) map[string]any {
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

// Warn implements machine.Warner: Redis is asked itself which parameters it takes only
// when it starts, by setting each to what it is.
func (h parameterGroup) Warn(ctx context.Context, r *machine.Resource) ([]string, error) {
	before := h.d.Existing(r)
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
			is, known, err := serverOf(cluster).Parameter(ctx, name)
			if err != nil || !known || slices.Contains(ourParameters, name) {
				continue // one that does not run is interrupted by nothing
			}
			if _, err := serverOf(cluster).Ask(ctx, "CONFIG", "SET", name, is); atStartOnly(err) {
				names = append(names, name)
			}
		}
		told = append(told, interruption(cluster, names)...)
	}
	return told, nil
}

// interruption tells that a server is restarted for parameters.
func interruption(server *machine.Resource, parameters []string) []string {
	if len(parameters) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("some interruption: the server of %s is restarted, with its data, for %s; its connections end", server.Name(), strings.Join(parameters, ", "))}
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
		if !model.Unknown(value) {
			parameters[name] = fmt.Sprint(value)
		}
	}
	return parameters
}

// groupNamed gives the properties of the group of a type and name, none if
// there is no such group.
func (d *Databases) groupNamed(typ, name string) (map[string]any, error) {
	groups, err := d.Complete(typ)
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
func (h redis) configure(ctx context.Context, r *machine.Resource) error {
	group, err := h.d.groupNamed("AWS::ElastiCache::ParameterGroup", r.Text("CacheParameterGroupName"))
	if err != nil {
		return err
	}
	return h.setParameters(ctx, r, parametersOf(group[groupProperties]))
}

// setParameters gives a server the parameters wanted, and those that a group
// had set before and does not set any more what they were. Parameters of the
// service that the server does not know have no effect on this machine. One
// that does not start again is given back what it had.
func (h redis) setParameters(ctx context.Context, r *machine.Resource, wanted map[string]string) error {
	before := maps.Clone(r.Settings)
	settings := map[string]machine.Setting{}
	for name := range wanted {
		was, known, err := serverOf(r).Parameter(ctx, name)
		if err != nil {
			return fmt.Errorf("read parameter %s of %s: %w", name, r.Name(), err)
		}
		set, again := r.Settings[name]
		if !again {
			set = machine.Setting{Was: was}
		}
		if known && !slices.Contains(ourParameters, name) {
			settings[name] = set
		}
	}
	gone := maps.Clone(r.Settings)
	maps.DeleteFunc(gone, func(name string, _ machine.Setting) bool { _, stays := settings[name]; return stays })
	maps.Copy(settings, gone)
	if r.Settings = settings; len(settings) == 0 {
		return nil
	}
	if err := h.d.Save(r); err != nil { // what they were is known from here on
		return err
	}
	restart := false
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		set, value := settings[name], wanted[name]
		_, leaves := gone[name]
		if leaves {
			value = set.Was
		}
		_, err := serverOf(r).Ask(ctx, "CONFIG", "SET", name, value)
		switch {
		case atStartOnly(err) && leaves:
			restart = restart || set.Start != ""
		case atStartOnly(err):
			restart = restart || set.Start != value && set.Is != value
			set.Start = value
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "%s: the server refuses parameter %s = %q", r.Name(), name, value)
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
func (h redis) restart(ctx context.Context, r *machine.Resource, before map[string]machine.Setting) error {
	if err := h.follow(ctx, r); err != nil { // its primary may just have been restarted
		return err
	}
	if err := h.d.StopServing(ctx, r); err != nil {
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
	if saved := h.d.Save(r); saved != nil {
		return saved
	}
	return err
}

// measure writes down what the parameters set have become in the server's words.
func (h redis) measure(ctx context.Context, r *machine.Resource) error {
	for name, set := range r.Settings {
		is, _, err := serverOf(r).Parameter(ctx, name)
		if err != nil {
			return err
		}
		set.Is = is
		r.Settings[name] = set
	}
	return h.d.Save(r)
}

// atStartOnly says whether a server refuses a parameter since it takes it only
// when it starts.
func atStartOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), "immutable config")
}
