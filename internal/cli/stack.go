package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/server"
	"makeitso/internal/stack"
)

// stackCommand groups what is done to one stack besides applying it.
func (a *app) stackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stack",
		Short: "Protect a stack, say what updates may do to it, cancel or roll back a change, signal what it waits for",
		Example: `  makeitso stack protect data
  makeitso stack unprotect data
  makeitso stack policy data infra/data-policy.json
  makeitso stack cancel data
  makeitso stack rollback data --skip Cache
  makeitso stack signal data Server
  makeitso stack alarm errors ALARM`,
	}
	cmd.AddCommand(
		a.protectCommand("protect", "Refuse to delete a stack until it is unprotected", true),
		a.protectCommand("unprotect", "Let a protected stack be deleted again", false),
		a.policyCommand(),
		a.cancelUpdateCommand(),
		a.rollbackStackCommand(),
		a.signalCommand(),
		a.alarmCommand(),
	)
	return cmd
}

func (a *app) protectCommand(name, short string, on bool) *cobra.Command {
	var r control.GuardRequest
	cmd := &cobra.Command{
		Use:     name + " STACK",
		Short:   short,
		Example: "  makeitso stack " + name + " data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Stack, r.Protected = args[0], on
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return client.Protect(cmd.Context(), r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	return cmd
}

func (a *app) alarmCommand() *cobra.Command {
	var r control.AlarmRequest
	cmd := &cobra.Command{
		Use:   "alarm ALARM STATE",
		Short: "Say in what state an alarm is: OK, ALARM or INSUFFICIENT_DATA",
		Long: `Says in what state an alarm is, by its name or ARN. That holds until makeitso
serve evaluates it next; for an alarm without a metric, until it is said again.
A change that names it in the stack's rollback in makeitso.yaml is rolled back
when it goes off.`,
		Example: "  makeitso stack alarm errors ALARM --reason 'too many 5xx'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Alarm, r.State = args[0], args[1]
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return client.SetAlarm(cmd.Context(), r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why")
	return cmd
}

func (a *app) policyCommand() *cobra.Command {
	var r control.GuardRequest
	cmd := &cobra.Command{
		Use:   "policy STACK [FILE]",
		Short: "Say what updates may do to a stack's resources, or print what was said",
		Long: `Gives a stack its policy, a JSON document in CloudFormation's form, from a file.
Once a stack has one, what it does not allow is denied; it can be replaced, but
not be removed. "makeitso apply --policy FILE" makes one change with another.`,
		Example: "  makeitso stack policy data infra/data-policy.json\n  makeitso stack policy data",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Stack = args[0]
			if len(args) == 2 {
				text, err := os.ReadFile(a.path(args[1]))
				if err != nil {
					return fault.Wrap(fault.Invalid, err, "the policy cannot be read")
				}
				r.Policy = string(text)
			}
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.stackPolicy(cmd.Context(), client, r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	return cmd
}

func (a *app) stackPolicy(ctx context.Context, client *api.Client, r control.GuardRequest) error {
	text, err := client.StackPolicy(ctx, r)
	switch {
	case err != nil || r.Policy != "":
		return err
	case text == "":
		text = "stack " + r.Stack + " has no policy: updates may do anything"
	}
	_, err = fmt.Fprintln(a.Out, strings.TrimSpace(text))
	return err
}

func (a *app) cancelUpdateCommand() *cobra.Command {
	var r control.GuardRequest
	cmd := &cobra.Command{
		Use:     "cancel STACK",
		Short:   "Have an update under way roll back, whoever began it",
		Example: "  makeitso stack cancel data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Stack = args[0]
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.cancelUpdate(cmd.Context(), client, r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	return cmd
}

func (a *app) cancelUpdate(ctx context.Context, client *api.Client, r control.GuardRequest) error {
	if err := client.CancelUpdate(ctx, r); err != nil {
		return err
	}
	a.note("the update of stack %s is cancelled and rolls back: makeitso events %s", r.Stack, r.Stack)
	return nil
}

func (a *app) rollbackStackCommand() *cobra.Command {
	var r control.GuardRequest
	cmd := &cobra.Command{
		Use:     "rollback STACK",
		Short:   "Roll back a change that failed and was left as it was, or go on with a roll back that failed",
		Example: "  makeitso stack rollback data\n  makeitso stack rollback data --skip Cache",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Stack = args[0]
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error { return a.rollbackStack(cmd.Context(), client, r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().StringSliceVar(&r.Skip, "skip", nil, "a resource that failed in the roll back, to be taken for rolled back")
	return cmd
}

func (a *app) rollbackStack(ctx context.Context, client *api.Client, r control.GuardRequest) error {
	return client.RollbackStack(ctx, r, a.printStackEvent)
}

func (a *app) signalCommand() *cobra.Command {
	r := control.SignalRequest{Signal: stack.Signal{Status: pace.Success}}
	failure := false
	cmd := &cobra.Command{
		Use:   "signal STACK RESOURCE",
		Short: "Say that a resource is ready, or has failed, to the stack that waits for it",
		Long: "Say that a resource is ready, or has failed, to the stack that waits for it: because of a\n" +
			"CreationPolicy, an UpdatePolicy, or for a wait condition (name it or its handle).",
		Example: "  makeitso stack signal data Server\n  makeitso stack signal data Group --id i-1\n  makeitso stack signal data Condition --failure --reason 'no disk'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Stack, r.Resource = args[0], args[1]
			if failure {
				r.Signal.Status = pace.Failure
			}
			r.Signal.UniqueID = cmp.Or(r.Signal.UniqueID, rand.Text())
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return client.Signal(cmd.Context(), r) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().BoolVar(&failure, "failure", false, "it has failed")
	cmd.Flags().StringVar(&r.Signal.UniqueID, "id", "", "what tells this signal from others; one that came before is not counted again (default: a new one)")
	cmd.Flags().StringVar(&r.Signal.Reason, "reason", "", "why it has failed")
	cmd.Flags().StringVar(&r.Signal.Data, "data", "", "what Fn::GetAtt Data of a wait condition gives under the id")
	return cmd
}
