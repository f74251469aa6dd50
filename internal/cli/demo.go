package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"makeitso/examples"
	"makeitso/internal/api"
	"makeitso/internal/control"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/pipeline"
	"makeitso/internal/process"
	"makeitso/internal/server"
)

type demoOptions struct {
	folder string
	tour   bool
	once   bool
	keep   bool
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Bring a real application to life on this machine",
		Long: `Copies a small shop (a server with Redis and PostgreSQL, a static site, their
infrastructure) to a work folder, starts makeitso there, pushes the first commit
and shows its three pipelines run. It stays up until Ctrl-C and then removes
everything it made.

With --tour it goes on by itself: a good version, a bad version that is found and
rolled back, an instance that dies and is replaced, a change of infrastructure.
With --once it ends after that, with exit code 0 only if all of it held.`,
		Example: "  makeitso demo\n  makeitso demo --tour --once",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.folder, "folder", "", "the work folder, which must not exist (default: a temporary one)")
	cmd.Flags().BoolVar(&o.tour, "tour", false, "go on by itself and show what makeitso does")
	cmd.Flags().BoolVar(&o.once, "once", false, "end when there is nothing more to show")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "keep the work folder at the end")
	return cmd
}

// demo is the demonstration at work.
type demo struct {
	*app
	folder string // of the shop
	server *server.Server
	client *api.Client
	edge   string // host:port
}

func (a *app) demo(ctx context.Context, o demoOptions) error {
	folder, err := demoFolder(o.folder)
	if err != nil {
		return err
	}
	d := &demo{app: a, folder: folder}
	err = d.show(ctx, o)
	interrupted := ctx.Err() != nil
	end := d.end(context.WithoutCancel(ctx), o)
	if interrupted && (errors.Is(err, context.Canceled) || err == nil) {
		return end // leaving is how a demo ends
	}
	return errors.Join(err, end)
}

// demoFolder makes the work folder.
func demoFolder(wanted string) (string, error) {
	if wanted == "" {
		dir, err := os.MkdirTemp("", "makeitso-demo-")
		if err != nil {
			return "", fault.Wrap(fault.Unavailable, err, "make a work folder").WithHint("name one with --folder")
		}
		return filepath.Join(dir, "shop"), nil
	}
	if _, err := os.Lstat(wanted); err == nil {
		return "", fault.New(fault.Conflict, "the folder %s exists already", wanted).WithHint("name one that does not, so that the demo can remove it at the end")
	}
	return filepath.Abs(wanted)
}

func (d *demo) show(ctx context.Context, o demoOptions) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.firstPush(ctx); err != nil {
		return err
	}
	if o.tour {
		if err := d.tour(ctx); err != nil {
			return err
		}
	}
	if err := d.whatNow(ctx, o); err != nil || o.once {
		return err
	}
	after, err := d.client.LastEvent(ctx)
	if err != nil {
		return err
	}
	return d.newProgress().follow(ctx, d.client, control.FollowRequest{After: after})
}

// heading says what is shown next.
func (d *demo) heading(format string, args ...any) {
	fmt.Fprintf(d.Out, "\n%s\n", d.style(bold, "── "+fmt.Sprintf(format, args...)))
}

// begin copies the shop, makes it a repository and starts makeitso there.
func (d *demo) begin(ctx context.Context) error {
	d.heading("a shop: its infrastructure, its server and its page in one repository")
	if err := examples.CopyShop(d.folder); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"}, {"add", "--all"},
	} {
		if err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.commit(ctx, "the shop, version 1"); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "  %s\n", d.folder)
	edge, err := d.freeOr(server.DefaultEdge)
	if err != nil {
		return err
	}
	listen, err := d.freeOr(server.DefaultListen)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.server, err = server.Start(context.WithoutCancel(ctx), server.Options{
		Folder: d.folder, State: filepath.Join(d.folder, ".makeitso"), Self: self,
		Duty: server.Work, Only: "local", Listen: listen, Edge: edge, Embedded: true, Announce: d.announce,
	})
	if err != nil {
		return err
	}
	d.client, d.edge = d.server.Client(), edge
	return nil
}

// freeOr gives the address if its port is free, else one with another port.
func (d *demo) freeOr(address string) (string, error) {
	if process.TryListen("tcp", address) == nil {
		return address, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "find a free port")
	}
	d.note("port of %s is in use; the demo takes %s", address, l.Addr())
	return l.Addr().String(), l.Close()
}

