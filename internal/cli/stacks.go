package cli

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/changeset"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/server"
	"makeitso/internal/stack"
)

// stacksOptions are the options of all commands about stacks.
type stacksOptions struct {
	stacks      []string
	environment string
	json        bool
	yes         bool
	force       bool
	keepFailed  bool
	policy      stack.DriftPolicy
	onFailure   string
	stackPolicy string // a file, read into the policy itself by readPolicy

	imports        map[string]map[string]string
	importExisting bool
	wait           bool
}

func (o stacksOptions) request() control.StacksRequest {
	return control.StacksRequest{Environment: o.environment, Stacks: o.stacks, Force: o.force, DisableRollback: o.keepFailed, Import: o.imports, ImportExisting: o.importExisting,
		OnFailure: o.onFailure, StackPolicy: o.stackPolicy}
}

func (o *stacksOptions) flags(cmd *cobra.Command, asJSON bool) {
	cmd.Flags().StringVarP(&o.environment, "environment", "e", "", "the environment (default: local, or the only one)")
	if asJSON {
		cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	}
}

// changeFlags are those of commands that plan or make changes.
func (o *stacksOptions) changeFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.importExisting, "import-existing", false, "take in what exists under the names that templates give and belongs to no stack, in place of creating it")
	cmd.Flags().StringVar(&o.stackPolicy, "policy", "", "a file with a policy that stands in for that of the stacks during this change")
}

// readPolicy puts the text of the policy's file in the place of its name.
func (a *app) readPolicy(o *stacksOptions) error {
	if o.stackPolicy == "" {
		return nil
	}
	text, err := os.ReadFile(a.path(o.stackPolicy))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "--policy names no file that can be read")
	}
	o.stackPolicy = string(text)
	return nil
}

func (a *app) planCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "plan [STACK…]",
		Short:   "Show what apply would change",
		Example: "  makeitso plan\n  makeitso plan data --environment local --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.plan(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, true)
	o.changeFlags(cmd)
	return cmd
}

func (a *app) plan(ctx context.Context, client *api.Client, o stacksOptions) error {
	if err := a.readPolicy(&o); err != nil {
		return err
	}
	sets, err := client.Plan(ctx, o.request())
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(sets)
	}
	return a.printChangeSets(sets)
}

func (a *app) printChangeSets(sets []*changeset.Set) error {
	for _, cs := range sets {
		if err := cs.WriteText(a.Out); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) applyCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "apply [STACK…]",
		Short:   "Make stacks so, after showing what changes",
		Example: "  makeitso apply network data\n  makeitso apply --yes\n  makeitso apply data --on-failure delete",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error { return a.apply(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, false)
	o.changeFlags(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.keepFailed, "no-rollback", false, "leave a change that fails as it is, to look at; then: makeitso stack rollback STACK")
	cmd.Flags().StringVar(&o.onFailure, "on-failure", "", "what becomes of a stack whose creation fails: rollback, delete or do-nothing")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait while somebody else changes a stack, in place of giving up")
	a.edgeFlag(cmd)
	return cmd
}

// apply shows what changes of all stacks, asks, and applies exactly that.
func (a *app) apply(ctx context.Context, client *api.Client, o stacksOptions) error {
	if err := a.readPolicy(&o); err != nil {
		return err
	}
	request := o.request()
	if o.wait {
		if err := client.Await(ctx, request, a.printWaiting); err != nil {
			return err
		}
	}
	sets, err := client.Plan(ctx, request)
	if err != nil {
		return err
	}
	if err := a.printChangeSets(sets); err != nil {
		return err
	}
	if !slices.ContainsFunc(sets, func(cs *changeset.Set) bool { return !cs.Empty() }) {
		return nil
	}
	if err := a.confirm(o.yes, "apply this?"); err != nil {
		return err
	}
	request.Digests = map[string]string{}
	for _, cs := range sets {
		request.Digests[cs.Stack] = cs.Digest
	}
	return client.Apply(ctx, request, a.printStackEvent)
}

func (a *app) printWaiting(reason string) error {
	_, err := fmt.Fprintln(a.Out, "waiting: "+reason)
	return err
}

func (a *app) printStackEvent(ev stack.Event) error {
	_, err := fmt.Fprintln(a.Out, a.eventLine(ev))
	return err
}

func (a *app) eventLine(ev stack.Event) string {
	status := ev.Status
	color := blue
	switch {
	case strings.HasSuffix(status, "COMPLETE"):
		color = green
	case strings.Contains(status, "FAILED"), strings.Contains(status, "ROLLBACK"):
		color = red
	}
	if status == stack.DeleteSkipped { // the name by which it can be imported
		ev.Reason = "left as it is: " + ev.PhysicalID
	}
	padded := fmt.Sprintf("%-36s", status)
	return strings.TrimRight(fmt.Sprintf("%s  %s %-24s %s", ev.Time.Local().Format(time.TimeOnly), a.style(color, padded), ev.LogicalID, ev.Reason), " ")
}

// confirm asks a yes-or-no question, unless yes was given before.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.Terminal {
		return fault.New(fault.Invalid, "this needs a yes and there is no terminal to ask on").WithHint("read what would be done, then repeat with --yes")
	}
	fmt.Fprintf(a.Out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.In).ReadString('\n')
	if word := strings.ToLower(strings.TrimSpace(answer)); err != nil || word != "y" && word != "yes" {
		return fault.New(fault.Canceled, "not done: the answer was not yes")
	}
	return nil
}

