// Package machinetest helps tests of what stands on a machine: a machine of
// the test's own that leaves nothing behind, resources on it, and stacks.
package machinetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/process"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

// Main lets a test binary serve as makeitso's hidden commands, "exec" and
// those of hidden.
func Main(m *testing.M, hidden map[string]func([]string) error) {
	if len(os.Args) > 2 && os.Args[1] == "internal" {
		run := hidden[os.Args[2]]
		if os.Args[2] == "exec" {
			run = func(args []string) error { return process.Exec(args[0]) }
		}
		if err := run(os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Options gives a machine a state folder, records and a key of its own,
// where o has none.
func Options(t *testing.T, o machine.Options) machine.Options {
	t.Helper()
	if o.State == "" {
		o.State = t.TempDir()
	}
	if o.Records == nil {
		o.Records = record.NewMemory()
	}
	if o.Key == nil {
		var err error
		if o.Key, err = Key(o.State); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// DestroyAtEnd destroys p after the test, and looks that the destruction
// leaves no process and no file below the state folder.
func DestroyAtEnd(t *testing.T, state string, p interface {
	Destroy(ctx context.Context) error
	Close()
}) {
	t.Cleanup(func() {
		if err := p.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		p.Close()
		if left := Processes(t, state); len(left) != 0 {
			t.Errorf("processes left: %v", left)
		}
		for _, dir := range []string{"environments", "logs"} {
			if _, err := os.Stat(filepath.Join(state, dir)); err == nil {
				t.Errorf("the folder %s is left", dir)
			}
		}
	})
}

// Key gives the key of a state folder, which all platforms on it share.
func Key(state string) (*seal.Key, error) { return seal.Load(filepath.Join(state, "key")) }

// Processes lists the processes of this machine that have the folder among
// their arguments.
func Processes(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), dir) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// Request is a resource of the stack "data".
func Request(typ, logicalID string, properties map[string]any) stack.Request {
	return stack.Request{
		Environment: "local", Stack: "data", LogicalID: logicalID, Type: typ,
		Token: "data-" + logicalID + "-1", Properties: properties,
	}
}

// Handler gives what makes resources of a type.
func Handler(t *testing.T, p stack.Platform, typ string) stack.Handler {
	t.Helper()
	h, err := p.Handler(typ)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Create makes a resource.
func Create(t *testing.T, p stack.Platform, r stack.Request) stack.Result {
	t.Helper()
	result, err := Handler(t, p, r.Type).Create(t.Context(), r)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	return result
}

// Platform is what Creating makes resources on.
type Platform interface {
	stack.Platform
	Close()
}

// Creating is a hidden command "create" for a test binary: it creates a
// resource on the platform that open gives where there are no programs, and
// stays. Its arguments are the state folder and the request.
func Creating(open func(o machine.Options) (Platform, error)) func(args []string) error {
	return func(args []string) error {
		var r stack.Request
		if err := json.Unmarshal([]byte(args[1]), &r); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		key, err := Key(args[0])
		if err != nil {
			return err
		}
		p, err := open(machine.Options{State: args[0], Records: record.NewMemory(), Key: key, Path: []string{"/no/programs"}})
		if err != nil {
			return err
		}
		defer p.Close()
		h, err := p.Handler(r.Type)
		if err != nil {
			return err
		}
		if _, err := h.Create(context.Background(), r); err != nil {
			return err
		}
		killed, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		<-killed.Done()
		return nil
	}
}

// Attribute gives an attribute that is text.
func Attribute(t *testing.T, r stack.Result, name string) string {
	t.Helper()
	text, isText := r.Attributes[name].(string)
	if !isText {
		t.Fatalf("attribute %s is %v; want text", name, r.Attributes[name])
	}
	return text
}

// Kill kills the server of a token and waits until it is gone.
func Kill(t *testing.T, m *machine.Machine, token string) {
	t.Helper()
	running, err := m.Keeper.Find(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(running.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-running.Exited()
}

// Stack is a stack on a platform of the test's own.
type Stack[P stack.Platform] struct {
	t        *testing.T
	Platform P
	Engine   *stack.Engine
}

// Applied gives a platform the stack of a template.
func Applied[P stack.Platform](t *testing.T, p P, template string) Stack[P] {
	t.Helper()
	d := Stack[P]{t, p, stack.New("local", p, record.NewMemory(), stack.Options{Holder: "test"})}
	d.Apply(template)
	return d
}

// Apply plans a template and applies the plan.
func (d Stack[P]) Apply(template string) {
	d.t.Helper()
	cs, err := d.Engine.Plan(d.t.Context(), changeset.Change{Stack: "app", Template: []byte(template)})
	if err == nil {
		err = d.Engine.Apply(d.t.Context(), cs, nil)
	}
	if err != nil {
		d.t.Fatal(fault.Text(err))
	}
}

// Look gives what has drifted by logical id, after the policy has acted.
func (d Stack[P]) Look(policy stack.DriftPolicy) map[string]stack.ResourceDrift {
	d.t.Helper()
	found, err := d.Engine.Drift(d.t.Context(), "app", policy, nil)
	if err != nil {
		d.t.Fatal(fault.Text(err))
	}
	drifted := map[string]stack.ResourceDrift{}
	for _, r := range found.Resources {
		if r.Status != stack.InSync {
			drifted[r.LogicalID] = r
		}
	}
	return drifted
}

// WantInSync wants nothing that has drifted.
func (d Stack[P]) WantInSync(policy stack.DriftPolicy) {
	d.t.Helper()
	if drifted := d.Look(policy); len(drifted) != 0 {
		d.t.Errorf("with policy %s, this has drifted: %+v", policy, drifted)
	}
}

// WantModified wants one difference of one resource.
func (d Stack[P]) WantModified(id, path string, expected, actual any) {
	d.t.Helper()
	drifted := d.Look(stack.ReportDrift)
	got := drifted[id]
	if len(drifted) != 1 || got.Status != stack.Modified || len(got.Differences) != 1 ||
		got.Differences[0].Path != path || got.Differences[0].Expected != expected || got.Differences[0].Actual != actual {
		d.t.Errorf("got %+v; want %s %s: %v, %v", drifted, id, path, expected, actual)
	}
}
