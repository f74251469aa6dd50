// Package cli is the command line: one file for each command, each the same
// shape (options, a constructor that parses, a run function), and what is
// printed. It must not know how anything is done: it starts a server or calls
// one that runs.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/project"
)

// Streams is what a command reads and writes, and where it stands.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Dir      string // the working folder
	// Terminal says whether Out is a person's terminal.
	Terminal bool
}

// Main runs the command line args (args[0] is the program's name) and gives
// the exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	if hook, ok := gitserver.HookName(args[0]); ok {
		return gitserver.Hook(hook, s.In, s.Out)
	}
	a := &app{Streams: s}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.understood {
		hint := "see: " + cmd.CommandPath() + " --help"
		if near := diag.Nearest(firstWord(args[1:]), names(root)); cmd == root && near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		err = fault.Wrap(fault.Invalid, err, "the command line is not understood").WithHint("%s", hint)
	}
	if err != nil {
		a.printError(err)
	}
	return exitCode(err)
}

// firstWord gives the first argument that is no flag.
func firstWord(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}

// names gives the names of the commands that people call.
func names(root *cobra.Command) (all []string) {
	for _, cmd := range root.Commands() {
		if !cmd.Hidden {
			all = append(all, cmd.Name())
		}
	}
	return all
}

// exitCode is the one place where a code becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var mistakes diag.List
	if errors.Is(err, context.Canceled) {
		return 130
	}
	if errors.As(err, &mistakes) {
		return 2
	}
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return 2
	case fault.NotFound:
		return 3
	case fault.Conflict:
		return 4
	case fault.Denied:
		return 5
	case fault.Unsupported:
		return 6
	case fault.Unavailable:
		return 7
	case fault.Canceled:
		return 130
	}
	return 1
}

const exitCodes = `Exit codes:
  0  done
  1  tried and failed (a stage, a rollout, an apply)
  2  the command line or a file is wrong
  3  what was named does not exist
  4  somebody else holds it, or it has moved
  5  not allowed, or rejected
  6  makeitso or the platform cannot do that
  7  something needed is missing or does not answer
  130  interrupted`

// app is what all commands share: the streams and the global flags.
type app struct {
	Streams
	directory string
	state     string
	database  string
	key       string
	edge      string
	edgeTLS   string
	as        string

	understood bool // whether the command line was, so that what fails now is the command itself
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "makeitso",
		Short: "Say what should exist; then make it so",
		Long: `makeitso takes a repository that describes an application (infrastructure,
containers, pipelines) and makes it so: on this machine by default, from the
same files elsewhere. "makeitso demo" shows it; "makeitso init" begins a project.

` + exitCodes,
		Example:       "  makeitso demo\n  makeitso init && makeitso up",
		SilenceUsage:  true,
		SilenceErrors: true,

		DisableSuggestions: true, // Main makes them, as hints
		RunE:               func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		PersistentPreRun: func(*cobra.Command, []string) { a.understood = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVarP(&a.directory, "directory", "C", "", "the project's folder (default: the nearest with a makeitso.yaml)")
	flags.StringVar(&a.state, "state", "", "the state folder (default: .makeitso in the project's folder)")
	flags.StringVar(&a.database, "database", "", "a postgres:// URL to keep state in, in place of the state folder's file")
	flags.StringVar(&a.key, "key", "", "the file of the key that seals what is stored, made if it is not there (default: key in the state folder)")
	flags.StringVar(&a.as, "as", "", "the name to act under (default: your user's name)")
	root.AddCommand(
		a.demoCommand(), a.initCommand(), a.validateCommand(), a.upCommand(), a.serveCommand(), a.pushCommand(),
		a.planCommand(), a.applyCommand(), a.publishCommand(), a.importCommand(), a.outputsCommand(), a.eventsCommand(), a.driftCommand(), a.stackCommand(), a.credentialsCommand(), a.destroyCommand(),
		a.runCommand(), a.runsCommand(), a.logsCommand(), a.approveCommand(), a.rejectCommand(), a.cancelCommand(), a.retryCommand(),
		a.statusCommand(), a.releasesCommand(), a.whyCommand(), a.rollbackCommand(), a.rolloutCommand(), a.canaryCommand(), a.typesCommand(), a.trustCommand(),
		a.internalCommand(),
	)
	return root
}

// printError shows why a command failed: mistakes in a file with their lines,
// everything else with its hint.
func (a *app) printError(err error) {
	var mistakes diag.List
	if errors.As(err, &mistakes) {
		if printErr := mistakes.Print(a.Err, a.source); printErr != nil {
			fmt.Fprintln(a.Err, err)
		}
		return
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.Err, "makeitso: interrupted")
		return
	}
	fmt.Fprintln(a.Err, "makeitso: "+fault.Text(err))
}

// source gives the text of a file that a mistake names, nil if it cannot be
// read: then the line is not shown.
func (a *app) source(file string) []byte {
	for _, dir := range []string{a.Dir, a.folderOrEmpty()} {
		path := file
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, file)
		}
		if src, err := os.ReadFile(path); err == nil {
			return src
		}
	}
	return nil
}

func (a *app) folderOrEmpty() string {
	folder, err := a.folder()
	if err != nil {
		return a.Dir
	}
	return folder
}

// start gives where the command stands: --directory, or the working folder.
func (a *app) start() string {
	if a.directory == "" {
		return a.Dir
	}
	if filepath.IsAbs(a.directory) {
		return a.directory
	}
	return filepath.Join(a.Dir, a.directory)
}

// folder finds the project's folder: the nearest, upwards, with a
// makeitso.yaml.
func (a *app) folder() (string, error) {
	for dir := a.start(); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, project.File)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fault.New(fault.NotFound, "there is no %s in %s or above", project.File, a.start()).
				WithHint("begin a project here with: makeitso init\nor see one at work with: makeitso demo")
		}
	}
}

// who gives the name to act under.
func (a *app) who() string {
	if a.as != "" {
		return a.as
	}
	for _, variable := range []string{"USER", "LOGNAME"} {
		if name := os.Getenv(variable); name != "" {
			return name
		}
	}
	if me, err := user.Current(); err == nil {
		return me.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
