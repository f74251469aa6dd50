package arch

import (
	"slices"
	"strings"
	"testing"

	"makeitso/internal/testneed"
)

// floors says on which floor a package lies, by its folder. A package imports
// packages of lower floors only.
var floors = map[string]int{
	"internal/diag": -2, "internal/fault": -2, "internal/statefile": -2, "internal/span": -2, // what all others stand on
	"internal/record": -1, "internal/process": -1, "internal/registry": -1, "internal/dag": -1, "internal/sigv4": -1, "internal/platform/resp": -1, "internal/edge/socket": -1,
	"internal/seal": 0, "internal/platform/datafolder": 0, "internal/template": 0, "internal/pace": 0, "internal/analysis": 0, "internal/project": 0, "internal/lease": 0, "internal/policy": 0, "internal/metric": 0,
	"internal/edge/front": 0, "internal/edge/upstream": 0, "internal/edge/outcome": 0, "internal/edge/certificate": 0,
	"internal/changeset": 1, "internal/rollout": 1, "internal/artifact/image": 1, "internal/artifact/repository": 1, "internal/edge": 1, "internal/dns": 1, "internal/source": 1, "internal/analysis/simulate": 1, // for bench
	"internal/platform/objectserver": 1, "internal/platform/vault": 1, "internal/platform/model": 1, "internal/platform/postgresql": 1,
	"internal/stack": 2, "internal/platform/watch": 2, "internal/release": 2, "internal/rehearsal": 2, "internal/publish": 2, "internal/platform/balance": 2, "internal/platform/traffic": 2, "internal/platform/beanstalk": 2,
	"internal/platform/fleet": 3, "internal/platform/machine": 3, "internal/platform/custom": 3, "internal/pipeline": 3,
	"internal/platform/database": 4, "internal/store": 4, "internal/control": 4,
	"internal/platform/local": 5, "internal/api": 5, "internal/cfnapi": 5, "internal/gitserver": 5, "internal/web": 5,
	"internal/server": 6,
	"internal/cli":    7,
	"cmd/makeitso":    8,
}

// testOnly lists the packages that only tests may import. So are those that
// lie in a package's folder and have its name with "test" behind it: the suite
// that its implementations pass.
var testOnly = []string{"internal/testneed", "internal/arch"}

// owners says which packages may import a module of others (with all below
// it), outside of tests; none means tests only.
var owners = map[string][]string{
	"github.com/dbos-inc/dbos-transact-golang":   {"internal/pipeline", "internal/server"},
	"modernc.org/sqlite":                         {"internal/store"},
	"github.com/jackc/pgx/v5":                    {"internal/store", "internal/platform/postgresql"},
	"go.yaml.in/yaml/v4":                         {"internal/template", "internal/project"},
	"github.com/spf13/cobra":                     {"internal/cli"},
	"github.com/google/go-containerregistry":     {"internal/artifact/image"},
	"github.com/versity/versitygw":               {"internal/platform/objectserver"},
	"github.com/aws/aws-sdk-go-v2/service/s3":    {"internal/platform/objectserver", "internal/platform/local"},
	"github.com/aws/aws-sdk-go-v2/credentials":   {"internal/platform/objectserver"},
	"github.com/aws/aws-sdk-go-v2/aws":           {"internal/edge", "internal/platform/objectserver", "internal/platform/local"},
	"github.com/gofiber/fiber/v3":                {"internal/platform/objectserver"}, // the gateway's routes
	"github.com/aws/smithy-go":                   {"internal/platform/objectserver"}, // the errors of its clients
	"github.com/alicebob/miniredis/v2":           {"internal/platform/database"},
	"github.com/fergusstrange/embedded-postgres": {"internal/platform/database"},
	"github.com/moby/moby":                       {"internal/platform/machine", "internal/platform/machine/machinetest"},
	"github.com/miekg/dns":                       {"internal/dns"},
	"github.com/andybalholm/brotli":              {"internal/edge"},
	"github.com/klauspost/compress":              {"internal/edge"},
	"github.com/containerd/errdefs":              {"internal/platform/machine"}, // the errors of moby's client
	"golang.org/x/sys":                           {"internal/process", "internal/platform/datafolder"},
	"golang.org/x/crypto":                        {"internal/edge/certificate"}, // certificates over ACME
	"github.com/fsnotify/fsnotify":               {"internal/gitserver", "internal/server", "internal/platform/watch"},
	"github.com/bmatcuk/doublestar/v4":           {"internal/pipeline"}, // triggers are matched there
	"github.com/rogpeppe/go-internal":            nil,                   // txtar and testscript
	"github.com/redis/go-redis/v9":               nil,
	"golang.org/x/net":                           nil, // the suite of connections

	"github.com/aws/aws-sdk-go-v2/service/cloudformation": nil, // a client of ours
}

// pure lists the packages, and the files of packages, that only compute: no
// operating system, network, database, clock or goroutine.
var pure = []string{
	"internal/template", "internal/changeset", "internal/rollout", "internal/analysis", "internal/analysis/simulate", "internal/rehearsal", "internal/registry", "internal/policy", "internal/metric", "internal/span", "internal/platform/model", "internal/platform/balance", "internal/platform/traffic",
	"internal/pace/pace.go", "internal/pace/read.go", "internal/pace/signal.go", "internal/pace/rolling.go", "internal/pace/alarms.go",
	"internal/source/source.go", "internal/source/line.go",
	"internal/dns/config.go", "internal/dns/value.go", "internal/dns/zones.go", "internal/dns/answer.go", "internal/dns/health.go",
}

const (
	maxPackageLines  = 6000 // without tests
	maxFunctionLines = 120
)

