package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"makeitso/internal/fault"
	"makeitso/internal/project"
)

func (a *app) initCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Write a small working project into this folder",
		Example: "  makeitso init\n  makeitso init --name shop && makeitso up",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.init(name) },
	}
	cmd.Flags().StringVar(&name, "name", "", "the project's name (default: the folder's)")
	return cmd
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// init writes all of the project or nothing: a file that is there already
// refuses it before the first is written.
func (a *app) init(name string) error {
	dir := a.start()
	if name == "" {
		name = strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-")
	}
	files, err := project.Scaffold(name)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.Path)); err == nil {
			return fault.New(fault.Conflict, "%s is there already, and nothing was written", f.Path).WithHint("use an empty folder, or move it away")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make the folder of %s: %w", f.Path, err)
		}
		if err := os.WriteFile(path, f.Data, f.Mode); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		fmt.Fprintln(a.Out, "  "+f.Path)
	}
	a.note("project %s is written; bring it up with: makeitso up", name)
	return nil
}
