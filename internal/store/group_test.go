package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// TestGroupAnswersEachForItself commits one group in which a write is refused
// and another's caller has gone: neither is done, and the others are.
func TestGroupAnswersEachForItself(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(ctx context.Context, keys ...string) *member {
		return &member{ctx: ctx, do: func(ctx context.Context, tx *sql.Tx) error {
			var ops []record.Op
			for _, key := range keys {
				ops = append(ops, record.Op{Kind: "k", Key: key, Value: []byte("x"), If: record.Absent})
			}
			return s.writeAll(ctx, tx, ops)
		}}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	batch := []*member{put(t.Context(), "a"), put(t.Context(), "b", "a"), put(gone, "c"), put(t.Context(), "d")}
	s.commit(t.Context(), batch)
	for i, holds := range []func(error) bool{
		func(err error) bool { return err == nil },
		func(err error) bool { return fault.Is(err, fault.Conflict) },
		func(err error) bool { return errors.Is(err, context.Canceled) },
		func(err error) bool { return err == nil },
	} {
		if !holds(batch[i].err) {
			t.Errorf("member %d was answered %v", i, batch[i].err)
		}
	}
	entries, err := s.List(t.Context(), "k", "")
	if err != nil || len(entries) != 2 || entries[0].Key != "a" || entries[1].Key != "d" {
		t.Errorf("there is %v, %v; want a and d", entries, err)
	}
}

// TestGroupFailsTogether breaks the transaction under a group: nobody in it is
// told that what it wrote is kept.
func TestGroupFailsTogether(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fine := func(ctx context.Context, tx *sql.Tx) error {
		return s.write(ctx, tx, record.Op{Kind: "k", Key: "a", Value: []byte("x")})
	}
	ends := func(ctx context.Context, tx *sql.Tx) error { // as SQLite does it when the disk is full
		_, err := tx.ExecContext(ctx, `ROLLBACK`)
		return errors.Join(err, errors.New("broken"))
	}
	batch := []*member{{ctx: t.Context(), do: fine}, {ctx: t.Context(), do: ends}, {ctx: t.Context(), do: fine}}
	s.commit(t.Context(), batch)
	for i, m := range batch {
		if !fault.Is(m.err, fault.Unavailable) {
			t.Errorf("member %d was answered %v, want unavailable", i, m.err)
		}
	}
	if entries, err := s.List(t.Context(), "k", ""); err != nil || len(entries) != 0 {
		t.Errorf("there is %v, %v; want nothing", entries, err)
	}
	if err := s.Write(t.Context(), record.Op{Kind: "k", Key: "b", Value: []byte("x")}); err != nil {
		t.Errorf("the next write: %v", err)
	}
}
