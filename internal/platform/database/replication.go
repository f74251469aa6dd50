package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

// replicationGroup makes AWS::ElastiCache::ReplicationGroup. Its nodes are
// resources of their own, as they are of the service: clusters, each with its
// server, data and port. The first is the primary, for ever: on one machine a
// primary that ends is back, at its address and with its data, before a
// replica could take its place.
type replicationGroup struct{ redis }

const (
	clusterType   = "AWS::ElastiCache::CacheCluster"
	groupType     = "AWS::ElastiCache::ReplicationGroup"
	mostReplicas  = 5
	shortestToken = 16
	longestToken  = 128
)

func (h replicationGroup) Named(r *machine.Resource) string {
	return strings.ToLower(r.Text("ReplicationGroupId"))
}

func (h replicationGroup) Check(ctx context.Context, r *machine.Resource) error {
	for _, property := range []string{"GlobalReplicationGroupId", "PrimaryClusterId"} {
		if r.Text(property) != "" {
			return r.Invalid(property, "has no counterpart on this machine: a group here has its own primary; leave it out")
		}
	}
	if r.Text("ClusterMode") == "enabled" {
		return r.Invalid("ClusterMode", "is enabled, and data is not sharded on this machine; allowed is disabled")
	}
	nodes, err := nodesOf(r)
	if err != nil {
		return err
	}
	if nodes == 1 && r.Text("AutomaticFailoverEnabled") == "true" {
		return r.Invalid("AutomaticFailoverEnabled", "is true, which asks for at least one replica; set NumCacheClusters to 2")
	}
	token := r.Text("AuthToken")
	if token != "" && !model.Unknown(token) && (len(token) < shortestToken || len(token) > longestToken || strings.ContainsFunc(token, unfitForToken)) {
		return r.Invalid("AuthToken", "is not %d to %d printable letters without space, '/', '\"' and '@'", shortestToken, longestToken)
	}
	if _, found := h.program(r); !found && (nodes > 1 || token != "") {
		return machine.Missing(r, "the program redis-server or valkey-server for replicas or an AuthToken", redisInstall)
	}
	return h.checkEngine(ctx, r)
}

func unfitForToken(letter rune) bool {
	return letter <= ' ' || letter > '~' || strings.ContainsRune(`/"@`, letter)
}

// nodesOf is how many nodes a group is to have: a primary and its replicas.
func nodesOf(r *machine.Resource) (int, error) {
	shards, _ := r.Properties["NodeGroupConfiguration"].([]any)
	if n := r.Text("NumNodeGroups"); n != "" && n != "1" && !model.Unknown(n) || len(shards) > 1 {
		return 0, r.Invalid("NumNodeGroups", "is %s, and data is not sharded on this machine; allowed is 1", cmp.Or(n, strconv.Itoa(len(shards))))
	}
	nodes, property := r.Text("NumCacheClusters"), "NumCacheClusters"
	replicas := r.Text("ReplicasPerNodeGroup")
	if len(shards) == 1 {
		replicas = cmp.Or(machine.TextIn(shards[0], "ReplicaCount"), replicas)
	}
	if replicas != "" {
		nodes, property = replicas, "ReplicasPerNodeGroup"
	}
	if nodes == "" || model.Unknown(nodes) {
		return 1, nil
	}
	n, isNumber := machine.Number(nodes)
	if replicas != "" {
		n++
	}
	if !isNumber || n < 1 || n > 1+mostReplicas {
		return 0, r.Invalid(property, "is %s; a group has a primary and up to %d replicas", nodes, mostReplicas)
	}
	return n, nil
}

