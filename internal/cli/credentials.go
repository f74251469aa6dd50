package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/server"
)

func (a *app) credentialsCommand() *cobra.Command {
	var r control.KeysRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Print what clients of AWS need to drive an environment",
		Long: `Prints variables of the environment for a shell: with them, the command line of
AWS and its SDKs drive the stacks and buckets of an environment through the
"makeitso serve" that runs. The keys hold until the environment is destroyed.
Topics in NotificationARNs are kept and shown; nothing is sent to them.
Where it has an image repository, docker logs in with its password:
  echo $ECR_PASSWORD | docker login --username AWS --password-stdin $ECR_REGISTRY`,
		Example: "  makeitso credentials\n  makeitso credentials --environment staging --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withServer(cmd.Context(), server.Answer, func(client *api.Client) error { return a.credentials(cmd.Context(), client, r, asJSON) })
		},
	}
	cmd.Flags().StringVarP(&r.Environment, "environment", "e", "", "the environment (default: local, or the only one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) credentials(ctx context.Context, client *api.Client, r control.KeysRequest, asJSON bool) error {
	keys, err := client.Keys(ctx, r)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(keys)
	}
	var b strings.Builder
	variables := [][2]string{
		{"AWS_ACCESS_KEY_ID", keys.AccessKey}, {"AWS_SECRET_ACCESS_KEY", keys.SecretKey}, {"AWS_DEFAULT_REGION", keys.Region}, {"AWS_REGION", keys.Region},
		{"AWS_ENDPOINT_URL_CLOUDFORMATION", keys.CloudFormation}, {"AWS_ENDPOINT_URL_S3", keys.S3},
	}
	if r := keys.Registry; r != nil {
		variables = append(variables, [2]string{"ECR_REGISTRY", r.Address}, [2]string{"ECR_PASSWORD", r.Password})
	}
	for _, variable := range variables {
		fmt.Fprintf(&b, "export %s=%s\n", variable[0], variable[1])
	}
	b.WriteString("unset AWS_SESSION_TOKEN AWS_PROFILE\n") // of another account
	_, err = a.Out.Write([]byte(b.String()))
	return err
}
