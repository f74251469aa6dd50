package database

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/postgresql"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

// database is an instance of the stack "data".
func database(more map[string]any) stack.Request {
	properties := databasetest.Instance()
	maps.Copy(properties, more)
	return machinetest.Request(databaseType, "Database", properties)
}

const firstPassword = "it's a secret 1"

// shows wants a parameter of a database to be something.
func shows(t *testing.T, made stack.Result, when, parameter, want string) {
	t.Helper()
	if got, err := query(t, made, firstPassword, "SELECT current_setting('"+parameter+"')"); err != nil || got != want {
		t.Errorf("%s, %s is %q (%v); want %q", when, parameter, got, err, want)
	}
}

// TestDatabaseParameters goes through the life of the parameters of one
// database.
func TestDatabaseParameters(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	parameters := func(all map[string]any) map[string]any {
		return map[string]any{
			"Family": "postgres15", "Description": "small", "DBParameterGroupName": "Small", "Parameters": all,
		}
	}
	group := machinetest.Request(databaseParametersType, "Group", parameters(map[string]any{
		"work_mem": "8192", "max_connections": "50", "rds.force_ssl": "1", "shared_buffers": "{DBInstanceClassMemory/32768}", "port": "1",
	}))
	group.PhysicalID = machinetest.Create(t, p, group).PhysicalID
	r := database(map[string]any{"DBParameterGroupName": "small"})
	made := machinetest.Create(t, p, r)
	shows(t, made, "at first", "work_mem", "8MB")
	shows(t, made, "at first", "max_connections", "50")
	execute(t, made, firstPassword, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")

	h := machinetest.Handler(t, p, group.Type)
	warned := func(all map[string]any) string {
		t.Helper()
		planned := group
		planned.Token, planned.Properties = "", parameters(all)
		told, err := h.(stack.Warner).Warn(t.Context(), planned)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(told, "\n")
	}
	told := func() map[string]any {
		t.Helper()
		is, err := h.Read(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		return is.Properties["Parameters"].(map[string]any)
	}
	if is := told(); is["work_mem"] != "8192" || is["rds.force_ssl"] != "1" {
		t.Errorf("told %v", is)
	}

	// What it can take at once leaves its connections alone.
	conn, err := pgx.Connect(t.Context(), "postgres://keeper:"+url.PathEscape(firstPassword)+"@127.0.0.1:"+machinetest.Attribute(t, made, "Endpoint.Port")+"/shop?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	atOnce := map[string]any{"work_mem": "16MB", "max_connections": "50", "log_line_prefix": "it's %m "}
	if text := warned(atOnce); text != "" {
		t.Errorf("told of what it can take at once: %s", text)
	}
	mustChange(t, p, &group, parameters(atOnce))
	shows(t, made, "changed", "work_mem", "16MB")
	shows(t, made, "changed", "log_line_prefix", "it's %m ")
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("a connection did not outlive a reload: %v", err)
	}

	more := map[string]any{"work_mem": "16MB", "max_connections": "60"}
	if text := warned(more); !strings.Contains(text, "the server of data/Database is restarted, with its data, for max_connections; its connections end") {
		t.Errorf("told of a restart: %q", text)
	}
	mustChange(t, p, &group, parameters(more))
	shows(t, made, "restarted", "max_connections", "60")
	shows(t, made, "restarted", "log_line_prefix", "%m [%p] ")

	// What it refuses, and what it does not start with, changes nothing.
	for value, want := range map[string]string{"none": "the server refuses parameter max_connections", "200000": "runs with those it had"} {
		bad := map[string]any{"max_connections": value, "shared_buffers": "100000000"}
		if _, err := change(t, p, &group, parameters(bad)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("max_connections %s: %s; want %s", value, fault.Text(err), want)
		}
		shows(t, made, "after a failure", "max_connections", "60")
	}
	mustChange(t, p, &group, parameters(more)) // as a roll back does

	// What somebody has changed is told, and repaired.
	execute(t, made, firstPassword, "ALTER SYSTEM SET work_mem = '1MB'", "SELECT pg_reload_conf()")
	machinetest.Kill(t, p.Machine, r.Token)
	// As a makeitso leaves it that is killed while it tries others.
	tried := map[string]string{"shared_buffers": "100000000"}
	if err := postgresql.WriteParameters((postgres{p}).data(mustLoad(t, p, r.Token)), tried); err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	shows(t, made, "killed", "max_connections", "60")
	shows(t, made, "repaired by its start", "work_mem", "16MB")
	execute(t, made, firstPassword, "ALTER SYSTEM SET work_mem = '1MB'", "SELECT pg_reload_conf()")
	if is := told(); is["work_mem"] != "1MB" || is["max_connections"] != "60" {
		t.Errorf("told %v; want work_mem as it is", is)
	}
	mustChange(t, p, &group, parameters(more))
	shows(t, made, "repaired", "work_mem", "16MB")

	// Without the group it is as PostgreSQL is by itself.
	planned := database(nil)
	planned.Token, planned.PhysicalID = "", made.PhysicalID
	lines, err := machinetest.Handler(t, p, r.Type).(stack.Warner).Warn(t.Context(), planned)
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "max_connections") {
		t.Errorf("told of leaving the group: %q, %v", lines, err)
	}
	mustChange(t, p, &r, map[string]any{"DBParameterGroupName": ""})
	shows(t, made, "without a group", "max_connections", "100")
	if got, err := query(t, made, firstPassword, "SELECT id FROM orders"); err != nil || got != "42" {
		t.Errorf("the data is %q, %v", got, err)
	}
}

// TestAFailedChangeOfParametersIsRolledBack gives a stack, through the engine,
// values with which its servers do not start.
func TestAFailedChangeOfParametersIsRolledBack(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	testneed.Program(t, "redis-server", needRedis)
	const template = `
Resources:
  Slow:
    Type: AWS::RDS::DBParameterGroup
    Properties: {Family: postgres15, Description: small, Parameters: {max_connections: CONNECTIONS, shared_buffers: BUFFERS}}
  Database:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Delete
    Properties: {Engine: postgres, MasterUsername: keeper, DBParameterGroupName: !Ref Slow, AllocatedStorage: 5, DBInstanceClass: db.t4g.micro}
  Fast:
    Type: AWS::ElastiCache::ParameterGroup
    Properties: {CacheParameterGroupFamily: redis7, Description: small, Properties: {databases: DATABASES}}
  Cache:
    Type: AWS::ElastiCache::CacheCluster
    Properties: {Engine: redis, CacheNodeType: cache.t4g.micro, NumCacheNodes: 1, CacheParameterGroupName: !Ref Fast}
Outputs:
  Secret: {Value: !GetAtt Database.MasterUserSecret.SecretArn}
`
	with := func(connections, buffers, databases string) string {
		return strings.NewReplacer("CONNECTIONS", connections, "BUFFERS", buffers, "DATABASES", databases).Replace(template)
	}
	d := drift(t, with("50", "1000", "2"))
	for _, bad := range []string{with("60", "200000000", "2"), with("none", "1000", "2"), with("50", "1000", "none")} {
		cs, err := d.Engine.Plan(t.Context(), changeset.Change{Stack: "app", Template: []byte(bad)})
		if err != nil {
			t.Fatal(fault.Text(err))
		}
		if err := d.Engine.Apply(t.Context(), cs, nil); err == nil {
			t.Error("it was applied")
		}
		if s, err := d.Engine.Stack(t.Context(), "app"); err != nil || s.Status != stack.UpdateRollbackComplete {
			t.Errorf("the stack is %s, %v", s.Status, err)
		}
		d.WantInSync(stack.ReportDrift)
	}
	d.Apply(with("70", "2000", "3"))
	d.WantInSync(stack.ReportDrift)
	database, err := d.Platform.Complete(databaseType)
	if err != nil || len(database) != 1 {
		t.Fatal(database, err)
	}
	if has, err := databaseOf(database[0]).Parameters(t.Context(), "max_connections", "shared_buffers"); err != nil || has["max_connections"].Is != "70" || has["shared_buffers"].Is != "16000kB" {
		t.Errorf("the server has %v, %v", has, err)
	}
}

func mustLoad(t *testing.T, p *Databases, token string) *machine.Resource {
	t.Helper()
	res, err := p.Load(token)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestManagedPasswordsAndDatabaseSnapshots goes from a database with a password
// that was made to one that starts from its snapshot.
func TestManagedPasswordsAndDatabaseSnapshots(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	r := database(map[string]any{"ManageMasterUserPassword": "true"})
	delete(r.Properties, "MasterUserPassword")
	made := machinetest.Create(t, p, r)
	arn := machinetest.Attribute(t, made, "MasterUserSecret.SecretArn")
	text, err := p.Secret(arn, "", "")
	var secret masterSecret
	if err := json.Unmarshal([]byte(text), &secret); err != nil || secret.Username != "keeper" || len(secret.Password) < 20 {
		t.Fatalf("secret %s: %q, %v", arn, text, err)
	}
	if err != nil || !strings.Contains(arn, ":secret:rds!db-") {
		t.Errorf("%s: %v", arn, err)
	}
	if _, err := p.Secret("another", "", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := p.Secret(arn, "AWSPREVIOUS", ""); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a former secret: %v", err)
	}
	file := p.masterSecretFile(machine.Requested(r))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the secret: %v, %v", info, err)
	}
	execute(t, made, secret.Password, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")

	// Killed, it is kept as it is.
	machinetest.Kill(t, p.Machine, r.Token)
	name := snapshotOf(t, p, r)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	execute(t, made, secret.Password, "INSERT INTO orders VALUES (43)")
	if again := snapshotOf(t, p, r); again != name {
		t.Errorf("a second snapshot is %s; want %s", again, name)
	}
	if err := machinetest.Handler(t, p, r.Type).Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct{ token, declared, has string }{
		{"data-Database-2", "", secret.Password}, {"data-Database-3", "a secret of its own", "a secret of its own"},
	} {
		next := stack.Request{
			Environment: "local", Stack: "data", LogicalID: "Database", Type: databaseType, Token: c.token,
			Properties: map[string]any{"Engine": "postgres", "DBSnapshotIdentifier": strings.ToUpper(name)},
		}
		if c.declared != "" {
			next.Properties["MasterUserPassword"] = c.declared
		}
		made := machinetest.Create(t, p, next)
		if got, err := query(t, made, c.has, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders"); err != nil || got != "42 43" {
			t.Errorf("%s: from the snapshot: %q, %v", c.token, got, err)
		}
		if _, err := change(t, p, &next, map[string]any{"DBSnapshotIdentifier": ""}); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: without its snapshot: %v; want unsupported, for a replacement", c.token, err)
		}
	}
}

// TestPasswordsTakeTurns changes from a password declared to a random one and
// back.
func TestPasswordsTakeTurns(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	r := database(nil)
	made := machinetest.Create(t, p, r)
	if _, given := made.Attributes["MasterUserSecret.SecretArn"]; given {
		t.Error("a password that was declared has a secret")
	}
	mustChange(t, p, &r, map[string]any{"MasterUserPassword": ""})
	if _, err := query(t, made, firstPassword, "SELECT 1"); err == nil {
		t.Error("the former password is still accepted")
	}
	if _, err := query(t, made, mustLoad(t, p, r.Token).Generated, "SELECT 1"); err != nil {
		t.Errorf("with the random password: %v", err)
	}
	mustChange(t, p, &r, map[string]any{"MasterUserPassword": firstPassword})
	if _, err := query(t, made, firstPassword, "SELECT 1"); err != nil {
		t.Errorf("with the password declared again: %v", err)
	}
	if _, err := os.Stat(p.masterSecretFile(machine.Requested(r))); err == nil {
		t.Error("the file with the random password is left")
	}
}

func TestDatabasesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	for _, c := range []struct {
		properties map[string]any
		want       string
	}{
		{map[string]any{"DBName": "1st"}, `DBName "1st"`},
		{map[string]any{"DBName": "template1"}, `DBName "template1"`},
		{map[string]any{"MasterUsername": "pg_keeper"}, `MasterUsername "pg_keeper"`},
		{map[string]any{"MasterUsername": "public"}, `MasterUsername "public"`},
		{map[string]any{"MasterUserPassword": "short"}, "MasterUserPassword has less than 8"},
		{map[string]any{"ManageMasterUserPassword": "true"}, "MasterUserPassword is given"},
		{map[string]any{"Engine": "mysql"}, `Engine "mysql"`},
		{map[string]any{"EngineVersion": "9.6"}, "EngineVersion is 9.6, and postgres"},
		{map[string]any{"DBSnapshotIdentifier": "x"}, "MasterUsername comes with the snapshot"},
		{map[string]any{"DBSnapshotIdentifier": "x", "MasterUsername": ""}, `DBSnapshotIdentifier "x" is no snapshot`},
	} {
		r := database(c.properties)
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %s", c.properties, err, c.want)
		}
	}
}

