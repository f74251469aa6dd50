package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp says that every command is explained, with examples that its own
// parser understands.
func TestHelp(t *testing.T) {
	root := (&app{}).root()
	commands := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		if !cmd.Hidden {
			commands = append(commands, cmd)
		}
	}
	if len(commands) < 22 {
		t.Fatalf("found only %d commands", len(commands))
	}
	for _, cmd := range commands {
		t.Run(cmd.Name(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("it is explained by %q", cmd.Short)
			}
			lines := strings.Split(cmd.Example, "\n")
			named := slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  "+cmd.CommandPath()) })
			if !named {
				t.Errorf("no example of it: %q", cmd.Example)
			}
			for _, line := range lines {
				for example := range strings.SplitSeq(line, "&&") {
					checkExample(t, strings.Fields(example))
				}
			}
		})
	}
}

func checkExample(t *testing.T, words []string) {
	t.Helper()
	if len(words) == 0 || words[0] != "makeitso" {
		t.Errorf("example %q does not begin with makeitso", words)
		return
	}
	cmd, rest, err := (&app{}).root().Find(words[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("example %q: %v", words, err)
	}
}
