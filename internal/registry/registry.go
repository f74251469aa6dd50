// Package registry is what CloudFormation's public registry says of resource
// types: which properties a type asks for, which need a new resource when they
// change, which cannot be read, what its attributes are. It compares properties
// by these facts, and must not know templates, stacks or platforms.
package registry

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the registry's facts
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Facts is what the registry says of a type: paths of properties with "/"
// between their parts and "*" for any item.
type Facts struct {
	PrimaryIdentifier     []string `json:"primaryIdentifier"`
	CreateOnly            []string `json:"createOnlyProperties"`
	ConditionalCreateOnly []string `json:"conditionalCreateOnlyProperties"`
	ReadOnly              []string `json:"readOnlyProperties"`
	WriteOnly             []string `json:"writeOnlyProperties"`
	Required              []string `json:"required"`
	ReplacementStrategy   string   `json:"replacementStrategy"` // "" is create_then_delete
	Tagging               Tagging  `json:"tagging"`
	// Transforms say in which form a service may tell a property that was set
	// otherwise: expressions by path, with "/properties/" before it.
	Transforms map[string]string `json:"propertyTransform"`
}

// DeleteFirst says whether a replacement deletes the old resource before it
// creates the new one.
func (f Facts) DeleteFirst() bool { return f.ReplacementStrategy == "delete_then_create" }

// Settable gives some of the properties that can be set: those that another
// fact speaks of, and that are not the service's to give.
func (f Facts) Settable() []string {
	all := slices.Concat(f.Required, f.CreateOnly, f.ConditionalCreateOnly, f.WriteOnly, f.PrimaryIdentifier)
	return slices.DeleteFunc(all, func(path string) bool {
		return slices.Contains(f.ReadOnly, path) && !slices.Contains(f.CreateOnly, path) && !slices.Contains(f.Required, path)
	})
}

//go:embed registry.json.gz
var file []byte

// types is the facts that are built into the program. Those of one type are
// read when first asked for, since a template names few of all.
type types struct {
	mu   sync.Mutex
	raw  map[string]json.RawMessage
	read map[string]Facts
}

var load = sync.OnceValue(func() *types {
	t := &types{read: map[string]Facts{}}
	unzip, err := gzip.NewReader(bytes.NewReader(file))
	if err == nil {
		err = json.NewDecoder(unzip).Decode(&t.raw)
	}
	if err != nil {
		panic(fmt.Sprintf("embedded registry: %v", err))
	}
	return t
})

// Type gives the facts of a type, false for a type that the registry does not
// have. They must not be changed.
func Type(name string) (Facts, bool) {
	t := load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.read[name]; ok {
		return f, true
	}
	raw, ok := t.raw[name]
	if !ok {
		return Facts{}, false
	}
	var f Facts
	if err := json.Unmarshal(raw, &f); err != nil {
		panic(fmt.Sprintf("embedded registry: %s: %v", name, err))
	}
	t.read[name] = f
	return f, true
}

// Names gives the names of all types, in no order.
func Names() []string { return slices.Collect(maps.Keys(load().raw)) }

// Recreation says whether changing a property asks for a new resource.
type Recreation string

// The values of Recreation, weakest first.
const (
	Never         Recreation = "Never"
	Conditionally Recreation = "Conditionally"
	Always        Recreation = "Always"
)

// Recreation says what a change of the property at path asks of a resource. A
// change of a part of a create-only property counts, and so does a change of a
// whole that has a create-only part.
func (f Facts) Recreation(path ...string) Recreation {
	touches := func(fact string) bool {
		parts := strings.Split(fact, "/")
		for i := range min(len(parts), len(path)) {
			if parts[i] != "*" && parts[i] != path[i] {
				return false
			}
		}
		return true
	}
	switch {
	case slices.ContainsFunc(f.CreateOnly, touches):
		return Always
	case slices.ContainsFunc(f.ConditionalCreateOnly, touches):
		return Conditionally
	}
	return Never
}

// Change says what the change between two values of the property at path asks
// for, looking at the parts of maps that differ. Without a path, the values are
// all properties.
func (f Facts) Change(before, after any, path ...string) Recreation {
	old, ok := before.(map[string]any)
	now, ok2 := after.(map[string]any)
	if !ok || !ok2 {
		return f.Recreation(path...)
	}
	result := Never
	names := maps.Clone(old)
	maps.Copy(names, now)
	for name := range names {
		if reflect.DeepEqual(old[name], now[name]) {
			continue
		}
		switch f.Change(old[name], now[name], append(slices.Clone(path), name)...) {
		case Always:
			return Always
		case Conditionally:
			result = Conditionally
		}
	}
	return result
}