// TestVersions pretends that several versions are installed.
func TestVersions(t *testing.T) {
	t.Parallel()
	var folders []string
	for _, version := range []string{"16.4", "15.13"} {
		folder := t.TempDir()
		for name, said := range map[string]string{
			"initdb": "", "postgres": "postgres (PostgreSQL) " + version + " (Debian)", "redis-server": "Redis server v=" + version + " sha=0",
		} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\necho '"+said+"'\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		folders = append(folders, folder)
	}
	p := onMachine(t, machine.Options{Path: folders, DockerHost: "unix:///no/docker.sock"})
	h := postgres{p}
	for declared, want := range map[string]string{"": folders[0], "16": folders[0], "15.2": folders[1]} {
		r := machine.Requested(database(map[string]any{"EngineVersion": declared}))
		if folder, found := h.programs(r, ""); !found || folder != want {
			t.Errorf("version %q is served by %s; want %s", declared, folder, want)
		}
		if err := h.Check(t.Context(), r); err != nil {
			t.Errorf("version %q: %v", declared, err)
		}
	}
	if folder, _ := h.programs(machine.Requested(database(nil)), "15"); folder != folders[1] {
		t.Errorf("data of 15 is served by %s", folder)
	}
	err := h.Check(t.Context(), machine.Requested(database(map[string]any{"EngineVersion": "14"})))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "EngineVersion is 14, and postgres 16.4 is installed") || !strings.Contains(fault.HintOf(err), `EngineVersion: "16"`) {
		t.Errorf("version 14: %s", fault.Text(err))
	}
	lines, err := h.Warn(t.Context(), machine.Requested(database(map[string]any{"EngineVersion": "15.2"})))
	if err != nil || len(lines) != 1 || lines[0] != "version 15.13 serves, which stands in for 15.2" {
		t.Errorf("told of 15.2: %q, %v", lines, err)
	}
	for declared, want := range map[string]string{"7.1": "", "16.4": "", "16.x": "", "16": ""} {
		got := sameMajor(machine.Requested(database(map[string]any{"EngineVersion": declared})), "16.4")
		if declared == "7.1" {
			want = "version 16.4 serves, which stands in for 7.1"
		}
		if strings.Join(got, "") != want {
			t.Errorf("%s: %q; want %q", declared, got, want)
		}
	}
}

