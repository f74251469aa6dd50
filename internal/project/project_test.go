package project

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"makeitso/internal/fault"
)

// update says whether golden files are to be rewritten.
func update() bool { return os.Getenv("UPDATE") == "1" }

// TestMistakes parses each NAME.yaml in testdata and compares the diagnostics
// with NAME.want. UPDATE=1 rewrites them.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	total := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			total += golden(t, file)
		})
	}
	if total < 40 {
		t.Errorf("the golden files show %d mistakes, at least 40 are wanted", total)
	}
}

// golden checks the cases of one file and gives the number of mistakes in it.
func golden(t *testing.T, file string) int {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mistakes := 0
	var now []txtar.File
	for i, f := range archive.Files {
		name, isCase := strings.CutSuffix(f.Name, ".yaml")
		if !isCase {
			continue
		}
		_, list := Parse(File, f.Data)
		mistakes += len(list)
		got := ""
		if len(list) > 0 {
			got = list.Error() + "\n"
		}
		if clean := filepath.Base(file) == "clean.txtar"; clean != (len(list) == 0) {
			t.Errorf("%s: %d mistakes:\n%s", name, len(list), got)
		}
		now = append(now, f, txtar.File{Name: name + ".want", Data: []byte(got)})
		if update() {
			continue
		}
		if i+1 == len(archive.Files) || archive.Files[i+1].Name != name+".want" {
			t.Errorf("%s has no %s.want after it: run with UPDATE=1", name, name)
			continue
		}
		if want := archive.Files[i+1].Data; !bytes.Equal(want, []byte(got)) {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
	if update() {
		if err := os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: now}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return mistakes
}

// design is the example of the design document.
const design = `# makeitso.yaml
project: shop

environments:
  local: {platform: local}
  dev:   {platform: aws, account: "111111111111", region: eu-west-1}
  prod:  {platform: aws, account: "222222222222", region: eu-west-1, approvals: 1}

stacks:
  network:  {template: infra/network.yaml}
  identity: {template: infra/identity.yaml}
  data:     {template: infra/data.yaml, parameters: {RedisNodes: 1}}
  site:     {template: client/site.yaml}

artifacts:
  api: {image: {base: busybox, binary: out/api}}

services:
  api:
    artifact: api
    port: 8080
    health: /healthz
    instances: 2
    env:
      REDIS_ADDR:   ${stacks.data.outputs.RedisAddress}
      DATABASE_URL: ${stacks.data.outputs.DatabaseUrl}
    rollout: {canary: [10%, 50%], watch: 2m}

sites:
  www: {from: client/dist, bucket: "${stacks.site.outputs.Bucket}"}

pipelines:
  static:
    on: {push: {branches: [main], paths: ["infra/**"]}}
    environments: [dev, prod]
    stages:
      - apply: [network, identity, data]

  client:
    on: {push: {branches: [main], paths: ["client/**"]}}
    environments: [dev, prod]
    stages:
      - {name: build, run: make -C client}
      - apply: [site]
      - {name: acceptance, run: ./client/acceptance.sh}
      - publish: www

  server:
    on: {push: {branches: [main], paths: ["server/**"]}}
    environments: [dev, prod]
    stages:
      - {name: build, run: go build -o out/api ./server}
      - {name: test, run: go test ./server/...}
      - image: api
      - {name: acceptance, serve: api, run: go test ./acceptance}
      - release: api
`

// parsed gives the project of a text without mistakes.
func parsed(t testing.TB, text string) *Project {
	t.Helper()
	p, list := Parse(File, []byte(text))
	if len(list) > 0 {
		t.Fatalf("mistakes in a text that should have none:\n%v", list)
	}
	return p
}

func TestParseDesign(t *testing.T) {
	p := parsed(t, design)
	api := p.Services["api"]
	if api.Port != 8080 || api.Instances != 2 || api.Health != "/healthz" || api.Artifact != "api" {
		t.Errorf("service api is %+v", api)
	}
	if got := api.Rollout; !slices.Equal(got.Canary, []Percent{10, 50}) || got.Watch.AtMost != 2*time.Minute || got.Watch.Auto() {
		t.Errorf("the rollout is %+v", got)
	}
	if got := p.Stacks["data"].Parameters["RedisNodes"]; got != "1" {
		t.Errorf("RedisNodes is %q", got)
	}
	if prod := p.Environments["prod"]; prod.Approvals != 1 || prod.Account != "222222222222" || prod.Platform != "aws" {
		t.Errorf("prod is %+v", prod)
	}
	server := p.Pipelines["server"]
	if got := server.On.Push; !slices.Equal(got.Branches, []string{"main"}) || !slices.Equal(got.Paths, []string{"server/**"}) {
		t.Errorf("the trigger is %+v", got)
	}
	if got := namesOf(server.Stages); got != "build test image-api acceptance release-api" {
		t.Errorf("the stages are %s", got)
	}
}

func namesOf(stages []*Stage) string {
	var names []string
	for _, s := range stages {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func TestDefaults(t *testing.T) {
	p := parsed(t, `
project: shop
stacks:
  network: {template: a.yaml}
  data: {template: b.yaml, drift: repair}
  identity-and-access: {template: c.yaml, drift: {every: 5m}}
artifacts: {api: {image: {binary: out/api}}}
services:
  api: {artifact: api, port: 80, rollout: {canary: 5%}}
  web: {artifact: api, port: 80, rollout: rolling}
sites: {www: {from: dist, bucket: b}}
pipelines:
  p:
    stages:
      - run: ./client/accept.sh --all
      - apply: [network, data]
      - apply: [network, data, identity-and-access]
      - apply: network
      - image: api
      - image: api
      - {name: release-api, run: make}
      - release: api
      - publish: www
      - approve: Go on?
      - {run: "true", needs: []}
`)
	if e := p.Environments["local"]; len(p.Environments) != 1 || e == nil || e.Platform != "local" {
		t.Errorf("environments are %v", p.Environments)
	}
	if base := p.Artifacts["api"].Image.Base; base != "empty" {
		t.Errorf("the base is %q", base)
	}
	for name, want := range map[string]Drift{
		"network": {DefaultDriftEvery, "report"}, "data": {DefaultDriftEvery, "repair"}, "identity-and-access": {5 * time.Minute, "report"},
	} {
		if got := p.Stacks[name].Drift; got != want {
			t.Errorf("the drift of %s is %+v, want %+v", name, got, want)
		}
	}
	api := p.Services["api"]
	if api.Instances != 1 || api.Rollout.Watch.AtMost != DefaultWatch || !slices.Equal(api.Rollout.Canary, []Percent{5}) {
		t.Errorf("service api is %+v", api)
	}
	if web := p.Services["web"].Rollout; web.Canary != nil || web.Watch != (Watch{}) || web.Rolling == nil {
		t.Errorf("the rollout of web is %+v", web)
	}
	pipe := p.Pipelines["p"]
	if !slices.Equal(pipe.Environments, []string{"local"}) {
		t.Errorf("the environments are %v", pipe.Environments)
	}
	want := "run-accept apply-network-data apply-network-and-2 apply-network image-api image-api-2 release-api release-api-2 publish-www approve run-true"
	if got := namesOf(pipe.Stages); got != want {
		t.Errorf("the stages are\n%s, want\n%s", got, want)
	}
	if pipe.Stages[0].NeedsSet || !pipe.Stages[10].NeedsSet {
		t.Error("NeedsSet does not say whether the file has needs")
	}
}

func TestAliasesAndMerges(t *testing.T) {
	p := parsed(t, `
project: shop
environments:
  dev: &aws {platform: aws, account: "111111111111", region: eu-west-1}
  prod: {<<: *aws, account: 222222222222}
  test: {<<: [{approvals: 1}, *aws, {region: us-east-1, approvals: 2}]}
`)
	for name, want := range map[string]Environment{
		"dev":  {Platform: "aws", Account: "111111111111", Region: "eu-west-1"},
		"prod": {Platform: "aws", Account: "222222222222", Region: "eu-west-1"},
		"test": {Platform: "aws", Account: "111111111111", Region: "eu-west-1", Approvals: 1},
	} {
		if got := *p.Environments[name]; got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
}

func TestTooManyValues(t *testing.T) {
	var b strings.Builder
	b.WriteString("project: shop\npipelines:\n")
	b.WriteString("  p: {stages: &s [" + strings.Repeat("{run: &r make}, ", 400) + "]}\n")
	for i := range 60 {
		b.WriteString("  p" + strings.Repeat("x", i%30) + string(rune('a'+i/30)) + ": {stages: *s}\n")
	}
	_, list := Parse(File, []byte(b.String()))
	if len(list) != 1 || !strings.Contains(list[0].Summary, "more than 20000 values") {
		t.Errorf("got %v", list)
	}
}

// TestManyStages says that names and checks of a file as large as allowed take
// no time worth noting: it would time out if each stage looked at all others
// in a costly way.
func TestManyStages(t *testing.T) {
	p := parsed(t, "project: shop\npipelines: {p: {stages: [&s {run: make}"+strings.Repeat(", *s", 4000)+"]}}\n")
	steps, err := p.Steps("p", nil)
	if err != nil || len(steps) != 4001 || steps[4000].ID != "run-make-4001" || !slices.Equal(steps[4000].Needs, []string{"run-make-4000"}) {
		t.Errorf("got %d steps, %v", len(steps), err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Load(dir); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "makeitso init") {
		t.Errorf("without a file: %v", err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("infra/network.yaml", "Resources: {}\n")
	write(File, `project: shop
stacks:
  a: {template: infra/network.yaml}
  b: {template: infra/netwrk.yaml}
  c: {template: infra}
  d: {template: nowhere/at/all.yaml}
  e: {template: ../outside.yaml}
sites: {www: {from: made/later, bucket: b}}
`)
	p, list, err := Load(dir)
	if err != nil || p == nil {
		t.Fatal(err)
	}
	want := `makeitso.yaml:4:17: error: stacks.b.template: there is no file "infra/netwrk.yaml"; allowed: the path of a template, relative to makeitso.yaml; did you mean "infra/network.yaml"?
makeitso.yaml:5:17: error: stacks.c.template: "infra" is a folder; allowed: the path of a template file
makeitso.yaml:6:17: error: stacks.d.template: there is no file "nowhere/at/all.yaml"; allowed: the path of a template, relative to makeitso.yaml
makeitso.yaml:7:17: error: stacks.e.template: found "../outside.yaml"; allowed: a path inside the repository, relative to makeitso.yaml`
	if list.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", list, want)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range archive.Files {
			if strings.HasSuffix(c.Name, ".yaml") {
				f.Add(c.Data)
			}
		}
	}
	f.Add([]byte(design))
	f.Add([]byte("&a [*a]"))
	f.Add([]byte("&a {<<: *a}"))
	f.Add([]byte("project: &a [*a]\nstacks: &b {x: *b}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, list := Parse(File, src)
		for _, d := range list {
			if d.Pos.Line < 1 || d.Pos.Column < 1 || d.Summary == "" {
				t.Errorf("a diagnostic without a place or a text: %+v", d)
			}
		}
		if list.HasErrors() {
			return
		}
		for name := range p.Pipelines {
			if _, err := p.Steps(name, []string{sortedKeys(p.Environments)[0]}); err != nil {
				t.Errorf("a project without mistakes has no steps: %v", err)
			}
		}
	})
}
