package local

import (
	"slices"
	"strings"
	"testing"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/changeset"
	"makeitso/internal/dns"
	"makeitso/internal/fault"
	"makeitso/internal/platform/database"
	"makeitso/internal/platform/database/databasetest"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/objectserver"
	"makeitso/internal/record"
	"makeitso/internal/registry"
	"makeitso/internal/release"
	"makeitso/internal/stack"
)

// The contracts that the platform fulfils.
var (
	_ stack.Platform    = (*Platform)(nil)
	_ release.Instances = (*Platform)(nil)
)

// TestMain lets the test binary serve as makeitso's hidden commands.
func TestMain(m *testing.M) {
	machinetest.Main(m, map[string]func([]string) error{
		"s3": objectserver.Serve, "ecr": repository.Main, "redis": database.ServeRedis, "dns": dns.Main,
		"create": machinetest.Creating(func(o machine.Options) (machinetest.Platform, error) {
			return New("local", Options{Options: o, Project: "shop"})
		}),
	})
}

// newPlatform gives a platform that is destroyed after the test, and looks
// that the destruction leaves no process and no file.
func newPlatform(t *testing.T, o Options) *Platform {
	t.Helper()
	o.Options, o.Project, o.Events = machinetest.Options(t, o.Options), "shop", "events"
	p, err := New("local", o)
	if err != nil {
		t.Fatal(err)
	}
	machinetest.DestroyAtEnd(t, o.State, p)
	return p
}

func newDriftingOn(t *testing.T, p *Platform, template string) machinetest.Stack[*Platform] {
	t.Helper()
	return machinetest.Applied(t, p, template)
}

func newDrifting(t *testing.T, template string) machinetest.Stack[*Platform] {
	t.Helper()
	return machinetest.Applied(t, newPlatform(t, Options{}), template)
}

func TestTypesAreKnownOrRefusedWithAReason(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	types := p.Types()
	if len(types) < 30 || !slices.IsSortedFunc(types, func(a, b machine.Type) int { return strings.Compare(a.Name, b.Name) }) {
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
	if _, err := New("../x", Options{Project: "shop", Options: machine.Options{State: t.TempDir(), Records: record.NewMemory()}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("environment ../x: %v", err)
	}
	if _, err := New("local", Options{Project: "shop"}); err == nil {
		t.Error("made without a state folder")
	}
}

func TestMissingProgramsAreToldBeforeAnything(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{Options: machine.Options{Path: []string{t.TempDir()}, DockerHost: "unix:///no/docker.sock"}})
	for typ, properties := range map[string]map[string]any{
		"AWS::ElastiCache::CacheCluster": databasetest.Cluster(),
		"AWS::RDS::DBInstance":           databasetest.Instance(),
	} {
		r := machinetest.Request(typ, "X", properties)
		for what, err := range map[string]error{
			"check":  machinetest.Handler(t, p, typ).Check(t.Context(), r),
			"create": func() error { _, err := machinetest.Handler(t, p, typ).Create(t.Context(), r); return err }(),
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
	err := machinetest.Handler(t, p, "AWS::EC2::Subnet").Check(t.Context(), machinetest.Request("AWS::EC2::Subnet", "S", map[string]any{}))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "VpcId is required") {
		t.Errorf("a subnet without VPC: %v", err)
	}
}
