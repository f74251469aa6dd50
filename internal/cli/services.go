package cli

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/release"
	"makeitso/internal/rollout"
	"makeitso/internal/server"
)

func (a *app) statusCommand() *cobra.Command {
	var r control.StatusRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how things stand: services, stacks, runs",
		Long: `Shows whether the project is served, the runs under way, and for each environment
where everything answers, the stacks with what was last found of drift, the servers
that run for them, and the services: the live release, a rollout with its step and
what it waits for, and the instances.`,
		Example: "  makeitso status\n  makeitso status --environment local --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				status, err := client.Status(cmd.Context(), r)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(status)
				}
				return a.printStatus(status)
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "only this environment")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printStatus(s control.StatusResponse) error {
	fmt.Fprintf(a.Out, "%s\n", a.style(bold, "project "+s.Project))
	if s.Server.Listen != "" {
		fmt.Fprintf(a.Out, "  served by process %d, pushes at %s\n", s.Server.PID, s.Server.Listen)
	} else {
		fmt.Fprintln(a.Out, "  not served: nothing is repaired and no push is taken (makeitso serve)")
	}
	if s.Mistakes != "" {
		fmt.Fprintln(a.Out, "  its makeitso.yaml has mistakes and is not followed (makeitso validate)")
	}
	for _, text := range s.Server.Troubles {
		fmt.Fprintf(a.Out, "  HTTPS: %s\n", text)
	}
	for _, run := range s.Runs {
		fmt.Fprintf(a.Out, "  run %s  %s  %s\n", run.ID, run.Status, run.Reason)
	}
	for _, env := range s.Environments {
		fmt.Fprintf(a.Out, "%s\n", a.style(bold, "environment "+env.Name))
		if env.Former {
			fmt.Fprintf(a.Out, "  not in makeitso.yaml any more; what is left of it goes with: makeitso destroy --environment %s\n", env.Name)
		}
		if err := a.printEnvironment(env); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEnvironment(env control.EnvironmentStatus) error {
	var rows [][]string
	for _, address := range env.Addresses {
		rows = append(rows, []string{"  " + address.Name, address.URL, address.Secure})
	}
	for i, st := range env.Stacks {
		rows = append(rows, []string{"  stack " + st.Name, st.Status, strings.Trim(st.Reason+"; "+lastDrift(env.Drift[i]), "; ")})
	}
	for _, r := range env.Resources {
		if r.LeftBehind != "" {
			r.By += ", in no stack now (makeitso import STACK " + path.Base(r.Name) + "=" + r.LeftBehind + ")"
		}
		rows = append(rows, []string{"  " + r.Name, r.Address, r.By})
	}
	for _, svc := range env.Services {
		line := cmp.Or(svc.Live, "nothing is live")
		switch r := svc.Rollout; {
		case r == nil || r.Final && r.Release == svc.Live:
		case r.Phase == string(rollout.Failed):
			line += fmt.Sprintf("; %s failed: %s; correct the fault and push again (makeitso why %s)", r.Release, r.Reason, r.Release)
		case !r.Final:
			line += fmt.Sprintf("; %s: %s", r.Release, r.Reason)
		case r.Phase == string(rollout.RollbackFailed):
			line += fmt.Sprintf("; %s could not be rolled back: %s", r.Release, r.Reason)
		default:
			line += fmt.Sprintf("; %s went back (makeitso why %s)", r.Release, r.Release)
		}
		rows = append(rows, []string{"  service " + svc.Service, line})
		if r := svc.Rollout; r != nil && !r.Final && r.Judged != "" {
			rows = append(rows, []string{"", "judged by " + r.Judged})
		}
		for _, i := range svc.Instances {
			state := i.State
			if i.Restarts > 0 {
				state += ", replaced " + times(i.Restarts)
			}
			if i.Reason != "" {
				state += ": " + i.Reason
			}
			rows = append(rows, []string{"    " + i.ID, strings.TrimSpace(i.Address + "  " + state)})
		}
	}
	return a.table(rows)
}

// printAddresses shows where everything answers.
func (a *app) printAddresses(ctx context.Context, client *api.Client) error {
	status, err := client.Status(ctx, control.StatusRequest{})
	if err != nil {
		return err
	}
	for _, env := range status.Environments {
		for _, address := range env.Addresses {
			fmt.Fprintf(a.Out, "  %-24s %s\n", address.Name, strings.TrimSpace(a.style(bold, address.URL)+" "+address.Secure))
		}
	}
	return nil
}

func (a *app) releasesCommand() *cobra.Command {
	var r control.ServiceRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "releases SERVICE",
		Short:   "List the releases of a service",
		Example: "  makeitso releases api",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Service = args[0]
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				releases, err := client.Releases(cmd.Context(), r)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(releases)
				}
				rows := [][]string{{"RELEASE", "STATUS", "IMAGE", "COMMIT", "BEGUN", "REASON"}}
				for _, rel := range releases {
					rows = append(rows, []string{rel.ID, string(rel.Status), abbreviate(strings.TrimPrefix(rel.Artifact.Digest, "sha256:")), abbreviate(rel.Artifact.Commit), ago(rel.Created), rel.Reason})
				}
				return a.table(rows)
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) rollbackCommand() *cobra.Command {
	var r control.ServiceRequest
	cmd := &cobra.Command{
		Use:   "rollback SERVICE",
		Short: "Put an earlier release of a service back",
		Long: `Puts an earlier release back: its image, its configuration and its traffic. Data
is not put back: what a migration has done since stays. One that is forward-only
forbids it; --force goes back all the same.`,
		Example: "  makeitso rollback api\n  makeitso rollback api --to api-3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Service, r.By = args[0], a.who()
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error {
				rel, err := client.Rollback(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.printReturn(rel, r.Service)
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().StringVar(&r.Release, "to", "", "the release to go back to (default: the last good one before)")
	cmd.Flags().BoolVar(&r.Force, "force", false, "go back past forward-only migrations too")
	return cmd
}

// times says how often.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// printReturn says which release is there after a way back.
func (a *app) printReturn(rel release.Release, service string) error {
	if rel.ID == "" {
		_, err := fmt.Fprintf(a.Out, "nothing of service %s is live\n", service)
		return err
	}
	line := fmt.Sprintf("%s of service %s is %s", rel.ID, service, strings.ToLower(string(rel.Status)))
	if rel.Reason != "" {
		line += ": " + rel.Reason
	}
	_, err := fmt.Fprintln(a.Out, line)
	return err
}
