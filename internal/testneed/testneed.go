// Package testneed is what tests need of the machine and the repository: a
// program, PostgreSQL, a shared file. It knows how a missing need is told; it
// is imported by tests only and must not know what they test.
package testneed

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Require is the environment variable that turns a skip for a missing need
// into a failure, when it is "1".
const Require = "MAKEITSO_TEST_REQUIRE"

// Program gives the path of the program called name. Where it is absent the
// test is skipped, saying what to install.
func Program(t testing.TB, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, install)
	}
	return path
}

// Docker is the environment variable that turns a skip for a missing Docker
// Engine into a failure, when it and Require are "1": machines that have all
// programs may still run no engine.
const Docker = "MAKEITSO_TEST_DOCKER"

// DockerEngine ends the test where no Docker Engine answers: it is skipped,
// saying what to start.
func DockerEngine(t testing.TB, answers bool) {
	t.Helper()
	const install = "apt-get install docker.io, start dockerd and set DOCKER_HOST if it listens elsewhere than usual"
	switch {
	case answers:
	case os.Getenv(Docker) == "1":
		missing(t, "a Docker Engine", install)
	default:
		t.Skipf("needs a Docker Engine: %s", install)
	}
}

// Postgres gives the folder of PostgreSQL's programs (initdb, postgres, …).
// Debian keeps them out of PATH, one folder for each version; the newest is
// taken.
func Postgres(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if isFile(filepath.Join(filepath.Dir(path), "postgres")) {
			return filepath.Dir(path)
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatalf("look for postgres: %v", err)
	}
	if len(found) == 0 {
		missing(t, "postgres", "apt-get install postgresql")
	}
	newest := slices.MaxFunc(found, func(a, b string) int {
		if len(a) != len(b) { // 9 comes before 15
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return filepath.Dir(newest)
}

// Shared gives the path of rel in the folder "shared" beside the module's
// root: material too large or too foreign for the repository. Where it is
// absent the test is skipped.
func Shared(t testing.TB, rel string) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(Root(t)), "shared", filepath.FromSlash(rel))
	if _, err := os.Stat(path); err != nil {
		missing(t, "shared/"+rel, "put it beside the repository's folder")
	}
	return path
}

// Root gives the folder of the module's go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("find the module's root: %v", err)
	}
	for !isFile(filepath.Join(dir, "go.mod")) {
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("find the module's root: no go.mod in this folder or above it")
		}
		dir = parent
	}
	return dir
}

// missing ends the test: skipped, or failed where needs are required.
func missing(t testing.TB, name, install string) {
	t.Helper()
	if os.Getenv(Require) == "1" {
		t.Fatalf("needs %s: %s", name, install)
	}
	t.Skipf("needs %s: %s", name, install)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
