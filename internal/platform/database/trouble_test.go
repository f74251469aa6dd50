package database

import (
	"net"
	"os"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

const troubledRedis = `
Resources:
  Cache:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties: {ReplicationGroupDescription: DESCRIPTION, NumCacheClusters: 2}
`

const troubledPostgres = `
Resources:
  Database:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Delete
    Properties: {Engine: postgres, MasterUsername: keeper, MasterUserPassword: "it's a secret 1", DBName: shop, AllocatedStorage: 5, DBInstanceClass: db.t4g.micro, MonitoringInterval: INTERVAL}
`

// trouble is what may befall a server of a stack.
type trouble struct {
	harm       func(t *testing.T, d *Databases, r *machine.Resource) (mend func())
	want, hint string // of a change meanwhile; "" if that mends it
	only       string // of this type
}

func troubles() map[string]trouble {
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	data := func(d *Databases, r *machine.Resource) string {
		if r.Type == databaseType {
			return postgres{d}.data(r)
		}
		return d.DataFolder(r)
	}
	return map[string]trouble{
		"killed": {func(t *testing.T, d *Databases, r *machine.Resource) func() {
			machinetest.Kill(t, d.Machine, r.Token)
			return func() {}
		}, "", "", ""},
		"led astray": {func(t *testing.T, d *Databases, r *machine.Resource) func() {
			replica, err := d.Load(strings.TrimSuffix(r.Token, "1") + "2")
			if err == nil {
				_, err = serverOf(replica).Ask(t.Context(), "REPLICAOF", "127.0.0.1", "1")
			}
			if err != nil {
				t.Fatal(err)
			}
			return func() {}
		}, "", "", clusterType},
		"port taken": {func(t *testing.T, d *Databases, r *machine.Resource) func() {
			machinetest.Kill(t, d.Machine, r.Token)
			thief, err := net.Listen("tcp", machine.Loopback(r.Port))
			if err != nil {
				t.Fatal(err)
			}
			return func() { thief.Close() }
		}, "another program has port", "ss -ltnp", ""},
		"data taken away": {func(t *testing.T, d *Databases, r *machine.Resource) func() {
			machinetest.Kill(t, d.Machine, r.Token)
			rename(t, data(d, r), data(d, r)+".away")
			return func() { rename(t, data(d, r)+".away", data(d, r)) }
		}, "the data of", "put the folder back", ""},
		"disk full": {func(t *testing.T, d *Databases, r *machine.Resource) func() {
			room := fillUp(t, d.Options.State)
			machinetest.Kill(t, d.Machine, r.Token)
			return room
		}, "no room left", "df -h", ""},
	}
}

// TestAStackGoesOnAfterTrouble changes stacks whose servers are in trouble: the
// failure says what to do, and when that is done the same change goes on, with
// the data. A deletion needs nobody to mend anything.
func TestAStackGoesOnAfterTrouble(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	testneed.Postgres(t)
	for name, c := range troubles() {
		for typ, template := range map[string]string{clusterType: troubledRedis, databaseType: troubledPostgres} {
			if c.only != "" && c.only != typ {
				continue
			}
			t.Run(name+" "+typ[strings.LastIndex(typ, ":")+1:], func(t *testing.T) {
				t.Parallel()
				with := func(description, interval string) string {
					return strings.NewReplacer("DESCRIPTION", description, "INTERVAL", interval).Replace(template)
				}
				o := machine.Options{}
				if strings.HasPrefix(name, "disk") {
					o.State = smallDisk(t, 150<<20)
				}
				d := machinetest.Applied(t, onMachine(t, o), with("before", "0"))
				all, err := d.Platform.Complete(typ)
				if err != nil || len(all) == 0 {
					t.Fatal(all, err)
				}
				r := all[0] // of a group, the primary
				keepIn(t, r)
				mend := c.harm(t, d.Platform, r)
				err = applied(t, d, with("after", "60"))
				if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(fault.Text(err), c.hint)) {
					t.Errorf("the change answered %s; want %s, %s", fault.Text(err), c.want, c.hint)
				}
				mend()
				if err != nil {
					if err := d.Engine.ContinueRollback(t.Context(), "app", nil, nil); err != nil {
						t.Errorf("the roll back answered %s", fault.Text(err))
					}
				}
				d.Apply(with("after", "60"))
				wantIn(t, r)
				d.WantInSync(stack.ReportDrift)

				mend = c.harm(t, d.Platform, r)
				if err := d.Engine.Delete(t.Context(), "app", nil); err != nil {
					t.Errorf("the deletion answered %s", fault.Text(err))
				}
				if !strings.HasPrefix(name, "data") { // which went with the rest
					mend()
				}
			})
		}
	}
}

// TestAPlanThatIsRefusedTouchesNothing names what this machine cannot serve: the
// plan says so, and the stack is changed as before.
func TestAPlanThatIsRefusedTouchesNothing(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", needRedis)
	testneed.Postgres(t)
	d := drift(t, troubledRedis)
	both := troubledRedis + strings.TrimPrefix(strings.NewReplacer("INTERVAL", "0", "shop", "NAME").Replace(troubledPostgres), "\nResources:\n")
	for template, want := range map[string]string{
		strings.Replace(troubledRedis, "2}", `2, EngineVersion: "3.2"}`, 1): "leave it out, or install 3.2",
		strings.Replace(both, "NAME", "1st", 1):                             `DBName "1st" is not a letter and up to 62 letters, digits and '_'`,
	} {
		err := applied(t, d, template)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Text(err), want) {
			t.Errorf("answered %s; want %s", fault.Text(err), want)
		}
		if s, err := d.Engine.Stack(t.Context(), "app"); err != nil || s.Status != stack.CreateComplete {
			t.Errorf("the stack is %s (%v)", s.Status, err)
		}
	}
	d.Apply(strings.Replace(troubledRedis, "DESCRIPTION", "other", 1))
	d.WantInSync(stack.ReportDrift)
}

// applied plans a template and applies it.
func applied(t *testing.T, d machinetest.Stack[*Databases], template string) error {
	t.Helper()
	cs, err := d.Engine.Plan(t.Context(), changeset.Change{Stack: "app", Template: []byte(template)})
	if err != nil {
		return err
	}
	return d.Engine.Apply(t.Context(), cs, nil)
}

// keepIn puts something into a server, and wantIn looks for it.
func keepIn(t *testing.T, r *machine.Resource) {
	t.Helper()
	if r.Type == databaseType {
		execute(t, stack.Result{Attributes: r.Attributes}, firstPassword, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (42)")
	} else if _, err := serverOf(r).Ask(t.Context(), "SET", "cart", "42"); err != nil {
		t.Fatal(err)
	}
}

func wantIn(t *testing.T, r *machine.Resource) {
	t.Helper()
	var got string
	var err error
	if r.Type == databaseType {
		got, err = query(t, stack.Result{Attributes: r.Attributes}, firstPassword, "SELECT id FROM orders")
	} else if answer, askErr := serverOf(r).Ask(t.Context(), "GET", "cart"); askErr != nil {
		err = askErr
	} else {
		got = strings.Join(answer, " ")
	}
	if err != nil || got != "42" {
		t.Errorf("the data is %q (%v); want 42", got, err)
	}
}
