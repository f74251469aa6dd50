package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/vault"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

// Resource is what the platform keeps of one resource, in a file of its own
// in the resource's folder.
type Resource struct {
	model.Resource
	// Tags are those that its stack gives it.
	Tags map[string]string `json:"tags,omitempty"`
	// Complete is set when the resource was ready for the first time.
	Complete bool `json:"complete,omitempty"`
	// Port is the loopback port of its server, kept for ever.
	Port int `json:"port,omitempty"`
	// By is what serves it, decided once: its data belongs to that.
	By Backing `json:"by,omitempty"`
	// Settings are the parameters that a parameter group has set.
	Settings map[string]Setting `json:"settings,omitempty"`
	// Vault is the versions of a secret or a parameter.
	Vault vault.Vault `json:"vault,omitzero"`
	// Launches are the versions of a launch template.
	Launches []map[string]any `json:"launches,omitempty"`
	// Images are the digests of the images that it is or was made from, by
	// their references.
	Images map[string]string `json:"images,omitempty"`
	// Key is the text of an encryption key.
	Key string `json:"key,omitempty"`
	// Password is the one the server has now.
	Password string `json:"password,omitempty"`
	// Generated is the password that was made where the template has none.
	Generated string `json:"generated,omitempty"`
	// Master is the database's first user.
	Master string `json:"master,omitempty"`
	// Group is the token of the replication group that the resource is a node
	// of, and Primary the port of what it is a replica of.
	Group   string `json:"group,omitempty"`
	Primary int    `json:"primary,omitempty"`
}

// Setting is a parameter of a server that a group has set, in the server's own
// words: what it was before, and what it was right after.
type Setting struct {
	Was string `json:"was,omitempty"` // not kept where a server goes back by itself
	Is  string `json:"is"`
	// Start is what is told to the server when it starts, in the group's words;
	// "" for what is told to one that runs.
	Start string `json:"start,omitempty"`
}

// Is says whether other is this very resource.
func (r *Resource) Is(other *Resource) bool { return r.Resource.Is(&other.Resource) }

// identified says whether the resource has all values of an identifier. One
// that is a single property, or a part that the resource was not given, may be
// its physical id.
func (r *Resource) identified(identifier map[string]string) bool {
	for property, value := range identifier {
		_, given := r.Properties[property]
		if _, told := r.Attributes[property]; told {
			given = true
		}
		physical := (len(identifier) == 1 || !given) && r.PhysicalID == value
		if !physical && r.Properties[property] != value && r.Attributes[property] != value {
			return false
		}
	}
	return len(identifier) > 0
}

// Folder is where everything of the resource lies.
func (m *Machine) Folder(r *Resource) string { return filepath.Join(m.Dir, "resources", r.Token) }

// Save writes down what is kept of r.
func (m *Machine) Save(r *Resource) error {
	if err := os.MkdirAll(m.Folder(r), 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", r.Name(), err)
	}
	err := m.Options.Key.WriteFile(filepath.Join(m.Folder(r), "resource.json"), "resource "+r.Token, r)
	if errors.Is(err, syscall.ENOSPC) {
		return fault.Wrap(fault.Unavailable, err, "keep the state of %s, with no room left on the disk", r.Name()).
			WithHint("make room: df -h %s; then: makeitso up", m.Folder(r))
	}
	return err
}

// Load gives the resource of a token, fault.NotFound if nothing of it exists.
func (m *Machine) Load(token string) (*Resource, error) {
	r := &Resource{Resource: model.Resource{Token: token}}
	err := m.Options.Key.ReadFile(filepath.Join(m.Folder(r), "resource.json"), "resource "+token, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "no resource %s exists in environment %s", token, m.Env)
	}
	if err != nil {
		return nil, fmt.Errorf("read resource %s: %w", token, err)
	}
	return r, nil
}

// ModelKey is the key of a modelled resource's record.
func (m *Machine) ModelKey(token string) string { return m.Env + "/" + token }

