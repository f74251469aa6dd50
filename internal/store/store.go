// Package store is the database: it keeps the records and streams of package
// record in one SQLite file, or in PostgreSQL where many replicas share them.
// It knows SQL; it must not know what the values mean.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"modernc.org/sqlite"               // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// Store is a record.Store on SQL. Close it when it is no longer used.
type Store struct {
	db      *sql.DB
	dialect dialect
	url     string // PostgreSQL's URL, "" for SQLite

	group group // of the writes, on SQLite

	mu    sync.Mutex
	grown chan struct{} // closed and replaced whenever a stream has grown

	stop    context.CancelFunc
	stopped sync.WaitGroup
}

var _ record.Store = (*Store)(nil)

// dialect is what differs between the two databases.
type dialect struct {
	name   string
	schema []string
	// lockStream makes appends to one stream take turns; SQLite's immediate
	// transactions already do.
	lockStream string
	notify     string // tells other processes that a stream has grown
	keep       string // locks a record against writers, after it is found at a version
	numbered   bool   // placeholders are $1, $2 … instead of ?
	grouped    bool   // writes that come at a time share a transaction
}

var sqliteDialect = dialect{
	name:    "SQLite",
	grouped: true,
	schema: []string{
		// Values can be long, so the keys are in an index of their own: looking
		// for one must not read the values on the way.
		`CREATE TABLE IF NOT EXISTS makeitso_records (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (kind, key))`,
		`CREATE TABLE IF NOT EXISTS makeitso_streams (stream TEXT NOT NULL, number INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (stream, number)) WITHOUT ROWID`,
	},
}

var postgresDialect = dialect{
	name: "PostgreSQL",
	schema: []string{
		`CREATE TABLE IF NOT EXISTS makeitso_records (kind TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL, value BYTEA NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (kind, key))`,
		`CREATE TABLE IF NOT EXISTS makeitso_streams (stream TEXT COLLATE "C" NOT NULL, number BIGINT NOT NULL, value BYTEA NOT NULL, PRIMARY KEY (stream, number))`,
	},
	lockStream: `SELECT pg_advisory_xact_lock(hashtext(?))`,
	notify:     `SELECT pg_notify('makeitso', ?)`,
	keep:       ` FOR SHARE`,
	numbered:   true,
}

// Open opens the SQLite file at path, making it (mode 0600) and its folder
// (mode 0700) where they do not exist. A write is on disk when it returns.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, folderFault(err, filepath.Dir(path))
	}
	// The folder may be there and open to others; what is kept may be secret.
	// SQLite gives the files beside this one its mode.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, folderFault(err, path)
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxIdleConns(8) // opening one sets its pragmas anew, which costs more than keeping it
	s := newStore(db, sqliteDialect)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(folderFault(err, path), s.Close())
	}
	return s, nil
}

// postgresConnections is how many connections one replica has at most; by
// default PostgreSQL gives a hundred to all.
const postgresConnections = 20

// OpenPostgres opens the database behind a postgres:// URL and makes its
// tables there if they do not exist.
func OpenPostgres(ctx context.Context, databaseURL string) (*Store, error) {
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "--database is not a PostgreSQL URL").WithHint("use postgres://user:password@host:5432/database")
	}
	db.SetMaxOpenConns(postgresConnections)
	s := newStore(db, postgresDialect)
	s.url = databaseURL
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, err, "the database does not answer").WithHint("check that PostgreSQL runs and that --database names it"), s.Close())
	}
	listen, err := pgx.Connect(ctx, databaseURL)
	if err == nil {
		_, err = listen.Exec(ctx, "LISTEN makeitso")
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, err, "listen on the database"), s.Close())
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.stopped.Go(func() { s.listen(background, listen) })
	return s, nil
}

func newStore(db *sql.DB, d dialect) *Store {
	return &Store{db: db, dialect: d, grown: make(chan struct{}), stop: func() {}}
}

// SQLite gives the handle of the SQLite file, nil on PostgreSQL; the workflow
// engine keeps its tables in the same file.
func (s *Store) SQLite() *sql.DB {
	if s.url != "" {
		return nil
	}
	return s.db
}

// Deferred does something whose writes need not be on disk when they return:
// the next that must be takes them along. What makes tables by dozens of
// transactions and would make them anew is much faster so. One connection alone
// is there meanwhile. On PostgreSQL it is done as all else.
func (s *Store) Deferred(ctx context.Context, do func() error) error {
	if s.url != "" {
		return do()
	}
	s.db.SetMaxOpenConns(1)
	defer s.db.SetMaxOpenConns(0)
	if _, err := s.db.ExecContext(ctx, "PRAGMA synchronous=NORMAL"); err != nil {
		return s.fault(err)
	}
	err := do()
	_, back := s.db.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous=FULL")
	return errors.Join(err, s.fault(back))
}

// PostgresURL gives the database's URL, "" on SQLite.
func (s *Store) PostgresURL() string { return s.url }

// Close closes the database.
func (s *Store) Close() error {
	s.stop()
	s.stopped.Wait()
	return s.db.Close()
}

