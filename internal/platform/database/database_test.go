package database

import (
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"

	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets the test binary serve as makeitso's hidden commands.
func TestMain(m *testing.M) {
	machinetest.Main(m, map[string]func([]string) error{"redis": ServeRedis, "create": machinetest.Creating(func(o machine.Options) (machinetest.Platform, error) { return open(o) })})
}

// open gives what makes databases on a machine, whose buckets are folders of
// the state folder.
func open(o machine.Options) (*Databases, error) {
	m, err := machine.New("local", o, machine.Hooks{})
	if err != nil {
		return nil, err
	}
	d := New(m, func(_ context.Context, bucket, key string) (io.ReadCloser, error) {
		return os.Open(filepath.Join(o.State, bucket, key))
	})
	m.Add(d.Kinds())
	return d, nil
}

// onMachine gives databases on a machine that is destroyed after the test.
func onMachine(t *testing.T, o machine.Options) *Databases {
	t.Helper()
	o = machinetest.Options(t, o)
	d, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	machinetest.DestroyAtEnd(t, o.State, d)
	return d
}

func drift(t *testing.T, template string) machinetest.Stack[*Databases] {
	t.Helper()
	return machinetest.Applied(t, onMachine(t, machine.Options{}), template)
}
