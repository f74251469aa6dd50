package seal

import (
	"context"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// store seals the values of records. Their kinds and keys, and streams, stay as
// they are: what they say can be seen by everybody who may use makeitso.
type store struct {
	record.Store
	key *Key
}

// checkKind is the kind of the record by which a wrong key is known.
const checkKind = "seal"

// Store gives a store whose records are sealed with key in base. It refuses,
// with fault.Denied, a base that was sealed with another key.
func Store(ctx context.Context, base record.Store, key *Key) (record.Store, error) {
	s := store{base, key}
	check := record.Of[string](s, checkKind)
	err := check.PutIf(ctx, "check", "sealed", record.Absent)
	if fault.Is(err, fault.Conflict) { // it is there
		_, err = check.Get(ctx, "check")
	}
	if fault.Is(err, fault.Denied) {
		return nil, fault.Wrap(fault.Denied, err, "the database was sealed with another key").
			WithHint("bring back the key that it was first used with: the file named by --key, or key in that state folder")
	}
	return s, err
}

func about(kind, key string) string { return kind + " " + key }

// Get implements record.Store.
func (s store) Get(ctx context.Context, kind, key string) (record.Entry, error) {
	e, err := s.Store.Get(ctx, kind, key)
	if err == nil {
		e.Value, err = s.key.Open(e.Value, about(kind, key))
	}
	return e, err
}

// List implements record.Store.
func (s store) List(ctx context.Context, kind, prefix string) ([]record.Entry, error) {
	all, err := s.Store.List(ctx, kind, prefix)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Value, err = s.key.Open(all[i].Value, about(kind, all[i].Key)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Write implements record.Store.
func (s store) Write(ctx context.Context, ops ...record.Op) error {
	return s.Store.Write(ctx, s.sealed(ops)...)
}

// AppendWith implements record.Store.
func (s store) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (int64, error) {
	return s.Store.AppendWith(ctx, stream, values, s.sealed(ops)...)
}

func (s store) sealed(ops []record.Op) []record.Op {
	sealed := make([]record.Op, len(ops))
	for i, op := range ops {
		if op.Value != nil {
			op.Value = s.key.Seal(op.Value, about(op.Kind, op.Key))
		}
		sealed[i] = op
	}
	return sealed
}