// TestPostgresOnAFullDisk needs a disk of its own to fill.
func TestPostgresOnAFullDisk(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{State: smallDisk(t, 100<<20)})
	r := database(nil)
	made := machinetest.Create(t, p, r)
	execute(t, made, firstPassword, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")
	room := fillUp(t, p.Options.State)
	if _, err := query(t, made, firstPassword, "CREATE TABLE more AS SELECT generate_series(1, 100000)"); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("a change on a full disk: %v", err)
	}
	machinetest.Kill(t, p.Machine, r.Token)
	if err := p.Resume(t.Context()); err == nil || !strings.Contains(fault.Text(err), "df -h") {
		t.Errorf("start on a full disk: %v", err)
	}
	room()
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	if got, err := query(t, made, firstPassword, "SELECT id FROM orders"); err != nil || got != "42" {
		t.Errorf("with room again: %q, %v", got, err)
	}
}

func TestDatabaseDataThatSomebodyChanged(t *testing.T) {
	t.Parallel()
	testneed.Postgres(t)
	p := onMachine(t, machine.Options{})
	r := database(nil)
	made := machinetest.Create(t, p, r)
	data := (postgres{p}).data(mustLoad(t, p, r.Token))
	for what, harm := range map[string]struct {
		do, mend func() error
		want     string
	}{
		"taken away":     {func() error { return os.Rename(data, data+".away") }, func() error { return os.Rename(data+".away", data) }, "put the folder back"},
		"open to all":    {func() error { return os.Chmod(data, 0o777) }, func() error { return os.Chmod(data, 0o700) }, "invalid permissions"},
		"without a file": {func() error { return os.Rename(data+"/postgresql.conf", data+"/x") }, func() error { return os.Rename(data+"/x", data+"/postgresql.conf") }, "put the file back"},
	} {
		machinetest.Kill(t, p.Machine, r.Token)
		if err := harm.do(); err != nil {
			t.Fatal(err)
		}
		if err := p.Resume(t.Context()); !fault.Is(err, fault.Failed) || !strings.Contains(fault.Text(err), harm.want) {
			t.Errorf("%s: %s; want %s", what, fault.Text(err), harm.want)
		}
		if err := harm.mend(); err != nil {
			t.Fatal(err)
		}
		if err := p.Resume(t.Context()); err != nil {
			t.Fatal(fault.Text(err))
		}
		if got, err := query(t, made, firstPassword, "SELECT 1"); err != nil || got != "1" {
			t.Errorf("%s and mended: %q, %v", what, got, err)
		}
	}
}
