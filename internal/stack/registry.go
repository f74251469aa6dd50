package stack

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the registry's facts
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Facts is what CloudFormation's public registry says of a type: paths of
// properties with "/" between their parts and "*" for any item.
type Facts struct {
	PrimaryIdentifier     []string `json:"primaryIdentifier"`
	CreateOnly            []string `json:"createOnlyProperties"`
	ConditionalCreateOnly []string `json:"conditionalCreateOnlyProperties"`
	ReadOnly              []string `json:"readOnlyProperties"`
	WriteOnly             []string `json:"writeOnlyProperties"`
	Required              []string `json:"required"`
	ReplacementStrategy   string   `json:"replacementStrategy"` // "" is create_then_delete
}

// deleteFirst says whether a replacement deletes the old resource before it
// creates the new one.
func (f Facts) deleteFirst() bool { return f.ReplacementStrategy == "delete_then_create" }

// Types is the facts of all types of the registry.
type Types struct {
	facts map[string]json.RawMessage
}

// Type gives the facts of a type, false for a type the registry does not have.
func (t Types) Type(name string) (Facts, bool) {
	raw, ok := t.facts[name]
	if !ok {
		return Facts{}, false
	}
	var f Facts
	if err := json.Unmarshal(raw, &f); err != nil {
		panic(fmt.Sprintf("embedded registry: %s: %v", name, err))
	}
	return f, true
}

// Names gives the names of all types, in no order.
func (t Types) Names() []string {
	names := make([]string, 0, len(t.facts))
	for name := range t.facts {
		names = append(names, name)
	}
	return names
}

//go:embed registry.json.gz
var registryFile []byte

var loadRegistry = sync.OnceValue(func() Types {
	var t Types
	unzip, err := gzip.NewReader(bytes.NewReader(registryFile))
	if err == nil {
		err = json.NewDecoder(unzip).Decode(&t.facts)
	}
	if err != nil {
		panic(fmt.Sprintf("embedded registry: %v", err))
	}
	return t
})

// Registry gives the facts that are built into the program; they are unpacked
// when first asked for.
func Registry() Types { return loadRegistry() }

// recreation says what a change of the property at path (parts of names) asks
// of a resource. A change of a part of a create-only property counts, and so
// does a change of a whole that has a create-only part.
func (f Facts) recreation(path []string) Recreation {
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
