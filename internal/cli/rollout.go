package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/release"
	"makeitso/internal/server"
)

// rolloutCommand groups what is done to the rollout of a service under way.
func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Pause a rollout that is under way, let it go on, promote or abort it",
		Long: `Steers the rollout of a service that is under way; "makeitso status" shows at which
step it is, and for what it waits. Without these commands it goes on or back by
itself, as rollout in makeitso.yaml says. When it is over, "makeitso rollback" puts
the release before back, and "makeitso why" says why one went back.`,
		Example: `  makeitso rollout pause api
  makeitso rollout resume api
  makeitso rollout promote api
  makeitso rollout abort api`,
	}
	cmd.AddCommand(
		a.steerCommand("pause", release.WishPause, "Keep a rollout at its step", `Keeps a rollout at its step until "makeitso rollout resume". It is judged on
meanwhile: a canary that gets worse goes back all the same. So does a rollout with
which nobody has gone on after 24 hours.`),
		a.steerCommand("resume", release.WishResume, "Let a paused rollout go on", "Lets a paused rollout go on. A watch takes as long still as was left of it when it\nwas paused."),
		a.steerCommand("promote", release.WishPromote, "Give the new release everything now, without watching it", `Ends the watching: the steps that are left follow one another at once, until the
new release has all the traffic. The commands before and after the traffic are run
all the same.`),
		a.abortCommand(),
	)
	return cmd
}

func (a *app) steerCommand(name string, wish release.Wish, short, long string) *cobra.Command {
	r := control.SteerRequest{Wish: wish}
	cmd := &cobra.Command{
		Use:     name + " SERVICE",
		Short:   short,
		Long:    long,
		Example: "  makeitso rollout " + name + " api",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Service = args[0]
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error {
				status, err := client.Steer(cmd.Context(), r)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.Out, "%s: %s\n", status.Release, status.Reason)
				if status.Paused {
					fmt.Fprintf(a.Out, "  go on with: makeitso rollout resume %s\n", r.Service)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	return cmd
}

func (a *app) abortCommand() *cobra.Command {
	var r control.ServiceRequest
	cmd := &cobra.Command{
		Use:     "abort SERVICE",
		Short:   "Stop a rollout and put the release before back",
		Long:    "Stops a rollout that is under way, and ends when the release before has all its\ntraffic again and answers.",
		Example: "  makeitso rollout abort api",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Service, r.By = args[0], a.who()
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error {
				rel, err := client.Abort(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.printReturn(rel, r.Service)
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	return cmd
}
