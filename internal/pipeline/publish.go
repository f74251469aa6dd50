package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/project"
	"makeitso/internal/publish"
)

// publish puts a site's files into its bucket and drops what changed from the
// caches.
func (w *stageWork) publish(ctx context.Context) (Result, error) {
	env, err := w.environment(ctx)
	if err != nil {
		return Result{}, err
	}
	name := w.step.Stage.Publish
	site := w.project.Sites[name]
	done, err := w.takeTurn(ctx, env.Name, siteTurn, name)
	if err != nil {
		return Result{}, err
	}
	defer done()
	bucket, err := w.expand(ctx, site.Bucket)
	if err != nil {
		return Result{}, err
	}
	folder := filepath.Join(w.folder, site.From)
	if w.approvedHere() {
		digest, err := folderDigest(folder)
		if err != nil {
			return Result{}, err
		}
		if err := w.checkApproved(siteSubject(name), digest); err != nil {
			return Result{}, err
		}
	}
	report, err := w.engine.publish(ctx, env, folder, bucket)
	if err == nil {
		err = env.Sites.SetPages(ctx, bucket, pages(site))
	}
	if err != nil {
		return Result{}, err
	}
	for _, list := range []struct {
		verb string
		keys []string
	}{{"put", report.Put}, {"delete", report.Deleted}} {
		for _, key := range list.keys {
			if err := w.log.Printf("%-6s %s", list.verb, key); err != nil {
				return Result{}, err
			}
		}
	}
	return Result{Summary: name + ": " + report.Summary()}, nil
}

const siteTurn = "site" // what takeTurn calls a site

// Publish puts the files of a site of the working tree in folder into its
// bucket, as a stage that publishes it does. commit gives what the tree stands
// on, if the site asks for it.
func (e *Engine) Publish(ctx context.Context, p *project.Project, folder, environment, name string, commit func(context.Context) string) (publish.Report, error) {
	env, err := e.o.Environment(ctx, p, environment)
	if err != nil {
		return publish.Report{}, err
	}
	done, err := e.takeTurn(ctx, turnOf(environment, siteTurn, name), func() error { return nil })
	if err != nil {
		return publish.Report{}, err
	}
	defer done()
	site := p.Sites[name]
	values := Values{
		Project: p, Environment: environment, Commit: commit,
		Stacks:   func(context.Context) (Stacks, error) { return env.Stacks, nil },
		Artifact: func(ctx context.Context, name string) (string, error) { return e.Artifact(ctx, environment, name) },
	}
	bucket, err := values.Expand(ctx, site.Bucket)
	if err != nil {
		return publish.Report{}, err
	}
	report, err := e.publish(ctx, env, filepath.Join(folder, site.From), bucket)
	if err == nil {
		err = env.Sites.SetPages(ctx, bucket, pages(site))
	}
	if err != nil || len(report.Put)+len(report.Deleted) == 0 {
		return report, err
	}
	return report, e.emit(ctx, Event{Kind: "site", Environment: environment, Subject: name, Status: "PUBLISHED", Message: name + ": " + report.Summary()})
}

// Pages is what a site answers with beside its files.
type Pages struct {
	edge.Pages
	Errors map[int]edge.Error `json:"errors,omitempty"`
}

func pages(s *project.Site) Pages {
	p := Pages{Pages: edge.Pages{Fallback: s.Fallback}}
	for _, r := range s.Redirects {
		p.Redirects = append(p.Redirects, edge.SiteRedirect{From: r.From, To: r.To, Status: r.Status})
	}
	for text, page := range s.Errors {
		if status, err := strconv.Atoi(text); err == nil { // as the file was checked
			if p.Errors == nil {
				p.Errors = map[int]edge.Error{}
			}
			p.Errors[status] = edge.Error{Path: page, Status: status}
		}
	}
	return p
}

// publish makes a bucket hold the files of a folder, and has the caches forget
// what changed: after half of it too, and where a try before was cut off, of
// which nobody knows how far it came.
func (e *Engine) publish(ctx context.Context, env *Environment, folder, name string) (publish.Report, error) {
	bucket, err := env.Sites.Bucket(ctx, name)
	if err != nil {
		return publish.Report{}, err
	}
	noted := &notedBucket{Bucket: bucket, engine: e, key: env.Name + "/" + name}
	_, err = e.runs.publishing.Get(ctx, noted.key)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return publish.Report{}, err
	}
	cutOff := err == nil
	noted.noted = cutOff
	report, err := publish.Publish(ctx, folder, noted, publish.Options{Digests: &e.digests})
	paths := report.Invalid()
	if cutOff { // what it had put counts as unchanged now, and nobody knows what it had deleted
		paths = []string{"/*"}
	}
	if len(paths) > 0 {
		if invalid := env.Sites.Invalidate(ctx, name, paths); invalid != nil {
			return report, errors.Join(err, fmt.Errorf("invalidate caches: %w", invalid))
		}
	}
	if noted.noted && err == nil {
		err = e.runs.publishing.Delete(ctx, noted.key)
	}
	return report, err
}

// notedBucket writes down that a bucket is being changed before it is.
type notedBucket struct {
	publish.Bucket
	engine *Engine
	key    string
	noted  bool
}

func (b *notedBucket) note(ctx context.Context) error {
	if b.noted {
		return nil
	}
	b.noted = true
	return b.engine.runs.publishing.Put(ctx, b.key, true)
}

// PutFiles implements publish.Bucket.
func (b *notedBucket) PutFiles(ctx context.Context, paths map[string]string, header func(key string) map[string]string) ([]string, error) {
	if err := b.note(ctx); err != nil {
		return nil, err
	}
	return b.Bucket.PutFiles(ctx, paths, header)
}

// Delete implements publish.Bucket.
func (b *notedBucket) Delete(ctx context.Context, keys ...string) error {
	if err := b.note(ctx); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, keys...)
}
