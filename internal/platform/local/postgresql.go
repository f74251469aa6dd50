package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"makeitso/internal/fault"
)

// PostgreSQL's codes for what is told apart here.
const (
	wrongPassword   = "28P01"
	databaseIsThere = "42P04"
)

// settleTime is how long a server's answers may take.
const settleTime = 5 * time.Second

// settle gives a server that answers the password and database declared. It
// fails with fault.Failed if trying again cannot help.
func (h postgres) settle(ctx context.Context, r *resource) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	declared := r.text("MasterUserPassword")
	conn, err := connect(ctx, r, declared)
	if hasCode(err, wrongPassword) && r.Password != "" && r.Password != declared {
		conn, err = changePassword(ctx, r, declared)
	}
	if hasCode(err, wrongPassword) {
		return fault.Wrap(fault.Failed, err, "log in to the database of %s", r.name())
	}
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends a connection; nothing hangs on it
	if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	h.compareVersion(r, conn.PgConn().ParameterStatus("server_version"))
	database := r.text("DBName")
	if database == "" {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
	if err != nil && !hasCode(err, databaseIsThere) {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}

// compareVersion tells, when a database is made, that another major version
// serves it than was declared.
func (h postgres) compareVersion(r *resource, serves string) {
	declared := fmt.Sprint(cmp.Or(r.Properties["EngineVersion"], any("")))
	major, _, _ := strings.Cut(declared, ".")
	served, _, _ := strings.Cut(serves, ".")
	if major != "" && major != served && !r.Complete {
		h.p.o.Announce(fmt.Sprintf("%s: PostgreSQL %s stands in for %s", r.name(), serves, declared))
	}
}

// changePassword logs in with the password the server has and gives it the
// new one.
func changePassword(ctx context.Context, r *resource, password string) (*pgx.Conn, error) {
	conn, err := connect(ctx, r, r.Password)
	if err != nil {
		return nil, err
	}
	// A password cannot be a parameter of ALTER ROLE.
	quoted := "'" + strings.ReplaceAll(password, "'", "''") + "'"
	statement := "ALTER ROLE " + pgx.Identifier{r.text("MasterUsername")}.Sanitize() + " PASSWORD " + quoted
	if _, err := conn.Exec(ctx, statement); err != nil {
		return nil, errors.Join(fmt.Errorf("change the password: %w", err), conn.Close(ctx))
	}
	return conn, nil
}

// probe looks whether a server that was ready once lets its user in.
func probe(ctx context.Context, r *resource) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	conn, err := connect(ctx, r, r.Password)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// connect logs in to the database that every server has.
func connect(ctx context.Context, r *resource, password string) (*pgx.Conn, error) {
	address := url.URL{
		Scheme: "postgres", Host: loopback(r.Port), Path: "/postgres", RawQuery: "sslmode=disable",
		User: url.UserPassword(r.text("MasterUsername"), cmp.Or(password, "-")),
	}
	conn, err := pgx.Connect(ctx, address.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// hasCode says whether err is the server's error of that code.
func hasCode(err error, code string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code
}
