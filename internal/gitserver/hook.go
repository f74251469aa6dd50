package gitserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// The hooks that git runs for a push: before the branches move, and after.
const (
	preReceive  = "pre-receive"
	postReceive = "post-receive"
)

// hookSocket is the variable that tells a hook the number of the file by which
// it talks to the server: one end of a socket pair that git hands down. So only
// the hooks of a push can talk of it, and no socket has to be found, guarded
// or cleaned away.
const hookSocket = "MAKEITSO_HOOK_SOCKET"

// seenRefs is where the server notes, by branch, the commit that Pushed was
// last told of.
const seenRefs = "refs/makeitso/seen/"

// question is what a hook asks the server.
type question struct {
	Hook    string   `json:"hook"`
	Updates []update `json:"updates"`
	// Env is how git finds the commits that are not yet part of the
	// repository.
	Env []string `json:"env"`
}

// update is one ref of a push.
type update struct {
	Old string `json:"old"`
	New string `json:"new"`
	Ref string `json:"ref"`
}

// reply is what the server answers a hook.
type reply struct {
	Text   string `json:"text"` // shown to the pusher
	Refuse bool   `json:"refuse"`
}

// HookName gives the name of the hook that this program was started as, by the
// first of its arguments; ok is false if it was started as itself.
func HookName(argv0 string) (name string, ok bool) {
	name = filepath.Base(argv0)
	return name, name == preReceive || name == postReceive
}

// Hook is the program that git runs as hook name: it asks the server what to
// do, prints the answer for the pusher and gives the exit status.
func Hook(name string, stdin io.Reader, stdout io.Writer) int {
	r, err := ask(name, stdin)
	if err != nil {
		r = reply{Text: fault.Text(err) + "\n", Refuse: true}
	}
	if _, err := io.WriteString(stdout, r.Text); err != nil || r.Refuse {
		return 1
	}
	return 0
}

func ask(name string, stdin io.Reader) (reply, error) {
	var fd uintptr
	if _, err := fmt.Sscan(os.Getenv(hookSocket), &fd); err != nil {
		return reply{}, fault.New(fault.Denied, "this repository takes pushes through makeitso only").
			WithHint("push to its address, e.g. git push http://localhost:7700/NAME.git main")
	}
	q := question{Hook: name}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GIT_QUARANTINE_PATH=") || strings.HasPrefix(v, "GIT_OBJECT_DIRECTORY=") ||
			strings.HasPrefix(v, "GIT_ALTERNATE_OBJECT_DIRECTORIES=") {
			q.Env = append(q.Env, v)
		}
	}
	lines, err := io.ReadAll(stdin)
	if err != nil {
		return reply{}, fmt.Errorf("read what is pushed: %w", err)
	}
	for line := range strings.Lines(string(lines)) {
		var u update
		if _, err := fmt.Sscan(line, &u.Old, &u.New, &u.Ref); err != nil {
			return reply{}, fmt.Errorf("read what is pushed: %w", err)
		}
		q.Updates = append(q.Updates, u)
	}
	socket := os.NewFile(fd, "hook")
	defer socket.Close() // nothing is buffered in it
	if err := json.NewEncoder(socket).Encode(q); err != nil {
		return reply{}, fmt.Errorf("ask makeitso: %w", err)
	}
	var r reply
	if err := json.NewDecoder(socket).Decode(&r); err != nil {
		return reply{}, fmt.Errorf("hear makeitso's answer: %w", err)
	}
	return r, nil
}

// push is one push in the hands of the server.
type push struct {
	repository string
	pusher     string
}

// hookCall answers the hooks of one push.
type hookCall struct {
	server *Server
	push   push
	conn   net.Conn
	child  *os.File // git's end
	served sync.WaitGroup
	err    error
	done   func() // gives the turn back
}

// answerHooks makes cmd's hooks reach this server. The caller runs cmd, then
// calls end.
func (s *Server) answerHooks(ctx context.Context, cmd *exec.Cmd, p push) (*hookCall, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make the hooks' socket: %w", err)
	}
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Env, hookSocket+"=3") // the first of the extra files
	h := &hookCall{server: s, push: p, conn: conn, child: theirs, done: func() {}}
	h.served.Go(func() { h.err = h.serve(ctx) })
	return h, nil
}

// end is called when git has ended.
func (h *hookCall) end() error {
	err := h.child.Close() // with git's own copies gone the socket ends
	h.served.Wait()
	h.done()
	return errors.Join(err, h.err, h.conn.Close())
}

func (h *hookCall) serve(ctx context.Context) error {
	questions, replies := json.NewDecoder(h.conn), json.NewEncoder(h.conn)
	for {
		var q question
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("hear the hook: %w", err)
		}
		var r reply
		switch q.Hook {
		case preReceive:
			r = h.check(ctx, q)
		case postReceive:
			r = h.report(ctx, q)
		}
		if err := replies.Encode(r); err != nil {
			return fmt.Errorf("answer the hook: %w", err)
		}
	}
}

