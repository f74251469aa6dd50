package cli

import (
	"context"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/server"
)

// stackCommand groups what is done to one stack besides applying it.
func (a *app) stackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stack",
		Short:   "Protect a stack, cancel its update, or roll it back",
		Example: "  makeitso stack protect data\n  makeitso stack rollback data --skip Cache",
	}
	cmd.AddCommand(
		a.protectCommand("protect", "Refuse to delete a stack until it is unprotected", true),
		a.protectCommand("unprotect", "Let a protected stack be deleted again", false),
		a.cancelUpdateCommand(),
		a.rollbackStackCommand(),
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
