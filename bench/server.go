package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startTime is how long a server may take until it answers.
const startTime = 30 * time.Second

// server is a program that runs beside the bench.
type server struct {
	process *exec.Cmd
	said    bytes.Buffer
	ended   chan error
}

// begin starts a server and waits until it answers.
func begin(ctx context.Context, process *exec.Cmd, answers func() error) (*server, error) {
	s := &server{process: process, ended: make(chan error, 1)}
	process.Stdout, process.Stderr = &s.said, &s.said
	if err := process.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- process.Wait() }()
	for deadline := time.Now().Add(startTime); ; {
		failure := answers()
		if failure == nil {
			return s, nil
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("%s has ended: %w\n%s", process.Path, err, s.said.String())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), s.stop())
		case <-time.After(2 * time.Millisecond): // it tells nobody when it listens
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s does not come up: %w", process.Path, failure), s.stop())
		}
	}
}

// serve has makeitso serve the project of a folder.
func (b *bench) serve(ctx context.Context, dir string) (*server, error) {
	serve := exec.CommandContext(ctx, b.program, "serve", "--listen", "127.0.0.1:0", "--edge", "127.0.0.1:0")
	serve.Dir = dir
	serve.Cancel = func() error { return serve.Process.Signal(os.Interrupt) }
	socket := filepath.Join(dir, ".makeitso", "control.sock")
	// Not by a command, which would do the work itself until it is served, and
	// keep the server out of the folder.
	return begin(ctx, serve, func() error { return connects("unix", socket) })
}

// stop asks the server to end and waits until it has.
func (s *server) stop() error {
	if err := s.process.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	var exit *exec.ExitError
	if err := <-s.ended; err != nil && !errors.As(err, &exit) { // how it tells an interrupt is not measured
		return err
	}
	return nil
}

// freePort gives a port at which nobody listens.
func freePort() (port int, err error) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return free.Addr().(*net.TCPAddr).Port, free.Close()
}

// connects says whether somebody takes connections at an address.
func connects(network, address string) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// listens says whether what is said to an address is answered as wanted.
func listens(address, say, want string) error {
	conn, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(say)); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(answer[:n]), want) {
		return fmt.Errorf("%s answers %q", address, answer[:n])
	}
	return nil
}