func (a *app) outputsCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "outputs [STACK…]",
		Short:   "Print the outputs of stacks",
		Example: "  makeitso outputs data\n  makeitso outputs --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.outputs(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, true)
	return cmd
}

func (a *app) outputs(ctx context.Context, client *api.Client, o stacksOptions) error {
	all, err := client.Outputs(ctx, o.request())
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(all)
	}
	rows := [][]string{{"STACK", "OUTPUT", "VALUE"}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, key := range slices.Sorted(maps.Keys(all[name])) {
			rows = append(rows, []string{name, key, all[name][key]})
		}
	}
	return a.table(rows)
}

func (a *app) eventsCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "events STACK",
		Short:   "Print what happened to a stack's resources",
		Example: "  makeitso events data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stacks = args
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.events(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, true)
	return cmd
}

func (a *app) events(ctx context.Context, client *api.Client, o stacksOptions) error {
	events, err := client.StackEvents(ctx, o.request())
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(events)
	}
	for _, ev := range events {
		if err := a.printStackEvent(ev); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) destroyCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:     "destroy",
		Short:   "Remove an environment: its services, stacks, data and processes",
		Example: "  makeitso destroy --environment local\n  makeitso destroy --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error { return a.destroy(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, false)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.force, "force", false, "end every process and remove every file even where a stack cannot be deleted")
	return cmd
}

func (a *app) destroy(ctx context.Context, client *api.Client, o stacksOptions) error {
	plan, err := client.PlanDestroy(ctx, o.request())
	if err != nil {
		return err
	}
	if len(plan.Services)+len(plan.Stacks) == 0 {
		// Something may be left all the same, of what was interrupted.
		if err := client.Destroy(ctx, o.request(), a.printStackEvent); err != nil {
			return err
		}
		a.note("there is nothing of environment %s", plan.Environment)
		return nil
	}
	fmt.Fprintf(a.Out, "destroying environment %s removes:\n", plan.Environment)
	for _, run := range plan.Runs {
		fmt.Fprintf(a.Out, "  run %s, which is under way\n", run)
	}
	for _, service := range plan.Services {
		fmt.Fprintf(a.Out, "  service %s and its instances\n", service)
	}
	if err := a.printChangeSets(plan.Stacks); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, "  and all data of these: it cannot be brought back")
	if err := a.confirm(o.yes, "destroy all of this?"); err != nil {
		return err
	}
	if err := client.Destroy(ctx, o.request(), a.printStackEvent); err != nil {
		return err
	}
	a.note("environment %s is gone", plan.Environment)
	return nil
}
