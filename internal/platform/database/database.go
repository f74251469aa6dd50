// Package database makes databases real on this machine: clusters and
// replication groups of Redis, instances of PostgreSQL, the groups of their
// parameters, and snapshots of their data. It knows the servers' programs,
// images and stand-ins, and what a machine is; it must not know other types of
// resources, buckets among them, or how a stack is planned.
package database

import (
	"context"
	"io"

	"makeitso/internal/changeset"
	"makeitso/internal/platform/machine"
)

// Databases makes the databases of one environment.
type Databases struct {
	*machine.Machine
	object func(ctx context.Context, bucket, key string) (io.ReadCloser, error)
}

// New gives what makes databases on a machine. object reads from a
// bucket of the environment, fault.NotFound if it has none.
func New(m *machine.Machine, object func(ctx context.Context, bucket, key string) (io.ReadCloser, error)) *Databases {
	return &Databases{m, object}
}

// Kinds gives what is done with each of the types.
func (d *Databases) Kinds() map[string]machine.Kind {
	return map[string]machine.Kind{
		clusterType:                        snapshots("a redis-server or valkey-server of its own", redis{d}),
		groupType:                          snapshots("a redis-server or valkey-server for each node, which replicate", replicationGroup{redis{d}}),
		"AWS::ElastiCache::ParameterGroup": machine.Real("parameters of the servers whose clusters name it", parameterGroup{d}),
		databaseType:                       snapshots("a PostgreSQL server of its own", postgres{d}),
		databaseParametersType:             machine.Real("parameters of the servers whose instances name it", databaseParameters{d}),
	}
}

// snapshots is the kind of a type whose data can be kept apart from it.
func snapshots(text string, m machine.Maker) machine.Kind {
	return machine.Kind{Support: changeset.Support{Level: changeset.Real, Note: text, Snapshots: true}, Maker: m}
}
