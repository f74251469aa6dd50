package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"makeitso/internal/record"
)

const lastNumber = `SELECT COALESCE(MAX(number), 0) FROM makeitso_streams WHERE stream = ?`

// Append implements record.Store.
func (s *Store) Append(ctx context.Context, stream string, values ...[]byte) (int64, error) {
	return s.AppendWith(ctx, stream, values)
}

// AppendWith implements record.Store.
func (s *Store) AppendWith(ctx context.Context, stream string, values [][]byte, ops ...record.Op) (last int64, err error) {
	err = s.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if s.dialect.lockStream != "" {
			if _, err := tx.ExecContext(ctx, s.sql(s.dialect.lockStream), stream); err != nil {
				return err
			}
		}
		if err := tx.QueryRowContext(ctx, s.sql(lastNumber), stream).Scan(&last); err != nil {
			return err
		}
		for _, v := range values {
			last++
			if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO makeitso_streams (stream, number, value) VALUES (?, ?, ?)`), stream, last, v); err != nil {
				return err
			}
		}
		if err := s.writeAll(ctx, tx, ops); err != nil || s.dialect.notify == "" {
			return err
		}
		_, err := tx.ExecContext(ctx, s.sql(s.dialect.notify), stream)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.wake()
	return last, nil
}

// Read implements record.Store.
func (s *Store) Read(ctx context.Context, stream string, after int64, limit int) (_ []record.Item, err error) {
	rows, err := s.db.QueryContext(ctx, s.sql(`SELECT number, value FROM makeitso_streams WHERE stream = ? AND number > ? ORDER BY number LIMIT ?`), stream, after, limit)
	if err != nil {
		return nil, s.fault(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var items []record.Item
	for rows.Next() {
		var item record.Item
		if err := rows.Scan(&item.Number, &item.Value); err != nil {
			return nil, s.fault(err)
		}
		items = append(items, item)
	}
	return items, s.fault(rows.Err())
}

// Last implements record.Store.
func (s *Store) Last(ctx context.Context, stream string) (last int64, err error) {
	err = s.db.QueryRowContext(ctx, s.sql(lastNumber), stream).Scan(&last)
	return last, s.fault(err)
}

// Trim implements record.Store.
func (s *Store) Trim(ctx context.Context, stream string, through int64) error {
	return s.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.sql(`DELETE FROM makeitso_streams WHERE stream = ? AND number <= ? AND number < (SELECT MAX(number) FROM makeitso_streams WHERE stream = ?)`), stream, through, stream)
		return err
	})
}

// Wait implements record.Store.
func (s *Store) Wait(ctx context.Context, stream string, after int64) error {
	for {
		s.mu.Lock()
		grown := s.grown
		s.mu.Unlock()
		var has bool
		if err := s.db.QueryRowContext(ctx, s.sql(`SELECT EXISTS (SELECT 1 FROM makeitso_streams WHERE stream = ? AND number > ?)`), stream, after).Scan(&has); err != nil {
			return s.fault(err)
		}
		if has {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake lets everybody who waits for a stream look again.
func (s *Store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
}

// listen wakes the waiting when another process appends. A lost connection is
// opened again; whoever waits looks once more then, since something may have
// been missed.
func (s *Store) listen(ctx context.Context, conn *pgx.Conn) {
	for ctx.Err() == nil {
		if conn == nil {
			conn = s.reconnect(ctx)
			continue
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(closing) // it is broken or no longer wanted: nothing to save
			cancel()
			conn = nil
			continue
		}
		s.wake()
	}
}

// reconnect opens the listening connection again, nil if that did not work yet
// (after a pause).
func (s *Store) reconnect(ctx context.Context) *pgx.Conn {
	if ctx.Err() != nil {
		return nil
	}
	conn, err := pgx.Connect(ctx, s.url)
	if err == nil {
		if _, err = conn.Exec(ctx, "LISTEN makeitso"); err == nil {
			s.wake()
			return conn
		}
		_ = conn.Close(ctx) // it never listened
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return nil
}
