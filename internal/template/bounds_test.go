package template_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"makeitso/internal/template"
)

// bounded runs work and fails if it takes unreasonable time or memory. Time is
// that of the processor, so that who else is at work here has no part in it.
func bounded(t testing.TB, work func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := worked(t)
	work()
	took := worked(t) - begin
	runtime.ReadMemStats(&after)
	if took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if made := (after.TotalAlloc - before.TotalAlloc) >> 20; made > 2048 {
		t.Errorf("allocated %d MB", made)
	}
}

// worked is how long this process has been at work.
func worked(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// judge reads a template and resolves all of it.
func judge(t *testing.T, src []byte) error {
	tmpl, diags := template.ParseWith("template.yaml", src, template.Options{
		Include: func(string) ([]byte, error) { return nil, errors.New("no fragments here") },
		Macro:   macros,
		SSM:     func(name string) (string, error) { return name, nil },
		ValueOf: func(_, value, attribute string) (string, error) { return value + attribute, nil },
	})
	if tmpl == nil || diags.HasErrors() {
		return diags.Err()
	}
	given := map[string]string{}
	for name, p := range tmpl.Parameters {
		if p.Default == nil {
			given[name] = "1"
		}
	}
	return values(t, &strings.Builder{}, tmpl, given, nil).Err()
}

// TestBounds gives templates that would be huge if they were written out.
func TestBounds(t *testing.T) {
	loops := func(levels, items int, body string) string {
		var list []string
		for i := range items {
			list = append(list, fmt.Sprintf("a%03d", i))
		}
		open, key := "", ""
		for i := range levels {
			open += fmt.Sprintf("{Fn::ForEach::L%d: [I%d, [%s], ", i, i, strings.Join(list, ","))
			key += fmt.Sprintf("${I%d}", i)
		}
		return "Transform: AWS::LanguageExtensions\nResources: " + open + fmt.Sprintf(body, key) + strings.Repeat("]}", levels)
	}
	double := func(levels int, text string) string {
		v := "!Ref P"
		for range levels {
			v = `!Sub ["${a}${a}", {a: ` + v + "}]"
		}
		return "Parameters: {P: {Type: String, Default: '" + text + "'}}\nResources: {A: {Type: \"T::A\", Properties: {X: " + v + "}}}"
	}
	long := strings.Repeat("x", 4000)
	for _, c := range []struct{ name, src, want string }{
		{"five loops of thirty", loops(5, 30, `{"R%s": {Type: "T::A"}}`), "more than 500000 values"},
		{"text in loops", loops(2, 100, `{"R%s": {Type: "T::A", Properties: {X: "`+long+`${I0}"}}}`), "more than 500000 values"},
		{"five loops of three", loops(5, 3, `{"R%s": {Type: "T::A"}}`), ""},
		{"doubled texts", double(25, "abcdefgh"), "makes more text"},
		{"doubled nothing", double(30, ""), ""},
		{"macros in macros", "Resources: {A: {Type: \"T::A\", Properties: " + strings.Repeat("{Fn::Transform: {Name: Double}, X: ", 40) + "x" + strings.Repeat("}", 40) + "}}", "more than 500000 values"},
		{"large answer", "Resources: {A: {Type: \"T::A\", Properties: {X: {Fn::Transform: Large}}}}", "Transformation data limit exceeded"},
		{"many macros", "Transform: [" + strings.Repeat("Echo, ", 101) + "]\nResources: {A: {Type: \"T::A\"}}", "more than 100 macros"},
		{"aliases in macros", "Metadata: {" + aliases(12) + "}\nTransform: Echo\nResources: {A: {Type: \"T::A\"}}", "more than 500000 values"},
		{"deep answer", "Resources: {A: {Type: \"T::A\", Properties: {X: {Fn::Transform: Deep}}}}", "nested more than 100 deep"},
		{"joined lists", "Resources: {A: {Type: \"T::A\", Properties: {X: !Join [\"" + long + "\", !Split [\",\", \"" + strings.Repeat(",", 4000) + "\"]]}}}", "makes more text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bounded(t, func() {
				err := judge(t, []byte(c.src))
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("got %.300v, want %q", err, c.want)
				}
			})
		})
	}
}

