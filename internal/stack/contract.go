package stack

import (
	"context"

	"makeitso/internal/changeset"
	"makeitso/internal/pace"
)

// Platform is what a stack stands on: it knows the types of resources and how
// each becomes real there. Platforms implement it and pass the suite in
// stack/stacktest.
type Platform interface {
	// Support says what the platform does with a type.
	Support(typ string) changeset.Support
	// Handler gives what makes resources of a type, fault.Unsupported for a
	// type whose Support is Refused.
	Handler(typ string) (Handler, error)
}

// Handler makes resources of one type. All methods may be called again after a
// crash with the same request, and stop early when ctx is cancelled.
type Handler interface {
	// Check judges a desired resource before anything is done: wrong
	// properties (fault.Invalid) or a missing program (fault.Unavailable,
	// with a hint how to install it). It changes nothing. When planning, r has
	// no Token yet, and KnownAfterApply stands where a value is not known; such
	// a value is not judged. It is asked again before Create and Update, with
	// everything known.
	Check(ctx context.Context, r Request) error
	// Create makes the resource and returns when it is ready. It is
	// idempotent by r.Token: what an earlier call with that token began is
	// found and finished, never begun again.
	Create(ctx context.Context, r Request) (Result, error)
	// Read gives what exists, fault.NotFound if it does not.
	Read(ctx context.Context, r Request) (Result, error)
	// Update brings the resource from r.Previous to r.Properties in place. A
	// change that only a replacement can make is fault.Unsupported: the engine
	// then replaces, if the change set said that this might happen.
	Update(ctx context.Context, r Request) (Result, error)
	// Delete removes the resource and its data; removing what is gone is fine.
	Delete(ctx context.Context, r Request) error
}

// Layer is a Platform that stands over another one, and leaves to it what it
// does not do itself.
type Layer interface {
	Beneath() Platform
}

// offered gives what a platform, or one that it stands over, offers besides
// what every platform does.
func offered[T any](p Platform) (T, bool) {
	for {
		if t, ok := p.(T); ok {
			return t, true
		}
		over, ok := p.(Layer)
		if !ok {
			var none T
			return none, false
		}
		p = over.Beneath()
	}
}

// Snapshotter is a Handler that can keep the data of a resource apart from it,
// for a policy of Snapshot.
type Snapshotter interface {
	// Snapshot keeps the resource's data so that it outlives Delete, and tells
	// where it is. It is idempotent by r.Token: called again, it may keep the
	// newer data in place of the older.
	Snapshot(ctx context.Context, r Request) (where string, err error)
}

// Warner is a Handler that can tell of a change, before it is made, what the
// facts of its type do not say: that it interrupts a service, or that something
// else serves than was declared.
type Warner interface {
	// Warn gives one line for each such thing. It is asked when planning, as
	// Check is, and like it changes nothing.
	Warn(ctx context.Context, r Request) ([]string, error)
}

// Group is a Handler of groups of instances, which an UpdatePolicy replaces
// step by step.
type Group = pace.Group[Request]

// Importer is a Handler that can find what exists and was not made for the
// resource that asks: what a stack has left behind because of a policy of
// Retain. From then on it is named by its own token.
type Importer interface {
	// Find gives the resource of r.Type whose primary identifier has these
	// values, by the names of its properties, and its token; fault.NotFound if
	// there is none. It changes nothing. Whether the resource belongs to a
	// stack is for the engine to know.
	Find(ctx context.Context, r Request, identifier map[string]string) (token string, found Result, err error)
}

// Request is one resource in the hands of a Handler.
type Request struct {
	Environment string
	Stack       string
	StackID     string
	LogicalID   string
	Type        string
	// Token names this physical resource: the same for every call about it,
	// another for its replacement. Safe as a file name, at most 80 letters.
	Token string
	// PhysicalID is what Create returned; empty before.
	PhysicalID string
	// Properties are resolved: maps, lists and strings. Every scalar is a
	// string ("6379", "true"), whatever the template's author wrote, since a
	// parameter is a string too; a type's handler reads it as what it needs.
	Properties map[string]any
	// Tags are those that the stack gives to its resources, and the service's
	// own, for a type that takes them. One of the same key in the properties
	// has been left out: the resource's own counts.
	Tags       map[string]string
	Previous   map[string]any // Update only: the properties it has now
	Attributes map[string]any // what Create or Update returned last
}

// Result is what a resource is after a call.
type Result struct {
	PhysicalID string         // what Ref gives
	Attributes map[string]any // what Fn::GetAtt gives; nested names as "Endpoint.Address"
	Properties map[string]any // Read only: the properties as they are
	// NoEcho says that the attributes hold secrets, which are shown to nobody.
	NoEcho bool
	// Replaced, of Update only, says that the answer is another thing, named by
	// PhysicalID: the engine deletes the former one when the change is complete,
	// or this one if it is rolled back.
	Replaced bool
}
