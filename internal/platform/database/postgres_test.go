package database

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"makeitso/internal/fault"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
	"makeitso/internal/testneed"
)

// query asks the database and gives the one value of the answer.
func query(t *testing.T, made stack.Result, password, statement string) (string, error) {
	t.Helper()
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword("keeper", password), Path: "/shop", RawQuery: "sslmode=disable",
		Host: machinetest.Attribute(t, made, "Endpoint.Address") + ":" + machinetest.Attribute(t, made, "Endpoint.Port"),
	}
	conn, err := pgx.Connect(t.Context(), address.String())
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	var value any
	if err := conn.QueryRow(t.Context(), statement).Scan(&value); err != nil {
		return "", err
	}
	return fmt.Sprint(value), nil
}

// TestPostgres goes through the life of one database: initialising one costs
// a second.
func TestPostgres(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	invalid := databasetest.Instance()
	invalid["MasterUsername"] = "1st"
	changed := databasetest.Instance()
	changed["MasterUserPassword"] = "another secret"
	r := machinetest.Request("AWS::RDS::DBInstance", "Database", databasetest.Instance())
	h := machinetest.Handler(t, p, r.Type)
	stacktest.Handler(t, h, stacktest.Case{
		Name: "postgres", Request: r, Update: changed, Invalid: invalid,
		Count: func() int { return redisCount(t, p, r.Token) },
	})
}

func TestPostgresKeepsDataAndAddressWhenKilled(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	r := machinetest.Request("AWS::RDS::DBInstance", "Database", databasetest.Instance())
	h := machinetest.Handler(t, p, r.Type)
	made := machinetest.Create(t, p, r)
	const first = "it's a secret 1"
	execute(t, made, first, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")
	if _, err := query(t, made, "wrong", "SELECT 1"); err == nil {
		t.Error("a wrong password was accepted")
	}
	machinetest.Kill(t, p.Machine, r.Token)
	if _, err := h.Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a killed server: %v; want unavailable", err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got, err := query(t, made, first, "SELECT id FROM orders"); err != nil || got != "42" {
		t.Errorf("after a kill and Resume: %q, %v; want 42", got, err)
	}
	r.Previous, r.Properties = r.Properties, databasetest.Instance()
	r.Properties["MasterUserPassword"] = "another secret"
	if _, err := h.Update(t.Context(), r); err != nil {
		t.Fatal(fault.Text(err))
	}
	if _, err := query(t, made, first, "SELECT 1"); err == nil {
		t.Error("the old password is still accepted")
	}
	if got, err := query(t, made, "another secret", "SELECT id FROM orders"); err != nil || got != "42" {
		t.Errorf("with the new password: %q, %v; want 42", got, err)
	}
}

// execute runs statements that answer nothing.
func execute(t *testing.T, made stack.Result, password string, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := query(t, made, password, s); err != nil && err != pgx.ErrNoRows {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
