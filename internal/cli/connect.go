package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/fault"
	"makeitso/internal/server"
)

// serverOptions gives the options of a server for the project at hand.
func (a *app) serverOptions() (server.Options, error) {
	folder, err := a.folder()
	if err != nil {
		return server.Options{}, err
	}
	o := server.Options{Folder: folder, State: a.state, Database: a.database, Key: a.key, Edge: a.edge, EdgeTLS: a.edgeTLS, Announce: a.announce}
	if o.State == "" {
		o.State = filepath.Join(folder, ".makeitso")
	} else if !filepath.IsAbs(o.State) {
		o.State = filepath.Join(a.Dir, o.State)
	}
	o.Self, err = os.Executable()
	return o, err
}

// edgeFlag gives cmd the flag that says where the edge listens if cmd is the
// one that starts it.
func (a *app) edgeFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.edge, "edge", server.DefaultEdge, "the address that serves sites and services")
	cmd.Flags().StringVar(&a.edgeTLS, "edge-tls", "", "the address that serves them over HTTPS (default "+server.DefaultEdgeTLS+" with the default --edge, else none)")
}

func (a *app) announce(text string) { a.note("%s", text) }

// withServer calls do with a client of the project's makeitso: the one that
// runs, or else one with that duty, started in this process for as long as do
// takes.
func (a *app) withServer(ctx context.Context, duty server.Duty, do func(*api.Client) error) (err error) {
	o, err := a.serverOptions()
	if err != nil {
		return err
	}
	client, err := server.Connect(ctx, o.State)
	if err == nil {
		defer client.Close()
		return do(client)
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	o.Duty = duty
	s, err := server.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	client = s.Client()
	defer client.Close()
	return do(client)
}

// printJSON writes v for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
