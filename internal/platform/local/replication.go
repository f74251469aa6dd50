package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
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

func (h replicationGroup) named(r *resource) string {
	return strings.ToLower(r.text("ReplicationGroupId"))
}

func (h replicationGroup) check(ctx context.Context, r *resource) error {
	for _, property := range []string{"GlobalReplicationGroupId", "PrimaryClusterId"} {
		if r.text(property) != "" {
			return r.invalid(property, "has no counterpart on this machine: a group here has its own primary; leave it out")
		}
	}
	if r.text("ClusterMode") == "enabled" {
		return r.invalid("ClusterMode", "is enabled, and data is not sharded on this machine; allowed is disabled")
	}
	nodes, err := nodesOf(r)
	if err != nil {
		return err
	}
	if nodes == 1 && r.text("AutomaticFailoverEnabled") == "true" {
		return r.invalid("AutomaticFailoverEnabled", "is true, which asks for at least one replica; set NumCacheClusters to 2")
	}
	token := r.text("AuthToken")
	if token != "" && !unknown(token) && (len(token) < shortestToken || len(token) > longestToken || strings.ContainsFunc(token, unfitForToken)) {
		return r.invalid("AuthToken", "is not %d to %d printable letters without space, '/', '\"' and '@'", shortestToken, longestToken)
	}
	if _, found := h.program(r); !found && (nodes > 1 || token != "") {
		return missing(r, "the program redis-server or valkey-server for replicas or an AuthToken", redisInstall)
	}
	return h.checkEngine(ctx, r)
}

func unfitForToken(letter rune) bool {
	return letter <= ' ' || letter > '~' || strings.ContainsRune(`/"@`, letter)
}

// nodesOf is how many nodes a group is to have: a primary and its replicas.
func nodesOf(r *resource) (int, error) {
	shards, _ := r.Properties["NodeGroupConfiguration"].([]any)
	if n := r.text("NumNodeGroups"); n != "" && n != "1" && !unknown(n) || len(shards) > 1 {
		return 0, r.invalid("NumNodeGroups", "is %s, and data is not sharded on this machine; allowed is 1", cmp.Or(n, strconv.Itoa(len(shards))))
	}
	nodes, property := r.text("NumCacheClusters"), "NumCacheClusters"
	replicas := r.text("ReplicasPerNodeGroup")
	if len(shards) == 1 {
		replicas = cmp.Or(textIn(shards[0], "ReplicaCount"), replicas)
	}
	if replicas != "" {
		nodes, property = replicas, "ReplicasPerNodeGroup"
	}
	if nodes == "" || unknown(nodes) {
		return 1, nil
	}
	n, isNumber := number(nodes)
	if replicas != "" {
		n++
	}
	if !isNumber || n < 1 || n > 1+mostReplicas {
		return 0, r.invalid(property, "is %s; a group has a primary and up to %d replicas", nodes, mostReplicas)
	}
	return n, nil
}

func (h replicationGroup) make(ctx context.Context, r *resource) error {
	wanted, err := nodesOf(r)
	if err != nil {
		return err
	}
	r.PhysicalID = strings.ToLower(r.declaredOr("ReplicationGroupId", 40))
	primary, err := h.makeNode(ctx, r, 1, 0)
	if err != nil {
		return err
	}
	nodes := []*resource{primary}
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
		if !slices.ContainsFunc(nodes, func(n *resource) bool { return n.Token == node.Token }) {
			if err := h.removeNode(ctx, node); err != nil {
				return err
			}
		}
	}
	r.Attributes = endpoints(nodes)
	return nil
}