// Resources gives everything there is, by token.
func (m *Machine) Resources() ([]*Resource, error) {
	entries, err := os.ReadDir(filepath.Join(m.Dir, "resources"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	var all []*Resource
	for _, e := range entries {
		r, err := m.Load(e.Name())
		if fault.Is(err, fault.NotFound) {
			continue // its folder was being made or removed
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Existing gives what there is of the resource that a plan speaks of, nil if
// nothing is.
func (m *Machine) Existing(r *Resource) *Resource {
	all, err := m.Complete(r.Type)
	if err != nil {
		return nil // whoever changes it will tell
	}
	for _, other := range all {
		if r.Is(other) {
			return other
		}
	}
	return nil
}

// Complete gives the resources of a type that were ready once.
func (m *Machine) Complete(typ string) ([]*Resource, error) {
	all, err := m.Resources()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r *Resource) bool { return r.Type != typ || !r.Complete }), nil
}

// Handler is the stack.Handler of one type.
type Handler struct {
	m     *Machine
	Type  string // that it makes
	Maker Maker  // that does it
}

// Requested is the resource that a request speaks of, as if it were new.
func Requested(r stack.Request) *Resource {
	return &Resource{Tags: r.Tags, Resource: model.Resource{
		Token: r.Token, Type: r.Type, Stack: r.Stack, LogicalID: r.LogicalID, PhysicalID: r.PhysicalID, Properties: r.Properties,
	}}
}

// Check implements stack.Handler.
func (h *Handler) Check(ctx context.Context, r stack.Request) error {
	res := Requested(r)
	facts, _ := registry.Type(h.Type)
	for _, property := range facts.Required {
		if _, given := r.Properties[property]; !given {
			return res.Invalid(property, "is required and missing")
		}
	}
	if err := h.Maker.Check(ctx, res); err != nil {
		return err
	}
	_, err := h.m.NameOps(ctx, res, h.namesOf(res))
	return err
}

// Warner is a Maker that can tell, of a resource that is planned, what its
// properties alone do not say.
type Warner interface {
	// Warn gives what is to be told, a line each.
	Warn(ctx context.Context, r *Resource) ([]string, error)
}

// Warn implements stack.Warner.
func (h *Handler) Warn(ctx context.Context, r stack.Request) ([]string, error) {
	w, can := h.Maker.(Warner)
	if !can {
		return nil, nil
	}
	return w.Warn(ctx, Requested(r))
}

// Create implements stack.Handler.
func (h *Handler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	if err := ctx.Err(); err != nil {
		return stack.Result{}, context.Cause(ctx)
	}
	defer h.m.Begin()()
	res, err := h.m.Load(r.Token)
	if fault.Is(err, fault.NotFound) {
		res = Requested(r)
		// Written before anything is made, so that Delete finds what a
		// failed or killed Create left.
		err = h.m.Save(res)
	}
	if err != nil {
		return stack.Result{}, err
	}
	res.Properties, res.Tags = r.Properties, r.Tags
	return h.finish(ctx, res, false)
}

// Read implements stack.Handler.
func (h *Handler) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.m.Load(r.Token)
	if err != nil {
		return stack.Result{}, err
	}
	if !res.Complete {
		return stack.Result{}, fault.New(fault.NotFound, "%s was begun and never came to be", res.Name())
	}
	if err := h.Maker.Read(ctx, res); err != nil {
		return stack.Result{}, err
	}
	properties := res.Properties
	if t, can := h.Maker.(Teller); can {
		if properties, err = t.Tell(ctx, res); err != nil {
			return stack.Result{}, err
		}
	}
	return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes, Properties: properties}, nil
}

// Find implements stack.Importer: what a stack has left behind is here as it
// was, with its data.
func (h *Handler) Find(ctx context.Context, _ stack.Request, identifier map[string]string) (string, stack.Result, error) {
	all, err := h.m.Complete(h.Type)
	if err != nil {
		return "", stack.Result{}, err
	}
	all = slices.DeleteFunc(all, func(r *Resource) bool { return r.Group != "" }) // it belongs to that
	res, err := h.Among(all, identifier)
	if err != nil {
		return "", stack.Result{}, err
	}
	found, err := h.Read(ctx, stack.Request{Token: res.Token})
	return res.Token, found, err
}

// Among gives the one of a type's resources that has an identifier.
func (h *Handler) Among(all []*Resource, identifier map[string]string) (*Resource, error) {
	for _, res := range all {
		if res.identified(identifier) {
			return res, nil
		}
	}
	return nil, fault.New(fault.NotFound, "environment %s has no such %s", h.m.Env, h.Type)
}

// Update implements stack.Handler.
func (h *Handler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	defer h.m.Begin()()
	res, err := h.m.Load(r.Token)
	if err == nil {
		err = res.InPlace(r.Properties)
	}
	if c, can := h.Maker.(Replacer); can && err == nil {
		err = c.Replaces(res, r.Properties)
	}
	if err != nil {
		return stack.Result{}, err
	}
	was := h.m.concerns(res)
	res.Properties, res.Tags = r.Properties, r.Tags
	return h.finish(ctx, res, was)
}

// InPlace refuses a change that only a replacement can make.
func (r *Resource) InPlace(properties map[string]any) error {
	if !r.replacedBy(properties) {
		return nil
	}
	return fault.New(fault.Unsupported, "%s (%s) cannot take these properties in place", r.Name(), r.Type).
		WithHint("a property that is set once for all changes; a new resource has to come in its place")
}

// replacedBy says whether only a new resource can have other properties.
func (r *Resource) replacedBy(properties map[string]any) bool {
	facts, _ := registry.Type(r.Type)
	return facts.Change(orNone(r.Properties), orNone(properties)) == registry.Always
}

func orNone(properties map[string]any) map[string]any {
	if properties == nil {
		return map[string]any{}
	}
	return properties
}

// Replacer is a Maker that knows changes which only a replacement can make,
// besides those of which the registry says so: fault.Unsupported for such a one.
type Replacer interface {
	// Replaces judges the properties wanted of a resource that is there.
	Replaces(is *Resource, wanted map[string]any) error
}

// Teller is a Maker that can tell of a resource that is there which properties
// it really has: fault.NotFound if it turns out to be gone. Those of the others
// are what was declared.
type Teller interface {
	// Tell gives the properties of r.
	Tell(ctx context.Context, r *Resource) (map[string]any, error)
}

// Hold keeps the environment from being resumed or destroyed until release.
func (m *Machine) Hold() (release func()) {
	m.changing.RLock()
	return m.changing.RUnlock
}

// Begin says that a resource is being changed, and gives what says that it was.
func (m *Machine) Begin() (done func()) {
	release := m.Hold()
	return func() {
		release()
		m.changed.give()
	}
}

// concerns says whether others are told of a change of r.
func (m *Machine) concerns(r *Resource) bool {
	return m.hooks.Concerns != nil && m.hooks.Concerns(r)
}

// tell tells them, if it concerns them.
func (m *Machine) tell(ctx context.Context, concerned bool) error {
	if !concerned {
		return nil
	}
	return m.hooks.Changed(ctx)
}

// finish makes what res declares and writes down that it is so. concerned tells
// whether others are told whatever res is now.
func (h *Handler) finish(ctx context.Context, res *Resource, concerned bool) (stack.Result, error) {
	err := h.claim(ctx, res)
	if err == nil {
		err = h.makeInTurn(ctx, res)
	}
	if err != nil {
		return stack.Result{}, err
	}
	res.Complete = true
	if err := h.m.Save(res); err != nil {
		return stack.Result{}, err
	}
	return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes}, h.m.tell(ctx, concerned || h.m.concerns(res))
}

