package store

import (
	"context"
	"database/sql"
	"sync"

	"makeitso/internal/fault"
)

// group does the writes of many callers in few transactions: those that come
// while one is being committed wait and share the next, and with it the price
// of a sync. Each is done whole or not at all, whatever becomes of the others,
// and is on disk when its caller goes on. The zero value is ready.
type group struct {
	mu      sync.Mutex
	waiting []*member
	led     bool // a member commits; it hands over when it is done
}

// member is one caller's write.
type member struct {
	ctx  context.Context
	do   func(context.Context, *sql.Tx) error
	err  error
	turn chan bool // gives true to a member that must commit, false to one whose err is known
}

// write does one caller's write, together with those that wait. The first to
// come commits for all, in its own time; the first to come meanwhile is next.
// A write whose ctx has ended before its turn is not done; one that was begun
// is finished, since the others depend on it.
func (g *group) write(ctx context.Context, s *Store, do func(context.Context, *sql.Tx) error) error {
	m := &member{ctx: ctx, do: do, turn: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.led {
		g.led = true
		m.turn <- true
	}
	g.mu.Unlock()
	if !<-m.turn {
		return m.err
	}
	g.mu.Lock()
	batch := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	s.commit(context.WithoutCancel(ctx), batch)
	g.mu.Lock()
	if g.led = len(g.waiting) > 0; g.led {
		g.waiting[0].turn <- true
	}
	g.mu.Unlock()
	for _, other := range batch {
		if other != m {
			other.turn <- false
		}
	}
	return m.err
}

// commit does the writes of a batch in one transaction and gives each its
// answer.
func (s *Store) commit(ctx context.Context, batch []*member) {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		for _, m := range batch {
			if m.err = m.ctx.Err(); m.err != nil {
				continue
			}
			if len(batch) == 1 {
				return m.do(ctx, tx) // all there is to take back
			}
			if err := s.part(ctx, tx, m); err != nil {
				return err
			}
		}
		return nil
	})
	for _, m := range batch {
		if m.err == nil {
			m.err = err
		}
	}
}

// part does one write of a transaction so that it can be taken back alone. It
// fails if the whole transaction cannot go on.
func (s *Store) part(ctx context.Context, tx *sql.Tx, m *member) error {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT part`); err != nil {
		return err
	}
	if m.err = s.fault(m.do(ctx, tx)); m.err != nil {
		_, err := tx.ExecContext(ctx, `ROLLBACK TO part`)
		if err != nil && fault.Is(m.err, fault.Unavailable) {
			return m.err // it has ended the transaction and the savepoint, as a full disk does
		}
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `RELEASE part`)
	return err
}
