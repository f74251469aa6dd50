package local

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/release"
)

// program is a server that says who it is; GET /exit ends it.
const program = `package main
import ("fmt"; "net/http"; "os")
func main() {
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("told to end"); os.Exit(3) })
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, err := os.Stat(os.Getenv("OUTSIDE"))
		fmt.Fprint(w, os.Getenv("GREETING"), " ", os.Getenv("FROM"), " ", os.Args[1:], " ", err == nil)
	})
	fmt.Println(http.ListenAndServe(os.Getenv("HOST") + ":" + os.Getenv("PORT"), nil))
}`

// builtProgram builds it once for all tests.
var builtProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "makeitso-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "app")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(binary)
})

// unpackProgram stands for an image that holds the program.
func unpackProgram(unpacked *int) func(context.Context, string, string) ([]string, []string, error) {
	return func(_ context.Context, digest, into string) ([]string, []string, error) {
		*unpacked++
		binary, err := builtProgram()
		if err != nil {
			return nil, nil, err
		}
		if digest != "sha256:1" {
			return nil, nil, fault.New(fault.NotFound, "no image %s", digest)
		}
		return []string{"/app", "one"}, []string{"GREETING=hello", "FROM=image"}, os.WriteFile(filepath.Join(into, "app"), binary, 0o755)
	}
}

// reach asks an instance until it answers.
func reach(t *testing.T, i release.Instance, path string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		answer, err := http.Get("http://" + i.Address + path)
		if err == nil {
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		if time.Now().After(end) {
			t.Fatalf("instance %s: %v\n%s", i.ID, err, machine.Tail(i.Log))
		}
	}
}

func instanceSpec(id string) release.InstanceSpec {
	return release.InstanceSpec{ID: id, Service: "local/api", Artifact: "sha256:1", Env: map[string]string{"FROM": "service", "PORT": "1", "OUTSIDE": os.Args[0]}}
}

func TestInstanceRunsFromItsImageOnce(t *testing.T) {
	t.Parallel()
	unpacked := 0
	p := newPlatform(t, Options{Unpack: unpackProgram(&unpacked)})
	first, err := p.Start(t.Context(), instanceSpec("api-1"))
	if err != nil {
		t.Fatal(err)
	}
	outside := "false" // the machine's folders are not seen
	if os.Geteuid() != 0 {
		outside = "true"
	}
	if got := reach(t, first, "/"); got != "hello service [one] "+outside {
		t.Errorf("it says %q", got)
	}
	// As after a restart of makeitso: another platform on the same folder.
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	second, err := again.Start(t.Context(), instanceSpec("api-1"))
	if err != nil || second != first || unpacked != 1 {
		t.Errorf("started again: %+v, %v, unpacked %d times; want %+v once", second, err, unpacked, first)
	}
	if found, err := again.Find(t.Context(), "api-1"); err != nil || found != first {
		t.Errorf("found %+v, %v; want %+v", found, err, first)
	}
	other, err := p.Start(t.Context(), instanceSpec("api-2"))
	if err != nil || other.Address == first.Address || other.PID == first.PID {
		t.Errorf("another instance: %+v, %v", other, err)
	}
	if err := again.Stop(t.Context(), "api-1", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Find(t.Context(), "api-1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("found after Stop: %v", err)
	}
	if _, err := os.Stat(p.instanceFolder("api-1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder after Stop: %v", err)
	}
	if err := p.Stop(t.Context(), "api-1", time.Second); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

func TestInstanceThatEndsSaysWhyAndIsNotRunAgain(t *testing.T) {
	t.Parallel()
	unpacked := 0
	p := newPlatform(t, Options{Unpack: unpackProgram(&unpacked)})
	i, err := p.Start(t.Context(), instanceSpec("api-1"))
	if err != nil {
		t.Fatal(err)
	}
	reach(t, i, "/")
	exited := p.Exited("api-1")
	if answer, err := http.Get("http://" + i.Address + "/exit"); err == nil {
		answer.Body.Close()
	}
	select {
	case <-exited:
	case <-time.After(10 * time.Second):
		t.Fatal("Exited is not closed 10 s after the end")
	}
	_, err = p.Find(t.Context(), "api-1")
	if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(fault.HintOf(err), "told to end") {
		t.Errorf("found %v, hint %q", err, fault.HintOf(err))
	}
	if again, err := p.Start(t.Context(), instanceSpec("api-1")); err != nil || again.PID != i.PID {
		t.Errorf("started again: %+v, %v; want the one that has ended", again, err)
	}
	select {
	case <-p.Exited("never-was"):
	default:
		t.Error("Exited of an unknown instance is open")
	}
}

func TestInstancesThatCannotStart(t *testing.T) {
	t.Parallel()
	unpacked := 0
	p := newPlatform(t, Options{Unpack: unpackProgram(&unpacked)})
	unknown := instanceSpec("api-1")
	unknown.Artifact = "sha256:2"
	if _, err := p.Start(t.Context(), unknown); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown image: %v", err)
	}
	if _, err := p.Find(t.Context(), "api-1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("found what never ran: %v", err)
	}
	if err := p.Stop(t.Context(), "api-1", 0); err != nil {
		t.Errorf("stop what never ran: %v", err)
	}
	if _, err := p.Start(t.Context(), instanceSpec("api-1")); err != nil {
		t.Errorf("with the image: %v", err)
	}
	for _, id := range []string{"", "..", "a/b"} {
		if _, err := p.Start(t.Context(), instanceSpec(id)); !fault.Is(err, fault.Invalid) {
			t.Errorf("id %q: %v", id, err)
		}
		if err := p.Stop(t.Context(), id, 0); !fault.Is(err, fault.Invalid) {
			t.Errorf("stop id %q: %v", id, err)
		}
	}
}
