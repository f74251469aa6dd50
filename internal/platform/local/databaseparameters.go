package local

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/platform/postgresql"
)

// databaseParameters makes AWS::RDS::DBParameterGroup: the servers of the
// instances that name it run with its parameters.
type databaseParameters struct{ p *Platform }

const (
	databaseParametersType = "AWS::RDS::DBParameterGroup"
	databaseParametersKey  = "Parameters"
)

// ourDatabaseParameters are where and how this platform runs a server; a group
// has no say in them.
var ourDatabaseParameters = []string{
	"config_file", "data_directory", "external_pid_file", "hba_file", "ident_file", "listen_addresses", "log_destination", "log_directory",
	"log_filename", "logging_collector", "port", "ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", "unix_socket_directories",
}

// databaseParametersOf gives the parameters of a group that this machine knows
// how to mean: formulas are about the service's classes of instances.
func databaseParametersOf(declared any) map[string]string {
	parameters := parametersOf(declared)
	maps.DeleteFunc(parameters, func(name, value string) bool {
		return slices.Contains(ourDatabaseParameters, name) || strings.Contains(value, "{")
	})
	return parameters
}

func (h databaseParameters) named(r *resource) string {
	return strings.ToLower(r.text("DBParameterGroupName"))
}

func (h databaseParameters) check(context.Context, *resource) error  { return nil }
func (h databaseParameters) read(context.Context, *resource) error   { return nil }
func (h databaseParameters) remove(context.Context, *resource) error { return nil }

func (h databaseParameters) make(ctx context.Context, r *resource) error {
	r.PhysicalID = strings.ToLower(r.declaredOr("DBParameterGroupName", 255))
	r.Attributes = map[string]any{"DBParameterGroupName": r.PhysicalID}
	instances, err := h.instances(r)
	if err != nil {
		return err
	}
	for _, instance := range instances {
		if err := (postgres{h.p}).setParameters(ctx, instance, databaseParametersOf(r.Properties[databaseParametersKey])); err != nil {
			return err
		}
	}
	return nil
}

// instances gives those that name the group.
func (h databaseParameters) instances(r *resource) ([]*resource, error) {
	all, err := h.p.complete(databaseType)
	return slices.DeleteFunc(all, func(i *resource) bool { return !strings.EqualFold(i.text("DBParameterGroupName"), r.PhysicalID) }), err
}

// tell gives the parameters as the servers have them. One that does not answer
// is told of by its own instance.
func (h databaseParameters) tell(ctx context.Context, r *resource) (map[string]any, error) {
	instances, err := h.instances(r)
	if err != nil {
		return nil, err
	}
	return toldParameters(r, databaseParametersKey, instances, func(instance *resource, name string) (string, bool) {
		has, err := instance.database().Parameters(ctx, name)
		parameter, known := has[name]
		return parameter.Is, known && err == nil
	}), nil
}

// warn implements warner.
func (h databaseParameters) warn(ctx context.Context, r *resource) ([]string, error) {
	before := h.p.existing(r)
	if before == nil {
		return nil, nil
	}
	instances, err := h.instances(before)
	if err != nil {
		return nil, err
	}
	changed := changedNames(databaseParametersOf(before.Properties[databaseParametersKey]), databaseParametersOf(r.Properties[databaseParametersKey]))
	var told []string
	for _, instance := range instances {
		told = append(told, interruption(instance, restarting(ctx, instance, changed))...)
	}
	return told, nil
}

// warn implements warner: another group may ask for a restart.
func (h postgres) warn(ctx context.Context, r *resource) ([]string, error) {
	is := h.p.existing(r)
	if is == nil {
		folder, found := h.programs(r, "")
		if !found || r.declaredVersion() == "" {
			return nil, nil
		}
		version, err := versionOf(ctx, filepath.Join(folder, "postgres"))
		return sameMajor(r, version), err
	}
	wanted, err := h.group(r)
	if err != nil || strings.EqualFold(r.text("DBParameterGroupName"), is.text("DBParameterGroupName")) {
		return nil, err
	}
	return interruption(is, restarting(ctx, is, changedNames(started(is), wanted))), nil
}

// restarting gives those of the parameters that the server takes only when it
// starts. One that does not run is interrupted by nothing.
func restarting(ctx context.Context, instance *resource, names []string) []string {
	has, err := instance.database().Parameters(ctx, names...)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !has[name].AtStart })
}

// group gives the parameters of the group that an instance names, none if there
// is no such group.
func (h postgres) group(r *resource) (map[string]string, error) {
	properties, err := h.p.groupNamed(databaseParametersType, r.text("DBParameterGroupName"))
	return databaseParametersOf(properties[databaseParametersKey]), err
}

// configure gives an instance's server the parameters of the group it names.
func (h postgres) configure(ctx context.Context, r *resource) error {
	wanted, err := h.group(r)
	if err != nil {
		return err
	}
	return h.setParameters(ctx, r, wanted)
}

// setParameters gives a server the parameters wanted and no others, at once
// where it can take them at once, else by a restart. Those that it does not
// know, or that are formulas of the service, have no effect on this machine. A
// server that does not start again is given back what it had.
func (h postgres) setParameters(ctx context.Context, r *resource, wanted map[string]string) error {
	has, err := r.database().Parameters(ctx, slices.Collect(maps.Keys(wanted))...)
	if err != nil {
		return err
	}
	wanted = maps.Clone(wanted)
	maps.DeleteFunc(wanted, func(name, _ string) bool { p, known := has[name]; return !known || p.Fixed })
	if len(wanted) == 0 && len(r.Settings) == 0 {
		return nil
	}
	if err := r.database().Judge(ctx, wanted); err != nil {
		return fault.Wrap(fault.CodeOf(err), err, "%s", r.name())
	}
	before := r.Settings
	r.Settings = map[string]setting{}
	for name, value := range wanted {
		r.Settings[name] = setting{Start: value}
	}
	if err := postgresql.WriteParameters(h.data(r), wanted); err != nil {
		return err
	}
	restart, err := r.database().Reload(ctx)
	if err != nil {
		return err
	}
	if restart {
		if err := h.restart(ctx, r, before); err != nil {
			return err
		}
	}
	if has, err = r.database().Parameters(ctx, slices.Collect(maps.Keys(wanted))...); err != nil {
		return err
	}
	for name, set := range r.Settings {
		set.Is = has[name].Is
		r.Settings[name] = set
	}
	return h.p.save(r)
}

// restart starts a server anew with its settings; if it does not come up, with
// those that it had before.
func (h postgres) restart(ctx context.Context, r *resource, before map[string]setting) error {
	if err := h.p.stop(ctx, r); err != nil {
		return err
	}
	err := h.start(ctx, r)
	if err == nil {
		return nil
	}
	r.Settings = before
	if again := h.start(ctx, r); again != nil {
		return fmt.Errorf("%w; then start it as it was: %w", err, again)
	}
	return fault.Wrap(fault.Invalid, err, "%s does not start with its new parameters, and runs with those it had", r.name())
}

// started gives the settings that a server was told to start with.
func started(r *resource) map[string]string {
	given := map[string]string{}
	for name, set := range r.Settings {
		given[name] = set.Start
	}
	return given
}
