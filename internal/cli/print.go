package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"makeitso/internal/span"
)

// note writes a line for people beside what the command prints.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.Err, format+"\n", args...)
}

// style wraps text in a terminal's colour, or leaves it as it is in a pipe.
func (a *app) style(code, text string) string {
	if !a.Terminal || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "36"
)

// table writes rows in columns; the first row is the heading.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		if _, err := io.WriteString(w, strings.TrimRight(strings.Join(row, "\t"), "\t ")+"\n"); err != nil {
			return err
		}
	}
	return w.Flush()
}

// took writes how long something took, for people.
func took(d time.Duration) string {
	to := time.Second
	switch {
	case d < 0:
		return ""
	case d < time.Second:
		to = time.Millisecond
	case d < time.Minute:
		to = 100 * time.Millisecond
	}
	return span.Text(d.Round(to))
}

// ago writes when something was, for people.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return t.Local().Format(time.DateOnly)
}

// IsTerminal says whether a file is a person's terminal.
func IsTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// count writes how many there are of something, for people.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
