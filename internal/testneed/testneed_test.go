package testneed

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// ended is a test that notes how it was ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper() {}

func (e *ended) Skipf(format string, args ...any) {
	e.how = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (e *ended) Fatalf(format string, args ...any) {
	e.how = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func run(f func(t testing.TB)) string {
	e := &ended{how: "went on"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(e)
	}()
	<-done
	return e.how
}

func TestMissingNeedSkipsOrFails(t *testing.T) {
	absent := func(t testing.TB) { Program(t, "no-such-program", "apt-get install it") }
	present := func(t testing.TB) { Program(t, "go", "") }
	noShared := func(t testing.TB) { Shared(t, "no/such/file") }
	for _, c := range []struct {
		name, require string
		need          func(testing.TB)
		want          string
	}{
		{"absent", "", absent, "skipped: needs no-such-program: apt-get install it"},
		{"absent and required", "1", absent, "failed: needs no-such-program: apt-get install it"},
		{"present", "1", present, "went on"},
		{"shared", "", noShared, "skipped: needs shared/no/such/file: put it beside the repository's folder"},
		{"shared and required", "1", noShared, "failed: needs shared/no/such/file: put it beside the repository's folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(Require, c.require)
			if got := run(c.need); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRoot(t *testing.T) {
	if _, err := os.Stat(filepath.Join(Root(t), "internal", "testneed", "testneed.go")); err != nil {
		t.Error(err)
	}
}

func TestPostgres(t *testing.T) {
	if _, err := os.Stat(filepath.Join(Postgres(t), "initdb")); err != nil {
		t.Error(err)
	}
}

func TestDockerEngineIsRequiredByItself(t *testing.T) {
	const skipped, failed = "skipped: needs a Docker Engine", "failed: needs a Docker Engine"
	for _, c := range []struct {
		require, docker string
		answers         bool
		want            string
	}{
		{"", "", false, skipped},
		{"1", "", false, skipped},
		{"", "1", false, skipped},
		{"1", "1", false, failed},
		{"1", "1", true, "went on"},
	} {
		t.Setenv(Require, c.require)
		t.Setenv(Docker, c.docker)
		got := run(func(t testing.TB) { DockerEngine(t, c.answers) })
		if got, _, _ := strings.Cut(got, ": apt-get"); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
