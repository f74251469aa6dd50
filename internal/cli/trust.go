package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"makeitso/internal/fault"
	"makeitso/internal/server"
)

// How Debian and its like keep the authorities that all programs trust.
const (
	trustFolder  = "/usr/local/share/ca-certificates"
	trustProgram = "update-ca-certificates"
)

type trustOptions struct {
	print, yes bool
	folder     string
}

func (a *app) trustCommand() *cobra.Command {
	var o trustOptions
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Let this machine's programs trust the edge's HTTPS",
		Long: `The edge serves what is below .localhost over HTTPS too, with certificates of an
authority of its own that lies in the state folder. This adds that authority to
those that programs of this machine trust. It is good for localhost, names below
it and this machine's loopback addresses only; nothing else can be forged with it.
It needs root. Another --folder is trusted by what reads it only. Browsers with a
store of their own take the file that --print writes.`,
		Example: "  makeitso trust\n  makeitso trust --print",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.trust(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.print, "print", false, "print the authority's certificate and change nothing")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&o.folder, "folder", trustFolder, "the folder in which the system keeps authorities of its own")
	return cmd
}

func (a *app) trust(ctx context.Context, o trustOptions) error {
	so, err := a.serverOptions()
	if err != nil {
		return err
	}
	authority, err := server.Authority(so.State)
	if err != nil {
		return err
	}
	if o.print {
		_, err := a.Out.Write(authority)
		return err
	}
	if _, err := exec.LookPath(trustProgram); err != nil {
		return fault.New(fault.Unavailable, "this system has no %s: how it takes authorities is not known", trustProgram).
			WithHint("write the certificate to a file and add it as your system wants it: makeitso trust --print")
	}
	path := filepath.Join(o.folder, "makeitso-local.crt")
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, authority) {
		// What wrote it may have been killed before the program had run.
		a.note("the certificate is in %s already; %s is run again", path, trustProgram)
	} else {
		a.note("the certificate is written to %s, and %s is run", path, trustProgram)
		if err := a.confirm(o.yes, "trust this project's authority for localhost?"); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, authority, 0o644); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fault.Wrap(fault.Denied, err, "the system's authorities may not be changed").WithHint("do it as root: sudo makeitso trust")
		}
		return fault.Wrap(fault.Unavailable, err, "the system's authorities cannot be changed").
			WithHint("name the folder with --folder, or add by hand what makeitso trust --print writes")
	}
	if out, err := exec.CommandContext(ctx, trustProgram).CombinedOutput(); err != nil {
		return errors.Join(fault.New(fault.Failed, "%s: %v: %s", trustProgram, err, bytes.TrimSpace(out)), os.Remove(path))
	}
	done := "programs that begin from now on trust https://…localhost"
	if filepath.Clean(o.folder) != trustFolder { // only what the program reads is trusted
		done = fmt.Sprintf("the certificate is in %s, and %s was run", path, trustProgram)
	}
	fmt.Fprintf(a.Out, "%s; to undo it remove %s and run %s --fresh\n", done, path, trustProgram)
	return nil
}