// aliases is the entries of a map that is huge if it is written out.
func aliases(levels int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 {k: v}")
	for i := range levels {
		fmt.Fprintf(&b, ", a%d: &a%d [%s*a%d]", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 5), i)
	}
	return b.String()
}

// seeds are the templates of the golden cases.
func seeds(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
}

// FuzzTemplate looks for templates that make the language panic, or take
// unbounded time or memory.
func FuzzTemplate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		bounded(t, func() { _ = judge(t, src) }) // mistakes are right
	})
}

// FuzzSub looks for texts of Fn::Sub that make it panic, and holds that a text
// without ${ stays what it is.
func FuzzSub(f *testing.F) {
	for _, seed := range []string{"", "${A}", "${A.b}-${ P }", "${!x}", "${}", "$${P}", "${AWS::Region}", "${P", "${${P}}", "{{resolve:ssm:x}}", "${\n}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src := fmt.Sprintf(`{"Parameters": {"P": {"Type": "String", "Default": "p"}}, "Resources": {"A": {"Type": "T::A"}, "B": {"Type": "T::B", "Properties": {"X": {"Fn::Sub": [%s, {"L": "l"}]}}}}}`, quoted(s))
		tmpl, diags := template.Parse("template.json", []byte(src))
		if diags.HasErrors() {
			return
		}
		bound, diags := tmpl.Bind(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		scope := world(nil)
		scope.Parameters, scope.Pseudo = bound, map[string]string{}
		value, _, diags := tmpl.Resolve(tmpl.Resources["B"].Properties.Get("X"), scope)
		if !diags.HasErrors() && !strings.Contains(s, "${") && value != tmpl.Resources["B"].Properties.Get("X").Items[0].Text {
			t.Errorf("%q became %q", s, value)
		}
	})
}

// FuzzResolve puts any text in place of a function's argument.
func FuzzResolve(f *testing.F) {
	functions := []string{"Ref", "Fn::GetAtt", "Fn::Join", "Fn::Split", "Fn::Select", "Fn::FindInMap", "Fn::If", "Fn::Base64", "Fn::ImportValue",
		"Fn::GetAZs", "Fn::Cidr", "Fn::Length", "Fn::ToJsonString", "Fn::GetStackOutput", "Fn::Transform", "Fn::Sub"}
	for i, seed := range []string{`"A"`, `["A", "Arn"]`, `["", ["a"]]`, `[",", "a,b"]`, `[0, ["a"]]`, `["M", "a", "b", {"DefaultValue": "c"}]`, `["C", 1, 2]`, `"x"`, `"y"`, `""`,
		`["10.0.0.0/8", 256, 4]`, `[1]`, `{"a": [1, true]}`, `{"StackName": "a", "OutputName": "b"}`, `{"Name": "AWS::Include", "Parameters": {"Location": "s3://a/b"}}`, `"${A}"`} {
		f.Add(uint8(i), seed)
		f.Add(uint8(i), `{"Fn::Select": ["0", {"Fn::Split": [",", {"Ref": "P"}]}]}`)
		f.Add(uint8(10), `["::/0", "256", "128"]`)
		f.Add(uint8(14), `[{"Name": "Double", "Parameters": {"A": {"Ref": "P"}}}, "Echo"]`)
	}
	f.Fuzz(func(t *testing.T, which uint8, argument string) {
		src := fmt.Sprintf("Transform: AWS::LanguageExtensions\nParameters: {P: {Type: String, Default: p}}\nMappings: {M: {a: {b: c}}}\nConditions: {C: !Equals [a, b]}\nResources: {A: {Type: \"T::A\"}, B: {Type: \"T::B\", Properties: {X: {%q: %s}}}}\n",
			functions[int(which)%len(functions)], argument)
		bounded(t, func() { _ = judge(t, []byte(src)) }) // mistakes are right
	})
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r&0xffff)
	}
	b.WriteByte('"')
	return b.String()
}
