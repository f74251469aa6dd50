package custom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/custom"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// world is an engine over a platform that makes custom resources.
type world struct {
	t      *testing.T
	engine *stack.Engine
	folder string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, folder: t.TempDir()}
	w.engine = stack.New("local", custom.Over(stacktest.NewPlatform(), custom.Options{Folder: w.folder}), record.NewMemory(), stack.Options{Holder: "test"})
	return w
}

func (w *world) apply(template string) error {
	w.t.Helper()
	cs, err := w.engine.Plan(w.t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(template)})
	if err != nil {
		return err
	}
	return w.engine.Apply(w.t.Context(), cs, nil)
}

func (w *world) must(template string) map[string]string {
	w.t.Helper()
	if err := w.apply(template); err != nil {
		w.t.Fatal(err)
	}
	outputs, err := w.engine.Outputs(w.t.Context(), "app")
	if err != nil {
		w.t.Fatal(err)
	}
	return outputs
}

// provider is an http provider that keeps what it was asked.
type provider struct {
	mu     sync.Mutex
	asked  []map[string]any
	answer func(asked map[string]any) string // what it PUTs
	direct bool                              // or answers at once
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var asked map[string]any
	if err != nil || json.Unmarshal(raw, &asked) != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, asked)
	text := p.answer(asked)
	if p.direct || text == "" {
		_, _ = io.WriteString(w, text)
		return
	}
	put, err := http.NewRequestWithContext(r.Context(), http.MethodPut, asked["ResponseURL"].(string), bytes.NewReader([]byte(text)))
	if err == nil {
		var response *http.Response
		if response, err = http.DefaultClient.Do(put); err == nil {
			err = response.Body.Close()
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (p *provider) kinds() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, a := range p.asked {
		id, _ := a["PhysicalResourceId"].(string)
		all = append(all, a["RequestType"].(string)+" "+id)
	}
	return strings.Join(all, ", ")
}

func template(token, size string) string {
	return `
Resources:
  Thing: {Type: "Custom::Thing", Properties: {ServiceToken: "` + token + `", Size: ` + size + `, Deep: {On: true}}}
Outputs:
  Id: {Value: !Ref Thing}
  Size: {Value: !GetAtt Thing.Size}
`
}

func TestProviderWithURL(t *testing.T) {
	for name, direct := range map[string]bool{"put": false, "at once": true} {
		t.Run(name, func(t *testing.T) {
			p := &provider{direct: direct, answer: func(asked map[string]any) string {
				size := asked["ResourceProperties"].(map[string]any)["Size"].(string)
				id := "thing-small"
				if size == "9" {
					id = "thing-large" // another thing: a replacement
				}
				return `{"Status":"SUCCESS","PhysicalResourceId":"` + id + `","Data":{"Size":"` + size + `"}}`
			}}
			server := httptest.NewServer(p)
			defer server.Close()
			w := newWorld(t)
			outputs := w.must(template(server.URL, "5"))
			if outputs["Id"] != "thing-small" || outputs["Size"] != "5" {
				t.Errorf("outputs are %v", outputs)
			}
			asked := p.asked[0]
			properties := asked["ResourceProperties"].(map[string]any)
			if properties["Size"] != "5" || properties["Deep"].(map[string]any)["On"] != "true" || asked["LogicalResourceId"] != "Thing" ||
				asked["ResourceType"] != "Custom::Thing" || !strings.HasPrefix(asked["StackId"].(string), "arn:aws:cloudformation:") || asked["RequestId"] == "" {
				t.Errorf("asked for %v", asked)
			}
			if outputs := w.must(template(server.URL, "6")); outputs["Size"] != "6" {
				t.Errorf("after the update, outputs are %v", outputs)
			}
			if old := p.asked[1]["OldResourceProperties"].(map[string]any); old["Size"] != "5" {
				t.Errorf("the update told the old properties %v", old)
			}
			if outputs := w.must(template(server.URL, "9")); outputs["Id"] != "thing-large" {
				t.Errorf("after the replacement, outputs are %v", outputs)
			}
			if err := w.engine.Delete(t.Context(), "app", nil); err != nil {
				t.Error(err)
			}
			want := "Create , Update thing-small, Update thing-small, Delete thing-small, Delete thing-large"
			if got := p.kinds(); got != want {
				t.Errorf("asked: %s\n want: %s", got, want)
			}
		})
	}
}

func TestFailedProvider(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct{ answer, want string }{
		"failed":      {`{"Status":"FAILED","Reason":"no room"}`, "no room"},
		"no id":       {`{"Status":"SUCCESS"}`, "Invalid PhysicalResourceId"},
		"odd status":  {`{"Status":"MAYBE"}`, `"MAYBE"`},
		"too long":    {`{"Status":"SUCCESS","PhysicalResourceId":"` + long + `"}`, "too long"},
		"nothing yet": {``, "did not receive a response"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &provider{}
			p.answer = func(asked map[string]any) string {
				if asked["RequestType"] == "Delete" {
					return `{"Status":"SUCCESS"}`
				}
				return c.answer
			}
			server := httptest.NewServer(p)
			defer server.Close()
			w := newWorld(t)
			text := strings.Replace(template(server.URL, "5"), "Size: 5", "ServiceTimeout: 1, Size: 5", 1)
			err := w.apply(text)
			if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("answered %v, want %q", err, c.want)
			}
			if s, err := w.engine.Stack(t.Context(), "app"); err != nil || s.Status != stack.RollbackComplete {
				t.Errorf("the stack is %+v (%v)", s, err)
			}
			if got := p.kinds(); !strings.HasPrefix(got, "Create , Delete app-Thing-") {
				t.Errorf("asked: %s", got)
			}
		})
	}
}

