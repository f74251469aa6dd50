package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// mortalStore is a process's store, until the process is killed instead of
// making one more write.
type mortalStore struct {
	record.Store
	left int
}

// killed is how a process of a test ends.
type killed struct{}

func (m *mortalStore) Write(ctx context.Context, ops ...record.Op) error {
	if m.left--; m.left < 0 {
		panic(killed{})
	}
	return m.Store.Write(ctx, ops...)
}

// crash is one type whose maker is broken off at every boundary.
type crash struct {
	t    *testing.T
	p    *Platform // that goes on
	o    Options
	c    stacktest.Case
	h    stack.Handler
	kind machine.Kind
}

// dies does something in a process that is killed instead of making its write
// number n, from 0, and says whether it came to that.
func (c crash) dies(n int, do func(h stack.Handler) error) (died bool) {
	c.t.Helper()
	o := c.o
	o.Records = &mortalStore{o.Records, n}
	p, err := New("local", o)
	if err != nil {
		c.t.Fatal(err)
	}
	defer p.Close()
	defer func() {
		if what := recover(); what != nil {
			if died = what == any(killed{}); !died {
				panic(what)
			}
		}
	}()
	if err := do(machinetest.Handler(c.t, p, c.c.Name)); err != nil {
		c.t.Errorf("before write %d: %s", n, fault.Text(err))
	}
	return false
}

// request is the case's, of a resource of its own.
func (c crash) request(name string) stack.Request {
	r := c.c.Request
	r.Token += "-" + name
	return r
}

// created wants a resource to be there once, whatever a killed process has left.
func (c crash) created(what string, r stack.Request) stack.Result {
	c.t.Helper()
	first, err := c.h.Create(c.t.Context(), r)
	if err != nil {
		c.t.Fatalf("%s: %s", what, fault.Text(err))
	}
	again, err := c.h.Create(c.t.Context(), r)
	if err != nil || again.PhysicalID != first.PhysicalID {
		c.t.Errorf("%s: it is made twice: %s, %s, %v", what, first.PhysicalID, again.PhysicalID, err)
	}
	if _, err := c.h.Read(c.t.Context(), r); err != nil {
		c.t.Errorf("%s: it is not there: %s", what, fault.Text(err))
	}
	return first
}

// deleted wants it to go, whatever has gone already.
func (c crash) deleted(what string, r stack.Request) {
	c.t.Helper()
	if err := c.h.Delete(c.t.Context(), r); err != nil {
		c.t.Fatalf("%s: %s", what, fault.Text(err))
	}
	if _, err := c.h.Read(c.t.Context(), r); !fault.Is(err, fault.NotFound) {
		c.t.Errorf("%s: it is still there: %v", what, err)
	}
	left, err := os.ReadDir(filepath.Join(c.p.Dir, "instances"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) != 0 {
		c.t.Errorf("%s: instances are left: %v, %v", what, left, err)
	}
}

// atWrites breaks off before each write of a record.
func (c crash) atWrites() {
	for n, died := 0, true; died; n++ {
		r := c.request(fmt.Sprint(n))
		what := fmt.Sprintf("killed before write %d", n)
		died = c.dies(n, func(h stack.Handler) error {
			_, err := h.Create(c.t.Context(), r)
			return err
		})
		made := c.created(what, r)
		r.PhysicalID, r.Attributes = made.PhysicalID, made.Attributes
		if c.c.Update != nil {
			changed := r
			changed.Properties, changed.Previous = c.c.Update, r.Properties
			died = c.dies(n, func(h stack.Handler) error {
				_, err := h.Update(c.t.Context(), changed)
				return err
			}) || died
			c.back(what, r)
		}
		died = c.dies(n, func(h stack.Handler) error { return h.Delete(c.t.Context(), r) }) || died
		c.deleted(what, r)
	}
}

// back rolls a change back, of which nobody knows how far it came.
func (c crash) back(what string, r stack.Request) {
	c.t.Helper()
	r.Previous = c.c.Update
	if _, err := c.h.Update(c.t.Context(), r); err != nil {
		c.t.Fatalf("%s: roll back: %s", what, fault.Text(err))
	}
	is, err := c.h.Read(c.t.Context(), r)
	if err != nil || !changeset.SameProperties(is.Properties, r.Properties) || is.PhysicalID != r.PhysicalID {
		c.t.Errorf("%s: after the rollback it is %s %v, %v; want %s %v", what, is.PhysicalID, is.Properties, err, r.PhysicalID, r.Properties)
	}
}

// atFiles breaks off between the work and the state file that says that it is
// done.
func (c crash) atFiles() {
	ctx, maker := c.t.Context(), c.kind.Maker
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(fault.Text(err))
		}
	}
	r := c.request("begun")
	must(c.p.Save(machine.Requested(r)))
	c.created("killed when it was begun", r)
	c.deleted("made after a kill", r)

	r = c.request("made")
	res := machine.Requested(r)
	must(c.p.Save(res))
	must(maker.Make(ctx, res))
	c.deleted("killed when it was made", r)

	r = c.request("again")
	res = machine.Requested(r)
	must(c.p.Save(res))
	must(maker.Make(ctx, res))
	made := c.created("killed when it was made", r)
	if made.PhysicalID != res.PhysicalID {
		c.t.Errorf("what was made is %s, and another %s is made", res.PhysicalID, made.PhysicalID)
	}
	r.PhysicalID, r.Attributes = made.PhysicalID, made.Attributes
	if c.c.Update != nil {
		is, err := c.p.Load(r.Token)
		must(err)
		is.Properties = c.c.Update
		must(maker.Make(ctx, is))
		c.back("killed when it was changed", r)
	}
	is, err := c.p.Load(r.Token)
	must(err)
	must(maker.Remove(ctx, is))
	c.deleted("killed when it was removed", r)
}

// TestEveryTypeOutlivesAKill kills what makes, changes and removes a resource at
// every boundary, and lets another process go on.
func TestEveryTypeOutlivesAKill(t *testing.T) {
	t.Parallel()
	unpacked := 0
	o := Options{Unpack: unpackProgram(&unpacked)}
	o.Options = machinetest.Options(t, o.Options)
	o.Project, o.Events = "shop", "events"
	p := newPlatform(t, o)
	cases := realCases(t, p)
	elsewhere := p.databases.Kinds()                                       // these have tests of their own
	elsewhere["AWS::CloudFormation::WaitConditionHandle"] = machine.Kind{} // an address that the other process listens at
	for _, typ := range slices.Sorted(maps.Keys(cases)) {
		if _, is := elsewhere[typ]; is {
			continue
		}
		c := cases[typ]
		c.Name = typ
		t.Run(typ, func(t *testing.T) {
			one := crash{t, p, o, c, machinetest.Handler(t, p, typ), p.Kind(typ)}
			one.atWrites()
			if _, records := one.h.(*modelHandler); !records {
				one.atFiles()
			}
		})
	}
}
