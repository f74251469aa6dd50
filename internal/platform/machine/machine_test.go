package machine

import (
	"context"
	"errors"
	"testing"

	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

// nothing is a maker of resources that are names alone.
type nothing struct{}

func (nothing) Check(context.Context, *Resource) error { return nil }
func (nothing) Make(_ context.Context, r *Resource) error {
	r.PhysicalID = r.LogicalID
	return nil
}
func (nothing) Read(context.Context, *Resource) error   { return nil }
func (nothing) Remove(context.Context, *Resource) error { return nil }

func TestFewRealResourcesAreMadeAtATime(t *testing.T) {
	t.Parallel()
	m, err := New("local", Options{State: t.TempDir(), Records: record.NewMemory(), Key: seal.Fresh()}, Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Add(map[string]Kind{"AWS::Logs::LogGroup": Real("a name", nothing{})})
	h, err := m.Handler("AWS::Logs::LogGroup")
	if err != nil {
		t.Fatal(err)
	}
	r := stack.Request{Environment: "local", Stack: "data", LogicalID: "Log", Type: "AWS::Logs::LogGroup", Token: "data-Log-1"}
	for range atOnce {
		m.making <- struct{}{}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stack.ErrSuspend)
	if err := h.(*Handler).makeInTurn(ctx, Requested(r)); !errors.Is(err, stack.ErrSuspend) {
		t.Errorf("one more than may be made was answered %v", err)
	}
	for range 2 { // the first gives its place back
		<-m.making
		if _, err := h.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		m.making <- struct{}{}
	}
}
