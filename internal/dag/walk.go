// Package dag is what must come before what: graphs without circles, given as
// the nodes that each node depends on. It knows their order and walks them in
// parallel; it must not know what the nodes are.
package dag

import (
	"context"
	"errors"
)

// Aside is what remains of a node that waits for something outside of the walk.
type Aside func(context.Context) error

func (Aside) Error() string { return "it waits" }

// ErrAside is why what waits is given up when something else has failed.
var ErrAside = errors.New("something else has failed")

// Walk calls do for every node of graph, each after all that it depends on has
// been done, at most parallel at once. After an error, or when ctx ends,
// nothing new is begun; Walk waits for what runs and gives all errors joined.
// What do answers with an Aside waits beside the others: it is not counted, so
// that what it waits for can happen, and is given up after an error.
func Walk(ctx context.Context, graph map[string][]string, parallel int, do func(context.Context, string) error) error {
	waits, dependents := map[string]int{}, map[string][]string{}
	var ready []string
	for _, id := range InOrder(graph) {
		for _, on := range graph[id] {
			if _, known := graph[on]; known {
				waits[id]++
				dependents[on] = append(dependents[on], id)
			}
		}
		if waits[id] == 0 {
			ready = append(ready, id)
		}
	}
	type answer struct {
		id     string
		err    error
		waited bool
	}
	answers := make(chan answer)
	beside, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	running, waiting := 0, 0
	var failed error
	for {
		for len(ready) > 0 && running < parallel && failed == nil && ctx.Err() == nil {
			id := ready[0]
			ready = ready[1:]
			running++
			go func() { answers <- answer{id: id, err: do(ctx, id)} }()
		}
		if running+waiting == 0 {
			break
		}
		a := <-answers
		if a.waited {
			waiting--
		} else {
			running--
		}
		if rest, ok := a.err.(Aside); ok {
			waiting++
			go func() { answers <- answer{a.id, rest(beside), true} }()
			continue
		}
		if a.err != nil {
			failed = errors.Join(failed, a.err)
			giveUp(ErrAside)
			continue
		}
		for _, id := range dependents[a.id] {
			if waits[id]--; waits[id] == 0 {
				ready = append(ready, id)
			}
		}
	}
	if failed == nil && len(ready) > 0 {
		return context.Cause(ctx)
	}
	return failed
}
