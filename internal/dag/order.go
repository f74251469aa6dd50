package dag

import (
	"maps"
	"slices"
)

// InOrder sorts the nodes of a graph without circles so that each stands after
// those it depends on; equal ones by name.
func InOrder(graph map[string][]string) []string {
	var order []string
	done := map[string]bool{}
	var visit func(id string)
	visit = func(id string) {
		if done[id] {
			return
		}
		done[id] = true
		for _, on := range graph[id] {
			if _, known := graph[on]; known {
				visit(on)
			}
		}
		order = append(order, id)
	}
	for _, id := range slices.Sorted(maps.Keys(graph)) {
		visit(id)
	}
	return order
}

// Acyclic drops edges that close a circle: the old and the new thing of two
// resources may depend on one another crosswise.
func Acyclic(graph map[string][]string) map[string][]string {
	result := map[string][]string{}
	state := map[string]int{} // 1 is on the path, 2 is done
	var visit func(id string)
	visit = func(id string) {
		state[id] = 1
		result[id] = nil
		for _, on := range graph[id] {
			if state[on] == 1 {
				continue
			}
			result[id] = append(result[id], on)
			if state[on] == 0 {
				visit(on)
			}
		}
		state[id] = 2
	}
	for _, id := range slices.Sorted(maps.Keys(graph)) {
		if state[id] == 0 {
			visit(id)
		}
	}
	return result
}
