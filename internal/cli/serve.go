package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"makeitso/internal/control"
	"makeitso/internal/server"
)

type serveOptions struct {
	environment string
	listen      string
	watch       bool
}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Take pushes, run pipelines, keep what they made alive",
		Long: `Serves the project: takes pushes at the address printed, runs the pipelines that
each push is meant for, and keeps alive what they made. At the same address it
answers the API of CloudFormation ("makeitso credentials" prints what clients
need). Stop it when you like: what runs goes on, and the next start finds it
again.`,
		Example: "  makeitso serve\n  makeitso serve --environment local --watch",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), o) },
	}
	cmd.Flags().StringVarP(&o.environment, "environment", "e", "", "run all pipelines for this environment alone")
	cmd.Flags().StringVar(&o.listen, "listen", server.DefaultListen, "the address that takes pushes and answers the API of CloudFormation")
	a.edgeFlag(cmd)
	cmd.Flags().BoolVar(&o.watch, "watch", false, "treat commits in the project's own repository as pushes")
	return cmd
}

func (a *app) serve(ctx context.Context, o serveOptions) error {
	so, err := a.serverOptions()
	if err != nil {
		return err
	}
	so.Duty, so.Only, so.Listen, so.Watch = server.Work, o.environment, o.listen, o.watch
	s, err := server.Start(context.WithoutCancel(ctx), so)
	if err != nil {
		return err
	}
	client := s.Client()
	defer client.Close()
	status, err := client.Status(ctx, control.StatusRequest{})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	a.note("serving project %s", status.Project)
	a.note("  push to   %s", s.PushURL())
	a.note("  edge at   http://%s", status.Server.Edge)
	if secure := status.Server.EdgeTLS; secure != "" {
		a.note("            https://%s (makeitso trust lets this machine trust it)", secure)
	}
	for _, run := range status.Runs {
		a.note("  run %s goes on", run.ID)
	}
	after, err := client.LastEvent(ctx)
	if err == nil {
		err = a.newProgress().follow(ctx, client, control.FollowRequest{After: after})
	}
	if errors.Is(err, context.Canceled) {
		err = nil
		a.note("stopping; what runs goes on running")
	}
	return errors.Join(err, s.Close())
}
