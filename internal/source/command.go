package source

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// commandPatience is how long the command may take for one version.
const commandPatience = 30 * time.Second

// timeForm is how a command is told a time: RFC 3339, in UTC and whole seconds, so
// that times can be compared as texts.
const timeForm = "2006-01-02T15:04:05Z"

// readCommand has the command print the outcomes of each arm since the position.
func (r Reader) readCommand(ctx context.Context, arms []Arm, out *Reading, now time.Time) error {
	until := now.UTC().Truncate(time.Second)
	from := out.Until
	if !out.Begun {
		out.Until = until
		return nil
	}
	if !until.After(from) {
		return nil
	}
	parse, err := r.Source.Command.parser()
	if err != nil {
		return err
	}
	for _, arm := range arms {
		lines := splitter{each: counter{parse, arm.Release, out}.add}
		within, cancel := context.WithTimeoutCause(ctx, commandPatience, fmt.Errorf("it did not end within %s", commandPatience))
		err := r.Run(within, append(arm.variables(), "MAKEITSO_SINCE="+from.Format(timeForm), "MAKEITSO_UNTIL="+until.Format(timeForm)), &lines)
		cancel()
		if err != nil {
			return fmt.Errorf("the command %q for %s: %w", r.Source.Command.Run, arm.Release, err)
		}
		lines.end() // its last line needs no end
	}
	out.Until = until
	return nil
}

// variables tell a command which arm it is asked for.
func (a Arm) variables() []string {
	var urls, logs []string
	for _, i := range a.Instances {
		urls = append(urls, "http://"+i.Address)
		if i.Log != "" {
			logs = append(logs, i.Log)
		}
	}
	return []string{
		"MAKEITSO_RELEASE=" + a.Release, "MAKEITSO_COMMIT=" + a.Commit,
		"MAKEITSO_INSTANCE_URLS=" + strings.Join(urls, " "), "MAKEITSO_INSTANCE_LOGS=" + strings.Join(logs, " "),
	}
}
