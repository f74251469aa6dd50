package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"

	"makeitso/internal/control"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/gitserver"
	"makeitso/internal/pipeline"
	"makeitso/internal/project"
)

// listen takes the address for pushes, if there is to be one.
func (s *Server) listen() (err error) {
	if s.o.Listen == "" {
		return nil
	}
	s.pushes, err = net.Listen("tcp", s.o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.New(fault.Conflict, "pushes cannot be taken at %s: the port is in use", s.o.Listen).
			WithHint("stop what listens there, or choose another with --listen 127.0.0.1:PORT")
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "pushes cannot be taken at %s", s.o.Listen).WithHint("choose another address with --listen")
	}
	return nil
}

// listensAt gives where pushes are taken, "" if nowhere.
func (s *Server) listensAt() string {
	if s.pushes == nil {
		return ""
	}
	return s.pushes.Addr().String()
}

// takePushes hosts the project's repository, and watches its own if that was
// asked for. The edge is started too: pushes are there to be seen.
func (s *Server) takePushes(ctx context.Context, c *control.Control) error {
	if err := s.edge.Ensure(ctx); err != nil {
		return err
	}
	s.working.Go(func() { s.edge.keepAlive(s.ctx, s.o.Announce) })
	s.working.Go(func() { s.watchCertificates(s.ctx) })
	p, err := s.known()
	if err != nil {
		return err
	}
	s.git, err = gitserver.New(filepath.Join(s.o.State, "repositories"), gitserver.Options{
		Executable: s.o.Self,
		Check:      checkPush,
		Pushed: func(ctx context.Context, push gitserver.Push) (string, error) {
			return s.pushed(ctx, c, s.git.Dir(push.Repository), push)
		},
	})
	if err != nil {
		return err
	}
	if err := s.git.Init(ctx, p.Name); err != nil {
		return err
	}
	if err := s.git.Recover(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", s.cloudFormation())
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.Handle("/", s.git.Handler())
	s.serveOn(s.pushes, loopbackOnly(mux))
	if !s.o.Watch {
		return nil
	}
	// Read now: a commit made right after this server says that it is ready
	// must be told from those there were.
	known, err := gitserver.Branches(ctx, s.o.Folder)
	if err != nil {
		return err
	}
	s.working.Go(func() { s.watch(c, known) })
	return nil
}

// metrics answers Prometheus with what the edge counts.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	text, contentType, err := s.edge.client.Metrics(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer text.Close()
	w.Header().Set("Content-Type", contentType)
	if _, err := io.Copy(w, text); err != nil {
		panic(http.ErrAbortHandler) // a part must not pass for the whole
	}
}

// loopbackOnly refuses requests that a web page of another site made a browser
// send here: they carry a host name that is not this machine's.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(host)
		if host != "localhost" && !strings.HasSuffix(host, ".localhost") && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "makeitso answers on this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// PushURL gives the URL that takes pushes, "" if none does.
func (s *Server) PushURL() string {
	_, port, err := net.SplitHostPort(s.listensAt())
	if err != nil {
		return ""
	}
	p, err := s.known()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("http://localhost:%s/%s.git", port, p.Name)
}

// checkPush refuses a commit whose makeitso.yaml has mistakes.
func checkPush(_ context.Context, _, _ string, files func(string) ([]byte, error)) error {
	src, err := files(project.File)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "the commit has no %s", project.File).WithHint("write one (makeitso init) and commit it")
	}
	if err != nil {
		return err
	}
	p, mistakes := project.Parse(project.File, src)
	if err := mistakes.Err(); err != nil {
		return err
	}
	var missing diag.List
	for name, st := range p.Stacks {
		if _, err := files(st.Template); fault.Is(err, fault.NotFound) {
			missing.Errorf(diag.Pos{File: project.File}, "stack %s: the commit has no template %s", name, st.Template).Hint = "did you forget to add it?"
		} else if err != nil {
			return err
		}
	}
	return missing.Err()
}

// pushed begins the runs that a push is meant for, and tells the pusher.
func (s *Server) pushed(ctx context.Context, c *control.Control, dir string, push gitserver.Push) (string, error) {
	src, err := gitserver.Read(ctx, dir, push.New, project.File)
	if err != nil {
		return "", err
	}
	changed, err := gitserver.Changed(ctx, dir, push.Old, push.New)
	if err != nil {
		return "", err
	}
	commit, err := gitserver.Describe(ctx, dir, push.New)
	if err != nil {
		return "", err
	}
	by := push.Pusher
	if by == "" {
		by = commit.Author
	}
	branch := strings.TrimPrefix(push.Ref, "refs/heads/")
	runs, err := c.Pushed(ctx, pipeline.Push{
		Project: src, Changed: changed, By: by,
		Source: pipeline.Source{Repository: dir, Commit: push.New, Branch: branch, Message: commit.Subject},
	})
	if err != nil {
		return "", err
	}
	return report(branch, runs), nil
}

func report(branch string, runs []pipeline.Run) string {
	if len(runs) == 0 {
		return fmt.Sprintf("no pipeline is meant for what changed on %s\n", branch)
	}
	var b strings.Builder
	for _, run := range runs {
		fmt.Fprintf(&b, "%s: run %s begins, for %s\n", run.Pipeline, run.ID, strings.Join(run.Environments, ", then "))
	}
	fmt.Fprintf(&b, "follow it with: makeitso logs %s --follow\n", runs[0].ID)
	return b.String()
}

// watch treats commits in the project's own repository as pushes. known is the
// commits of the branches that were there before.
func (s *Server) watch(c *control.Control, known map[string]string) {
	dir := s.o.Folder
	err := gitserver.Watch(s.ctx, dir, known, func(ref, old, new string) error {
		if new == "" {
			return nil
		}
		check := checkPush(s.ctx, dir, new, func(path string) ([]byte, error) { return gitserver.Read(s.ctx, dir, new, path) })
		if check != nil { // nobody to refuse: the commit exists already
			s.o.Announce(fmt.Sprintf("commit %.8s on %s is not run:\n%v", new, ref, check))
			return nil
		}
		text, err := s.pushed(s.ctx, c, dir, gitserver.Push{Ref: ref, Old: old, New: new})
		if err != nil {
			s.o.Announce(fmt.Sprintf("commit %.8s on %s is not run: %v", new, ref, err))
			return nil
		}
		s.o.Announce(strings.TrimSpace(text))
		return nil
	})
	if err != nil && s.ctx.Err() == nil {
		s.o.Announce(fmt.Sprintf("the repository is not watched any more: %v", err))
	}
}
