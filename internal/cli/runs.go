package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/pipeline"
	"makeitso/internal/server"
)

type runsOptions struct {
	run      string
	pipeline string
	limit    int
	json     bool
}

func (a *app) runsCommand() *cobra.Command {
	var o runsOptions
	cmd := &cobra.Command{
		Use:     "runs [RUN]",
		Short:   "List runs, or show one with its stages",
		Example: "  makeitso runs\n  makeitso runs server-3 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				if len(args) == 1 {
					o.run = args[0]
					return a.showRun(cmd.Context(), client, o)
				}
				return a.runs(cmd.Context(), client, o)
			})
		},
	}
	cmd.Flags().StringVar(&o.pipeline, "pipeline", "", "only those of this pipeline")
	cmd.Flags().IntVar(&o.limit, "limit", 20, "how many at the most")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func (a *app) runs(ctx context.Context, client *api.Client, o runsOptions) error {
	runs, err := client.Runs(ctx, control.RunsRequest{Pipeline: o.pipeline, Limit: o.limit})
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(runs)
	}
	rows := [][]string{{"RUN", "STATUS", "ENVIRONMENTS", "COMMIT", "BEGUN", "BY", "SUBJECT"}}
	for _, r := range runs {
		rows = append(rows, []string{r.ID, string(r.Status), strings.Join(r.Environments, ","), abbreviate(r.Source.Commit), ago(r.Created), r.By, r.Source.Message})
	}
	return a.table(rows)
}

func abbreviate(hash string) string { return hash[:min(8, len(hash))] }

func (a *app) showRun(ctx context.Context, client *api.Client, o runsOptions) error {
	r, err := client.Run(ctx, control.RunRequest{Run: o.run})
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.Out, "%s  %s  %s  %s\n", r.Run.ID, r.Run.Status, abbreviate(r.Run.Source.Commit), r.Run.Source.Message)
	if r.Run.Reason != "" {
		fmt.Fprintf(a.Out, "  %s\n", indentRest(r.Run.Reason))
	}
	rows := [][]string{{"STAGE", "KIND", "STATUS", "TOOK", "RESULT"}}
	for _, s := range r.Stages {
		result := s.Result.Summary
		if s.Reason != "" {
			result, _, _ = strings.Cut(s.Reason, "\n")
		}
		duration := ""
		if !s.Started.IsZero() && !s.Ended.IsZero() {
			duration = took(s.Ended.Sub(s.Started))
		}
		rows = append(rows, []string{s.ID, s.Kind, string(s.Status), duration, result})
	}
	return a.table(rows)
}

func (a *app) logsCommand() *cobra.Command {
	var r control.RunRequest
	cmd := &cobra.Command{
		Use:     "logs RUN [STAGE]",
		Short:   "Print what a run's stages printed",
		Example: "  makeitso logs server-3 test\n  makeitso logs server-3 --follow",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Run = args[0]
			if len(args) == 2 {
				r.Stage = args[1]
			}
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				return client.Logs(cmd.Context(), r, a.Out)
			})
		},
	}
	cmd.Flags().BoolVarP(&r.Follow, "follow", "f", false, "wait for what is still to come")
	return cmd
}

// answerCommand makes the commands that answer an approve stage.
func (a *app) answerCommand(cmd *cobra.Command, word string, do func(context.Context, *api.Client, control.RunRequest) (pipeline.StageRun, error)) *cobra.Command {
	var r control.RunRequest
	cmd.Args = cobra.RangeArgs(1, 2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.Run, r.By = args[0], a.who()
		if len(args) == 2 {
			r.Stage = args[1]
		}
		return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
			s, err := do(cmd.Context(), client, r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s %s of run %s as %s (digest %s)\n", word, s.ID, s.Run, r.By, abbreviate(s.Result.Digest))
			return err
		})
	}
	cmd.Flags().StringVar(&r.Digest, "digest", "", "the digest you have seen; anything else is refused")
	return cmd
}

func (a *app) approveCommand() *cobra.Command {
	return a.answerCommand(&cobra.Command{
		Use:     "approve RUN [STAGE]",
		Short:   "Say yes to a run that waits for approval",
		Long:    "Says yes to exactly what a run would do, which makeitso logs RUN shows. If anything of it moves, the yes is void.",
		Example: "  makeitso approve server-3\n  makeitso approve server-3 --digest 4be1f3a09c2d",
	}, "approved", func(ctx context.Context, c *api.Client, r control.RunRequest) (pipeline.StageRun, error) {
		return c.Approve(ctx, r)
	})
}

func (a *app) rejectCommand() *cobra.Command {
	return a.answerCommand(&cobra.Command{
		Use:     "reject RUN [STAGE]",
		Short:   "Say no to a run that waits for approval",
		Example: "  makeitso reject server-3",
	}, "rejected", func(ctx context.Context, c *api.Client, r control.RunRequest) (pipeline.StageRun, error) {
		return c.Reject(ctx, r)
	})
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cancel RUN",
		Short:   "Stop a run; what it has done stays",
		Example: "  makeitso cancel server-3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error {
				if err := client.Cancel(cmd.Context(), control.RunRequest{Run: args[0], By: a.who()}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.Out, "stopping run %s\n", args[0])
				return err
			})
		},
	}
}

func (a *app) retryCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "retry RUN",
		Short:   "Go on with a run from where it failed",
		Long:    "Begins a run that has ended without success again: stages that succeeded are kept, the others run.",
		Example: "  makeitso retry server-3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServer(cmd.Context(), server.Work, func(client *api.Client) error {
				started, err := client.Retry(cmd.Context(), control.RunRequest{Run: args[0], By: a.who()})
				if err != nil {
					return err
				}
				return a.followOrJSON(cmd.Context(), client, started, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the run as JSON at the end, instead of progress")
	a.edgeFlag(cmd)
	return cmd
}
