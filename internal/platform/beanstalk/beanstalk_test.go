package beanstalk

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func options(list ...string) map[string]any {
	var all []any
	for _, text := range list {
		parts := strings.SplitN(text, "|", 3)
		all = append(all, map[string]any{"Namespace": parts[0], "OptionName": parts[1], "Value": parts[2]})
	}
	return map[string]any{"OptionSettings": all}
}

func TestReadOptions(t *testing.T) {
	t.Parallel()
	template := options("aws:autoscaling:asg|MinSize|3", "aws:elasticbeanstalk:application:environment|A|1", "aws:elasticbeanstalk:application|Application Healthcheck URL|/well")
	for _, c := range []struct {
		environment, template map[string]any
		want                  string
	}{
		{nil, nil, "1-4  map[]"},
		{options("aws:elasticbeanstalk:application:environment|A|2", "aws:autoscaling:asg|MaxSize|5"), template, "3-5 /well map[A:2]"},
		{options("aws:elasticbeanstalk:environment|EnvironmentType|SingleInstance"), template, "1-1 /well map[A:1]"},
		{options("aws:elasticbeanstalk:application|Application Healthcheck URL|HTTP:80/up"), nil, "1-4 /up map[]"},
	} {
		s, err := Read(c.environment, c.template)
		if got := fmt.Sprintf("%d-%d %s %v", s.Min, s.Max, s.Check.Path, s.Env); err != nil || got != c.want {
			t.Errorf("%v over %v gives %s, %v; want %s", c.environment, c.template, got, err, c.want)
		}
	}
	for _, wrong := range []string{"aws:autoscaling:asg|MinSize|x", "aws:autoscaling:asg|MinSize|9"} {
		if _, err := Read(options(wrong), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// zipped makes a bundle; a name that ends with ! is a program.
func zipped(t *testing.T, files ...string) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		name, is := strings.CutSuffix(files[i], "!")
		header := &zip.FileHeader{Name: name}
		header.SetMode(0o644)
		if is {
			header.SetMode(0o755)
		}
		w, err := archive.CreateHeader(header)
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func TestUnpackFindsTheWebProcess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files []string
		want  string // of the command, or of the error
	}{
		{[]string{"Procfile", "worker: ./w\nweb: ./bin/app --port 1\n", "bin/app!", "x"}, "/bin/app --port 1"},
		{[]string{"application!", "x"}, "/application"},
		{[]string{"bin/application!", "x"}, "/bin/application"},
		{[]string{"Procfile", "web: node server.js", "server.js", "x"}, `"node", which is no program in it`},
		{[]string{"Procfile", "web: app", "app", "x"}, "no program in it"},
		{[]string{"index.html", "x"}, "neither a Procfile"},
		{[]string{"../out", "x"}, "unpack ../out"},
	} {
		into := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(into, 0o755); err != nil {
			t.Fatal(err)
		}
		b := zipped(t, c.files...)
		command, err := Unpack(b, b.Size(), into)
		got := strings.Join(command, " ")
		if err != nil {
			got = err.Error()
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v: %v", c.files, err)
			}
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%v gives %q; want %q", c.files, got, c.want)
		}
		if _, err := os.Stat(filepath.Join(into, "..", "out")); err == nil {
			t.Error("a bundle has written outside of its folder")
		}
	}
	if _, err := Unpack(strings.NewReader("x"), 1, t.TempDir()); !fault.Is(err, fault.Invalid) {
		t.Errorf("no zip file: %v", err)
	}
}
