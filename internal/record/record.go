// Package record is where makeitso keeps what it must not forget: values under
// a kind and a key, and append-only streams. It declares what the engines need
// of a database (Store), gives a typed view (Collection) and an in-memory
// store; it knows nothing of SQL and nothing of what the values mean. Every
// implementation passes the suite in recordtest.
package record

import (
	"context"
	"encoding/json"
	"fmt"
)

// Store keeps records and streams. All methods are safe for concurrent use.
// Failures of the database itself come back as fault.Unavailable.
type Store interface {
	// Get gives the record of that kind and key, fault.NotFound if there is none.
	Get(ctx context.Context, kind, key string) (Entry, error)
	// List gives the records of a kind whose keys begin with prefix, in key order.
	List(ctx context.Context, kind, prefix string) ([]Entry, error)
	// Write does all of ops or none of them, durably. An op whose condition
	// does not hold makes it answer fault.Conflict and change nothing.
	Write(ctx context.Context, ops ...Op) error
	// Append adds values to the end of a stream, durably and together, and
	// gives the number of the last; numbers of a stream rise from 1.
	Append(ctx context.Context, stream string, values ...[]byte) (int64, error)
	// AppendWith is Append and does ops, all of it or nothing. A condition of
	// ops that does not hold makes it answer fault.Conflict.
	AppendWith(ctx context.Context, stream string, values [][]byte, ops ...Op) (int64, error)
	// Read gives up to limit items of a stream with numbers above after, in order.
	Read(ctx context.Context, stream string, after int64, limit int) ([]Item, error)
	// Last gives the number of a stream's last item, 0 for an empty stream.
	Last(ctx context.Context, stream string) (int64, error)
	// Trim removes the items of a stream with numbers up to through. The last item
	// of a stream always stays: the next one's number is above it.
	Trim(ctx context.Context, stream string, through int64) error
	// Wait returns nil when the stream has an item above after, or ctx's error.
	Wait(ctx context.Context, stream string, after int64) error
}

// Entry is one record. Version rises by one with each write of the key, from 1.
type Entry struct {
	Key     string
	Value   []byte
	Version int64
}

// Item is one value of a stream.
type Item struct {
	Number int64
	Value  []byte
}

// Op is one change of a Write.
type Op struct {
	Kind, Key string
	Value     []byte // nil deletes; deleting what does not exist is fine
	// If is the condition: Any, Absent, or the version the record must have.
	If int64
	// Keep leaves the record as it is: If, a version, is a condition alone. It
	// holds until all of the write is done.
	Keep bool
}

// Conditions of an Op that name no version.
const (
	Any    int64 = 0
	Absent int64 = -1
)

// Collection is the typed view of one kind: values are stored as JSON.
type Collection[T any] struct {
	store Store
	kind  string
}

// Of gives the collection of kind in store.
func Of[T any](store Store, kind string) Collection[T] {
	return Collection[T]{store: store, kind: kind}
}

// Get gives the value under key, fault.NotFound if there is none.
func (c Collection[T]) Get(ctx context.Context, key string) (T, error) {
	value, _, err := c.GetVersion(ctx, key)
	return value, err
}

// GetVersion gives the value under key and its version, for a later PutIf.
func (c Collection[T]) GetVersion(ctx context.Context, key string) (T, int64, error) {
	var value T
	e, err := c.store.Get(ctx, c.kind, key)
	if err != nil {
		return value, 0, err
	}
	if err := json.Unmarshal(e.Value, &value); err != nil {
		return value, 0, fmt.Errorf("decode %s %s: %w", c.kind, key, err)
	}
	return value, e.Version, nil
}

// List gives the values whose keys begin with prefix, in key order.
func (c Collection[T]) List(ctx context.Context, prefix string) ([]T, error) {
	entries, err := c.store.List(ctx, c.kind, prefix)
	if err != nil {
		return nil, err
	}
	values := make([]T, len(entries))
	for i, e := range entries {
		if err := json.Unmarshal(e.Value, &values[i]); err != nil {
			return nil, fmt.Errorf("decode %s %s: %w", c.kind, e.Key, err)
		}
	}
	return values, nil
}

// Put stores value under key whatever is there.
func (c Collection[T]) Put(ctx context.Context, key string, value T) error {
	return c.PutIf(ctx, key, value, Any)
}

// PutIf stores value under key if the record has the version given (or Absent,
// or Any); else fault.Conflict.
func (c Collection[T]) PutIf(ctx context.Context, key string, value T, version int64) error {
	op, err := c.PutOp(key, value, version)
	if err != nil {
		return err
	}
	return c.store.Write(ctx, op)
}

// Delete removes key; removing what does not exist is fine.
func (c Collection[T]) Delete(ctx context.Context, key string) error {
	return c.store.Write(ctx, c.DeleteOp(key))
}

// PutOp is PutIf as an operation, to be written together with others.
func (c Collection[T]) PutOp(key string, value T, version int64) (Op, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return Op{}, fmt.Errorf("encode %s %s: %w", c.kind, key, err)
	}
	return Op{Kind: c.kind, Key: key, Value: raw, If: version}, nil
}

// DeleteOp is Delete as an operation, to be written together with others.
func (c Collection[T]) DeleteOp(key string) Op { return Op{Kind: c.kind, Key: key} }
