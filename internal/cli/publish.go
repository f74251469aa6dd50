package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/server"
)

func (a *app) publishCommand() *cobra.Command {
	var r control.PublishRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "publish [SITE…]",
		Short: "Put a site's files into its bucket, from the working tree as it is",
		Long: `Makes the buckets of sites hold the files of the working tree, as a stage that
publishes does: only what changed is sent, what pages refer to before them, what is
gone is deleted at the end, and caches forget what changed. Without a name it
publishes all sites of the project.`,
		Example: "  makeitso publish www\n  makeitso publish --environment dev --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Sites = args
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error { return a.publish(cmd.Context(), client, r, asJSON) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was put, deleted and unchanged as JSON")
	a.edgeFlag(cmd)
	return cmd
}

func (a *app) publish(ctx context.Context, client *api.Client, r control.PublishRequest, asJSON bool) error {
	published, err := client.Publish(ctx, r)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(published)
	}
	for _, p := range published {
		if _, err := fmt.Fprintf(a.Out, "%s: %s\n", p.Site, p.Summary()); err != nil {
			return err
		}
	}
	return nil
}
