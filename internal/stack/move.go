package stack

import (
	"fmt"

	"makeitso/internal/record"
)

// move brings the records of moved resources under their new logical ids, or
// back, with one write of the caller's.
func (o *operation) move(back bool) ([]record.Op, error) {
	var ops []record.Op
	for to, from := range o.set.Moves {
		if back {
			from, to = to, from
		}
		s, exists := o.resources[from]
		if !exists {
			continue
		}
		s.LogicalID = to
		put, err := o.e.resources.PutOp(o.e.resourceKey(o.stack.Name, to), s, record.Any)
		if err != nil {
			return nil, fmt.Errorf("move the record of %s to %s: %w", from, to, err)
		}
		ops = append(ops, put, o.e.resources.DeleteOp(o.e.resourceKey(o.stack.Name, from)))
		delete(o.resources, from)
		o.resources[to] = s
	}
	return ops, nil
}
