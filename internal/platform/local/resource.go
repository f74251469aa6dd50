package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"makeitso/internal/fault"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/vault"
	"makeitso/internal/registry"
	"makeitso/internal/stack"
)

// resource is what the platform keeps of one resource, in a file of its own
// in the resource's folder.
type resource struct {
	model.Resource
	// Tags are those that its stack gives it.
	Tags map[string]string `json:"tags,omitempty"`
	// Complete is set when the resource was ready for the first time.
	Complete bool `json:"complete,omitempty"`
	// Port is the loopback port of its server, kept for ever.
	Port int `json:"port,omitempty"`
	// By is what serves it, decided once: its data belongs to that.
	By backing `json:"by,omitempty"`
	// Settings are the parameters that a parameter group has set.
	Settings map[string]setting `json:"settings,omitempty"`
	// Vault is the versions of a secret or a parameter.
	Vault vault.Vault `json:"vault,omitzero"`
	// Launches are the versions of a launch template.
	Launches []map[string]any `json:"launches,omitempty"`
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

// name is what a user calls the resource.
func (r *resource) name() string { return r.Name() }

// is says whether other is this very resource.
func (r *resource) is(other *resource) bool { return r.Is(&other.Resource) }

// identified says whether the resource has all values of an identifier. One
// that is a single property, or a part that the resource was not given, may be
// its physical id.
func (r *resource) identified(identifier map[string]string) bool {
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

// text gives a property that is a string, "" if it is absent or another kind.
func (r *resource) text(property string) string { return r.Text(property) }

// invalid is a mistake in one property.
func (r *resource) invalid(property, format string, args ...any) *fault.Error {
	return r.Invalid(property, format, args...)
}

// folder is where everything of the resource lies.
func (p *Platform) folder(r *resource) string { return filepath.Join(p.dir, "resources", r.Token) }

func (p *Platform) save(r *resource) error {
	if err := os.MkdirAll(p.folder(r), 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", r.name(), err)
	}
	err := p.o.Key.WriteFile(filepath.Join(p.folder(r), "resource.json"), "resource "+r.Token, r)
	if errors.Is(err, syscall.ENOSPC) {
		return fault.Wrap(fault.Unavailable, err, "keep the state of %s, with no room left on the disk", r.name()).
			WithHint("make room: df -h %s; then: makeitso up", p.folder(r))
	}
	return err
}

// load gives the resource of a token, fault.NotFound if nothing of it exists.
func (p *Platform) load(token string) (*resource, error) {
	r := &resource{Resource: model.Resource{Token: token}}
	err := p.o.Key.ReadFile(filepath.Join(p.folder(r), "resource.json"), "resource "+token, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "no resource %s exists in environment %s", token, p.env)
	}
	if err != nil {
		return nil, fmt.Errorf("read resource %s: %w", token, err)
	}
	return r, nil
}

// stored is load for a handler: a type that has become real may still be kept
// as an earlier makeitso did, which only modelled it.
func (p *Platform) stored(ctx context.Context, token string) (*resource, error) {
	res, err := p.load(token)
	if !fault.Is(err, fault.NotFound) {
		return res, err
	}
	if modelled, modelErr := p.models.Get(ctx, p.modelKey(token)); modelErr == nil {
		return &modelled, nil
	}
	return nil, err
}

// resources gives everything there is, by token.
func (p *Platform) resources() ([]*resource, error) {
	entries, err := os.ReadDir(filepath.Join(p.dir, "resources"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	var all []*resource
	for _, e := range entries {
		r, err := p.load(e.Name())
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

// existing gives what there is of the resource that a plan speaks of, nil if
// nothing is.
func (p *Platform) existing(r *resource) *resource {
	all, err := p.complete(r.Type)
	if err != nil {
		return nil // whoever changes it will tell
	}
	for _, other := range all {
		if r.is(other) {
			return other
		}
	}
	return nil
}

// complete gives the resources of a type that were ready once.
func (p *Platform) complete(typ string) ([]*resource, error) {
	all, err := p.resources()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r *resource) bool { return r.Type != typ || !r.Complete }), nil
}

// handler is the stack.Handler of one type.
type handler struct {
	p     *Platform
	typ   string
	maker maker
}

// requested is the resource that a request speaks of, as if it were new.
func requested(r stack.Request) *resource {
	return &resource{Tags: r.Tags, Resource: model.Resource{
		Token: r.Token, Type: r.Type, Stack: r.Stack, LogicalID: r.LogicalID, PhysicalID: r.PhysicalID, Properties: r.Properties,
	}}
}

func (h *handler) Check(ctx context.Context, r stack.Request) error {
	res := requested(r)
	facts, _ := registry.Type(h.typ)
	for _, property := range facts.Required {
		if _, given := r.Properties[property]; !given {
			return res.invalid(property, "is required and missing")
		}
	}
	if err := h.maker.check(ctx, res); err != nil {
		return err
	}
	_, err := h.p.nameOps(ctx, res, h.namesOf(res))
	return err
}

func (h *handler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	if err := ctx.Err(); err != nil {
		return stack.Result{}, context.Cause(ctx)
	}
	defer h.begin()()
	res, err := h.p.load(r.Token)
	if fault.Is(err, fault.NotFound) {
		res = requested(r)
		// Written before anything is made, so that Delete finds what a
		// failed or killed Create left.
		err = h.p.save(res)
	}
	if err != nil {
		return stack.Result{}, err
	}
	res.Properties, res.Tags = r.Properties, r.Tags
	return h.finish(ctx, res, false)
}

func (h *handler) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.p.stored(ctx, r.Token)
	if err != nil {
		return stack.Result{}, err
	}
	if !res.Complete {
		return stack.Result{}, fault.New(fault.NotFound, "%s was begun and never came to be", res.name())
	}
	if err := h.maker.read(ctx, res); err != nil {
		return stack.Result{}, err
	}
	properties := res.Properties
	if t, can := h.maker.(teller); can {
		if properties, err = t.tell(ctx, res); err != nil {
			return stack.Result{}, err
		}
	}
	return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes, Properties: properties}, nil
}

// Find implements stack.Importer: what a stack has left behind is here as it
// was, with its data.
func (h *handler) Find(ctx context.Context, _ stack.Request, identifier map[string]string) (string, stack.Result, error) {
	all, err := h.p.complete(h.typ)
	if err != nil {
		return "", stack.Result{}, err
	}
	all = slices.DeleteFunc(all, func(r *resource) bool { return r.Group != "" }) // it belongs to that
	res, err := h.among(all, identifier)
	if err != nil {
		return "", stack.Result{}, err
	}
	found, err := h.Read(ctx, stack.Request{Token: res.Token})
	return res.Token, found, err
}

// among gives the one of a type's resources that has an identifier.
func (h *handler) among(all []*resource, identifier map[string]string) (*resource, error) {
	for _, res := range all {
		if res.identified(identifier) {
			return res, nil
		}
	}
	return nil, fault.New(fault.NotFound, "environment %s has no such %s", h.p.env, h.typ)
}

func (h *handler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	defer h.begin()()
	res, err := h.p.stored(ctx, r.Token)
	if err == nil {
		err = res.inPlace(r.Properties)
	}
	if c, can := h.maker.(replacer); can && err == nil {
		err = c.replaces(res, r.Properties)
	}
	if err != nil {
		return stack.Result{}, err
	}
	was := isSite(res)
	res.Properties, res.Tags = r.Properties, r.Tags
	return h.finish(ctx, res, was)
}

// inPlace refuses a change that only a replacement can make.
func (r *resource) inPlace(properties map[string]any) error {
	if !r.replacedBy(properties) {
		return nil
	}
	return fault.New(fault.Unsupported, "%s (%s) cannot take these properties in place", r.name(), r.Type).
		WithHint("a property that is set once for all changes; a new resource has to come in its place")
}

// replacedBy says whether only a new resource can have other properties.
func (r *resource) replacedBy(properties map[string]any) bool {
	facts, _ := registry.Type(r.Type)
	return facts.Change(orNone(r.Properties), orNone(properties)) == registry.Always
}

func orNone(properties map[string]any) map[string]any {
	if properties == nil {
		return map[string]any{}
	}
	return properties
}

// replacer is a maker that knows changes which only a replacement can make,
// besides those of which the registry says so: fault.Unsupported for such a one.
type replacer interface {
	replaces(is *resource, wanted map[string]any) error
}

// begin says that a resource is being changed, and gives what says that it was.
func (h *handler) begin() (done func()) {
	h.p.changing.RLock()
	return func() {
		h.p.changing.RUnlock()
		h.p.changed.give()
	}
}

// finish makes what res declares and writes down that it is so. site tells
// whether it was part of a site before.
func (h *handler) finish(ctx context.Context, res *resource, site bool) (stack.Result, error) {
	err := h.claim(ctx, res)
	if err == nil {
		err = h.make(ctx, res)
	}
	if err != nil {
		return stack.Result{}, err
	}
	res.Complete = true
	if err := h.p.save(res); err != nil {
		return stack.Result{}, err
	}
	return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes}, h.p.announce(ctx, res, site || isSite(res))
}

