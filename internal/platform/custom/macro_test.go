package custom_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/custom"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// macro makes a stack with the macro M.
func (w *world) macro(function string) error {
	raw, err := json.Marshal(function)
	if err != nil {
		return err
	}
	cs, err := w.engine.Plan(w.t.Context(), changeset.Change{Stack: "macros", File: "macros.yaml",
		Template: []byte("Resources: {M: {Type: AWS::CloudFormation::Macro, Properties: {Name: M, FunctionName: " + string(raw) + "}}}\nOutputs: {Name: {Value: !Ref M}}\n")})
	if err != nil {
		return err
	}
	return w.engine.Apply(w.t.Context(), cs, nil)
}

const macroUser = `
Parameters: {Who: {Type: String, Default: me}}
Resources: {Thing: {Type: Test::Thing, Properties: {Size: {Fn::Transform: {Name: M, Parameters: {For: !Ref Who}}}}}}
Outputs: {Size: {Value: !GetAtt Thing.Size}}
`

// answering is a command that answers a macro's request with more of JSON.
func answering(more string) string {
	return `id=$(sed 's/.*"requestId":"\([^"]*\)".*/\1/'); echo '{"requestId":"'$id'",` + more + `}'`
}

func TestMacroWithCommand(t *testing.T) {
	w := newWorld(t)
	if err := w.macro(`tee asked.json | ` + `(` + answering(`"status":"success","fragment":"'$(pwd -P | wc -c | tr -d ' ')'"`) + `)`); err != nil {
		t.Fatal(err)
	}
	if outputs := w.must(macroUser); outputs["Size"] == "" || strings.Trim(outputs["Size"], "0123456789") != "" {
		t.Errorf("outputs are %v", outputs)
	}
	outputs, err := w.engine.Outputs(t.Context(), "macros")
	if err != nil || outputs["Name"] != "M" {
		t.Errorf("the macro's outputs are %v (%v)", outputs, err)
	}
	for function, want := range map[string]string{
		answering(`"status":"failed","errorMessage":"no room"`): "Transform 000000000000::M failed with: no room",
		"echo oops":                             "Received malformed response from transform 000000000000::M: invalid character",
		"echo no such thing >&2; exit 3":        "no such thing",
		answering(`"status":"success"`):         "Received malformed response from transform 000000000000::M",
		"echo '{\"status\":\"success\"}'":       "its answer must give requestId back",
		"head -c 20000000 /dev/zero":            "Transformation data limit exceeded",
		"sleep 100 & sleep 100 # ends, as well": "gave no answer in 300ms",
	} {
		w.engine = stack.New("local", custom.Over(stacktest.NewPlatform(), custom.Options{Folder: w.folder, MacroTimeout: 10 * time.Second}), record.NewMemory(), stack.Options{Holder: "test"})
		if strings.HasPrefix(function, "sleep") {
			w.engine = stack.New("local", custom.Over(stacktest.NewPlatform(), custom.Options{MacroTimeout: 300 * time.Millisecond}), record.NewMemory(), stack.Options{Holder: "test"})
		}
		if err := w.macro(function); err != nil {
			t.Fatal(err)
		}
		if err := w.apply(macroUser); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "app.yaml:3:82: error: ") {
			t.Errorf("%s: answered %v, want %s", function, err, want)
		}
	}
}

func TestMacroWithURL(t *testing.T) {
	answer := func(asked map[string]any) (int, map[string]any) { return http.StatusOK, nil }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked map[string]any
		raw, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(raw, &asked) != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		status, said := answer(asked)
		if said["requestId"] == nil {
			said["requestId"] = asked["requestId"]
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(said) // a client that is gone needs no answer
	}))
	defer server.Close()
	w := newWorld(t)
	if err := w.macro(server.URL); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		said   map[string]any
		want   string
	}{
		{http.StatusInternalServerError, map[string]any{}, "Received malformed response from transform 000000000000::M: provider " + server.URL + " answered 500"},
		{http.StatusOK, map[string]any{"status": "failed", "errorMessage": "no room"}, "Transform 000000000000::M failed with: no room"},
		{http.StatusOK, map[string]any{"status": "failed"}, "Transform 000000000000::M failed without an error message."},
		{http.StatusOK, map[string]any{"requestId": "another", "status": "success", "fragment": "x"}, "Received malformed response"},
	} {
		answer = func(map[string]any) (int, map[string]any) { return c.status, c.said }
		if err := w.apply(macroUser); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("answered %v, want %s", err, c.want)
		}
	}
	answer = func(asked map[string]any) (int, map[string]any) {
		return http.StatusOK, map[string]any{"status": "success", "fragment": "for-" + asked["params"].(map[string]any)["For"].(string)}
	}
	if outputs := w.must(macroUser); outputs["Size"] != "for-me" {
		t.Errorf("outputs are %v", outputs)
	}
	if err := w.macro(answering(`"status":"success","fragment":"by a command"`)); err != nil { // an update in place
		t.Fatal(err)
	}
	if outputs := w.must(macroUser); outputs["Size"] != "by a command" {
		t.Errorf("outputs are %v", outputs)
	}
}

func TestCheckMacro(t *testing.T) {
	w := newWorld(t)
	for _, wrong := range []string{
		`{Name: M, FunctionName: !If [Never, x, !Ref "AWS::NoValue"]}`, `{Name: !If [Never, x, !Ref "AWS::NoValue"], FunctionName: x}`,
		`{Name: "AWS::Mine", FunctionName: x}`, `{Name: M, FunctionName: "http://"}`, `{Name: M, FunctionName: "arn:aws:lambda:eu-west-1:111111111111:function:f"}`,
	} {
		err := w.apply("Conditions: {Never: !Equals [a, b]}\nResources: {M: {Type: AWS::CloudFormation::Macro, Properties: " + wrong + "}}")
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s answered %v", wrong, err)
		}
	}
	if s := custom.Over(stacktest.NewPlatform(), custom.Options{}).Support("AWS::CloudFormation::Macro"); s.Level != changeset.Real || s.Note == "" {
		t.Errorf("support is %+v", s)
	}
}