// rules are the rules of the house. Each gives what is against it.
var rules = map[string]func(*house) []string{
	"floors":           checkFloors,
	"owners":           checkOwners,
	"pure":             checkPure,
	"package comments": checkComments,
	"sizes":            checkSizes,
	"no init":          checkInit,
}

func TestHouse(t *testing.T) {
	h, err := readHouse(testneed.Root(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.packages) < 10 {
		t.Fatalf("read only %d packages", len(h.packages))
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for _, wrong := range rule(h) {
				t.Error(wrong)
			}
		})
	}
}

// TestRulesBite gives each rule a small house that breaks it.
func TestRulesBite(t *testing.T) {
	const comment = "// Package p is a test.\n"
	long := strings.Repeat("\n", maxFunctionLines)
	for _, c := range []struct{ rule, file, text, want string }{
		{"floors", "internal/stack/a.go", `package stack; import "makeitso/internal/template"`, ""},
		{"floors", "internal/template/a.go", `package template; import "makeitso/internal/stack"`, "internal/template (floor 0) imports internal/stack (floor 2)"},
		{"floors", "internal/store/a.go", `package store; import "makeitso/internal/control"`, "internal/store (floor 4) imports internal/control (floor 4)"},
		{"floors", "internal/helper/a.go", `package helper`, "internal/helper has no floor"},
		{"floors", "internal/stack/a.go", `package stack; import "makeitso/internal/testneed"`, "internal/stack imports internal/testneed, which is for tests only"},
		{"floors", "internal/stack/a_test.go", `package stack; import "makeitso/internal/testneed"`, ""},
		{"floors", "internal/platform/local/a.go", `package local; import "makeitso/internal/stack/stacktest"`, "internal/platform/local imports internal/stack/stacktest, which is for tests only"},
		{"floors", "internal/stack/stacktest/a.go", `package stacktest; import "makeitso/internal/stack"; import "makeitso/internal/testneed"`, ""},
		{"floors", "internal/stack/stacktest/a.go", `package stacktest; import "makeitso/internal/release"`, "internal/stack/stacktest (floor 2) imports internal/release (floor 2)"},
		{"owners", "internal/store/a.go", `package store; import _ "modernc.org/sqlite"`, ""},
		{"owners", "internal/control/a.go", `package control; import _ "modernc.org/sqlite/lib"`, "internal/control imports modernc.org/sqlite/lib, which belongs to internal/store"},
		{"owners", "internal/control/a.go", `package control; import _ "github.com/rogpeppe/go-internal/txtar"`, "which belongs to tests"},
		{"owners", "internal/control/a_test.go", `package control; import _ "github.com/rogpeppe/go-internal/txtar"`, ""},
		{"owners", "internal/control/a.go", `package control; import _ "example.com/new"`, "internal/control imports example.com/new, which has no owner"},
		{"owners", "internal/control/a_test.go", `package control; import _ "example.com/new"`, "internal/control imports example.com/new, which has no owner"},
		{"pure", "internal/template/a.go", `package template; import "os"`, "internal/template/a.go must stay pure but imports os"},
		{"pure", "internal/rollout/a.go", `package rollout; import "net/http"`, "imports net/http"},
		{"pure", "internal/rollout/a.go", `package rollout; import "net/netip"`, ""},
		{"pure", "internal/rollout/a_test.go", `package rollout; import "os"`, ""},
		{"pure", "internal/analysis/a.go", `package analysis; import "time"; var x = time.Now()`, "internal/analysis/a.go:1 must stay pure but calls time.Now"},
		{"pure", "internal/analysis/a.go", `package analysis; import clock "time"; var x = clock.Now()`, "calls time.Now"},
		{"pure", "internal/analysis/a.go", `package analysis; import "time"; var x = time.Second`, ""},
		{"pure", "internal/analysis/a.go", `package analysis; func f() { go f() }`, "starts a goroutine"},
		{"pure", "internal/pace/read.go", `package pace; import "database/sql"`, "imports database/sql"},
		{"pure", "internal/pace/roller.go", `package pace; import "database/sql"`, ""},
		{"package comments", "internal/a/a.go", comment + `package a`, "internal/a: the package comment does not begin with \"Package a \""},
		{"package comments", "internal/a/a.go", `package a`, "internal/a has no package comment"},
		{"package comments", "internal/p/p.go", comment + `package p`, ""},
		{"package comments", "internal/p/p_test.go", `package p`, ""},
		{"sizes", "internal/a/a.go", "package a\nfunc f() {" + long + "}", "internal/a/a.go:2: f has 121 lines"},
		{"sizes", "internal/a/a_test.go", "package a\nfunc f() {" + long + "}", ""},
		{"sizes", "internal/a/a.go", "package a" + strings.Repeat("\n", maxPackageLines+1), "internal/a has 6001 lines"},
		{"no init", "internal/a/a.go", "package a; func init() {}", "internal/a/a.go:1 has an init function"},
		{"no init", "internal/a/a_test.go", "package a; func init() {}", "has an init function"},
		{"no init", "internal/a/a.go", "package a; type t int; func (t) init() {}", ""},
	} {
		h := newHouse()
		for _, name := range pure {
			if c.rule == "pure" && strings.HasSuffix(name, ".go") { // they must be there
				if err := h.add(name, []byte("package pace")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := h.add(c.file, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		got := rules[c.rule](h)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s of %s, %q: got %q, want %q", c.rule, c.file, c.text[:min(len(c.text), 60)], got, c.want)
		}
	}
}

// TestPureFilesExist says that a pure file that is renamed stays on the list.
func TestPureFilesExist(t *testing.T) {
	got := checkPure(newHouse())
	if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "internal/pace/read.go is not there") }) {
		t.Errorf("got %q", got)
	}
}
