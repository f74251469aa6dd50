package dag_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/dag"
)

var diamond = map[string][]string{"d": {"b", "c"}, "b": {"a"}, "c": {"a", "elsewhere"}, "a": nil}

func TestInOrder(t *testing.T) {
	if got := strings.Join(dag.InOrder(diamond), ""); got != "abcd" {
		t.Errorf("the order is %s", got)
	}
	got := dag.Acyclic(map[string][]string{"a": {"b"}, "b": {"a", "c"}, "c": nil})
	if len(got["a"])+len(got["b"]) != 2 || len(dag.InOrder(got)) != 3 {
		t.Errorf("without circles it is %v", got)
	}
}

func TestWalk(t *testing.T) {
	var mu sync.Mutex
	var done []string
	err := dag.Walk(t.Context(), diamond, 1, func(_ context.Context, id string) error {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, id)
		if id == "c" {
			return errors.New("broken")
		}
		return nil
	})
	if err == nil || err.Error() != "broken" || !slices.Equal(done, []string{"a", "b", "c"}) {
		t.Errorf("done were %v, the answer %v", done, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stop")
	cancel(why)
	if err := dag.Walk(ctx, diamond, 1, nil); !errors.Is(err, why) {
		t.Errorf("a walk that was cancelled answered %v", err)
	}
}

// TestAside lets nodes wait for one that comes after them, in the one slot.
func TestAside(t *testing.T) {
	came := make(chan struct{})
	graph := map[string][]string{"a": nil, "b": nil, "c": nil, "d": {"a"}}
	var after bool
	err := dag.Walk(t.Context(), graph, 1, func(_ context.Context, id string) error {
		switch id {
		case "c":
			close(came)
		case "d":
			after = true
		default:
			return dag.Aside(func(ctx context.Context) error {
				select {
				case <-came:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
		return nil
	})
	if err != nil || !after {
		t.Errorf("the walk answered %v; what comes after a wait was done: %v", err, after)
	}
}

func TestAsideIsGivenUp(t *testing.T) {
	broken := errors.New("broken")
	err := dag.Walk(t.Context(), map[string][]string{"a": nil, "b": nil}, 1, func(_ context.Context, id string) error {
		if id == "b" {
			return broken
		}
		return dag.Aside(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	})
	if !errors.Is(err, broken) || !errors.Is(err, dag.ErrAside) {
		t.Errorf("the walk answered %v", err)
	}
}
