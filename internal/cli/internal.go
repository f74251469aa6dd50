package cli

import (
	"github.com/spf13/cobra"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/dns"
	"makeitso/internal/edge"
	"makeitso/internal/platform/database"
	"makeitso/internal/platform/objectserver"
	"makeitso/internal/process"
)

// internalCommand holds what makeitso runs itself as: processes that outlive
// the one that starts them. They are no interface for people.
func (a *app) internalCommand() *cobra.Command {
	group := &cobra.Command{Use: "internal", Hidden: true, Short: "What makeitso runs itself as"}
	child := func(use string, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
		return &cobra.Command{Use: use, Hidden: true, Args: cobra.ArbitraryArgs, RunE: run}
	}
	var o edge.Options
	edgeCommand := child("edge", func(cmd *cobra.Command, _ []string) error { return edge.Main(cmd.Context(), o) })
	edgeCommand.Flags().StringVar(&o.Listen, "listen", "", "the address to serve")
	edgeCommand.Flags().StringVar(&o.Socket, "socket", "", "the control socket")
	edgeCommand.Flags().StringVar(&o.Config, "config", "", "the file that keeps the configuration")
	edgeCommand.Flags().StringVar(&o.Log, "log", "", "the access log")
	edgeCommand.Flags().StringVar(&o.Metrics, "metrics", "", "an address that gives metrics")
	edgeCommand.Flags().StringVar(&o.Key, "key", "", "the file of the key that seals the certificates that it gets")
	edgeCommand.Flags().BoolVar(&o.TakeOver, "take-over", false, "take over from the edge that runs")
	group.AddCommand(
		edgeCommand,
		child("exec", func(_ *cobra.Command, args []string) error { return process.Exec(args[0]) }),
		child("s3", func(_ *cobra.Command, args []string) error { return objectserver.Serve(args) }),
		child("dns", func(_ *cobra.Command, args []string) error { return dns.Main(args) }),
		child("ecr", func(_ *cobra.Command, args []string) error { return repository.Main(args) }),
		child("redis", func(_ *cobra.Command, args []string) error { return database.ServeRedis(args) }),
	)
	return group
}
