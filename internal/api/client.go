package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"makeitso/internal/changeset"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// Client calls a makeitso that runs. Its methods are those of control.Control
// and give the same answers and errors.
type Client struct {
	http *http.Client
}

// Dial gives a client of the makeitso behind a unix socket. Nothing is sent
// before the first call.
func Dial(socket string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Close closes the connections that are kept open.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) post(ctx context.Context, name string, req any) (*http.Response, error) {
	raw, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://makeitso/v1/"+name, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "makeitso does not answer").WithHint("start it: makeitso serve")
	}
	return res, nil
}

// call calls a method that gives one answer.
func call[Res any](ctx context.Context, c *Client, name string, req any) (result Res, err error) {
	res, err := c.post(ctx, name, req)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	dec := json.NewDecoder(res.Body)
	if res.StatusCode != http.StatusOK {
		var p problem
		if err := dec.Decode(&p); err != nil {
			return result, fault.Wrap(fault.Internal, err, "makeitso answered %s", res.Status)
		}
		return result, p.err()
	}
	if err := dec.Decode(&result); err != nil {
		return result, interrupted(ctx, err)
	}
	return result, nil
}

// receive calls a method that sends items as they come.
func receive[Item any](ctx context.Context, c *Client, name string, req any, see func(Item) error) (err error) {
	res, err := c.post(ctx, name, req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	dec := json.NewDecoder(res.Body)
	if res.StatusCode != http.StatusOK {
		var p problem
		if err := dec.Decode(&p); err != nil {
			return fault.Wrap(fault.Internal, err, "makeitso answered %s", res.Status)
		}
		return p.err()
	}
	for {
		var l line
		if err := dec.Decode(&l); err != nil {
			return interrupted(ctx, err)
		}
		switch {
		case l.Error != nil:
			return l.Error.err()
		case l.End:
			return nil
		}
		var item Item
		if err := json.Unmarshal(l.Item, &item); err != nil {
			return fmt.Errorf("decode an item: %w", err)
		}
		if err := see(item); err != nil {
			return err
		}
	}
}

// interrupted says why an answer broke off.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fault.Wrap(fault.Unavailable, err, "makeitso stopped while it answered").WithHint("start it again (makeitso serve): what was under way goes on")
}

// Status tells how things stand.
func (c *Client) Status(ctx context.Context, r control.StatusRequest) (control.StatusResponse, error) {
	return call[control.StatusResponse](ctx, c, "status", r)
}

// Start begins runs.
func (c *Client) Start(ctx context.Context, r control.StartRequest) (control.StartResponse, error) {
	return call[control.StartResponse](ctx, c, "start", r)
}

// Publish puts the files of sites into their buckets.
func (c *Client) Publish(ctx context.Context, r control.PublishRequest) ([]control.Published, error) {
	return call[[]control.Published](ctx, c, "publish", r)
}

// Runs lists runs.
func (c *Client) Runs(ctx context.Context, r control.RunsRequest) ([]pipeline.Run, error) {
	return call[[]pipeline.Run](ctx, c, "runs", r)
}

// Run gives a run and its stages.
func (c *Client) Run(ctx context.Context, r control.RunRequest) (control.RunResponse, error) {
	return call[control.RunResponse](ctx, c, "run", r)
}

// Cancel stops a run.
func (c *Client) Cancel(ctx context.Context, r control.RunRequest) error {
	_, err := call[control.Nothing](ctx, c, "cancel", r)
	return err
}

// Retry begins a run that has ended without success again.
func (c *Client) Retry(ctx context.Context, r control.RunRequest) (control.StartResponse, error) {
	return call[control.StartResponse](ctx, c, "retry", r)
}

// Approve says yes to the stage of a run that waits for it.
func (c *Client) Approve(ctx context.Context, r control.RunRequest) (pipeline.StageRun, error) {
	return call[pipeline.StageRun](ctx, c, "approve", r)
}

// Reject says no to the stage of a run that waits for approval.
func (c *Client) Reject(ctx context.Context, r control.RunRequest) (pipeline.StageRun, error) {
	return call[pipeline.StageRun](ctx, c, "reject", r)
}

// LastEvent gives the number of the newest event, to follow from now on.
func (c *Client) LastEvent(ctx context.Context) (int64, error) {
	return call[int64](ctx, c, "last-event", control.Nothing{})
}

// Plan compares the working tree's templates with what exists.
func (c *Client) Plan(ctx context.Context, r control.StacksRequest) ([]*changeset.Set, error) {
	return call[[]*changeset.Set](ctx, c, "plan", r)
}

