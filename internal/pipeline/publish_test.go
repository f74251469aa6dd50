package pipeline_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
	"makeitso/internal/publish"
)

// pages is a site whose bucket and caches are in memory.
type pages struct {
	keys    map[string]bool
	failing error      // of the caches
	stale   [][]string // what the caches were told, each time
	set     pipeline.Pages
}

func (p *pages) Bucket(context.Context, string) (publish.Bucket, error) { return p, nil }

func (p *pages) SetPages(_ context.Context, _ string, set pipeline.Pages) error {
	p.set = set
	return nil
}

func (p *pages) Invalidate(_ context.Context, _ string, paths []string) error {
	p.stale = append(p.stale, paths)
	return p.failing
}

func (p *pages) List(context.Context) (map[string]string, error) {
	const md5OfNothing = "d41d8cd98f00b204e9800998ecf8427e"
	etags := map[string]string{}
	for key := range p.keys {
		etags[key] = md5OfNothing
	}
	return etags, nil
}

func (p *pages) PutFiles(_ context.Context, paths map[string]string, _ func(string) map[string]string) ([]string, error) {
	for key := range paths {
		p.keys[key] = true
	}
	return slices.Collect(maps.Keys(paths)), nil
}

func (p *pages) Delete(_ context.Context, keys ...string) error {
	for _, key := range keys {
		delete(p.keys, key)
	}
	return nil
}

// Caches that could not be told of a change are told the next time, when the
// files count as unchanged.
func TestPublishTellsCachesAtLast(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	p := &pages{keys: map[string]bool{}}
	h.sites = p
	h.ok(os.Mkdir(filepath.Join(h.dir, "dist"), 0o700))
	h.write("dist/one.js", "")
	const text = "sites:\n  www: {from: dist, bucket: pages, fallback: /index.html, errors: {404: /404.html}, redirects: [{from: /old/*, to: \"/new/:splat\"}]}\npipelines:\n  p: {environments: [dev], stages: [{publish: www}]}\n"
	file, mistakes := project.Parse(project.File, []byte(head+text))
	h.ok(mistakes.Err())
	byHand := func() (publish.Report, error) {
		return h.engine.Publish(t.Context(), file, h.dir, "dev", "www", func(context.Context) string { return "" })
	}
	p.failing = errors.New("the edge is away")
	if _, err := byHand(); !errors.Is(err, p.failing) {
		t.Fatalf("with caches that cannot be told: %v", err)
	}
	h.close() // makeitso ends, perhaps by a kill
	h.open()
	p.failing = nil
	if r, err := byHand(); err != nil || len(r.Put) != 0 || len(r.Unchanged) != 1 {
		t.Fatalf("again: %+v, %v", r, err)
	}
	if _, err := byHand(); err != nil {
		t.Fatal(err)
	}
	h.write("dist/two.js", "")
	stages := h.ended(h.start(text).ID, pipeline.Succeeded)
	if got := stages[0].Result.Summary; got != "www: 1 put, 0 deleted, 1 unchanged" {
		t.Errorf("the stage says %q", got)
	}
	if _, err := byHand(); err != nil {
		t.Fatal(err)
	}
	want := pipeline.Pages{
		Pages:  edge.Pages{Fallback: "/index.html", Redirects: []edge.SiteRedirect{{From: "/old/*", To: "/new/:splat", Status: 301}}},
		Errors: map[int]edge.Error{404: {Path: "/404.html", Status: 404}},
	}
	if !reflect.DeepEqual(p.set, want) {
		t.Errorf("the pages are %+v, want %+v", p.set, want)
	}
	var told []string
	for _, paths := range p.stale {
		told = append(told, strings.Join(paths, " "))
	}
	if want := []string{"/one.js", "/*", "/two.js"}; !slices.Equal(told, want) {
		t.Errorf("the caches were told %q, want %q", told, want)
	}
}

// By hand a bucket may be named by what a run has built; before one has, that is
// a mistake to be told.
func TestPublishByHandIntoBucketOfArtifact(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	file, mistakes := project.Parse(project.File, []byte(head+"artifacts: {api: {image: {base: empty, binary: api}}}\nsites:\n  www: {from: dist, bucket: '${artifacts.api.digest}'}\n"))
	h.ok(mistakes.Err())
	_, err := h.engine.Publish(t.Context(), file, h.dir, "dev", "www", func(context.Context) string { return "" })
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("with no run that has built it: %v", err)
	}
}
