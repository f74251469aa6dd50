package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/project"
)

func (a *app) validateCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check makeitso.yaml and its templates, and say every mistake",
		Long: `Checks makeitso.yaml and the templates of its stacks without doing anything,
and says every mistake with its file, line and column.`,
		Example: "  makeitso validate\n  makeitso validate --json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.validate(asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the mistakes as JSON")
	return cmd
}

func (a *app) validate(asJSON bool) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	p, mistakes, err := project.Load(folder)
	if err != nil {
		return err
	}
	if p != nil && !mistakes.HasErrors() {
		mistakes = append(mistakes, templateMistakes(folder, p)...)
	}
	mistakes.Sort()
	if asJSON {
		if mistakes == nil {
			mistakes = diag.List{}
		}
		if err := a.printJSON(mistakes); err != nil {
			return err
		}
		if mistakes.HasErrors() {
			return fault.New(fault.Invalid, "there are mistakes: %d", len(mistakes))
		}
		return nil
	}
	if err := mistakes.Err(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s is right: %d environments, %d stacks, %d services, %d sites, %d pipelines\n",
		project.File, len(p.Environments), len(p.Stacks), len(p.Services), len(p.Sites), len(p.Pipelines))
	return err
}
