package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"makeitso/examples"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/pipeline"
	"makeitso/internal/process"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

func nothingToShow(stack.Event) error { return nil }

// tour shows, and verifies by real requests, what makeitso does after the
// first push.
func (d *demo) tour(ctx context.Context) error {
	for _, part := range []func(context.Context) error{d.goodVersion, d.badVersion, d.deadInstance, d.changedInfrastructure} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// goodVersion pushes version 2 under load: both versions are seen to answer
// while the traffic shifts, then version 2 alone, and no request fails.
func (d *demo) goodVersion(ctx context.Context) error {
	d.heading("a good second version: the traffic shifts to it step by step")
	if err := d.edit(ctx, "the shop, version 2", func() error { return examples.ShopVersion(d.folder, 2) }); err != nil {
		return err
	}
	seen, err := d.underLoad(ctx, func() error {
		_, err := d.pushAndSee(ctx)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "  meanwhile %s\n", seen)
	if seen.bad > 0 || seen.versions["v1"] == 0 || seen.versions["v2"] == 0 {
		return fault.New(fault.Failed, "the rollout of version 2 was not as it should be: %s", seen)
	}
	return d.onlyVersion(ctx, "v2")
}

// badVersion pushes version 3, whose every fifth answer is a 500: it must be
// found and rolled back, and version 2 answer alone again.
func (d *demo) badVersion(ctx context.Context) error {
	d.heading("a bad third version: every fifth answer is a 500")
	if err := d.edit(ctx, "the shop, version 3, which is broken", func() error { return examples.ShopVersion(d.folder, 3) }); err != nil {
		return err
	}
	var started control.StartResponse
	seen, err := d.underLoad(ctx, func() (err error) {
		if started, err = d.push(ctx); err != nil {
			return err
		}
		return d.newProgress().follow(ctx, d.client, control.FollowRequest{After: started.After, Runs: runIDs(started)})
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "  meanwhile %s\n", seen)
	releases, err := d.client.Releases(ctx, control.ServiceRequest{Service: "api"})
	if err != nil {
		return err
	}
	if len(releases) == 0 || releases[0].Status != release.RolledBack {
		return fault.New(fault.Failed, "the bad version was not rolled back: %+v", releases)
	}
	fmt.Fprintf(d.Out, "  %s was rolled back: %s\n", releases[0].ID, releases[0].Reason)
	why, err := d.client.Why(ctx, control.WhyRequest{Subject: releases[0].ID})
	if err != nil {
		return err
	}
	fmt.Fprintln(d.Out, "  makeitso why "+releases[0].ID)
	d.printWhy(why)
	return d.onlyVersion(ctx, "v2")
}

func runIDs(started control.StartResponse) []string {
	var ids []string
	for _, run := range started.Runs {
		ids = append(ids, run.ID)
	}
	return ids
}

// deadInstance kills an instance: the requests go on being answered, and
// another instance takes its place.
func (d *demo) deadInstance(ctx context.Context) error {
	d.heading("an instance dies: another takes its place")
	before, err := d.instances(ctx)
	if err != nil {
		return err
	}
	victim := before[0]
	fmt.Fprintf(d.Out, "  kill -9 %d (%s)\n", victim.PID, victim.ID)
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		return err
	}
	begun := time.Now()
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		now, err := d.instances(waiting)
		if err != nil {
			return err
		}
		routed := 0
		for _, i := range now {
			if i.ID == victim.ID {
				routed = -1
				break
			}
			if i.State == "routed" {
				routed++
			}
		}
		if routed >= len(before) {
			fmt.Fprintf(d.Out, "  replaced after %s\n", took(time.Since(begun)))
			return d.onlyVersion(ctx, "v2")
		}
		select {
		case <-waiting.Done():
			return fault.New(fault.Failed, "the dead instance was not replaced within a minute: %+v", now)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) instances(ctx context.Context) ([]release.InstanceStatus, error) {
	status, err := d.client.Status(ctx, control.StatusRequest{Environment: "local"})
	if err != nil {
		return nil, err
	}
	for _, env := range status.Environments {
		for _, s := range env.Services {
			if s.Service == "api" && len(s.Instances) > 0 {
				return s.Instances, nil
			}
		}
	}
	return nil, fault.New(fault.Failed, "service api has no instances")
}

// changedInfrastructure pushes a change of the templates: its change set is
// shown and applied.
func (d *demo) changedInfrastructure(ctx context.Context) error {
	d.heading("a push that changes the infrastructure: its change set is shown and applied")
	if err := d.edit(ctx, "a log group more, and more memory for Redis", func() error { return examples.ShopInfraChange(d.folder) }); err != nil {
		return err
	}
	runs, err := d.pushAndSee(ctx)
	if err != nil {
		return err
	}
	var log strings.Builder
	for _, run := range runs {
		if err := d.client.Logs(ctx, control.RunRequest{Run: run.ID}, &log); err != nil {
			return err
		}
	}
	shown := 0
	for line := range strings.Lines(log.String()) {
		if isChange(line) {
			fmt.Fprint(d.Out, "  "+line)
			shown++
		}
	}
	if shown == 0 {
		return fault.New(fault.Failed, "the push of a changed template changed nothing:\n%s", log.String())
	}
	return d.checkUp(ctx)
}

// isChange says whether a line of a stage's log belongs to a change set's
// list of changes.
func isChange(line string) bool {
	trimmed := strings.TrimLeft(line, " ")
	return trimmed != line && (strings.HasPrefix(trimmed, "+ ") || strings.HasPrefix(trimmed, "~ ") || strings.HasPrefix(trimmed, "- ") || strings.HasPrefix(trimmed, "-/+ ") || strings.Contains(trimmed, " → "))
}

// edit changes the shop and commits it.
func (d *demo) edit(ctx context.Context, subject string, change func() error) error {
	if err := change(); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "  git commit -m %q\n", subject)
	if err := d.git(ctx, "add", "--all"); err != nil {
		return err
	}
	return d.commit(ctx, subject)
}

// get asks the edge for a page of a host. The name is not looked up: not every
// resolver knows .localhost.
func (d *demo) get(ctx context.Context, host, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := d.http().Do(req)
	if err != nil {
		return 0, "", err
	}
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), errors.Join(err, res.Body.Close())
}

func (d *demo) http() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, d.edge)
		},
	}}
}

