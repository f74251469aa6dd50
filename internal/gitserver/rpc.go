package gitserver

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// leftoverWait is how long a finished git's pipes are waited for: the client
// may still hold its end of one.
const leftoverWait = 5 * time.Second

// The two services of git's protocol.
const (
	uploadPack  = "git-upload-pack"  // fetch, clone
	receivePack = "git-receive-pack" // push
)

// Handler serves the repositories at /NAME.git.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{repository}/info/refs", s.advertise)
	mux.HandleFunc("POST /{repository}/"+uploadPack, s.upload)
	mux.HandleFunc("POST /{repository}/"+receivePack, s.receive)
	return mux
}

// admit finds the repository and the user of a request, or answers it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (repository, pusher string, ok bool) {
	// No page in a browser may push: it cannot send this type elsewhere.
	if want := "application/x-" + path.Base(r.URL.Path) + "-request"; r.Method == http.MethodPost && r.Header.Get("Content-Type") != want {
		http.Error(w, "the content must be of type "+want, http.StatusUnsupportedMediaType)
		return "", "", false
	}
	if s.o.Pusher != nil {
		var err error
		if pusher, err = s.o.Pusher(r); err != nil {
			status := http.StatusForbidden
			if fault.Is(err, fault.Denied) {
				status = http.StatusUnauthorized
				w.Header().Set("WWW-Authenticate", `Basic realm="makeitso"`)
			}
			http.Error(w, fault.Text(err), status)
			return "", "", false
		}
	}
	name, ok := strings.CutSuffix(r.PathValue("repository"), ".git")
	if !ok || !validName.MatchString(name) || !s.exists(name) {
		http.Error(w, fmt.Sprintf("there is no repository at /%s", r.PathValue("repository")), http.StatusNotFound)
		return "", "", false
	}
	return name, pusher, true
}

// advertise answers which refs there are: the first request of every push and
// fetch.
func (s *Server) advertise(w http.ResponseWriter, r *http.Request) {
	repository, _, ok := s.admit(w, r)
	if !ok {
		return
	}
	service := r.URL.Query().Get("service")
	if service != uploadPack && service != receivePack {
		http.Error(w, "this server speaks git's smart protocol only; use git 1.6.6 or newer", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	out := &answer{w: w, flush: http.NewResponseController(w).Flush}
	if service == receivePack || !strings.Contains(r.Header.Get("Git-Protocol"), "version=2") {
		line := "# service=" + service + "\n"
		fmt.Fprintf(out, "%04x%s0000", len(line)+4, line) // what is lost is noticed below
	}
	cmd := s.service(r.Context(), repository, service, "--advertise-refs", ".")
	finish(out, run(cmd, r, out))
}

// upload answers a fetch. It ends when the client goes.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	repository, _, ok := s.admit(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-"+uploadPack+"-result")
	out := &answer{w: w, flush: http.NewResponseController(w).Flush}
	finish(out, run(s.service(r.Context(), repository, uploadPack, "."), r, out))
}

// receive takes a push. Once the commits are here it goes on to the end even
// when the client goes: a branch that moved without a run would be a loss.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	repository, pusher, ok := s.admit(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-"+receivePack+"-result")
	out := &answer{w: w, flush: http.NewResponseController(w).Flush}
	ctx := context.WithoutCancel(r.Context())
	cmd := s.service(ctx, repository, receivePack, ".")
	call, err := s.answerHooks(ctx, cmd, push{repository: repository, pusher: pusher})
	if err != nil {
		finish(out, err)
		return
	}
	err = run(cmd, r, out)
	finish(out, errors.Join(err, call.end()))
}

// service is a call of git for one request of a client.
func (s *Server) service(ctx context.Context, repository, service string, args ...string) *exec.Cmd {
	args = append([]string{
		"-c", "core.hooksPath=" + s.hooks(),
		"-c", "transfer.hideRefs=" + seenRefs,
		"-c", "receive.denyNonFastForwards=true",
		"-c", "receive.autogc=false", // it would outlive the request
		strings.TrimPrefix(service, "git-"), "--stateless-rpc",
	}, args...)
	cmd := gitCommand(ctx, s.Dir(repository), args...)
	cmd.WaitDelay = leftoverWait
	return cmd
}

// run runs git with the request's body as input and the answer as output.
func run(cmd *exec.Cmd, r *http.Request, out *answer) error {
	header := out.w.Header()
	header.Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	if version := r.Header.Get("Git-Protocol"); version != "" {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+version)
	}
	if r.Method == http.MethodPost {
		// Git answers while it still reads.
		if err := http.NewResponseController(out.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("answer while reading: %w", err)
		}
		cmd.Stdin = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, err := gzip.NewReader(r.Body)
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "the request is not compressed by gzip as it says")
			}
			cmd.Stdin = body
		}
	}
	cmd.Stdout = out
	var trouble limited
	cmd.Stderr = &trouble
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(trouble)))
	}
	return nil
}

// finish ends an answer. An error that comes too late for a status breaks the
// connection, so that the client does not take half an answer for a whole one.
func finish(out *answer, err error) {
	switch {
	case err == nil && out.err == nil:
	case out.begun:
		panic(http.ErrAbortHandler)
	case fault.Is(err, fault.Invalid):
		http.Error(out.w, fault.Text(err), http.StatusBadRequest)
	default:
		http.Error(out.w, err.Error(), http.StatusInternalServerError)
	}
}

// answer is the body of an answer. Each piece goes out at once, since somebody
// watches. When the client has gone it takes the rest in silence: git must not
// be stopped by that in the middle of a push.
type answer struct {
	w     http.ResponseWriter
	flush func() error
	begun bool
	err   error
}

func (a *answer) Write(p []byte) (int, error) {
	if a.err == nil {
		a.begun = true
		if _, a.err = a.w.Write(p); a.err == nil {
			if err := a.flush(); !errors.Is(err, http.ErrNotSupported) {
				a.err = err
			}
		}
	}
	return len(p), nil
}

// limited keeps the first 4 KiB of what git prints about its troubles.
type limited []byte

func (l *limited) Write(p []byte) (int, error) {
	*l = append(*l, p[:min(len(p), 4096-len(*l))]...)
	return len(p), nil
}
