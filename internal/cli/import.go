package cli

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/api"
	"makeitso/internal/fault"
	"makeitso/internal/server"
)

func (a *app) importCommand() *cobra.Command {
	var o stacksOptions
	cmd := &cobra.Command{
		Use:   "import STACK LOGICALID=IDENTIFIER…",
		Short: "Take what exists and belongs to no stack into one, as it is",
		Long: `Take what exists and belongs to no stack into one, as it is: what a stack left
behind because of DeletionPolicy: Retain, with its data. Nothing is changed; what
differs from the template afterwards is shown by "makeitso drift".

An identifier is the value of the type's primary identifier, such as the name of
a bucket, or PROPERTY=VALUE,… where that is several properties.`,
		Example: "  makeitso import data Orders=orders-db Files=shop-files\n  makeitso import network Route=RouteTableId=rtb-1,CidrBlock=10.0.0.0/16",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.stacks = args[:1]
			if o.imports, err = parseImports(args[1:]); err != nil {
				return err
			}
			return a.withServer(cmd.Context(), server.Keep, func(client *api.Client) error { return a.apply(cmd.Context(), client, o) })
		},
	}
	o.flags(cmd, false)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

// compound is an identifier of several properties, or one that names its own.
var compound = regexp.MustCompile(`^[A-Za-z0-9]+=[^,]*(,[A-Za-z0-9]+=[^,]*)*$`)

// parseImports reads what is to be imported, by logical id.
func parseImports(args []string) (map[string]map[string]string, error) {
	imports := map[string]map[string]string{}
	for _, arg := range args {
		id, text, found := strings.Cut(arg, "=")
		if !found || id == "" || text == "" {
			return nil, fault.New(fault.Invalid, "%q is not LOGICALID=IDENTIFIER", arg).WithHint("e.g. Files=shop-files: see makeitso import --help")
		}
		if imports[id] != nil {
			return nil, fault.New(fault.Invalid, "Every resource to import must have unique LogicalResourceId").WithHint("%s is named twice", id)
		}
		if !compound.MatchString(text) {
			imports[id] = map[string]string{"": text}
			continue
		}
		imports[id] = map[string]string{}
		for _, part := range strings.Split(text, ",") {
			property, value, _ := strings.Cut(part, "=")
			imports[id][property] = value
		}
	}
	return imports, nil
}