// TestReplacementIsTakenBack fails after an update that made another thing.
func TestReplacementIsTakenBack(t *testing.T) {
	p := &provider{direct: true, answer: func(asked map[string]any) string {
		return `{"Status":"SUCCESS","PhysicalResourceId":"of-` + asked["ResourceProperties"].(map[string]any)["Size"].(string) + `","Data":{"Size":"x"}}`
	}}
	server := httptest.NewServer(p)
	defer server.Close()
	w := newWorld(t)
	w.must(template(server.URL, "5"))
	bad := strings.Replace(template(server.URL, "6"), "Outputs:", "  Bad: {Type: Custom::Bad, DependsOn: Thing, Properties: {ServiceToken: exit 3}}\nOutputs:", 1)
	if err := w.apply(bad); !fault.Is(err, fault.Failed) {
		t.Errorf("answered %v", err)
	}
	if outputs, err := w.engine.Outputs(t.Context(), "app"); err != nil || outputs["Id"] != "of-5" {
		t.Errorf("outputs are %v (%v)", outputs, err)
	}
	if got, want := p.kinds(), "Create , Update of-5, Delete of-6"; got != want {
		t.Errorf("asked: %s, want %s", got, want)
	}
}

func TestProviderWithCommand(t *testing.T) {
	w := newWorld(t)
	script := `cat > "asked-$$.json"; echo '{"Status":"SUCCESS","PhysicalResourceId":"from-command","Data":{"Size":"7"}}'`
	if err := os.WriteFile(filepath.Join(w.folder, "provider.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	outputs := w.must(template("sh ./provider.sh", "7"))
	if outputs["Id"] != "from-command" || outputs["Size"] != "7" {
		t.Errorf("outputs are %v", outputs)
	}
	asked, err := filepath.Glob(filepath.Join(w.folder, "asked-*.json"))
	if err != nil || len(asked) != 1 {
		t.Fatalf("asked %v (%v)", asked, err)
	}
	raw, err := os.ReadFile(asked[0])
	if err != nil || !bytes.Contains(raw, []byte(`"RequestType":"Create"`)) {
		t.Errorf("the command was told %s (%v)", raw, err)
	}
	if err := w.apply(template("echo no such thing >&2; exit 3", "8")); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a command that fails answered %v", err)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	for _, wrong := range []string{
		`{Conditions: {Given: !Equals [a, b]}, Resources: {T: {Type: Custom::Thing, Properties: {ServiceToken: !If [Given, "true", !Ref "AWS::NoValue"]}}}}`,
		`Resources: {T: {Type: Custom::Thing, Properties: {ServiceToken: "arn:aws:lambda:eu-west-1:111111111111:function:f"}}}`,
		`Resources: {T: {Type: Custom::Thing, Properties: {ServiceToken: "http://"}}}`,
		`Resources: {T: {Type: Custom::Thing, Properties: {ServiceToken: "true", ServiceTimeout: 4000}}}`,
	} {
		if err := w.apply(wrong); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s answered %v", wrong, err)
		}
	}
}

// TestCancel ends a provider that does not answer, and what it has begun.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	started := filepath.Join(w.folder, "started")
	if err := os.WriteFile(filepath.Join(w.folder, "provider.sh"), []byte(`grep -q Delete && echo '{"Status":"SUCCESS"}' && exit; mkfifo wait; echo > started; cat wait`), 0o755); err != nil {
		t.Fatal(err)
	}
	cs, err := w.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(template("sh ./provider.sh", "1"))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.engine.Apply(ctx, cs, nil) }()
	for { // a file is no event that could be awaited
		if _, err := os.Stat(started); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("it ended before it began: %v", err)
		default:
		}
	}
	cancel()
	if err := <-done; !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled, it answered %v", err)
	}
}

// TestNoEcho takes an answer whose data are secrets: another resource gets
// them, and nobody is shown them.
func TestNoEcho(t *testing.T) {
	w := newWorld(t)
	script := `echo '{"Status":"SUCCESS","PhysicalResourceId":"login","NoEcho":true,"Data":{"Password":"hunter22"}}'`
	if err := os.WriteFile(filepath.Join(w.folder, "provider.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	both := func(size string) string {
		return `
Resources:
  Login: {Type: Custom::Login, Properties: {ServiceToken: sh ./provider.sh}}
  User: {Type: Test::Thing, Properties: {Password: !Sub "is ${Login.Password}", Size: ` + size + `}}
`
	}
	w.must(both("1"))
	if err := w.apply(both("2")); err != nil {
		t.Fatal(err)
	}
	cs, err := w.engine.Plan(t.Context(), changeset.Change{Stack: "app", File: "app.yaml", Template: []byte(both("3"))})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(cs)
	if err != nil || bytes.Contains(shown, []byte("hunter22")) || !bytes.Contains(shown, []byte("is ****")) {
		t.Errorf("the change set is %s (%v)", shown, err)
	}
	resources, err := w.engine.Resources(t.Context(), "app")
	if err != nil || resources[0].Attributes["Password"] != changeset.Masked {
		t.Errorf("the resources are %+v (%v)", resources, err)
	}
	gone, err := w.engine.PlanDelete(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := json.Marshal(gone); err != nil || bytes.Contains(shown, []byte("hunter22")) {
		t.Errorf("the set of a delete is %s (%v)", shown, err)
	}
}
