package local

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/platform/beanstalk"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
)

// bundle puts a source bundle with the program of tests into a bucket.
func bundle(t *testing.T, p *Platform, bucket, key, word string) {
	t.Helper()
	binary, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "bundle.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	archive := zip.NewWriter(file)
	for name, text := range map[string]string{"Procfile": "web: bin/app " + word + "\n", "bin/app": string(binary)} {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate}
		header.SetMode(0o755)
		w, err := archive.CreateHeader(header)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := p.Bucket(bucket)
	if err == nil {
		err = b.Put(t.Context(), key, file.Name(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func option(namespace, name, value string) object {
	return object{"Namespace": namespace, "OptionName": name, "Value": value}
}

func TestBeanstalkRunsTheVersionsOfAnApplication(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	p := newPlatform(t, Options{Edge: e})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", nil))
	app := machinetest.Create(t, p, machinetest.Request(beanstalk.ApplicationType, "App", nil))
	labels := map[string]string{}
	for _, word := range []string{"one", "two"} {
		source := object{"S3Bucket": files.PhysicalID, "S3Key": word + ".zip"}
		r := machinetest.Request(beanstalk.VersionType, "Version"+word, object{"ApplicationName": app.PhysicalID, "SourceBundle": source})
		if _, err := machinetest.Handler(t, p, r.Type).Create(t.Context(), r); !fault.Is(err, fault.Invalid) {
			t.Errorf("a version without its bundle: %v", err)
		}
		bundle(t, p, files.PhysicalID, word+".zip", word)
		labels[word] = machinetest.Create(t, p, r).PhysicalID
	}
	environment := func(version, greeting string) object {
		return object{"ApplicationName": app.PhysicalID, "CNAMEPrefix": "Shop", "VersionLabel": labels[version], "OptionSettings": []any{
			option("aws:autoscaling:asg", "MinSize", "2"), option("aws:elasticbeanstalk:application:environment", "GREETING", greeting),
			option("aws:elasticbeanstalk:application", "Application Healthcheck URL", "HTTP:80/"),
		}}
	}
	r := machinetest.Request(beanstalk.EnvironmentType, "Env", environment("one", "hello"))
	host := machinetest.Attribute(t, machinetest.Create(t, p, r), "EndpointURL")
	if host != "shop.elasticbeanstalk.local.shop.localhost" {
		t.Errorf("EndpointURL is %s", host)
	}
	says := func(want string) {
		t.Helper()
		if body, err := e.get(host, "/"); err != nil || !strings.HasPrefix(body, want) {
			t.Errorf("it says %q, %v; want %q", body, err, want)
		}
		g, err := p.fleets.Get(t.Context(), r.Token)
		if err != nil || len(g.Routed()) != 2 {
			t.Errorf("its instances are %+v, %v", g.Members, err)
		}
	}
	says("hello  [one]")
	for _, c := range []struct{ version, greeting, want string }{{"two", "hello", "hello  [two]"}, {"two", "hi", "hi  [two]"}} {
		r.Previous, r.Properties = r.Properties, environment(c.version, c.greeting)
		if _, err := machinetest.Handler(t, p, r.Type).Update(t.Context(), r); err != nil {
			t.Fatal(fault.Text(err))
		}
		says(c.want)
	}
	worker := stack.Request{Type: r.Type, Properties: object{"ApplicationName": "x", "Tier": object{"Name": "Worker"}}}
	if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), worker); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a tier of workers: %v", err)
	}
}
