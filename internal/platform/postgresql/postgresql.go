// Package postgresql asks a PostgreSQL server on this machine, and writes the
// file that it reads its parameters from. It knows SQL and such files; it must
// not know what a server is for, or who runs it.
package postgresql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"makeitso/internal/fault"
	"makeitso/internal/platform/datafolder"
)

// Server is one that listens on loopback, and how its first user logs in.
type Server struct {
	Port           int
	User, Password string
}

// PostgreSQL's codes for what is told apart here.
const (
	wrongPassword   = "28P01"
	databaseIsThere = "42P04"
)

// AnswerTime is how long a server's answers may take.
const AnswerTime = 5 * time.Second

// do logs in to the database that every server has, and does something there.
func (s Server) do(ctx context.Context, what func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTime)
	defer cancel()
	address := url.URL{
		Scheme: "postgres", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Path: "/postgres", RawQuery: "sslmode=disable",
		User: url.UserPassword(s.User, cmp.Or(s.Password, "-")),
	}
	conn, err := pgx.Connect(ctx, address.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends a connection; nothing hangs on it
	return what(ctx, conn)
}

// Settle gives a server that answers the password and the database that s and
// database say, and tells the server's version. former is the password that it
// may still have, "" for none. It fails with fault.Failed if trying again cannot
// help.
func (s Server) Settle(ctx context.Context, former, database string) (version string, err error) {
	settle := func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
			return fmt.Errorf("ask the server: %w", err)
		}
		version, _, _ = strings.Cut(conn.PgConn().ParameterStatus("server_version"), " ") // a distribution adds its own
		if database == "" {
			return nil
		}
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
		if err != nil && !hasCode(err, databaseIsThere) {
			return fmt.Errorf("create database %s: %w", database, err)
		}
		return nil
	}
	err = s.do(ctx, settle)
	if hasCode(err, wrongPassword) && former != "" && former != s.Password {
		if err = s.changePassword(ctx, former); err == nil {
			err = s.do(ctx, settle)
		}
	}
	if hasCode(err, wrongPassword) {
		return "", fault.Wrap(fault.Failed, err, "log in to the database as %s", s.User)
	}
	return version, err
}

// changePassword logs in with the password the server has and gives it that of s.
func (s Server) changePassword(ctx context.Context, former string) error {
	return Server{s.Port, s.User, former}.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		// A password cannot be a parameter of ALTER ROLE.
		if _, err := conn.Exec(ctx, "ALTER ROLE "+pgx.Identifier{s.User}.Sanitize()+" PASSWORD "+quoted(s.Password)); err != nil {
			return fmt.Errorf("change the password: %w", err)
		}
		return nil
	})
}

// Probe looks whether a server that was ready once lets its user in.
func (s Server) Probe(ctx context.Context) error {
	return s.do(ctx, func(context.Context, *pgx.Conn) error { return nil })
}

// Parameter is what a server says of one of its parameters.
type Parameter struct {
	Is string
	// AtStart says that it is changed only by a start of the server, and Fixed
	// that not even by that.
	AtStart, Fixed bool
}

// Parameters asks a server for those of the parameters that it has.
func (s Server) Parameters(ctx context.Context, names ...string) (map[string]Parameter, error) {
	has := map[string]Parameter{}
	return has, s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT name, current_setting(name), context = 'postmaster', context = 'internal' FROM pg_settings WHERE name = ANY($1)", names)
		if err != nil {
			return fmt.Errorf("ask for parameters: %w", err)
		}
		var name string
		var p Parameter
		_, err = pgx.ForEachRow(rows, []any{&name, &p.Is, &p.AtStart, &p.Fixed}, func() error {
			has[name] = p
			return nil
		})
		return err
	})
}

// Judge asks a server for its opinion of parameters, fault.Invalid if it would
// not take one of them. What it takes it is made to forget again, with what
// somebody may have told it beside its file.
func (s Server) Judge(ctx context.Context, parameters map[string]string) error {
	return s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for _, name := range slices.Sorted(maps.Keys(parameters)) {
			parameter := pgx.Identifier{name}.Sanitize()
			if _, err := conn.Exec(ctx, "ALTER SYSTEM SET "+parameter+" TO "+quoted(parameters[name])); err != nil {
				return fault.Wrap(fault.Invalid, err, "the server refuses parameter %s = %q", name, parameters[name])
			}
			if _, err := conn.Exec(ctx, "ALTER SYSTEM RESET "+parameter); err != nil {
				return fmt.Errorf("take back parameter %s: %w", name, err)
			}
		}
		return nil
	})
}

// Reload makes a server read its files, and says whether it has to be started
// anew for what it has read.
func (s Server) Reload(ctx context.Context) (restart bool, err error) {
	err = s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var before, loaded string
		const loadTime = "SELECT pg_conf_load_time()::text"
		if err := conn.QueryRow(ctx, loadTime).Scan(&before); err != nil {
			return fmt.Errorf("ask when the server read its files: %w", err)
		}
		if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
			return fmt.Errorf("make the server read its files: %w", err)
		}
		// A signal makes it read them; that answers nothing which could be awaited.
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for loaded = before; loaded == before; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fault.Wrap(fault.Unavailable, context.Cause(ctx), "the server does not read its files")
			}
			if err := conn.QueryRow(ctx, loadTime).Scan(&loaded); err != nil {
				return fmt.Errorf("ask when the server read its files: %w", err)
			}
		}
		return conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_settings WHERE pending_restart)").Scan(&restart)
	})
	return restart, err
}

// file, in a data folder, holds parameters; the server's own file includes it.
const file = "makeitso.conf"

// WriteParameters puts parameters into a data folder, for the server to read
// when it starts or is told to.
func WriteParameters(data string, parameters map[string]string) error {
	own := filepath.Join(data, "postgresql.conf")
	text, err := os.ReadFile(own)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Failed, "the data folder of the server has no %s", own).WithHint("put the file back, then: makeitso up")
	}
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		fmt.Fprintf(&lines, "%s = %s\n", name, quoted(parameters[name]))
	}
	if err := datafolder.WriteLike(filepath.Join(data, file), own, []byte(lines.String())); err != nil {
		return err
	}
	const include = "include_if_exists '" + file + "'\n"
	if strings.Contains(string(text), include) {
		return nil
	}
	return datafolder.WriteLike(own, own, []byte(strings.TrimRight(string(text), "\n")+"\n"+include))
}

// DataVersion gives the major version of a data folder, "" if it has none.
func DataVersion(data string) string {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// quoted is a text as SQL and the server's files write it.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// hasCode says whether err is the server's error of that code.
func hasCode(err error, code string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code
}
