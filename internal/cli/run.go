package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/server"
)

type runOptions struct {
	pipelines   []string
	environment string
	json        bool
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run PIPELINE…",
		Short: "Run pipelines now, from the working tree as it is",
		Long: `Runs pipelines from the working tree as it is and shows them to their end. A
makeitso that serves the project does it; without one this command does it
itself, like make.`,
		Example: "  makeitso run server\n  makeitso run static client --environment local",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.pipelines = args
			return a.run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&o.environment, "environment", "e", "", "run for this environment alone")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the runs as JSON at the end, instead of progress")
	a.edgeFlag(cmd)
	return cmd
}

func (a *app) run(ctx context.Context, o runOptions) error {
	// The server outlives an interrupt: it has to end the runs in good order.
	return a.withServer(context.WithoutCancel(ctx), server.Work, func(client *api.Client) error {
		started, err := client.Start(ctx, control.StartRequest{Pipelines: o.pipelines, Environment: o.environment, By: a.who()})
		if err != nil {
			return err
		}
		err = a.followOrJSON(ctx, client, started, o.json)
		if ctx.Err() == nil {
			return err
		}
		return a.cancelAll(context.WithoutCancel(ctx), client, started)
	})
}

// followOrJSON shows runs to their end, or waits for it and prints them.
func (a *app) followOrJSON(ctx context.Context, client *api.Client, started control.StartResponse, asJSON bool) error {
	if !asJSON {
		return a.followRuns(ctx, client, started)
	}
	quiet := *a
	quiet.Out, quiet.Terminal = discard{}, false
	err := quiet.followRuns(ctx, client, started)
	var runs []control.RunResponse
	for _, run := range started.Runs {
		r, getErr := client.Run(ctx, control.RunRequest{Run: run.ID})
		if getErr != nil {
			return errors.Join(err, getErr)
		}
		runs = append(runs, r)
	}
	return errors.Join(a.printJSON(runs), err)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// cancelAll cancels the runs that this command began, because it was
// interrupted, and waits for their end.
func (a *app) cancelAll(ctx context.Context, client *api.Client, started control.StartResponse) (err error) {
	p := a.newProgress()
	if p.seen, err = client.LastEvent(ctx); err != nil {
		return err
	}
	ids := make([]string, 0, len(started.Runs))
	for _, run := range started.Runs {
		err := client.Cancel(ctx, control.RunRequest{Run: run.ID, By: a.who() + " (interrupt)"})
		if err != nil && !fault.Is(err, fault.Conflict) { // Conflict: it has ended meanwhile
			return err
		}
		ids = append(ids, run.ID)
	}
	if err := p.follow(ctx, client, control.FollowRequest{After: started.After, Runs: ids}); err != nil {
		return err
	}
	return context.Canceled
}

type upOptions struct {
	environment string
	listen      string
	once        bool
}

func (a *app) upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything on this machine, from the working tree, and stay",
		Long: `Runs all pipelines for one environment from the working tree as it is, then
stays and keeps what they made alive. Pushes and commits are taken meanwhile.
Interrupt it to leave: what runs goes on running (makeitso destroy ends it).`,
		Example: "  makeitso up\n  makeitso up --environment dev",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context(), o) },
	}
	cmd.Flags().StringVarP(&o.environment, "environment", "e", "local", "the environment to bring up")
	cmd.Flags().StringVar(&o.listen, "listen", server.DefaultListen, "the address that takes pushes")
	a.edgeFlag(cmd)
	cmd.Flags().BoolVar(&o.once, "once", false, "leave when the pipelines have ended")
	return cmd
}

func (a *app) up(ctx context.Context, o upOptions) error {
	so, err := a.serverOptions()
	if err != nil {
		return err
	}
	so.Duty, so.Only, so.Listen, so.Watch = server.Work, o.environment, o.listen, !o.once && gitserver.IsRepository(ctx, so.Folder)
	s, err := server.Start(context.WithoutCancel(ctx), so)
	if err != nil {
		return err
	}
	client := s.Client()
	defer client.Close()
	return errors.Join(a.upWith(ctx, client, o), s.Close())
}

func (a *app) upWith(ctx context.Context, client *api.Client, o upOptions) error {
	started, err := client.Start(ctx, control.StartRequest{Environment: o.environment, By: a.who()})
	if err != nil {
		return err
	}
	if err := a.followRuns(ctx, client, started); err != nil || o.once {
		return err
	}
	if err := a.printAddresses(ctx, client); err != nil {
		return err
	}
	a.note("staying, to keep it alive; leave with Ctrl-C (it goes on running; makeitso destroy ends it)")
	after, err := client.LastEvent(ctx)
	if err != nil {
		return err
	}
	err = a.newProgress().follow(ctx, client, control.FollowRequest{After: after})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