// git runs git in the shop; its output is shown only when it fails.
func (d *demo) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", d.folder}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.Wrap(fault.Failed, err, "git %s: %s", args[0], out).WithHint("the demo needs git: apt-get install git")
	}
	return nil
}

func (d *demo) commit(ctx context.Context, subject string) error {
	return d.git(ctx, "-c", "user.name=demo", "-c", "user.email=demo@shop.localhost", "-c", "commit.gpgsign=false",
		"commit", "--quiet", "--all", "--message", subject)
}

// push pushes the current commit and gives the runs it began.
func (d *demo) push(ctx context.Context) (control.StartResponse, error) {
	after, err := d.client.LastEvent(ctx)
	if err != nil {
		return control.StartResponse{}, err
	}
	fmt.Fprintf(d.Out, "  git push %s main\n", d.server.PushURL())
	if err := d.git(ctx, "push", "--quiet", d.server.PushURL(), "HEAD:refs/heads/main"); err != nil {
		return control.StartResponse{}, err
	}
	head, err := gitserver.Describe(ctx, d.folder, "HEAD")
	if err != nil {
		return control.StartResponse{}, err
	}
	runs, err := d.client.Runs(ctx, control.RunsRequest{})
	if err != nil {
		return control.StartResponse{}, err
	}
	started := control.StartResponse{After: after}
	for _, run := range runs {
		if run.Source.Commit == head.Hash {
			started.Runs = append(started.Runs, run)
		}
	}
	if len(started.Runs) == 0 {
		return started, fault.New(fault.Failed, "the push began no run")
	}
	return started, nil
}

// pushAndSee pushes and shows the runs to their end, which must be good.
func (d *demo) pushAndSee(ctx context.Context) ([]pipeline.Run, error) {
	started, err := d.push(ctx)
	if err != nil {
		return nil, err
	}
	return started.Runs, d.followRuns(ctx, d.client, started)
}

func (d *demo) firstPush(ctx context.Context) error {
	d.heading("the first push: three pipelines make it so")
	begun := time.Now()
	if _, err := d.pushAndSee(ctx); err != nil {
		return err
	}
	if err := d.checkUp(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "  all of it answers, %s after the push\n", took(time.Since(begun)))
	return nil
}

// whatNow shows where everything answers and what to try.
func (d *demo) whatNow(ctx context.Context, o demoOptions) error {
	d.heading("it is up")
	if err := d.printAddresses(ctx, d.client); err != nil {
		return err
	}
	if err := d.printReal(ctx); err != nil || o.once {
		return err
	}
	fmt.Fprintf(d.Out, `
  try, in another terminal:
    curl http://api.shop.localhost:%s/version
    cd %s
    makeitso status                    (or: go run ./cmd/makeitso -C %s status)
    makeitso releases api
    edit server/main.go, git commit -a, makeitso push
  Ctrl-C ends the demo and removes everything it made
`, portOf(d.edge), d.folder, d.folder)
	return nil
}

// printReal says what was real and what a stand-in.
func (d *demo) printReal(ctx context.Context) error {
	status, err := d.client.Status(ctx, control.StatusRequest{Environment: "local"})
	if err != nil {
		return err
	}
	fmt.Fprintln(d.Out, "  what stands behind it:")
	var rows [][]string
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			rows = append(rows, []string{"    " + r.Name, r.Type, r.By})
		}
	}
	return d.table(rows)
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

// end destroys what the demo made and checks that nothing is left.
func (d *demo) end(ctx context.Context, o demoOptions) error {
	var errs []error
	if d.server != nil {
		d.heading("the end: everything the demo made is removed")
		errs = append(errs, d.client.Destroy(ctx, control.StacksRequest{Environment: "local", Force: true}, nothingToShow))
		d.client.Close()
		errs = append(errs, d.server.Close(), d.checkGone(ctx))
	}
	if !o.keep {
		errs = append(errs, os.RemoveAll(d.folder))
		if o.folder == "" {
			errs = append(errs, os.RemoveAll(filepath.Dir(d.folder)))
		}
	} else {
		d.note("the work folder is kept: %s", d.folder)
	}
	err := errors.Join(errs...)
	if err == nil {
		fmt.Fprintln(d.Out, "  nothing is left")
	}
	return err
}
