package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/project"
)

func (a *app) validateCommand() *cobra.Command {
	var o validateOptions
	cmd := &cobra.Command{
		Use:   "validate [TEMPLATE...]",
		Short: "Check makeitso.yaml and its templates, and say every mistake",
		Long: `Checks makeitso.yaml and the templates of its stacks without doing anything,
and says every mistake with its file, line and column. With files named, checks
these as templates, whether a project uses them or not: the language, and the
types of resources as far as CloudFormation's registry tells.`,
		Example: "  makeitso validate\n  makeitso validate --json\n  makeitso validate infra/*.yaml",
		RunE: func(_ *cobra.Command, files []string) error {
			if len(files) > 0 {
				return a.validateTemplates(files, o)
			}
			return a.validateProject(o.json)
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print the mistakes as JSON")
	cmd.Flags().IntVar(&o.maxResources, "max-resources", 500, "how many resources a named template may have; 0 is no limit, of its bytes neither, as for stacks on this machine")
	return cmd
}

type validateOptions struct {
	json         bool
	maxResources int
}

// validateTemplates judges templates offline.
func (a *app) validateTemplates(files []string, o validateOptions) error {
	var mistakes diag.List
	for _, file := range files {
		src, err := os.ReadFile(a.path(file))
		if err != nil {
			return fault.Wrap(fault.NotFound, err, "read template %s", file).
				WithHint("name the files of templates; makeitso validate without any checks the project")
		}
		mistakes = append(mistakes, judgeTemplate(file, src, o.maxResources)...)
	}
	if o.json {
		return a.printMistakes(mistakes)
	}
	if len(mistakes) > 0 {
		if err := mistakes.Print(a.Err, a.sources()); err != nil {
			return fmt.Errorf("print mistakes: %w", err)
		}
	}
	wrong := map[string]bool{}
	for _, d := range mistakes {
		if d.Severity == diag.Error {
			wrong[d.Pos.File] = true
		}
	}
	if len(wrong) > 0 {
		return fault.New(fault.Invalid, "%d of %d templates are wrong", len(wrong), len(files))
	}
	_, err := fmt.Fprintf(a.Out, "%d templates are right\n", len(files))
	return err
}

// printMistakes prints mistakes as JSON and fails if there are errors.
func (a *app) printMistakes(mistakes diag.List) error {
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

func (a *app) validateProject(asJSON bool) error {
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
		return a.printMistakes(mistakes)
	}
	if err := mistakes.Err(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s is right: %s, %s, %s, %s, %s\n", project.File, count(len(p.Environments), "environment"),
		count(len(p.Stacks), "stack"), count(len(p.Services), "service"), count(len(p.Sites), "site"), count(len(p.Pipelines), "pipeline"))
	return err
}
