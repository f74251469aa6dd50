// Package custom makes custom resources and asks macros: it hands a provider,
// which is an http(s) URL or a local command, the documents of CloudFormation.
// It knows these documents and must not know what providers make.
package custom

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/span"
	"makeitso/internal/stack"
	"makeitso/internal/template"
)

// Options are what custom resources and macros may be told.
type Options struct {
	Folder       string        // where commands run; default is the process's own
	MacroTimeout time.Duration // how long a macro may take to answer, default 5 minutes
}

// Over gives a platform that makes custom resources and macros itself and
// leaves every other type to the one beneath.
func Over(beneath stack.Platform, o Options) stack.Platform { return platform{beneath, o} }

// Types gives the names of the types that this platform makes itself; "Custom::*"
// stands for those of the user's own.
func Types() []string { return []string{resourceType, "Custom::*", macroType} }

type platform struct {
	stack.Platform
	o Options
}

// Beneath implements stack.Layer.
func (p platform) Beneath() stack.Platform { return p.Platform }

func (p platform) Support(typ string) changeset.Support {
	if isCustom(typ) {
		return changeset.Support{Level: changeset.Real, Note: "made by the provider that ServiceToken names, an http(s) URL or a command"}
	}
	if typ == macroType {
		return changeset.Support{Level: changeset.Real, Note: "templates that name it ask what FunctionName names, an http(s) URL or a command"}
	}
	return p.Platform.Support(typ)
}

func (p platform) Handler(typ string) (stack.Handler, error) {
	if isCustom(typ) {
		return handler{p.o}, nil
	}
	if typ == macroType {
		return macroHandler{}, nil
	}
	return p.Platform.Handler(typ)
}

const resourceType = "AWS::CloudFormation::CustomResource"

func isCustom(typ string) bool {
	return strings.HasPrefix(typ, "Custom::") || typ == resourceType
}

// Limits of the service.
const (
	maxAnswer  = 4096
	maxTimeout = 3600
)

// request is what a provider is told.
type request struct {
	RequestType           string
	ResponseURL           string
	StackId               string
	RequestId             string
	ResourceType          string
	LogicalResourceId     string
	PhysicalResourceId    string         `json:",omitempty"`
	ResourceProperties    map[string]any // every scalar is a string, as the service has it
	OldResourceProperties map[string]any `json:",omitempty"`
}

// answer is what a provider says.
type answer struct {
	Status             string // SUCCESS, FAILED
	Reason             string
	PhysicalResourceId string
	Data               map[string]any
	NoEcho             bool
}

// handler is the stack.Handler of all custom types. What a provider makes is
// known to it alone: there is nothing to read.
type handler struct{ o Options }

func (h handler) Check(_ context.Context, r stack.Request) error {
	if err := checkProvider(r, "ServiceToken"); err != nil {
		return err
	}
	_, err := timeout(r)
	return err
}

// checkProvider judges the property that names a provider.
func checkProvider(r stack.Request, property string) error {
	token, given := r.Properties[property]
	if !given {
		return invalid(r, "%s is required and missing", property)
	}
	if token == template.KnownAfterApply {
		return nil
	}
	text, ok := token.(string)
	if !ok || strings.TrimSpace(text) == "" {
		return invalid(r, "%s must be an http(s) URL or a command", property)
	}
	if strings.HasPrefix(text, "arn:") {
		return invalid(r, "%s %s names what is not here; an http(s) URL or a command can be asked", property, text)
	}
	if u, err := url.Parse(text); isURL(text) && (err != nil || u.Host == "") {
		return invalid(r, "%s %s is no URL", property, text)
	}
	return nil
}

func invalid(r stack.Request, format string, args ...any) error {
	return fault.New(fault.Invalid, "%s/%s: %s", r.Stack, r.LogicalID, fmt.Sprintf(format, args...))
}

func isURL(token string) bool {
	return strings.HasPrefix(token, "http://") || strings.HasPrefix(token, "https://")
}

// timeout is how long a provider may take.
func timeout(r stack.Request) (time.Duration, error) {
	given, ok := r.Properties["ServiceTimeout"]
	if !ok || given == template.KnownAfterApply {
		return maxTimeout * time.Second, nil
	}
	seconds, err := strconv.Atoi(fmt.Sprint(given))
	if err != nil || seconds < 1 || seconds > maxTimeout {
		return 0, invalid(r, "ServiceTimeout is %v; allowed are 1 to %d seconds", given, maxTimeout)
	}
	return time.Duration(seconds) * time.Second, nil
}

func (h handler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	a, err := h.ask(ctx, "Create", r)
	if err == nil && a.PhysicalResourceId == "" {
		err = fault.New(fault.Failed, "Invalid PhysicalResourceId: the provider of %s gave none", r.LogicalID)
	}
	return stack.Result{PhysicalID: a.PhysicalResourceId, Attributes: a.Data, NoEcho: a.NoEcho}, err
}

