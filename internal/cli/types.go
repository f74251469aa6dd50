package cli

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"makeitso/internal/changeset"
	"makeitso/internal/platform/custom"
	"makeitso/internal/platform/local"
	"makeitso/internal/platform/machine"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

func (a *app) typesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "types",
		Short: "List the resource types of the local platform and what stands for each",
		Long: `Lists what the local platform does with each resource type: real (software runs)
or modelled (checked, stored, referable; nothing runs). Any other type is refused
when a change set is made, before anything is changed.`,
		Example: "  makeitso types\n  makeitso types --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := local.New("local", local.Options{Options: machine.Options{State: a.Dir, Records: record.NewMemory(), Key: seal.Fresh()}, Project: "types"}) // nothing is written before the first resource
			if err != nil {
				return err
			}
			defer p.Close()
			types := p.Types()
			engine := stack.New("local", custom.Over(p, custom.Options{}), record.NewMemory(), stack.Options{})
			for _, name := range append(custom.Types(), changeset.NestedType) {
				types = append(types, machine.Type{Name: name, Support: engine.Support(name)})
			}
			slices.SortFunc(types, func(a, b machine.Type) int { return cmp.Compare(a.Name, b.Name) })
			if asJSON {
				return a.printJSON(types)
			}
			rows := [][]string{{"TYPE", "IS", "WHAT STANDS FOR IT"}}
			for _, t := range types {
				rows = append(rows, []string{t.Name, string(t.Support.Level), t.Support.Note})
			}
			if err := a.table(rows); err != nil {
				return err
			}
			return a.count(types, p.Support("").Note)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// count writes how many types are what, and what becomes of any other.
func (a *app) count(types []machine.Type, refused string) error {
	n := map[changeset.Level]int{}
	for _, t := range types {
		n[t.Support.Level]++
	}
	_, err := fmt.Fprintf(a.Out, "\n%d types: %d real (software runs), %d modelled (checked, kept and referable; nothing runs).\nAny other is refused when a change set is made: %s.\n",
		len(types), n[changeset.Real], n[changeset.Modelled], refused)
	return err
}