// make makes what res declares when fewer than atOnce others are being made.
func (h *handler) make(ctx context.Context, res *resource) error {
	select {
	case h.p.making <- struct{}{}:
		defer func() { <-h.p.making }()
		return h.maker.make(ctx, res)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *handler) Delete(ctx context.Context, r stack.Request) error {
	defer h.begin()()
	res, err := h.p.load(r.Token)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.maker.remove(ctx, res); err != nil {
		return err
	}
	free, err := h.p.freeOps(ctx, res, h.namesOf(res))
	if err != nil {
		return err
	}
	if err := h.p.o.Records.Write(ctx, free...); err != nil {
		return fmt.Errorf("give up the name of %s: %w", res.name(), err)
	}
	if err := h.p.removeFolder(res); err != nil {
		return err
	}
	return h.p.announce(ctx, res, isSite(res))
}

// removeFolder removes all that lies of a resource. The state file goes last:
// what is half removed must be found again.
func (p *Platform) removeFolder(r *resource) error {
	if err := removeFolder(p.folder(r), "resource.json"); err != nil {
		return fmt.Errorf("remove %s: %w", r.name(), err)
	}
	return nil
}

// removeFolder removes a folder with all in it, the file called last at the end.
func removeFolder(dir, last string) error {
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

// announce tells groups and the edge of what a change of r may have changed;
// site says whether a site, or a name that leads to one, is among it.
func (p *Platform) announce(ctx context.Context, r *resource, site bool) error {
	if r.Type == templateType || r.Type == balance.TargetGroupType {
		if err := p.refreshGroups(ctx); err != nil {
			return err
		}
	}
	if site || slices.Contains(balance.Types, r.Type) {
		if err := p.Balance(ctx); err != nil {
			return err
		}
	}
	if !site || p.o.SitesChanged == nil {
		return nil
	}
	if err := p.o.SitesChanged(ctx); err != nil {
		return fmt.Errorf("put the sites in force: %w", err)
	}
	return nil
}

// unknown says whether a value is decided only when other resources exist.
func unknown(v any) bool { return model.Unknown(v) }

// digits gives n hexadecimal digits that belong to this token and salt for ever.
func digits(token, salt string, n int) string { return model.Digits(token, salt, n) }

// generatedName is the name of a resource whose template gives none:
// stack, logical id and something unique, at most max letters.
func (r *resource) generatedName(max int) string { return r.GeneratedName(max) }

// declaredOr gives the name declared by a property, or a generated one.
func (r *resource) declaredOr(property string, max int) string {
	return cmp.Or(r.text(property), r.generatedName(max))
}
