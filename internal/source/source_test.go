package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// stream reads a source again and again, with its position stored between.
type stream struct {
	t *testing.T
	Reader
	arms   []Arm
	stored []byte
	now    time.Time
	total  Tally
}

// read gives what came, as "api-1 OK/bad …".
func (s *stream) read() string {
	s.t.Helper()
	var at Position
	if s.stored != nil {
		if err := json.Unmarshal(s.stored, &at); err != nil {
			s.t.Fatal(err)
		}
	}
	got, err := s.Read(s.t.Context(), s.arms, at, s.now)
	if err != nil {
		return "error: " + err.Error()
	}
	if s.stored, err = json.Marshal(got.Position); err != nil {
		s.t.Fatal(err)
	}
	s.total.Add(got.Tally)
	var texts []string
	for release, n := range got.Arms {
		texts = append(texts, fmt.Sprintf("%s %d/%d", release, n.OK, n.Bad))
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

func (s *stream) want(what, want string) {
	s.t.Helper()
	if got := s.read(); got != want {
		s.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

// logs is a stream of two logs, one for each arm.
func logs(t *testing.T) (s *stream, old, canary string) {
	folder := t.TempDir()
	old, canary = filepath.Join(folder, "api-1.log"), filepath.Join(folder, "api-2.log")
	s = &stream{t: t, Reader: Reader{Source: Source{Log: Lines{Field: "status"}}}, arms: []Arm{
		{Release: "api-1", Instances: []Instance{{Log: old}}},
		{Release: "api-2"},
	}}
	write(t, old, strings.Repeat(line(500), 100))
	return s, old, canary
}

func line(status int) string { return fmt.Sprintf(`{"status":%d}`+"\n", status) }

func write(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	s, old, canary := logs(t)
	write(t, old, `{"status":`) // half a line
	s.want("from the end on", "")
	s.want("nothing new", "")
	write(t, old, "200}\n"+line(200)+"starting\n"+`{"stat`)
	s.want("the half that is whole now, and another", "api-1 2/0")
	write(t, old, `us":500}`)
	s.want("not yet", "")
	write(t, old, "\n")
	s.arms[1].Instances = []Instance{{Log: canary}, {}}
	s.want("its log is not there yet", "api-1 0/1")
	write(t, canary, line(200)+line(503)+line(404))
	s.want("from the beginning of one that is new", "api-2 2/1")
	s.arms[0].Instances = nil // lost
	write(t, old, line(200))
	s.want("the last words of a lost instance", "api-1 1/0")
	if want := (Tally{Counted: 7, Ignored: 1, Sample: "starting"}); s.total != want {
		t.Errorf("got %+v", s.total)
	}
	// What was read and not stored is read again.
	write(t, canary, line(500))
	before := s.stored
	s.want("once", "api-2 0/1")
	s.stored = before
	s.want("again", "api-2 0/1")
}

func TestLogsMovedAside(t *testing.T) {
	s, old, _ := logs(t)
	s.want("the beginning", "")
	write(t, old, line(200))
	ok(t, os.Rename(old, old+".1"))
	s.want("nothing stands in its place yet", "api-1 1/0")
	write(t, old+".1", line(500)) // the instance still has it open
	write(t, old, line(200)+line(200))
	s.want("both", "api-1 2/1")
	ok(t, os.Rename(old+".1", old+".2"))
	ok(t, os.Rename(old, old+".1"))
	write(t, old+".2", line(500))
	write(t, old+".1", line(500))
	write(t, old, line(200))
	s.want("all three", "api-1 1/2")
	ok(t, os.Remove(old+".2"))
	write(t, old, line(200))
	s.want("without the oldest", "api-1 1/0")
	var at Position
	ok(t, json.Unmarshal(s.stored, &at))
	if len(at.Files) != 2 || s.total.Gaps != 0 {
		t.Errorf("%d files are followed, %d gaps", len(at.Files), s.total.Gaps)
	}
}

func TestLogsWrittenAnew(t *testing.T) {
	for name, anew := range map[string]string{"shorter": line(200), "longer": strings.Repeat(line(200), 200)} {
		s, old, _ := logs(t)
		s.want("the beginning", "")
		ok(t, os.Truncate(old, 0)) // as copytruncate does
		write(t, old, anew)
		if s.want(name, fmt.Sprintf("api-1 %d/0", strings.Count(anew, "\n"))); s.total.Gaps != 1 {
			t.Errorf("%s: %d gaps", name, s.total.Gaps)
		}
	}
	s, old, _ := logs(t)
	ok(t, os.Truncate(old, 0))
	s.want("the beginning", "")
	write(t, old, line(500))
	s.want("of an empty file", "api-1 0/1")
	ok(t, os.Remove(old))
	ok(t, os.Mkdir(old, 0o700))
	if got := s.read(); !strings.HasPrefix(got, "error: read the log "+old) {
		t.Errorf("of a folder: %q", got)
	}
}

func TestCommand(t *testing.T) {
	var runs []string
	fails := errors.New("exit status 3")
	var failing error
	s := &stream{t: t, arms: []Arm{
		{Release: "api-1", Commit: "c0ffee", Instances: []Instance{{Address: "127.0.0.1:1", Log: "/a"}, {Address: "127.0.0.1:2"}}},
		{Release: "api-2"},
	}}
	s.Source.Command = Command{"./count", Lines{Pattern: "^(?P<status>...)$"}}
	s.Run = func(_ context.Context, env []string, out io.Writer) error {
		runs = append(runs, strings.Join(env, " "))
		fmt.Fprint(out, "200\n500")
		if slices.Contains(env, "MAKEITSO_RELEASE=api-2") {
			fmt.Fprint(out, "\nhm\n")
			return failing
		}
		return nil
	}
	s.now = time.Date(2026, 1, 31, 12, 0, 0, 9e8, time.UTC)
	s.want("the beginning", "")
	s.want("no second has passed", "")
	if len(runs) > 0 {
		t.Fatalf("it ran: %q", runs)
	}
	s.now, failing = s.now.Add(2*time.Second), fails
	s.want("a failure", `error: the command "./count" for api-2: exit status 3`)
	runs, failing = nil, nil
	s.now = s.now.Add(3 * time.Second)
	s.want("all since the beginning", "api-1 1/1 api-2 1/1")
	want := []string{
		"MAKEITSO_RELEASE=api-1 MAKEITSO_COMMIT=c0ffee MAKEITSO_INSTANCE_URLS=http://127.0.0.1:1 http://127.0.0.1:2 MAKEITSO_INSTANCE_LOGS=/a MAKEITSO_SINCE=2026-01-31T12:00:00Z MAKEITSO_UNTIL=2026-01-31T12:00:05Z",
		"MAKEITSO_RELEASE=api-2 MAKEITSO_COMMIT= MAKEITSO_INSTANCE_URLS= MAKEITSO_INSTANCE_LOGS= MAKEITSO_SINCE=2026-01-31T12:00:00Z MAKEITSO_UNTIL=2026-01-31T12:00:05Z",
	}
	if !slices.Equal(runs, want) || s.total.Ignored != 1 || s.total.Sample != "hm" {
		t.Errorf("ran %q; %+v", runs, s.total)
	}
	s.now = s.now.Add(time.Second)
	s.want("the next", "api-1 1/1 api-2 1/1")
	if !strings.Contains(runs[3], "SINCE=2026-01-31T12:00:05Z MAKEITSO_UNTIL=2026-01-31T12:00:06Z") {
		t.Errorf("ran %q", runs[3])
	}
}
