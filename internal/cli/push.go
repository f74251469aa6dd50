package cli

import (
	"context"
	"errors"
	"os/exec"

	"github.com/spf13/cobra"

	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/server"
)

func (a *app) pushCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "push [BRANCH]",
		Short: "Push the current commit to the makeitso that serves this project",
		Long: `Pushes HEAD to the makeitso that serves this project, as the branch named or the
current one: git push with the right address.`,
		Example: "  makeitso push\n  makeitso push main",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			branch := ""
			if len(args) == 1 {
				branch = args[0]
			}
			return a.push(cmd.Context(), branch)
		},
	}
}

func (a *app) push(ctx context.Context, branch string) error {
	o, err := a.serverOptions()
	if err != nil {
		return err
	}
	client, err := server.Connect(ctx, o.State)
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Unavailable, err, "nobody takes pushes").WithHint("start it in another terminal: makeitso serve\nor run the working tree without a push: makeitso run PIPELINE")
	}
	if err != nil {
		return err
	}
	defer client.Close()
	status, err := client.Status(ctx, control.StatusRequest{})
	if err != nil {
		return err
	}
	if status.Server.Push == "" {
		return fault.New(fault.Unavailable, "the makeitso that uses the state folder takes no pushes").WithHint("stop it and start: makeitso serve")
	}
	if branch == "" {
		head, err := gitserver.Describe(ctx, o.Folder, "HEAD")
		if err != nil {
			return err
		}
		if branch = head.Branch; branch == "" {
			return fault.New(fault.Invalid, "HEAD is on no branch").WithHint("name the branch to push to: makeitso push main")
		}
	}
	return a.gitPush(ctx, o.Folder, status.Server.Push, branch)
}

// gitPush runs git push and shows what it and makeitso say.
func (a *app) gitPush(ctx context.Context, dir, url, branch string) error {
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "push", url, "HEAD:refs/heads/"+branch)
	cmd.Stdout, cmd.Stderr = a.Err, a.Err
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fault.New(fault.Failed, "git push was refused").WithHint("what is in the way is said above")
	}
	return err
}
