package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The targets for stacks behind which servers run.
const (
	maxServers   = 1.3 // times what the servers take by hand
	maxUnchanged = 150 * time.Millisecond
)

// shop is the example whose data stack is made, with the stacks that it needs.
const shop = "examples/shop"

func shopStacks() []string { return []string{"network", "identity", "data"} }

// data compares apply of the example's data stack, from nothing, with the start
// of the same servers by hand, and then measures it with nothing to change.
func (b *bench) data(ctx context.Context) (err error) {
	const what, rounds = "apply, the data stack of the shop", 5
	h, found, err := b.hand()
	if err != nil {
		return err
	}
	if !found {
		b.add(row{what: what, figure: "PostgreSQL or redis-server is not here"})
		return nil
	}
	dir := filepath.Join(b.folder, "shop")
	if err := os.CopyFS(dir, os.DirFS(shop)); err != nil {
		return fmt.Errorf("copy %s: %w", shop, err)
	}
	in := func(state, verb string, flags ...string) func() error {
		args := append([]string{verb, "--environment", "local", "--state", state}, flags...)
		if verb != "destroy" {
			args = append(args, shopStacks()...)
		}
		return command(context.WithoutCancel(ctx), dir, b.program, args...)
	}
	// Destroyed at the end alone: for minutes after a deletion, ext4 takes much
	// longer to make files there, and that would be measured.
	var states []string
	defer func() {
		for _, state := range states {
			err = errors.Join(err, in(state, "destroy", "--yes")())
		}
	}()
	t, err := alternateSides(min(b.rounds, rounds),
		func() (time.Duration, error) {
			state := filepath.Join(b.folder, fmt.Sprintf("state-%d", len(states)))
			states = append(states, state)
			return timed(in(state, "apply", "--yes"))()
		},
		func() (time.Duration, error) { return h.bringUp(ctx) })
	if err != nil {
		return err
	}
	b.add(row{
		what: what, figure: show(t[0]), other: "by hand " + show(t[1]), ratio: ratio(t[0], t[1]),
		target: fmt.Sprintf("ratio < %.2f", maxServers), met: ratio(t[0], t[1]) <= maxServers,
	})
	t, err = alternate(b.rounds, in(states[0], "plan"), in(states[0], "apply", "--yes"))
	if err != nil {
		return err
	}
	for i, verb := range []string{"plan", "apply"} {
		b.add(row{what: "  " + verb + ", nothing to change", figure: show(t[i]), target: "< " + show(maxUnchanged), met: t[i] < maxUnchanged})
	}
	return nil
}

// hand brings up what the data stack has as one would by hand.
type hand struct {
	folder   string // that the user of postgres can enter
	programs string // where initdb, postgres and pg_isready are
	as       *syscall.Credential
}

// hand finds what is needed for that. PostgreSQL refuses to run as root, for
// whom another user must be there.
func (b *bench) hand() (h hand, found bool, err error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return hand{}, false, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // a link on PATH may stand alone
			return hand{}, false, err
		}
		h.programs = filepath.Dir(path)
	} else if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(found) > 0 { // Debian's are not on PATH
		h.programs = slices.Max(found)
	} else {
		return hand{}, false, nil
	}
	if os.Geteuid() == 0 {
		if h.as, err = credential("postgres"); err != nil {
			return hand{}, false, err
		}
	}
	h.folder = filepath.Join(b.folder, "by-hand")
	if err := os.Mkdir(h.folder, 0o711); err != nil {
		return hand{}, false, err
	}
	const entered = 0o711
	return h, true, os.Chmod(b.folder, entered)
}

// credential is what it takes to run as a user.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// bringUp starts both servers side by side, and gives how long it took until
// both answered. They are gone when it returns; their folder stays until the end.
func (h hand) bringUp(ctx context.Context) (took time.Duration, err error) {
	folder, err := os.MkdirTemp(h.folder, "")
	if err != nil {
		return 0, err
	}
	if h.as != nil {
		if err := os.Chown(folder, int(h.as.Uid), int(h.as.Gid)); err != nil {
			return 0, err
		}
	}
	var servers [2]*server
	var failures [2]error
	var starting sync.WaitGroup
	begun := time.Now()
	starting.Go(func() { servers[0], failures[0] = h.postgres(ctx, folder) })
	starting.Go(func() { servers[1], failures[1] = h.redis(ctx, folder) })
	starting.Wait()
	took, err = time.Since(begun), errors.Join(failures[:]...)
	for _, s := range servers {
		if s != nil {
			err = errors.Join(err, s.stop())
		}
	}
	return took, err
}

func (h hand) postgres(ctx context.Context, folder string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(h.programs, name), args...)
		cmd.Dir, cmd.SysProcAttr = folder, &syscall.SysProcAttr{Credential: h.as}
		return cmd
	}
	data := filepath.Join(folder, "data")
	// As makeitso has it: the locale takes part of the time.
	if out, err := run("initdb", "-D", data, "--encoding", "UTF8", "--locale", "C", "--auth", "trust").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return begin(ctx, run("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
		func() error { return run("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(port)).Run() })
}

func (h hand) redis(ctx context.Context, folder string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return begin(ctx, exec.CommandContext(ctx, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes", "--save", ""),
		func() error { return listens(fmt.Sprintf("127.0.0.1:%d", port), "PING\r\n", "+PONG") })
}