func (s *Store) migrate(ctx context.Context) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if s.dialect.numbered { // two replicas that start at once must not both create
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(7700)`); err != nil {
				return err
			}
		}
		for _, statement := range s.dialect.schema {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// sql gives query with the dialect's placeholders.
func (s *Store) sql(query string) string {
	if !s.dialect.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

func (s *Store) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(err)
	}
	if err := do(tx); err != nil {
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			return errors.Join(s.fault(err), s.fault(rollback))
		}
		return s.fault(err)
	}
	return s.fault(tx.Commit())
}

// Get implements record.Store.
func (s *Store) Get(ctx context.Context, kind, key string) (record.Entry, error) {
	e := record.Entry{Key: key}
	err := s.db.QueryRowContext(ctx, s.sql(`SELECT value, version FROM makeitso_records WHERE kind = ? AND key = ?`), kind, key).Scan(&e.Value, &e.Version)
	if errors.Is(err, sql.ErrNoRows) {
		return record.Entry{}, fault.New(fault.NotFound, "%s %q does not exist", kind, key)
	}
	if err != nil {
		return record.Entry{}, s.fault(err)
	}
	return e, nil
}

// List implements record.Store.
func (s *Store) List(ctx context.Context, kind, prefix string) (_ []record.Entry, err error) {
	query, args := `SELECT key, value, version FROM makeitso_records WHERE kind = ? AND key >= ?`, []any{kind, prefix}
	if end := successor(prefix); end != "" {
		query, args = query+` AND key < ?`, append(args, end)
	}
	rows, err := s.db.QueryContext(ctx, s.sql(query+` ORDER BY key`), args...)
	if err != nil {
		return nil, s.fault(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var entries []record.Entry
	for rows.Next() {
		var e record.Entry
		if err := rows.Scan(&e.Key, &e.Value, &e.Version); err != nil {
			return nil, s.fault(err)
		}
		entries = append(entries, e)
	}
	return entries, s.fault(rows.Err())
}

// successor gives the least string above all that begin with prefix, "" if
// there is no such string.
func successor(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0x7f { // keys are ASCII; staying there keeps the bound valid UTF-8
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// Write implements record.Store.
func (s *Store) Write(ctx context.Context, ops ...record.Op) error {
	return s.change(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.writeAll(ctx, tx, ops) })
}

// change does one caller's writes, all or none. SQLite commits one transaction
// at a time, so those that would wait for it are done in groups; PostgreSQL
// itself syncs once for many that commit at a time, and locks that a group held
// for others could make two replicas wait for one another.
func (s *Store) change(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	if s.dialect.grouped {
		return s.group.write(ctx, s, do)
	}
	return s.inTx(ctx, func(tx *sql.Tx) error { return do(ctx, tx) })
}

func (s *Store) writeAll(ctx context.Context, tx *sql.Tx, ops []record.Op) error {
	for _, op := range ops {
		if err := s.write(ctx, tx, op); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) write(ctx context.Context, tx *sql.Tx, op record.Op) error {
	var result sql.Result
	var err error
	switch {
	case op.Keep:
		var one int
		query := `SELECT 1 FROM makeitso_records WHERE kind = ? AND key = ? AND version = ?` + s.dialect.keep
		if err := tx.QueryRowContext(ctx, s.sql(query), op.Kind, op.Key, op.If).Scan(&one); errors.Is(err, sql.ErrNoRows) {
			return changed(op)
		} else {
			return err
		}
	case op.Value == nil && op.If > 0:
		result, err = tx.ExecContext(ctx, s.sql(`DELETE FROM makeitso_records WHERE kind = ? AND key = ? AND version = ?`), op.Kind, op.Key, op.If)
	case op.Value == nil:
		_, err = tx.ExecContext(ctx, s.sql(`DELETE FROM makeitso_records WHERE kind = ? AND key = ?`), op.Kind, op.Key)
		return err
	case op.If == record.Absent:
		result, err = tx.ExecContext(ctx, s.sql(`INSERT INTO makeitso_records (kind, key, value, version) VALUES (?, ?, ?, 1) ON CONFLICT (kind, key) DO NOTHING`), op.Kind, op.Key, op.Value)
	case op.If > 0:
		result, err = tx.ExecContext(ctx, s.sql(`UPDATE makeitso_records SET value = ?, version = version + 1 WHERE kind = ? AND key = ? AND version = ?`), op.Value, op.Kind, op.Key, op.If)
	default:
		result, err = tx.ExecContext(ctx, s.sql(`INSERT INTO makeitso_records AS r (kind, key, value, version) VALUES (?, ?, ?, 1)
			ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, version = r.version + 1`), op.Kind, op.Key, op.Value)
	}
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return changed(op)
	}
	return nil
}

// changed is the answer to an op whose condition does not hold.
func changed(op record.Op) error {
	return fault.New(fault.Conflict, "%s %q was changed by somebody else", op.Kind, op.Key)
}

// fault turns a database's error into one that says what to do.
func (s *Store) fault(err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return fault.Wrap(fault.Unavailable, err, "the disk of the state folder is full").WithHint("free some space, then run the same command again: nothing was half-written")
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
			return fault.Wrap(fault.Unavailable, err, "the state folder cannot be written").WithHint("give this user write access to it, or choose another with --state")
		case sqlite3.SQLITE_IOERR: // a full disk shows like this too, where SQLite maps memory
			return fault.Wrap(fault.Unavailable, err, "the state folder cannot be read or written").WithHint("free some space if its disk is full, else look whether it fails")
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fault.Wrap(fault.Unavailable, err, "the state file is damaged").WithHint("put back a copy of state.db, or move the state folder away to begin anew")
		}
	}
	return fault.Wrap(fault.Unavailable, err, "the database (%s) refused", s.dialect.name)
}

// folderFault says what to do when the state folder cannot be used at all.
func folderFault(err error, path string) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the state folder cannot be used (%s)", path).WithHint("give this user write access to it, or choose another with --state")
}