// checkUp asks the site, its script and the service, which asks Redis and
// PostgreSQL, and expects them all to answer.
func (d *demo) checkUp(ctx context.Context) error {
	for _, want := range []struct{ host, path, holds string }{
		{"www.shop.localhost", "/", "<script"},
		{"api.shop.localhost", "/healthz", ""},
		{"api.shop.localhost", "/cart", ""},
		{"api.shop.localhost", "/orders", ""},
	} {
		status, body, err := d.get(ctx, want.host, want.path)
		if err != nil {
			return fault.Wrap(fault.Failed, err, "ask %s%s", want.host, want.path)
		}
		if status != http.StatusOK || !strings.Contains(body, want.holds) {
			return fault.New(fault.Failed, "%s%s answered %d: %.200s", want.host, want.path, status, body)
		}
		fmt.Fprintf(d.Out, "  %s http://%s:%s%s answers %d\n", d.mark(pipeline.Succeeded), want.host, portOf(d.edge), want.path, status)
	}
	return nil
}

// version asks the service which version it is; a failed answer has none.
func (d *demo) version(ctx context.Context) (string, error) {
	status, body, err := d.get(ctx, "api.shop.localhost", "/version")
	if err != nil {
		return "", err
	}
	var answer struct{ Version string }
	if status != http.StatusOK {
		return "", fault.New(fault.Failed, "the service answered %d", status)
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return "", fmt.Errorf("read the service's version: %w", err)
	}
	return answer.Version, nil
}

// onlyVersion expects 50 answers in a row of that version.
func (d *demo) onlyVersion(ctx context.Context, want string) error {
	for range 50 {
		got, err := d.version(ctx)
		if err != nil {
			return err
		}
		if got != want {
			return fault.New(fault.Failed, "the service answers as version %s, not %s", got, want)
		}
	}
	fmt.Fprintf(d.Out, "  %s 50 of 50 requests are answered by %s\n", d.mark(pipeline.Succeeded), want)
	return nil
}

// seen is what a load saw.
type seen struct {
	versions map[string]int
	bad      int
}

func (s seen) String() string {
	total := s.bad
	for _, n := range s.versions {
		total += n
	}
	return fmt.Sprintf("%d requests were answered: %d by v1, %d by v2, %d by v3, %d failed", total, s.versions["v1"], s.versions["v2"], s.versions["v3"], s.bad)
}

// loadInterval is the time between two requests of the load: 100 in a second.
const loadInterval = 10 * time.Millisecond

// underLoad runs do while requests arrive at the service, and gives what they
// saw.
func (d *demo) underLoad(ctx context.Context, do func() error) (seen, error) {
	s := seen{versions: map[string]int{}}
	var mu sync.Mutex
	loading, stop := context.WithCancel(ctx)
	var requests sync.WaitGroup
	requests.Go(func() {
		ticker := time.NewTicker(loadInterval)
		defer ticker.Stop()
		for {
			select {
			case <-loading.Done():
				return
			case <-ticker.C:
			}
			requests.Go(func() {
				version, err := d.version(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					s.bad++
					return
				}
				s.versions[version]++
			})
		}
	})
	err := do()
	stop()
	requests.Wait()
	return s, err
}

// checkGone looks for what the demo may have left: processes and ports.
func (d *demo) checkGone(ctx context.Context) error {
	for _, folder := range []string{"processes", filepath.Join("environments", "local", "processes")} {
		keeper := process.New(filepath.Join(d.folder, ".makeitso", folder), process.Options{})
		left, err := keeper.List()
		keeper.Close()
		if err != nil {
			return err
		}
		for _, p := range left {
			if p.Alive() {
				return fault.New(fault.Failed, "process %s (%d) is still running", p.Name, p.PID)
			}
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.edge)
	if err == nil {
		return errors.Join(fault.New(fault.Failed, "something still listens on %s", d.edge), conn.Close())
	}
	if _, err := os.Stat(filepath.Join(d.folder, ".makeitso", "environments", "local")); err == nil {
		return fault.New(fault.Failed, "the environment's folder is still there")
	}
	return nil
}
