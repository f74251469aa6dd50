package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/changeset"
	"makeitso/internal/dns"
	"makeitso/internal/fault"
	"makeitso/internal/platform/objectserver"
	"makeitso/internal/process"
	"makeitso/internal/record"
	"makeitso/internal/registry"
	"makeitso/internal/release"
	"makeitso/internal/seal"
	"makeitso/internal/stack"
)

// The contracts that the platform fulfils.
var (
	_ stack.Platform    = (*Platform)(nil)
	_ release.Instances = (*Platform)(nil)
)

// TestMain lets the test binary serve as makeitso's hidden commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "internal" {
		hidden := map[string]func([]string) error{
			"exec": func(args []string) error { return process.Exec(args[0]) }, "s3": objectserver.Serve, "ecr": repository.Main, "redis": ServeRedis,
			"create": createResource, "dns": dns.Main,
		}
		if err := hidden[os.Args[2]](os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newPlatform gives a platform that is destroyed after the test, and looks
// that the destruction leaves no process and no file.
func newPlatform(t *testing.T, o Options) *Platform {
	t.Helper()
	if o.State == "" {
		o.State = t.TempDir()
	}
	if o.Records == nil {
		o.Records = record.NewMemory()
	}
	if o.Key == nil {
		var err error
		if o.Key, err = keyOf(o.State); err != nil {
			t.Fatal(err)
		}
	}
	o.Project, o.Events = "shop", "events"
	p, err := New("local", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		p.Close()
		if left := processesOf(t, o.State); len(left) != 0 {
			t.Errorf("processes left: %v", left)
		}
		for _, dir := range []string{"environments", "logs"} {
			if _, err := os.Stat(filepath.Join(o.State, dir)); err == nil {
				t.Errorf("the folder %s is left", dir)
			}
		}
	})
	return p
}

// keyOf gives the key of a state folder, which all platforms on it share.
func keyOf(state string) (*seal.Key, error) { return seal.Load(filepath.Join(state, "key")) }

// processesOf lists the processes of this machine that have the folder among
// their arguments.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), dir) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// request is a resource of the stack "data".
func request(typ, logicalID string, properties map[string]any) stack.Request {
	return stack.Request{
		Environment: "local", Stack: "data", LogicalID: logicalID, Type: typ,
		Token: "data-" + logicalID + "-1", Properties: properties,
	}
}

func handlerOf(t *testing.T, p *Platform, typ string) stack.Handler {
	t.Helper()
	h, err := p.Handler(typ)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func create(t *testing.T, p *Platform, r stack.Request) stack.Result {
	t.Helper()
	result, err := handlerOf(t, p, r.Type).Create(t.Context(), r)
	if err != nil {
		t.Fatal(fault.Text(err))
	}
	return result
}

// attribute gives an attribute that is text.
func attribute(t *testing.T, r stack.Result, name string) string {
	t.Helper()
	text, isText := r.Attributes[name].(string)
	if !isText {
		t.Fatalf("attribute %s is %v; want text", name, r.Attributes[name])
	}
	return text
}

func TestTypesAreKnownOrRefusedWithAReason(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	types := p.Types()
	if len(types) < 30 || !slices.IsSortedFunc(types, func(a, b Type) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%d types %v; want at least 30, by name", len(types), types)
	}
	for _, typ := range types {
		if typ.Support.Note == "" || p.Support(typ.Name) != typ.Support {
			t.Errorf("%s: support %+v", typ.Name, typ.Support)
		}
		if _, known := registry.Type(typ.Name); !known {
			t.Errorf("%s is no type of the registry", typ.Name)
		}
	}
	if s := p.Support("AWS::Batch::JobQueue"); s.Level != changeset.Refused || !strings.Contains(s.Note, "platform aws") {
		t.Errorf("a queue: %+v", s)
	}
	if _, err := p.Handler("AWS::Batch::JobQueue"); !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "makeitso types") {
		t.Errorf("handler of a queue: %v", err)
	}
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	if _, err := New("../x", Options{State: t.TempDir(), Project: "shop", Records: record.NewMemory()}); !fault.Is(err, fault.Invalid) {
		t.Errorf("environment ../x: %v", err)
	}
	if _, err := New("local", Options{Project: "shop"}); err == nil {
		t.Error("made without a state folder")
	}
}

func TestMissingProgramsAreToldBeforeAnything(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{Path: []string{t.TempDir()}, DockerHost: "unix:///no/docker.sock"})
	for typ, properties := range map[string]map[string]any{
		"AWS::ElastiCache::CacheCluster": redisProperties(),
		"AWS::RDS::DBInstance":           postgresProperties(),
	} {
		r := request(typ, "X", properties)
		for what, err := range map[string]error{
			"check":  handlerOf(t, p, typ).Check(t.Context(), r),
			"create": func() error { _, err := handlerOf(t, p, typ).Create(t.Context(), r); return err }(),
		} {
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.HintOf(err), "apt-get install") {
				t.Errorf("%s %s: %v; want unavailable with how to install", what, typ, err)
			}
		}
	}
}

func TestRequiredPropertiesAreAsked(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	err := handlerOf(t, p, "AWS::EC2::Subnet").Check(t.Context(), request("AWS::EC2::Subnet", "S", map[string]any{}))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "VpcId is required") {
		t.Errorf("a subnet without VPC: %v", err)
	}
}

func TestFewRealResourcesAreMadeAtATime(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := request("AWS::Logs::LogGroup", "Log", nil)
	for range atOnce {
		p.making <- struct{}{}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stack.ErrSuspend)
	if err := handlerOf(t, p, r.Type).(*handler).make(ctx, requested(r)); !errors.Is(err, stack.ErrSuspend) {
		t.Errorf("one more than may be made was answered %v", err)
	}
	for range 2 { // the first gives its place back
		<-p.making
		create(t, p, r)
		p.making <- struct{}{}
	}
}