// endpoints are the attributes of a group with these nodes, the primary first.
func endpoints(nodes []*resource) map[string]any {
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
func (h replicationGroup) makeNode(ctx context.Context, r *resource, number, primary int) (*resource, error) {
	suffix := fmt.Sprintf("-%03d", number)
	node, err := h.p.load(r.Token + suffix)
	if fault.Is(err, fault.NotFound) {
		node, err = &resource{
			Resource: model.Resource{Token: r.Token + suffix, Type: clusterType, Stack: r.Stack, LogicalID: r.LogicalID + suffix}, Group: r.Token,
		}, nil
	}
	if err != nil {
		return nil, err
	}
	node.Primary, node.Tags = primary, r.Tags
	node.Properties = map[string]any{"Engine": cmp.Or(r.text("Engine"), "redis"), "ClusterName": r.PhysicalID + suffix}
	inherited := []string{"AuthToken", "CacheParameterGroupName"}
	if primary == 0 {
		inherited = append(inherited, snapshotName, snapshotArns)
	}
	for _, property := range inherited {
		if value, given := r.Properties[property]; given {
			node.Properties[property] = value
		}
	}
	if err := h.p.save(node); err != nil {
		return nil, err
	}
	if err := h.redis.make(ctx, node); err != nil {
		return nil, err
	}
	node.Complete = true
	return node, h.p.save(node)
}

// nodes gives what there is of a group's nodes, the primary first.
func (h replicationGroup) nodes(r *resource) ([]*resource, error) {
	all, err := h.p.resources()
	return slices.DeleteFunc(all, func(node *resource) bool { return node.Group != r.Token }), err
}

func (h replicationGroup) read(ctx context.Context, r *resource) error {
	nodes, err := h.nodes(r)
	if err != nil {
		return err
	}
	if wanted, err := nodesOf(r); err != nil || len(nodes) < wanted {
		return fault.New(fault.Unavailable, "%s has %d of %d nodes", r.name(), len(nodes), wanted).WithHint("make the others: makeitso up")
	}
	for _, node := range nodes {
		if err := h.redis.read(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func (h replicationGroup) remove(ctx context.Context, r *resource) error {
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

func (h replicationGroup) removeNode(ctx context.Context, node *resource) error {
	if err := h.redis.remove(ctx, node); err != nil {
		return err
	}
	return h.p.removeFolder(node)
}

// follow makes a node of a group what it is to be: a replica that has its
// primary's data, or the primary, whatever somebody has told it meanwhile.
func (h redis) follow(ctx context.Context, r *resource) error {
	if r.Group == "" {
		return nil
	}
	is, err := r.server().Info(ctx, "replication")
	if err != nil {
		return err
	}
	command := []string{"REPLICAOF", "127.0.0.1", strconv.Itoa(r.Primary)}
	right := is["role"] == "slave" && is["master_port"] == command[2]
	if r.Primary == 0 {
		command, right = []string{"REPLICAOF", "NO", "ONE"}, is["role"] == "master"
	}
	if !right {
		if _, err := r.server().Ask(ctx, command...); err != nil {
			return fmt.Errorf("say to %s what it is a replica of: %w", r.name(), err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return awaitReady(ctx, nil, func(ctx context.Context) error {
		if err := h.linked(ctx, r); err != nil {
			return err
		}
		// It writes down all that it was given, and does not end before that.
		persistence, err := r.server().Info(ctx, "persistence")
		if err == nil && persistence["aof_rewrite_in_progress"] == "1" {
			err = fault.New(fault.Unavailable, "the replica %s is still writing what it was given", r.name())
		}
		return err
	})
}

// linked is fault.Unavailable for a replica that does not reach its primary.
func (h redis) linked(ctx context.Context, r *resource) error {
	if r.Primary == 0 {
		return nil
	}
	is, err := r.server().Info(ctx, "replication")
	if err != nil {
		return err
	}
	if is["master_port"] != strconv.Itoa(r.Primary) || is["master_link_status"] != "up" {
		return fault.New(fault.Unavailable, "the replica %s on port %d does not reach its primary on port %d", r.name(), r.Port, r.Primary).
			WithHint("see whether the primary answers: redis-cli -p %d ping; then: makeitso up", r.Primary)
	}
	return nil
}
