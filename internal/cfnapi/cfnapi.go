// Package cfnapi answers the query API of CloudFormation (2010-05-15: a form in,
// XML out), so that unchanged clients drive the stacks of an environment: the
// one whose access key a request is signed with. What is there besides stacks
// (change sets, stacks in review) is records of its own. It knows HTTP, XML and
// the stack engine; it must not know platforms, SQL, or where keys are kept.
package cfnapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"makeitso/internal/diag"
	"makeitso/internal/record"
	"makeitso/internal/sigv4"
	"makeitso/internal/stack"
)

const version = "2010-05-15"

// Environment is a place whose stacks are driven.
type Environment struct {
	Name   string
	Stacks *stack.Engine
	// Object reads an object of the environment's buckets, named s3://bucket/key.
	Object func(ctx context.Context, location string) ([]byte, error)
}

// Options are what a Handler works with; all are required.
type Options struct {
	// Environment gives the environment that an access key is of, and the key's
	// secret, "" for a key of nobody.
	Environment func(ctx context.Context, accessKey string) (env Environment, secret string, err error)
	// Store is that of the environments' engines.
	Store record.Store
	// Go begins work that outlives its request, and Closing ends it; its cause
	// is what stops an operation where it is, to go on later.
	Go      func(func())
	Closing context.Context
	// Observe is told each event of what was begun here.
	Observe func(environment string, ev stack.Event)
	// Failed is told of an error that is no client's mistake.
	Failed func(action string, err error)
}

// Forget removes what is remembered of an environment that is no more.
func Forget(ctx context.Context, store record.Store, environment string) error {
	var ops []record.Op
	for _, kind := range kinds() {
		entries, err := store.List(ctx, kind, environment+"/")
		if err != nil {
			return fmt.Errorf("list the %s records of %s: %w", kind, environment, err)
		}
		for _, e := range entries {
			ops = append(ops, record.Op{Kind: kind, Key: e.Key})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return store.Write(ctx, ops...)
}

// Kinds of records.
const (
	changeSetKind = "api-changeset"
	reviewKind    = "api-review"
	requestKind   = "api-request"
	detectionKind = "api-detection"
)

func kinds() []string { return []string{changeSetKind, reviewKind, requestKind, detectionKind} }

// api is the handler.
type api struct {
	o          Options
	actions    map[string]action
	changeSets record.Collection[changeSet]
	reviews    record.Collection[review]
	requests   record.Collection[request]
	detections record.Collection[detection]
}

// call is one request of somebody who may make it.
type call struct {
	*api
	env Environment
}

// action answers one action. What it gives becomes the XML of the result; nil
// for an action that the service answers with nothing.
type action func(c call, ctx context.Context, form url.Values) (any, error)

// takes gives the action that reads its form into a struct of the service's
// names.
func takes[Req any](do func(call, context.Context, Req) (any, error)) action {
	return func(c call, ctx context.Context, form url.Values) (any, error) {
		var r Req
		if err := decode(form, &r); err != nil {
			return nil, err
		}
		return do(c, ctx, r)
	}
}

func allActions() map[string]action {
	return map[string]action{
		"CreateStack":                       takes(call.createStack),
		"UpdateStack":                       takes(call.updateStack),
		"DeleteStack":                       takes(call.deleteStack),
		"DescribeStacks":                    takes(call.describeStacks),
		"ListStacks":                        takes(call.listStacks),
		"DescribeStackEvents":               takes(call.describeStackEvents),
		"DescribeEvents":                    takes(call.describeEvents),
		"DescribeStackResource":             takes(call.describeStackResource),
		"DescribeStackResources":            takes(call.describeStackResources),
		"ListStackResources":                takes(call.listStackResources),
		"GetTemplate":                       takes(call.getTemplate),
		"GetTemplateSummary":                takes(call.getTemplateSummary),
		"ValidateTemplate":                  takes(call.validateTemplate),
		"CreateChangeSet":                   takes(call.createChangeSet),
		"DescribeChangeSet":                 takes(call.describeChangeSet),
		"DescribeChangeSetHooks":            takes(call.describeChangeSetHooks),
		"ListChangeSets":                    takes(call.listChangeSets),
		"ExecuteChangeSet":                  takes(call.executeChangeSet),
		"DeleteChangeSet":                   takes(call.deleteChangeSet),
		"ListExports":                       takes(call.listExports),
		"ListImports":                       takes(call.listImports),
		"DetectStackDrift":                  takes(call.detectStackDrift),
		"DetectStackResourceDrift":          takes(call.detectStackResourceDrift),
		"DescribeStackDriftDetectionStatus": takes(call.describeStackDriftDetectionStatus),
		"DescribeStackResourceDrifts":       takes(call.describeStackResourceDrifts),
		"ContinueUpdateRollback":            takes(call.continueUpdateRollback),
		"CancelUpdateStack":                 takes(call.cancelUpdateStack),
		"RollbackStack":                     takes(call.rollbackStack),
		"SetStackPolicy":                    takes(call.setStackPolicy),
		"GetStackPolicy":                    takes(call.getStackPolicy),
		"UpdateTerminationProtection":       takes(call.updateTerminationProtection),
		"SignalResource":                    takes(call.signalResource),
		"ListTypes":                         takes(call.listTypes),
		"DescribeType":                      takes(call.describeType),
	}
}

// Handler answers the API.
func Handler(o Options) http.Handler {
	return &api{
		o: o, actions: allActions(),
		changeSets: record.Of[changeSet](o.Store, changeSetKind),
		reviews:    record.Of[review](o.Store, reviewKind),
		requests:   record.Of[request](o.Store, requestKind),
		detections: record.Of[detection](o.Store, detectionKind),
	}
}

// maxBody bounds a request: the largest template, written as a form is.
const maxBody = 3 << 19

// drained is how much more is read of one that is too large.
const drained = 16 << 20

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, result, err := a.answer(r)
	if err != nil {
		p := problemOf(err)
		if p.Status >= http.StatusInternalServerError {
			a.o.Failed(name, err)
		}
		writeProblem(w, p)
		return
	}
	if err := writeResult(w, name, result); err != nil {
		a.o.Failed(name, err)
		writeProblem(w, problemOf(err))
	}
}

// answer does what a request asks for.
func (a *api) answer(r *http.Request) (name string, result any, err error) {
	body, err := read(r)
	if err != nil {
		return "", nil, err
	}
	c, err := a.enter(r, body)
	if err != nil {
		return "", nil, err
	}
	form, err := formOf(r, body)
	if err != nil {
		return "", nil, err
	}
	name = form.Get("Action")
	do := a.actions[name]
	switch {
	case name == "":
		return "", nil, &problem{Status: http.StatusBadRequest, Code: "MissingAction", Message: "the request names no Action"}
	case do == nil || form.Get("Version") != version:
		return name, nil, a.unknown(name, form.Get("Version"))
	}
	form.Del("Action")
	form.Del("Version")
	result, err = do(c, r.Context(), form)
	return name, result, err
}

// read reads the body of a request.
func read(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		_, _ = io.CopyN(io.Discard, r.Body, drained) // many clients read no answer before they have sent all
		return nil, &problem{Status: http.StatusRequestEntityTooLarge, Code: "RequestEntityTooLarge",
			Message: "the request has more than " + strconv.Itoa(maxBody) + " bytes; put the template into a bucket of the environment and name it by TemplateURL"}
	case err != nil:
		return nil, &problem{Status: http.StatusBadRequest, Code: "RequestTimeout", Message: "the request was not read to its end: " + err.Error() + "; send it again"}
	}
	return body, nil
}

