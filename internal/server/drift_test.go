package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"makeitso/internal/control"
	"makeitso/internal/pipeline"
	"makeitso/internal/seal"
	"makeitso/internal/server"
	"makeitso/internal/stack"
)

const network = `
Resources:
  Log: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 365}}
`

// TestDriftBySchedule has drift found and repaired by a server that is told of
// the schedule while it serves.
func TestDriftBySchedule(t *testing.T) {
	folder := newProject(t, "")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scheduled := func(drift string) {
		write("makeitso.yaml", "project: hello\nstacks: {network: {template: network.yaml, drift: "+drift+"}}\n")
	}
	write("network.yaml", network)
	scheduled("{every: 24h}")
	s, err := server.Start(t.Context(), server.Options{
		Folder: folder, State: filepath.Join(folder, ".makeitso"), Self: self(t), Duty: server.Work, Listen: "127.0.0.1:0", Edge: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	client := s.Client()
	request := control.StacksRequest{Stacks: []string{"network"}}
	if err := client.Apply(t.Context(), request, func(stack.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, ".makeitso/environments/local/resources/*/resource.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the resources are %v (%v)", files, err)
	}
	key, err := seal.Load(filepath.Join(folder, ".makeitso/key"))
	if err != nil {
		t.Fatal(err)
	}
	about, kept := "resource "+filepath.Base(filepath.Dir(files[0])), map[string]any{}
	if err := key.ReadFile(files[0], about, &kept); err != nil {
		t.Fatal(err)
	}
	kept["properties"] = map[string]any{"RetentionInDays": 30}
	if err := key.WriteFile(files[0], about, kept); err != nil {
		t.Fatal(err)
	}
	scheduled("{every: 1s, then: repair}")
	var told, byHand []string
	enough := errors.New("enough")
	soon, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = client.Follow(soon, control.FollowRequest{}, func(ev pipeline.Event) error {
		if ev.Kind == "stack" {
			byHand = append(byHand, ev.Subject+" "+ev.Message)
		}
		if ev.Kind == "drift" {
			told = append(told, ev.Environment+" "+ev.Subject+" "+ev.Message)
		}
		if len(told) == 2 {
			return enough
		}
		return nil
	})
	if want := "[local network drift DRIFTED: Log MODIFIED local network drift IN_SYNC]"; !errors.Is(err, enough) || fmt.Sprint(told) != want {
		t.Errorf("told were %v (%v); want %s", told, err, want)
	}
	if want := "[network CREATE_IN_PROGRESS  User Initiated network CREATE_COMPLETE]"; fmt.Sprint(byHand) != want {
		t.Errorf("of the apply by hand was told %v, want %s", byHand, want)
	}
	status, err := client.Status(t.Context(), control.StatusRequest{})
	if err != nil || len(status.Environments) != 1 || status.Environments[0].Drift[0].Status != stack.InSync {
		t.Errorf("the status is %+v (%v)", status, err)
	}
	drift, err := client.Drift(t.Context(), request)
	if err != nil || drift[0].Status != stack.InSync {
		t.Errorf("after the repair, the drift is %+v (%v)", drift, err)
	}
	client.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "no goroutine of the server", func() bool { return len(ours()) == 0 })
}