// makeInTurn makes what res declares when fewer than atOnce others are being made.
func (h *Handler) makeInTurn(ctx context.Context, res *Resource) error {
	select {
	case h.m.making <- struct{}{}:
		defer func() { <-h.m.making }()
		return h.Maker.Make(ctx, res)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Delete implements stack.Handler.
func (h *Handler) Delete(ctx context.Context, r stack.Request) error {
	defer h.m.Begin()()
	res, err := h.m.Load(r.Token)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.Maker.Remove(ctx, res); err != nil {
		return err
	}
	free, err := h.m.FreeOps(ctx, res, h.namesOf(res))
	if err != nil {
		return err
	}
	if err := h.m.Options.Records.Write(ctx, free...); err != nil {
		return fmt.Errorf("give up the name of %s: %w", res.Name(), err)
	}
	if err := h.m.RemoveFolder(res); err != nil {
		return err
	}
	return h.m.tell(ctx, h.m.concerns(res))
}

// RemoveFolder removes all that lies of a resource. The state file goes last:
// what is half removed must be found again.
func (m *Machine) RemoveFolder(r *Resource) error {
	if err := RemoveFolder(m.Folder(r), "resource.json"); err != nil {
		return fmt.Errorf("remove %s: %w", r.Name(), err)
	}
	return nil
}

// RemoveFolder removes a folder with all in it, the file called last at the end.
func RemoveFolder(dir, last string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == last {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// DeclaredOr gives the name declared by a property, or a generated one.
func (r *Resource) DeclaredOr(property string, max int) string {
	return cmp.Or(r.Text(property), r.GeneratedName(max))
}

// TextIn gives the text under a key of a value that should be an object.
func TextIn(v any, key string) string {
	object, _ := v.(map[string]any)
	text, _ := object[key].(string)
	return text
}

// Number gives a whole number of a template, which may be written as text.
func Number(v any) (int, bool) {
	switch v := v.(type) {
	case string:
		n, err := strconv.Atoi(v)
		return n, err == nil
	case int:
		return v, true
	case int64:
		return int(v), true
	case float64:
		return int(v), v == math.Trunc(v)
	}
	return 0, false
}