// check answers pre-receive: may this be pushed?
func (h *hookCall) check(ctx context.Context, q question) reply {
	done, err := h.server.takeTurn(ctx, h.push.repository)
	if err != nil {
		return reply{Text: fault.Text(err) + "\n", Refuse: true}
	}
	h.done = done
	for _, u := range q.Updates {
		if text, err := h.checkUpdate(ctx, q, u); err != nil {
			return reply{Text: text, Refuse: true}
		}
	}
	return reply{}
}

// checkUpdate judges one ref; with an error it gives what the pusher is shown.
func (h *hookCall) checkUpdate(ctx context.Context, q question, u update) (string, error) {
	dir := h.server.Dir(h.push.repository)
	branch, isBranch := strings.CutPrefix(u.Ref, "refs/heads/")
	if !isBranch && !strings.HasPrefix(u.Ref, "refs/tags/") {
		err := fault.New(fault.Invalid, "%s is neither a branch nor a tag", u.Ref).WithHint("git push REMOTE HEAD:main")
		return fault.Text(err) + "\n", err
	}
	if !isBranch || known(u.New) == "" {
		return "", nil
	}
	if known(u.Old) != "" {
		forward, err := isAncestor(ctx, dir, q.Env, u.Old, u.New)
		if err == nil && !forward {
			err = fault.New(fault.Conflict, "the push would take commits away from %s, which runs and releases may name", branch).
				WithHint("bring your commits on top: git pull --rebase REMOTE %s, then push again; or push to a new branch", branch)
		}
		if err != nil {
			return fault.Text(err) + "\n", err
		}
	}
	if h.server.o.Check == nil {
		return "", nil
	}
	files := func(path string) ([]byte, error) { return read(ctx, dir, q.Env, u.New+":"+path) }
	err := h.server.o.Check(ctx, h.push.repository, u.New, files)
	if err == nil {
		return "", nil
	}
	return mistakes(err, files) + fmt.Sprintf("nothing was pushed to %s: correct this, commit, and push again\n", branch), err
}

// mistakes renders a refusal, mistakes in a file with the lines they are in.
func mistakes(err error, files func(path string) ([]byte, error)) string {
	var list diag.List
	if !errors.As(err, &list) {
		return fault.Text(err) + "\n"
	}
	var b bytes.Buffer
	source := func(file string) []byte {
		content, err := files(file)
		if err != nil {
			return nil // shown without the line
		}
		return content
	}
	if err := list.Print(&b, source); err != nil {
		return list.Error() + "\n"
	}
	return b.String()
}

// report answers post-receive: tells of the branches that have moved.
func (h *hookCall) report(ctx context.Context, q question) reply {
	// What is gone comes first, since a new branch may need the name's place.
	slices.SortStableFunc(q.Updates, func(a, b update) int {
		return cmp.Compare(min(1, len(known(a.New))), min(1, len(known(b.New))))
	})
	var text strings.Builder
	for _, u := range q.Updates {
		p := Push{Repository: h.push.repository, Ref: u.Ref, Old: known(u.Old), New: known(u.New), Pusher: h.push.pusher}
		report, err := h.server.pushed(ctx, p)
		if report = strings.TrimSpace(report); report != "" {
			text.WriteString(report + "\n")
		}
		if err != nil {
			fmt.Fprintf(&text, "the commits are here, but %s\n", fault.Text(err))
		}
	}
	return reply{Text: text.String()}
}

// pushed tells of a push and notes that it was told.
func (s *Server) pushed(ctx context.Context, p Push) (report string, err error) {
	branch, isBranch := strings.CutPrefix(p.Ref, "refs/heads/")
	if !isBranch {
		return "", nil
	}
	note := []string{"update-ref", seenRefs + branch, p.New}
	if p.New == "" {
		note = []string{"update-ref", "-d", seenRefs + branch}
	} else if s.o.Pushed != nil {
		if report, err = s.o.Pushed(ctx, p); err != nil {
			return report, err
		}
	}
	if _, err := git(ctx, s.Dir(p.Repository), note...); err != nil {
		return report, fmt.Errorf("note what was pushed: %w", err)
	}
	return report, nil
}

// Recover tells Pushed of the pushes that it was not told of because the
// process ended after the branch had moved. Call it once, before serving.
func (s *Server) Recover(ctx context.Context) error {
	names, err := s.repositories()
	if err != nil {
		return fmt.Errorf("recover pushes: %w", err)
	}
	for _, name := range names {
		branches, err := Branches(ctx, s.Dir(name))
		if err != nil {
			return fmt.Errorf("recover pushes to %s: %w", name, err)
		}
		seen, err := refs(ctx, s.Dir(name), seenRefs)
		if err != nil {
			return fmt.Errorf("recover pushes to %s: %w", name, err)
		}
		told := map[string]string{}
		for ref, commit := range seen {
			told["refs/heads/"+strings.TrimPrefix(ref, seenRefs)] = commit
		}
		for _, m := range moved(told, branches) {
			if _, err := s.pushed(ctx, Push{Repository: name, Ref: m.Ref, Old: m.Old, New: m.New}); err != nil {
				return fmt.Errorf("recover push to %s of %s: %w", m.Ref, name, err)
			}
		}
	}
	return nil
}

// socketPair gives two ends of a socket, neither of which is handed to
// processes that are started meanwhile.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "hooks"), os.NewFile(uintptr(fds[1]), "hook"), nil
}