// Read answers with what the provider said last.
func (h handler) Read(_ context.Context, r stack.Request) (stack.Result, error) {
	if r.PhysicalID == "" {
		return stack.Result{}, fault.New(fault.NotFound, "%s/%s was never made", r.Stack, r.LogicalID)
	}
	return stack.Result{PhysicalID: r.PhysicalID, Attributes: r.Attributes}, nil
}

func (h handler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	a, err := h.ask(ctx, "Update", r)
	if a.PhysicalResourceId == "" {
		a.PhysicalResourceId = r.PhysicalID
	}
	return stack.Result{PhysicalID: a.PhysicalResourceId, Attributes: a.Data, NoEcho: a.NoEcho, Replaced: a.PhysicalResourceId != r.PhysicalID}, err
}

func (h handler) Delete(ctx context.Context, r stack.Request) error {
	if r.PhysicalID == "" {
		r.PhysicalID = r.Token // the provider may have begun before it could say a name
	}
	_, err := h.ask(ctx, "Delete", r)
	return err
}

// ask puts a request to the provider and waits for its answer, which comes as
// what the call itself gives back, or with a PUT to ResponseURL.
func (h handler) ask(ctx context.Context, kind string, r stack.Request) (answer, error) {
	limit, err := timeout(r)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fault.New(fault.Failed, "CloudFormation did not receive a response from your Custom Resource: %s in %v", r.LogicalID, span.Text(limit)))
	defer cancel()
	put, address, stop, err := listen()
	if err != nil {
		return answer{}, fmt.Errorf("listen for the answer about %s: %w", r.LogicalID, err)
	}
	defer stop()
	document, err := json.Marshal(request{RequestType: kind, ResponseURL: address, StackId: r.StackID, RequestId: r.Token + "-" + kind,
		ResourceType: r.Type, LogicalResourceId: r.LogicalID, PhysicalResourceId: r.PhysicalID,
		ResourceProperties: r.Properties, OldResourceProperties: r.Previous})
	if err != nil {
		return answer{}, fmt.Errorf("encode the request about %s: %w", r.LogicalID, err)
	}
	said, err := h.o.call(ctx, fmt.Sprint(r.Properties["ServiceToken"]), document, maxAnswer)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return answer{}, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(said), []byte("{")) { // other words of the provider are no answer
		select {
		case said = <-put:
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
	return judge(r, said)
}

// judge reads an answer and says whether it is a good one.
func judge(r stack.Request, said []byte) (answer, error) {
	if len(said) > maxAnswer {
		return answer{}, fault.New(fault.Failed, "Response object is too long: more than %d bytes about %s", maxAnswer, r.LogicalID)
	}
	var a answer
	if err := json.Unmarshal(said, &a); err != nil {
		return answer{}, fault.Wrap(fault.Failed, err, "the answer about %s is no JSON object", r.LogicalID)
	}
	switch {
	case a.Status == "FAILED":
		return answer{}, fault.New(fault.Failed, "Received response status [FAILED] from custom resource. Message returned: %s", a.Reason)
	case a.Status != "SUCCESS":
		return answer{}, fault.New(fault.Failed, "the answer about %s has the Status %q; allowed are SUCCESS and FAILED", r.LogicalID, a.Status)
	}
	return a, nil
}

// listen takes one answer at an address that only this machine reaches.
func listen() (put <-chan []byte, address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	answers := make(chan []byte, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
		if err != nil || r.Method != http.MethodPut {
			http.Error(w, "PUT the answer here", http.StatusBadRequest)
			return
		}
		select {
		case answers <- body:
		default: // an answer was given before
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends by Close
	}()
	return answers, "http://" + l.Addr().String() + "/", func() { _ = server.Close(); <-done }, nil
}

// call hands the request to the provider and gives what it says at once; of a
// longer answer than most, one byte more than that.
func (o Options) call(ctx context.Context, token string, document []byte, most int) ([]byte, error) {
	if isURL(token) {
		return post(ctx, token, document, most)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", token)
	out, problems := capped{most: most + 1}, capped{most: maxProblems}
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Folder, bytes.NewReader(document), &out, &problems
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		return nil, fault.Wrap(fault.Failed, err, "provider %s: %s", token, lastLine(string(problems.kept)))
	}
	return out.kept, nil
}

// maxProblems is how much is kept of what a command says to stderr.
const maxProblems = 64 << 10

// capped keeps the beginning of what is written to it.
type capped struct {
	kept []byte
	most int
}

func (c *capped) Write(p []byte) (int, error) {
	c.kept = append(c.kept, p[:min(len(p), c.most-len(c.kept))]...)
	return len(p), nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func post(ctx context.Context, address string, document []byte, most int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "ask provider %s", address)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read what provider %s says", address)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, fault.New(fault.Failed, "provider %s answered %s", address, response.Status)
	}
	return body, nil
}
