package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/control"
	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// serve serves mux on a socket of the test's own and gives a client of it.
func serve(t *testing.T, mux *http.ServeMux) (*Client, *http.Server) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	client := Dial(socket)
	t.Cleanup(func() { client.Close(); _ = server.Close(); <-done })
	return client, server
}

func TestErrorsArriveAsTheyWere(t *testing.T) {
	var list diag.List
	list.Errorf(diag.Pos{File: "makeitso.yaml", Line: 3, Column: 7}, "found x").Hint = "did you mean y?"
	for name, sent := range map[string]error{
		"fault":   fault.Wrap(fault.Conflict, errors.New("below"), "above").WithHint("do this"),
		"mistake": list,
		"plain":   errors.New("unforeseen"),
	} {
		mux := http.NewServeMux()
		answer(mux, "one", func(context.Context, control.Nothing) (int, error) { return 0, sent })
		stream(mux, "many", func(_ context.Context, _ control.Nothing, send func(int) error) error {
			return errors.Join(send(1), sent)
		})
		client, _ := serve(t, mux)
		_, err := call[int](t.Context(), client, "one", control.Nothing{})
		var items []int
		streamErr := receive(t.Context(), client, "many", control.Nothing{}, func(i int) error { items = append(items, i); return nil })
		for _, got := range []error{err, streamErr} {
			if got == nil || got.Error() != sent.Error() || fault.CodeOf(got) != fault.CodeOf(sent) || fault.HintOf(got) != fault.HintOf(sent) {
				t.Errorf("%s: %v (%s, %q), want %v", name, got, fault.CodeOf(got), fault.HintOf(got), sent)
			}
			var mistakes diag.List
			if errors.As(sent, &mistakes) && !errors.As(got, &mistakes) {
				t.Errorf("%s: the mistakes have lost their places: %#v", name, got)
			}
		}
		if len(items) != 1 || items[0] != 1 {
			t.Errorf("%s: items %v", name, items)
		}
	}
}

func TestRequestsThatAreNotUnderstoodAreRefused(t *testing.T) {
	mux := http.NewServeMux()
	answer(mux, "plan", func(context.Context, control.StacksRequest) (int, error) { return 1, nil })
	client, _ := serve(t, mux)
	for name, request := range map[string]any{
		"an unknown field": map[string]any{"stack": "x"},
		"a wrong type":     map[string]any{"stacks": 7},
		"too much":         control.StacksRequest{Environment: strings.Repeat("x", maxRequest)},
	} {
		if _, err := call[int](t.Context(), client, "plan", request); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if _, err := call[int](t.Context(), client, "plan", nil); err != nil {
		t.Errorf("null: %v", err)
	}
}

func TestServerThatEndsInTheMiddleIsTold(t *testing.T) {
	mux := http.NewServeMux()
	begun := make(chan struct{})
	stream(mux, "follow", func(ctx context.Context, _ control.Nothing, send func(int) error) error {
		if err := send(1); err != nil {
			return err
		}
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	client, server := serve(t, mux)
	go func() { <-begun; _ = server.Close() }()
	err := receive(t.Context(), client, "follow", control.Nothing{}, func(int) error { return nil })
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.HintOf(err), "makeitso serve") {
		t.Errorf("%v (hint %q)", err, fault.HintOf(err))
	}
	if _, err := call[int](t.Context(), client, "follow", nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
}
