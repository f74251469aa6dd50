package project

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/testneed"
)

func TestScaffoldWorks(t *testing.T) {
	dir := t.TempDir()
	files, err := Scaffold("my-shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(string(f.Data), "PROJECT") {
			t.Errorf("%s has not got the project's name everywhere", f.Path)
		}
		to := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, f.Data, f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	p, list, err := Load(dir)
	if err != nil || len(list) > 0 {
		t.Fatalf("the new project has mistakes: %v\n%v", err, list)
	}
	if p.Name != "my-shop" || len(p.Pipelines) != 2 {
		t.Errorf("the project is %+v", p)
	}
	// The commands of its pipelines do what they should, from a plain shell.
	testneed.Program(t, "go", "install Go from https://go.dev/dl")
	for _, pipe := range p.Pipelines {
		for _, s := range pipe.Stages {
			if s.Kind() != RunStage {
				continue
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", s.Run)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", s.Run, err, out)
			}
		}
	}
	for _, a := range p.Artifacts {
		if info, err := os.Stat(filepath.Join(dir, a.Image.Binary)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("the build does not make %s: %v", a.Image.Binary, err)
		}
	}
	for _, s := range p.Sites {
		if _, err := os.Stat(filepath.Join(dir, s.From, "index.html")); err != nil {
			t.Error(err)
		}
	}
}

func TestScaffoldRefusesNames(t *testing.T) {
	_, err := Scaffold("My Shop")
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.HintOf(err), `"my-shop"`) {
		t.Errorf("got %v", err)
	}
}
