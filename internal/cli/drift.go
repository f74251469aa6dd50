package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/server"
	"makeitso/internal/stack"
)

func (a *app) driftCommand() *cobra.Command {
	var o stacksOptions
	var repair, adopt bool
	cmd := &cobra.Command{
		Use:     "drift [STACK…]",
		Short:   "Compare what exists with what stacks were made to be, and repair or adopt it",
		Example: "  makeitso drift\n  makeitso drift data --json\n  makeitso drift data --repair",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			duty := server.Answer
			switch {
			case repair && adopt:
				return fault.New(fault.Invalid, "--repair and --adopt exclude one another").WithHint("choose one of them")
			case repair:
				o.policy, duty = stack.RepairDrift, server.Keep
			case adopt:
				o.policy, duty = stack.AdoptDrift, server.Keep
			}
			return a.withServer(cmd.Context(), duty, func(client *api.Client) error { return a.drift(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, true)
	cmd.Flags().BoolVar(&repair, "repair", false, "make what has drifted again what the stacks were made to be")
	cmd.Flags().BoolVar(&adopt, "adopt", false, "take what exists for what is wanted; the next plan shows how far the templates are from it")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) drift(ctx context.Context, client *api.Client, o stacksOptions) error {
	request := o.request()
	all, err := client.Drift(ctx, request)
	if err != nil {
		return err
	}
	amiss := slices.ContainsFunc(all, func(d stack.StackDrift) bool { return d.Status != stack.InSync })
	if o.policy != "" && amiss {
		if !o.json {
			a.printDrifts(all)
		}
		if err := a.confirm(o.yes, string(o.policy)+" this?"); err != nil {
			return err
		}
		request.Policy = o.policy
		if all, err = client.Drift(ctx, request); err != nil {
			return err
		}
	}
	if o.json {
		return a.printJSON(all)
	}
	a.printDrifts(all)
	return nil
}

func (a *app) printDrifts(all []stack.StackDrift) {
	for _, d := range all {
		fmt.Fprintf(a.Out, "stack %s: %s, %d resources\n", d.Stack, d.Status, len(d.Resources))
		for _, r := range d.Resources {
			a.printDrift(r)
		}
	}
}

// lastDrift says in short what the last look at a stack found.
func lastDrift(d stack.StackDrift) string {
	if d.Status == stack.NotChecked {
		return ""
	}
	return strings.TrimRight("looked at "+ago(d.Time)+": "+d.Status+", "+d.String(), ", ")
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
		fmt.Fprintf(a.Out, "        %s: %s → %s\n", d.Path, changeset.Show(d.Expected), changeset.Show(d.Actual))
	}
}
