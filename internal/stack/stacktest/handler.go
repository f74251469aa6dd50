// Package stacktest is the test kit of package stack: the suite that every
// stack.Handler passes, and a platform in memory for tests of engines. It
// knows the contract and must not know any real platform.
package stacktest

import (
	"context"
	"maps"
	"reflect"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

// Case is one resource that the suite makes, changes and removes.
type Case struct {
	Name string
	// Request is what is created; the suite adds PhysicalID, Previous and
	// Attributes itself, as the engine does.
	Request stack.Request
	// Update is the properties that a change in place leads to; nil if the
	// type has none.
	Update map[string]any
	// Invalid is properties that Check must refuse with fault.Invalid; nil for
	// a type that takes anything.
	Invalid map[string]any
	// Count, if set, gives how many real things stand for Request.Token; the
	// suite wants one after any number of creates and none after the delete.
	Count func() int
}

// Handler is the suite: the duties of stack.Handler that do not depend on the
// type. Two creates with one token make one thing; what is read is what was
// asked for; an update in place keeps the thing, and one that only a
// replacement can make is refused; what is deleted is gone, and may be deleted
// again. Every case leaves nothing behind if h passes.
func Handler(t *testing.T, h stack.Handler, cases ...Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { run(t, h, c) })
	}
}

func run(t testing.TB, h stack.Handler, c Case) {
	s := &suite{t: t, h: h, c: c, r: c.Request}
	defer s.remove()
	s.checked()
	s.interrupted()
	s.created()
	s.keptFromReplacement()
	s.updated()
	s.imported()
	s.deleted()
}

// suite is the state of one case.
type suite struct {
	t testing.TB
	h stack.Handler
	c Case
	r stack.Request
}

func (s *suite) checked() {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.h.Check(ctx, s.r); err != nil {
		s.t.Fatalf("Check of the case's own properties: %v", err)
	}
	if s.c.Invalid != nil {
		bad := s.r
		bad.Properties = s.c.Invalid
		if err := s.h.Check(ctx, bad); !fault.Is(err, fault.Invalid) {
			s.t.Errorf("Check of invalid properties: got %v, want fault.Invalid", err)
		}
	}
	s.gone("after Check, which must change nothing")
}

// interrupted begins a create that is cancelled at once. It may fail or not;
// the next create with the same token must get over what it left.
func (s *suite) interrupted() {
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	if _, err := s.h.Create(ctx, s.r); err != nil {
		s.t.Logf("create with a cancelled context: %v", err)
	}
}

func (s *suite) created() {
	s.t.Helper()
	ctx := s.t.Context()
	first, err := s.h.Create(ctx, s.r)
	if err != nil {
		s.t.Fatalf("create: %v", err)
	}
	if first.PhysicalID == "" {
		s.t.Fatal("create gave no physical id")
	}
	second, err := s.h.Create(ctx, s.r)
	if err != nil {
		s.t.Fatalf("create again with the same token: %v", err)
	}
	s.same("create again with the same token", second, first)
	s.count("after two creates with one token", 1)
	s.r.PhysicalID, s.r.Attributes = first.PhysicalID, first.Attributes
	read, err := s.h.Read(ctx, s.r)
	if err != nil {
		s.t.Fatalf("read after create: %v", err)
	}
	s.same("read after create", read, first)
	s.asked("read after create", read)
}

// keptFromReplacement asks for a change of what can be set once only.
func (s *suite) keptFromReplacement() {
	s.t.Helper()
	ctx := s.t.Context()
	facts, _ := registry.Type(s.r.Type)
	before, err := s.h.Read(ctx, s.r)
	if err != nil {
		s.t.Fatalf("read before a change that is not possible: %v", err)
	}
	for _, name := range facts.CreateOnly {
		if _, given := s.r.Properties[name]; strings.Contains(name, "/") || !given && name != facts.CreateOnly[0] {
			continue
		}
		other := s.r
		other.Previous, other.Properties = s.r.Properties, maps.Clone(s.r.Properties)
		if other.Properties == nil {
			other.Properties = map[string]any{}
		}
		other.Properties[name] = "another"
		if _, err := s.h.Update(ctx, other); !fault.Is(err, fault.Unsupported) {
			s.t.Errorf("update of %s, which is set once only: got %v, want fault.Unsupported", name, err)
		}
		read, err := s.h.Read(ctx, s.r)
		if err != nil {
			s.t.Fatalf("read after a refused update of %s: %v", name, err)
		}
		s.same("read after a refused update of "+name, read, before)
		s.asked("read after a refused update of "+name, read)
	}
}

