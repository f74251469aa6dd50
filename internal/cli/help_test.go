package cli

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp says that every command is explained, with examples that its own
// parser understands.
func TestHelp(t *testing.T) {
	commands := within((&app{}).root())
	if len(commands) < 30 {
		t.Fatalf("found only %d commands", len(commands))
	}
	for _, cmd := range commands {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("it is explained by %q", cmd.Short)
			}
			lines := strings.Split(cmd.Example, "\n")
			named := slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  "+cmd.CommandPath()) })
			if !named {
				t.Errorf("no example of it: %q", cmd.Example)
			}
			for _, one := range cmd.Commands() {
				if cmd.HasParent() && !strings.Contains(cmd.Example, one.CommandPath()) {
					t.Errorf("no example of its %s", one.Name())
				}
			}
			for _, line := range lines {
				for example := range strings.SplitSeq(line, "&&") {
					checkExample(t, shellWords.FindAllString(example, -1))
				}
			}
		})
	}
}

// within gives a command and all below it that users see.
func within(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, one := range cmd.Commands() {
		if !one.Hidden {
			all = append(all, within(one)...)
		}
	}
	return all
}

// shellWords finds what a shell makes of an example.
var shellWords = regexp.MustCompile(`'[^']*'|\S+`)

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
