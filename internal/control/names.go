package control

import (
	"maps"
	"slices"
	"strings"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/project"
)

// unknown is the error for a name that makeitso.yaml does not have; it says
// what was probably meant, or else what there is.
func unknown[T any](kind, name string, known map[string]T) error {
	names := slices.Sorted(maps.Keys(known))
	err := fault.New(fault.NotFound, "%s has no %s %q", project.File, kind, name)
	if near := diag.Nearest(name, names); near != "" {
		return err.WithHint("did you mean %q?", near)
	}
	if len(names) == 0 {
		return err
	}
	return err.WithHint("its %ss are: %s", kind, strings.Join(names, ", "))
}
