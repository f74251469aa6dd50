package stack_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// countingStore counts the bytes that are written to it.
type countingStore struct {
	record.Store
	bytes atomic.Int64
}

func (s *countingStore) Write(ctx context.Context, ops ...record.Op) error {
	s.count(ops)
	return s.Store.Write(ctx, ops...)
}

func (s *countingStore) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	for _, value := range values {
		s.bytes.Add(int64(len(stream) + len(value)))
	}
	s.count(ops)
	return s.Store.AppendWith(ctx, stream, values, ops...)
}

func (s *countingStore) count(ops []record.Op) {
	for _, op := range ops {
		s.bytes.Add(int64(len(op.Key) + len(op.Value)))
	}
}

// TestJournalIsLinear applies, changes and deletes stacks of N and 4N
// resources: what is written for one resource must not grow with their number.
func TestJournalIsLinear(t *testing.T) {
	written := func(n int) (all int64) {
		b := newBench(t)
		counting := &countingStore{Store: b.store}
		b.engine = stack.New("local", b.platform, counting, stack.Options{Holder: "test"})
		for _, value := range []string{"a", "b"} {
			var template strings.Builder
			template.WriteString("Resources:\n")
			for i := range n {
				fmt.Fprintf(&template, "  R%06d: {Type: Test::Thing, Properties: {Value: %s}}\n", i, value)
			}
			b.mustApply("app", template.String())
		}
		if err := b.engine.Delete(t.Context(), "app", nil); err != nil {
			t.Fatal(err)
		}
		return counting.bytes.Load()
	}
	const n = 100
	few, many := written(n), written(4*n)
	if few < n*100 {
		t.Fatalf("only %d bytes were counted for %d resources", few, n)
	}
	if perFew, perMany := few/n, many/(4*n); perMany > perFew*11/10 {
		t.Errorf("%d bytes for each of %d resources, but %d for each of %d", perFew, n, perMany, 4*n)
	}
}