func (h replicationGroup) Make(ctx context.Context, r *machine.Resource) error {
	wanted, err := nodesOf(r)
	if err != nil {
		return err
	}
	r.PhysicalID = strings.ToLower(r.DeclaredOr("ReplicationGroupId", 40))
	primary, err := h.makeNode(ctx, r, 1, 0)
	if err != nil {
		return err
	}
	nodes := []*machine.Resource{primary}
	var failures []error
	for i := 2; i <= wanted; i++ {
		replica, err := h.makeNode(ctx, r, i, primary.Port)
		nodes, failures = append(nodes, replica), append(failures, err)
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	all, err := h.nodes(r)
	if err != nil {
		return err
	}
	for _, node := range all {
		if !slices.ContainsFunc(nodes, func(n *machine.Resource) bool { return n.Token == node.Token }) {
			if err := h.removeNode(ctx, node); err != nil {
				return err
			}
		}
	}
	r.Attributes = endpoints(nodes)
	return nil
}

// endpoints are the attributes of a group with these nodes, the primary first.
func endpoints(nodes []*machine.Resource) map[string]any {
	var addresses, ports []string
	for _, node := range nodes {
		addresses, ports = append(addresses, "127.0.0.1"), append(ports, strconv.Itoa(node.Port))
	}
	reader := ports[min(1, len(ports)-1)] // a replica, if there is one
	return map[string]any{
		"PrimaryEndPoint.Address": "127.0.0.1", "PrimaryEndPoint.Port": ports[0],
		"ReaderEndPoint.Address": "127.0.0.1", "ReaderEndPoint.Port": reader,
		"ReadEndPoint.Addresses": "[" + strings.Join(addresses, ", ") + "]", "ReadEndPoint.Ports": "[" + strings.Join(ports, ", ") + "]",
		// The manual calls the lists by the first of these names, the registry by the second.
		"ReadEndPoint.Addresses.List": anyOf(addresses), "ReadEndPoint.Ports.List": anyOf(ports),
		"ReadEndPoint.AddressesList": anyOf(addresses), "ReadEndPoint.PortsList": anyOf(ports),
	}
}

func anyOf(texts []string) []any {
	var all []any
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

// makeNode makes the group's node of that number, a replica of what listens on
// the port primary if that is not 0.
func (h replicationGroup) makeNode(ctx context.Context, r *machine.Resource, number, primary int) (*machine.Resource, error) {
	suffix := fmt.Sprintf("-%03d", number)
	node, err := h.d.Load(r.Token + suffix)
	if fault.Is(err, fault.NotFound) {
		node, err = &machine.Resource{
			Resource: model.Resource{Token: r.Token + suffix, Type: clusterType, Stack: r.Stack, LogicalID: r.LogicalID + suffix}, Group: r.Token,
		}, nil
	}
	if err != nil {
		return nil, err
	}
	node.Primary, node.Tags = primary, r.Tags
	node.Properties = map[string]any{"Engine": cmp.Or(r.Text("Engine"), "redis"), "ClusterName": r.PhysicalID + suffix}
	inherited := []string{"AuthToken", "CacheParameterGroupName"}
	if primary == 0 {
		inherited = append(inherited, snapshotName, snapshotArns)
	}
	for _, property := range inherited {
		if value, given := r.Properties[property]; given {
			node.Properties[property] = value
		}
	}
	if err := h.d.Save(node); err != nil {
		return nil, err
	}
	if err := h.redis.Make(ctx, node); err != nil {
		return nil, err
	}
	node.Complete = true
	return node, h.d.Save(node)
}

// nodes gives what there is of a group's nodes, the primary first.
func (h replicationGroup) nodes(r *machine.Resource) ([]*machine.Resource, error) {
	all, err := h.d.Resources()
	return slices.DeleteFunc(all, func(node *machine.Resource) bool { return node.Group != r.Token }), err
}

func (h replicationGroup) Read(ctx context.Context, r *machine.Resource) error {
	nodes, err := h.nodes(r)
	if err != nil {
		return err
	}
	if wanted, err := nodesOf(r); err != nil || len(nodes) < wanted {
		return fault.New(fault.Unavailable, "%s has %d of %d nodes", r.Name(), len(nodes), wanted).WithHint("make the others: makeitso up")
	}
	for _, node := range nodes {
		if err := h.redis.Read(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func (h replicationGroup) Remove(ctx context.Context, r *machine.Resource) error {
	nodes, err := h.nodes(r)
	if err != nil {
		return err
	}
	for _, node := range slices.Backward(nodes) { // replicas first
		if err := h.removeNode(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func (h replicationGroup) removeNode(ctx context.Context, node *machine.Resource) error {
	if err := h.redis.Remove(ctx, node); err != nil {
		return err
	}
	return h.d.RemoveFolder(node)
}

// follow makes a node of a group what it is to be: a replica that has its
// primary's data, or the primary, whatever somebody has told it meanwhile.
func (h redis) follow(ctx context.Context, r *machine.Resource) error {
	if r.Group == "" {
		return nil
	}
	is, err := serverOf(r).Info(ctx, "replication")
	if err != nil {
		return err
	}
	command := []string{"REPLICAOF", "127.0.0.1", strconv.Itoa(r.Primary)}
	right := is["role"] == "slave" && is["master_port"] == command[2]
	if r.Primary == 0 {
		command, right = []string{"REPLICAOF", "NO", "ONE"}, is["role"] == "master"
	}
	if !right {
		if _, err := serverOf(r).Ask(ctx, command...); err != nil {
			return fmt.Errorf("say to %s what it is a replica of: %w", r.Name(), err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, machine.StartTime)
	defer cancel()
	return machine.AwaitReady(ctx, nil, func(ctx context.Context) error {
		if err := h.linked(ctx, r); err != nil {
			return err
		}
		// It writes down all that it was given, and does not end before that.
		persistence, err := serverOf(r).Info(ctx, "persistence")
		if err == nil && persistence["aof_rewrite_in_progress"] == "1" {
			err = fault.New(fault.Unavailable, "the replica %s is still writing what it was given", r.Name())
		}
		return err
	})
}

// linked is fault.Unavailable for a replica that does not reach its primary.
func (h redis) linked(ctx context.Context, r *machine.Resource) error {
	if r.Primary == 0 {
		return nil
	}
	is, err := serverOf(r).Info(ctx, "replication")
	if err != nil {
		return err
	}
	if is["master_port"] != strconv.Itoa(r.Primary) || is["master_link_status"] != "up" {
		return fault.New(fault.Unavailable, "the replica %s on port %d does not reach its primary on port %d", r.Name(), r.Port, r.Primary).
			WithHint("see whether the primary answers: redis-cli -p %d ping; then: makeitso up", r.Primary)
	}
	return nil
}