// unknown says it in the service's words, and what is there.
func (a *api) unknown(name, asked string) error {
	text := "Could not find operation " + name + " for version " + asked
	if near := diag.Nearest(name, slices.Collect(maps.Keys(a.actions))); near != "" && asked == version {
		text += "; did you mean " + near + "?"
	} else if asked != version {
		text += "; the version here is " + version
	}
	return &problem{Status: http.StatusBadRequest, Code: "InvalidAction", Message: text}
}

// enter finds out who calls, and for which environment.
func (a *api) enter(r *http.Request, body []byte) (call, error) {
	c := call{api: a}
	keys := sigv4.Verifier{Service: "cloudformation", Secret: func(ctx context.Context, accessKey string) (secret string, err error) {
		c.env, secret, err = a.o.Environment(ctx, accessKey)
		return secret, err
	}}
	_, err := keys.Verify(r, body)
	var refusal *sigv4.Refusal
	if !errors.As(err, &refusal) {
		return c, err
	}
	p := &problem{Status: refusal.Status, Code: refusal.Code, Message: refusal.Message}
	if refusal.Status == http.StatusForbidden {
		p.Message += " (the keys of an environment: makeitso credentials)"
	}
	return c, p
}

func formOf(r *http.Request, body []byte) (url.Values, error) {
	const form = "application/x-www-form-urlencoded"
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != form {
		return nil, &problem{Status: http.StatusBadRequest, Code: "MalformedInput", Message: "the body is of type '" + r.Header.Get("Content-Type") + "'; send a form, " + form}
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Code: "MalformedQueryString", Message: "The query string contains a syntax error: " + err.Error()}
	}
	return values, nil
}

// begin has do work under the server, and returns when that has begun, which its
// first event tells and its records hold, or has ended. What it comes to after
// that is in the stack's status and events, and outlives a crash.
func (c call) begin(do func(ctx context.Context, listen func(stack.Event)) error) error {
	if c.o.Closing.Err() != nil {
		return context.Cause(c.o.Closing)
	}
	begun, ended := make(chan struct{}), make(chan error, 1)
	told := sync.OnceFunc(func() { close(begun) })
	c.o.Go(func() {
		ended <- do(c.o.Closing, func(ev stack.Event) {
			told()
			c.o.Observe(c.env.Name, ev)
		})
	})
	select {
	case <-begun:
		return nil
	case err := <-ended:
		select {
		case <-begun:
			return nil
		default:
			return err
		}
	}
}