// Outputs gives the outputs of stacks, by stack and key.
func (c *Client) Outputs(ctx context.Context, r control.StacksRequest) (map[string]map[string]string, error) {
	return call[map[string]map[string]string](ctx, c, "outputs", r)
}

// Drift compares what exists of stacks with what they were made to be.
func (c *Client) Drift(ctx context.Context, r control.StacksRequest) ([]stack.StackDrift, error) {
	return call[[]stack.StackDrift](ctx, c, "drift", r)
}

// StackEvents gives the events of one stack.
func (c *Client) StackEvents(ctx context.Context, r control.StacksRequest) ([]stack.Event, error) {
	return call[[]stack.Event](ctx, c, "stack-events", r)
}

// PlanDestroy says what Destroy would remove.
func (c *Client) PlanDestroy(ctx context.Context, r control.StacksRequest) (control.DestroyResponse, error) {
	return call[control.DestroyResponse](ctx, c, "plan-destroy", r)
}

// Releases lists the releases of a service, the newest first.
func (c *Client) Releases(ctx context.Context, r control.ServiceRequest) ([]release.Release, error) {
	return call[[]release.Release](ctx, c, "releases", r)
}

// Why says why a rollout went back or a run failed.
func (c *Client) Why(ctx context.Context, r control.WhyRequest) (control.WhyResponse, error) {
	return call[control.WhyResponse](ctx, c, "why", r)
}

// Rollback puts an earlier release of a service back.
func (c *Client) Rollback(ctx context.Context, r control.ServiceRequest) (release.Release, error) {
	return call[release.Release](ctx, c, "rollback", r)
}

// Abort stops the rollout of a service that is under way.
func (c *Client) Abort(ctx context.Context, r control.ServiceRequest) (release.Release, error) {
	return call[release.Release](ctx, c, "abort", r)
}

// Steer pauses a rollout, lets it go on, or promotes it without watching.
func (c *Client) Steer(ctx context.Context, r control.SteerRequest) (release.RolloutStatus, error) {
	return call[release.RolloutStatus](ctx, c, "steer", r)
}

// Follow gives events as they come.
func (c *Client) Follow(ctx context.Context, r control.FollowRequest, see func(pipeline.Event) error) error {
	return receive(ctx, c, "follow", r, see)
}

// Await waits until nobody else changes stacks, and gives for whom it waits.
func (c *Client) Await(ctx context.Context, r control.StacksRequest, see func(string) error) error {
	return receive(ctx, c, "await", r, see)
}

// Apply makes stacks so and gives each event as it happens.
func (c *Client) Apply(ctx context.Context, r control.StacksRequest, see func(stack.Event) error) error {
	return receive(ctx, c, "apply", r, see)
}

// Keys gives the keys of an environment.
func (c *Client) Keys(ctx context.Context, r control.KeysRequest) (control.Keys, error) {
	return call[control.Keys](ctx, c, "keys", r)
}

// Protect says whether a stack may be deleted.
func (c *Client) Protect(ctx context.Context, r control.GuardRequest) error {
	_, err := call[control.Nothing](ctx, c, "protect", r)
	return err
}

// StackPolicy gives a stack's policy, after replacing it if one is given.
func (c *Client) StackPolicy(ctx context.Context, r control.GuardRequest) (string, error) {
	return call[string](ctx, c, "stack-policy", r)
}

// SetAlarm says in what state an alarm is.
func (c *Client) SetAlarm(ctx context.Context, r control.AlarmRequest) error {
	_, err := call[control.Nothing](ctx, c, "set-alarm", r)
	return err
}

// Signal takes a signal for a resource that its stack waits for.
func (c *Client) Signal(ctx context.Context, r control.SignalRequest) error {
	_, err := call[control.Nothing](ctx, c, "signal", r)
	return err
}

// CancelUpdate has an update under way roll back.
func (c *Client) CancelUpdate(ctx context.Context, r control.GuardRequest) error {
	_, err := call[control.Nothing](ctx, c, "cancel-update", r)
	return err
}

// RollbackStack takes back a change that failed, or goes on with that.
func (c *Client) RollbackStack(ctx context.Context, r control.GuardRequest, see func(stack.Event) error) error {
	return receive(ctx, c, "rollback-stack", r, see)
}

// Destroy removes everything of an environment.
func (c *Client) Destroy(ctx context.Context, r control.StacksRequest, see func(stack.Event) error) error {
	return receive(ctx, c, "destroy", r, see)
}

// Logs writes what a run's stages have printed to w.
func (c *Client) Logs(ctx context.Context, r control.RunRequest, w io.Writer) error {
	return receive(ctx, c, "logs", r, func(p []byte) error {
		_, err := w.Write(p)
		return err
	})
}
