package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/server"
)

func (a *app) whyCommand() *cobra.Command {
	var r control.WhyRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why [SERVICE|RELEASE|RUN]",
		Short: "Say why a rollout went back or a run failed",
		Long: `Says why a rollout went back or a run failed; without a name, whatever went
wrong last. A service stands for the last of its releases that went back. Names
of releases are in "makeitso releases SERVICE", those of runs in "makeitso runs";
one that both have means the release, if that went back.

Of a canary it tells by which rule it went back, the evidence as it grew, the
rates of both versions with the range they lie in, requests that failed, what its
instances printed last, what was put back, and what is guaranteed of the
judgement.`,
		Example: `  makeitso why
  makeitso why api
  makeitso why api-7 --json
  makeitso why nightly-12`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Subject = strings.Join(args, "")
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				why, err := client.Why(cmd.Context(), r)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(why)
				}
				a.printWhy(why)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printWhy(why control.WhyResponse) {
	if run := why.Run; run != nil {
		fmt.Fprintf(a.Out, "%s\n", a.style(bold, strings.TrimSpace(fmt.Sprintf("run %s  %s  %s", run.ID, run.Status, run.Reason))))
		for _, s := range why.Stages {
			fmt.Fprintf(a.Out, "  %s  %s: %s\n  all that it printed: makeitso logs %s %s\n", s.ID, s.Status, s.Reason, run.ID, s.ID)
		}
	}
	for i, r := range why.Reports {
		if i > 0 || why.Run != nil {
			fmt.Fprintln(a.Out)
		}
		head, rest, _ := strings.Cut(r.Text(), "\n")
		fmt.Fprintf(a.Out, "%s\n%s", a.style(bold, head), rest)
	}
}