func (s *suite) updated() {
	s.t.Helper()
	if s.c.Update == nil {
		return
	}
	ctx := s.t.Context()
	s.r.Previous, s.r.Properties = s.r.Properties, s.c.Update
	if err := s.h.Check(ctx, s.r); err != nil {
		s.t.Fatalf("Check of the update: %v", err)
	}
	result, err := s.h.Update(ctx, s.r)
	if err != nil {
		s.t.Fatalf("update: %v", err)
	}
	if result.PhysicalID != s.r.PhysicalID {
		s.t.Errorf("update in place gave the physical id %q, want the same %q", result.PhysicalID, s.r.PhysicalID)
	}
	again, err := s.h.Update(ctx, s.r)
	if err != nil {
		s.t.Fatalf("update again, as after a crash: %v", err)
	}
	s.same("update again", again, result)
	s.r.Attributes = result.Attributes
	read, err := s.h.Read(ctx, s.r)
	if err != nil {
		s.t.Fatalf("read after update: %v", err)
	}
	s.same("read after update", read, result)
	s.asked("read after update", read)
	s.count("after the update", 1)
}

// imported looks for the resource as for one that another has made.
func (s *suite) imported() {
	s.t.Helper()
	importer, able := s.h.(stack.Importer)
	if !able {
		return
	}
	ctx := s.t.Context()
	read, err := s.h.Read(ctx, s.r)
	if err != nil {
		s.t.Fatalf("read before find: %v", err)
	}
	identifier := identifierOf(s.r.Type, read)
	other := stack.Request{Environment: s.r.Environment, Stack: "other", LogicalID: "Other", Type: s.r.Type}
	token, found, err := importer.Find(ctx, other, identifier)
	if err != nil {
		s.t.Fatalf("find by %v: %v", identifier, err)
	}
	if token != s.r.Token {
		s.t.Errorf("find gave the token %q, want %q", token, s.r.Token)
	}
	s.same("find", found, read)
	for name := range identifier {
		wrong := maps.Clone(identifier)
		wrong[name] = "no-such-thing"
		if _, _, err := importer.Find(ctx, other, wrong); !fault.Is(err, fault.NotFound) {
			s.t.Errorf("find by %v: got %v, want fault.NotFound", wrong, err)
		}
	}
}

// identifierOf gives the values of a type's primary identifier; where that is
// one property that the resource does not tell, it is the physical id.
func identifierOf(typ string, r stack.Result) map[string]string {
	facts, _ := registry.Type(typ)
	identifier := map[string]string{}
	for _, name := range facts.PrimaryIdentifier {
		identifier[name] = r.PhysicalID
		for _, known := range []map[string]any{r.Properties, r.Attributes} {
			if text, ok := known[name].(string); ok {
				identifier[name] = text
			}
		}
	}
	return identifier
}

func (s *suite) deleted() {
	s.t.Helper()
	for _, when := range []string{"delete", "delete what is gone"} {
		if err := s.h.Delete(s.t.Context(), s.r); err != nil {
			s.t.Fatalf("%s: %v", when, err)
		}
	}
	s.gone("after delete")
	if _, err := s.h.Update(s.t.Context(), s.r); !fault.Is(err, fault.NotFound) {
		s.t.Errorf("update after delete: got %v, want fault.NotFound", err)
	}
	s.count("after delete", 0)
}

// remove cleans up after a case that failed half-way.
func (s *suite) remove() {
	if !s.t.Failed() {
		return
	}
	if err := s.h.Delete(context.WithoutCancel(s.t.Context()), s.r); err != nil {
		s.t.Logf("clean up: %v", err)
	}
}

func (s *suite) gone(when string) {
	s.t.Helper()
	if _, err := s.h.Read(s.t.Context(), s.r); !fault.Is(err, fault.NotFound) {
		s.t.Errorf("read %s: got %v, want fault.NotFound", when, err)
	}
}

// asked wants the properties that the resource shall have.
func (s *suite) asked(when string, read stack.Result) {
	s.t.Helper()
	facts, _ := registry.Type(s.r.Type)
	if different := facts.Differences(s.r.Properties, read.Properties); len(different) > 0 {
		s.t.Errorf("%s gave other properties than were asked for: %+v", when, different)
	}
}

func (s *suite) same(when string, got, want stack.Result) {
	s.t.Helper()
	if got.PhysicalID != want.PhysicalID {
		s.t.Errorf("%s gave the physical id %q, want %q", when, got.PhysicalID, want.PhysicalID)
	}
	if len(got.Attributes)+len(want.Attributes) > 0 && !reflect.DeepEqual(got.Attributes, want.Attributes) {
		s.t.Errorf("%s gave the attributes %v, want %v", when, got.Attributes, want.Attributes)
	}
}

func (s *suite) count(when string, want int) {
	s.t.Helper()
	if s.c.Count == nil {
		return
	}
	if got := s.c.Count(); got != want {
		s.t.Errorf("%d exist %s, want %d", got, when, want)
	}
}
