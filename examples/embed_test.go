package examples_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/examples"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/template"
)

func copyShop(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := examples.CopyShop(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command in the copy, as a stage of its pipelines does.
func run(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func TestShopIsAWholeProject(t *testing.T) {
	dir := copyShop(t)
	p, mistakes, err := project.Load(dir)
	if err != nil || len(mistakes) > 0 {
		t.Fatalf("%v %v", err, mistakes)
	}
	for name, s := range p.Stacks {
		src, err := os.ReadFile(filepath.Join(dir, s.Template))
		if err != nil {
			t.Fatal(err)
		}
		if _, mistakes := template.Parse(s.Template, src); len(mistakes) > 0 {
			t.Errorf("stack %s:\n%v", name, diag.List(mistakes))
		}
	}
	for _, name := range []string{"go.mod.txt", "go.sum.txt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was copied under that name", name)
		}
	}
	if err := examples.CopyShop(dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("copied over a copy: %v", err)
	}
}

// The stages that need nothing but Go, as makeitso.yaml has them.
func TestShopBuilds(t *testing.T) {
	dir := copyShop(t)
	run(t, dir, "go mod verify >/dev/null && go vet ./...")
	run(t, dir, "go run ./client/build")
	page := func() []byte {
		content, err := os.ReadFile(filepath.Join(dir, "client/dist/index.html"))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := page()
	if out := run(t, dir, "go run ./client/acceptance"); strings.Count(out, "bytes") != 2 {
		t.Errorf("acceptance prints\n%s", out)
	}
	main := filepath.Join(dir, "client/src/main.ts")
	source, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(main, append(source, "\nconsole.log(1)\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "go run ./client/build")
	if bytes.Equal(first, page()) {
		t.Error("another script has the same name")
	}
	if err := os.Remove(filepath.Join(dir, "client/dist/index.html")); err != nil {
		t.Fatal(err)
	}
	if out := run(t, dir, "go run ./client/acceptance && echo accepted || echo refused"); !strings.Contains(out, "refused") {
		t.Errorf("a missing page is accepted:\n%s", out)
	}
}

// faulty counts the answers that version 3 breaks, in the copy's own package.
const faulty = `package main

import (
	"net/http/httptest"
	"testing"
)

func TestFaulty(t *testing.T) {
	h, bad := away(t), 0
	for range 50 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
		if w.Code == 500 {
			bad++
		}
		// Health is asked between all others: it must not be counted with them.
		w = httptest.NewRecorder()
		if h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil)); w.Code != 503 {
			t.Errorf("health: %%d", w.Code)
		}
	}
	if bad != %d {
		t.Errorf("%%d of 50 answers are bad", bad)
	}
}
`

func TestShopVersions(t *testing.T) {
	dir := copyShop(t)
	for _, v := range []struct{ version, bad int }{{2, 0}, {3, 10}} {
		if err := examples.ShopVersion(dir, v.version); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "server/faulty_test.go"), fmt.Appendf(nil, faulty, v.bad), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, dir, "go test ./server/...") // the service's own tests pass in every version
		content, err := os.ReadFile(filepath.Join(dir, "server/main.go"))
		if err != nil || !strings.Contains(string(content), fmt.Sprintf(`version = "v%d"`, v.version)) {
			t.Errorf("version %d (%v):\n%s", v.version, err, content)
		}
		if out := run(t, dir, "gofmt -l ."); out != "" {
			t.Errorf("version %d is not formatted: %s", v.version, out)
		}
		if err := examples.ShopVersion(dir, v.version); !fault.Is(err, fault.Conflict) {
			t.Errorf("version %d again: %v", v.version, err)
		}
	}
	if err := examples.ShopVersion(dir, 4); !fault.Is(err, fault.Invalid) {
		t.Errorf("version 4: %v", err)
	}
}

func TestShopInfraChange(t *testing.T) {
	dir := copyShop(t)
	if err := examples.ShopInfraChange(dir); err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(filepath.Join(dir, "infra/data.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, mistakes := template.Parse("data.yaml", src)
	if len(mistakes) > 0 || parsed.Resources["AccessLog"] == nil || !strings.Contains(string(src), "cache.t4g.small") {
		t.Errorf("%v\n%s", mistakes, src)
	}
	if err := examples.ShopInfraChange(dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("again: %v", err)
	}
}
