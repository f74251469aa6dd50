package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace of its own needs root: run the tests as root")
	}
}

// buildProgram makes a program that needs no library and so runs in any root.
func buildProgram(t *testing.T, dir, source string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", dir, file)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestRootFolderIsAllItSees(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A link that leads out of the image must not be followed out of it.
	outside := filepath.Join(dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	buildProgram(t, filepath.Join(root, "bin", "look"), `package main
import ("fmt"; "os")
func main() {
	_, err := os.Stat("/work")
	fmt.Println("work:", err == nil)
	for _, f := range []string{"/proc/self/stat", "/dev/urandom", "/etc/hosts", "/etc/resolv.conf", "/data/x"} {
		file, err := os.Open(f)
		n := 0
		if err == nil { n, _ = file.Read(make([]byte, 1)) }
		fmt.Println(f, n)
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	fmt.Println("null:", null != nil, err, os.Getuid(), os.Getgid())
	groups, _ := os.Getgroups()
	wd, _ := os.Getwd()
	fmt.Println(wd, groups)
}`)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "x"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, filepath.Join(dir, "processes"))
	p := start(t, k, Spec{
		Name: "look", Path: "look", Root: root, Dir: "/bin", As: &User{UID: 1234, GID: 2345},
		Log: filepath.Join(dir, "log"), Binds: []Bind{{Source: data, Target: "/data"}},
	})
	await(t, "the program", p.Exited())
	want := `work: false
/proc/self/stat 1
/dev/urandom 1
/etc/hosts 1
/etc/resolv.conf 1
/data/x 1
null: true <nil> 1234 2345
/bin [2345]
`
	if got := readFile(t, filepath.Join(dir, "log")); got != want {
		t.Errorf("the program saw\n%s\nwant\n%s", got, want)
	}
	if mounts := readFile(t, "/proc/self/mounts"); strings.Contains(mounts, root) {
		t.Error("a mount of the program is seen outside")
	}
}

func TestLinksOfAnImageDoNotLeadOutOfIt(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, folder := range []string{root, outside} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "etc")); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, filepath.Join(dir, "processes"))
	if _, err := k.Start(t.Context(), Spec{Name: "x", Path: "/bin/x", Root: root}); err == nil {
		t.Error("started in a root whose /etc leads outside")
	}
	if files, err := os.ReadDir(outside); err != nil || len(files) != 0 {
		t.Errorf("outside the root: %v, %v; want nothing", files, err)
	}
}

func TestBindIsSeenByTheProgramAlone(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	hidden, place := filepath.Join(dir, "hidden"), filepath.Join(dir, "place")
	for _, folder := range []string{hidden, place} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(hidden, "x"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, filepath.Join(dir, "processes"))
	spec := shell("reader", "cat "+place+"/x")
	spec.Log, spec.Binds = filepath.Join(dir, "log"), []Bind{{Source: hidden, Target: place}}
	await(t, "the reader", start(t, k, spec).Exited())
	if got := readFile(t, spec.Log); got != "hello" {
		t.Errorf("the program read %q; want hello", got)
	}
	if _, err := os.Stat(filepath.Join(place, "x")); err == nil {
		t.Error("the bind is seen outside")
	}
	spec.Name, spec.Binds[0].Target = "nowhere", "/no/such/place"
	if _, err := k.Start(t.Context(), spec); !fault.Is(err, fault.Failed) {
		t.Errorf("a bind to nowhere: %v", err)
	}
}
