package local

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/record"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

const handleType = "AWS::CloudFormation::WaitConditionHandle"

// putSignal sends a signal and gives the status of the answer.
func putSignal(t *testing.T, address, document string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address, strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func TestWaitHandlePassesTheSuite(t *testing.T) {
	p := newPlatform(t, Options{})
	for _, typ := range []string{handleType, "AWS::CloudFormation::WaitCondition"} {
		h, err := p.Handler(typ)
		if err != nil {
			t.Fatal(err)
		}
		stacktest.Handler(t, h, stacktest.Case{Name: typ, Request: stack.Request{Environment: "local", Stack: "app", LogicalID: "Wait", Type: typ, Token: "app-wait-1"}})
	}
}

// TestWaitHandle takes signals at an address that a restart leaves as it is.
func TestWaitHandle(t *testing.T) {
	var taken []stack.Signal
	var at string
	var broken error
	o := Options{Options: machine.Options{State: t.TempDir(), Records: record.NewMemory(), Key: seal.Fresh()}, Signal: func(_ context.Context, address string, s stack.Signal) error {
		if err := s.Check(); err != nil || broken != nil {
			return errors.Join(err, broken)
		}
		at, taken = address, append(taken, s)
		return nil
	}}
	p := newPlatform(t, o)
	h, err := p.Handler(handleType)
	if err != nil {
		t.Fatal(err)
	}
	r := stack.Request{Environment: "local", Stack: "app", LogicalID: "Handle", Type: handleType, Token: "app-handle-1"}
	result, err := h.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	const document = `{"Status": "SUCCESS", "UniqueId": "a", "Data": "d", "Reason": "r"}`
	address := result.PhysicalID
	p.Close()
	again, err := New("local", Options{Options: o.Options, Project: "shop", Signal: o.Signal})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address, document string
		status            int
	}{
		{address, document, http.StatusOK},
		{strings.Replace(address, "127.0.0.1", "localhost", 1), document, http.StatusOK},
		{address, `{"Status": "SUCCESS"}`, http.StatusBadRequest},
		{address, `{"Status": "MAYBE", "UniqueId": "a"}`, http.StatusBadRequest},
		{address, `ready`, http.StatusBadRequest},
		{address + "A", document, http.StatusNotFound},
		{address[:strings.LastIndex(address, "/")+1] + "A", document, http.StatusNotFound},
		{strings.Replace(address, "app-handle-1", "..", 1), document, http.StatusNotFound},
		{strings.Replace(address, "app-handle-1", "other", 1), document, http.StatusNotFound},
	} {
		if got := putSignal(t, c.address, c.document); got != c.status {
			t.Errorf("PUT %s %s is answered with %d, want %d", c.address, c.document, got, c.status)
		}
	}
	if want := (stack.Signal{Status: "SUCCESS", UniqueID: "a", Data: "d", Reason: "r"}); len(taken) != 2 || taken[0] != want || at != address {
		t.Errorf("taken are %+v at %s", taken, at)
	}
	broken = fault.New(fault.Unavailable, "the store is away")
	if got := putSignal(t, address, document); got != http.StatusServiceUnavailable {
		t.Errorf("a signal that cannot be kept is answered with %d", got)
	}
	h, err = again.Handler(handleType)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := putSignal(t, address, document); got != http.StatusNotFound {
		t.Errorf("a signal for a handle that is gone is answered with %d", got)
	}
}
