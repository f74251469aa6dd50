package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/server"
	"makeitso/internal/stack"
)

func (a *app) driftCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "drift [STACK…]",
		Short:   "Compare what exists with what stacks were made to be",
		Example: "  makeitso drift\n  makeitso drift data --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.drift(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, true)
	return cmd
}

func (a *app) drift(ctx context.Context, client *api.Client, o stacksOptions) error {
	all, err := client.Drift(ctx, o.request())
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(all)
	}
	for _, d := range all {
		fmt.Fprintf(a.Out, "stack %s: %s, %d resources\n", d.Stack, d.Status, len(d.Resources))
		for _, r := range d.Resources {
			a.printDrift(r)
		}
	}
	return nil
}

// printDrift prints a resource that is not as it was made.
func (a *app) printDrift(r stack.ResourceDrift) {
	if r.Status == stack.InSync {
		return
	}
	fmt.Fprintf(a.Out, "  %s  %s  %s", r.LogicalID, r.Type, r.Status)
	if r.Reason != "" {
		fmt.Fprintf(a.Out, " (%s)", r.Reason)
	}
	fmt.Fprintln(a.Out)
	for _, d := range r.Differences {
		fmt.Fprintf(a.Out, "        %s: %s → %s\n", d.Path, stack.Show(d.Expected), stack.Show(d.Actual))
	}
}
