package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"makeitso/internal/artifact/image"
	"makeitso/internal/fault"
)

// A test re-executes its own program to build in another process, or in one
// that may not write large files (the nearest to a full disk that needs no
// rights).
const (
	inChild   = "IMAGE_TEST_BINARY" // the binary to build from
	inDir     = "IMAGE_TEST_DIR"
	limitFile = "IMAGE_TEST_LIMIT"
)

func TestMain(m *testing.M) {
	if binary := os.Getenv(inChild); binary != "" {
		os.Exit(buildInChild(binary))
	}
	code := m.Run()
	if binary, err := buildProgram(); err == nil {
		if err := os.RemoveAll(filepath.Dir(binary)); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(code)
}

func buildInChild(binary string) int {
	if os.Getenv(limitFile) != "" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	img, err := image.New(os.Getenv(inDir), image.Options{}).Build(context.Background(), spec(binary))
	if err != nil {
		fmt.Print(fault.CodeOf(err), " ", fault.Text(err))
		return 1
	}
	fmt.Print(img.Digest)
	return 0
}

func spec(binary string) image.Spec {
	return image.Spec{Name: "api", Base: "empty", Binary: binary, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}}
}

// program is a small static binary: it prints its arguments, or what a busybox
// says to --list.
const program = `package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--list" {
		fmt.Println("sh\nls\nbusybox\ncat")
		return
	}
	fmt.Println("hello", os.Args[1:])
}
`

// buildProgram compiles the program once for all tests.
var buildProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "image-test-")
	if err != nil {
		return "", err
	}
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "api")
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		return dir, err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary, fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
})

func testBinary(t *testing.T) string {
	t.Helper()
	binary, err := buildProgram()
	if err != nil {
		t.Fatalf("build the tests' program: %v", err)
	}
	return binary
}

func mustBuild(t *testing.T, s *image.Store, spec image.Spec) image.Image {
	t.Helper()
	img, err := s.Build(t.Context(), spec)
	if err != nil {
		t.Fatalf("build: %s", fault.Text(err))
	}
	return img
}

func wantFault(t *testing.T, err error, code fault.Code, text string) {
	t.Helper()
	if !fault.Is(err, code) || !strings.Contains(fault.Text(err), text) {
		t.Fatalf("got %v (%s), want %s with %q", err, fault.CodeOf(err), code, text)
	}
	if fault.HintOf(err) == "" {
		t.Errorf("%v has no hint", err)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	binary := testBinary(t)
	dir := t.TempDir()
	first := mustBuild(t, image.New(dir, image.Options{}), spec(binary))

	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "deep", "api")
	if err := os.MkdirAll(filepath.Dir(elsewhere), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(elsewhere, content, 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(elsewhere, old, old); err != nil {
		t.Fatal(err)
	}
	if again := mustBuild(t, image.New(dir, image.Options{}), spec(binary)); again.Digest != first.Digest {
		t.Errorf("built again: %s, first %s", again.Digest, first.Digest)
	}
	if other := mustBuild(t, image.New(t.TempDir(), image.Options{}), spec(elsewhere)); other.Digest != first.Digest {
		t.Errorf("other folder and time: %s, first %s", other.Digest, first.Digest)
	}
	out, err := child(t, elsewhere, t.TempDir()).Output()
	if err != nil || string(out) != first.Digest {
		t.Errorf("other process: %s (%v), first %s", out, err, first.Digest)
	}
	changed := spec(binary)
	changed.Labels = map[string]string{"a": "2"}
	if other := mustBuild(t, image.New(dir, image.Options{}), changed); other.Digest == first.Digest {
		t.Error("another label gives the same digest")
	}
}

func child(t *testing.T, binary, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), inChild+"="+binary, inDir+"="+dir)
	return cmd
}

func TestUnpackedImageRuns(t *testing.T) {
	s := image.New(t.TempDir(), image.Options{})
	img := mustBuild(t, s, spec(testBinary(t)))
	into := filepath.Join(t.TempDir(), "a", "root")
	if err := os.MkdirAll(into, 0o700); err != nil { // it may be there if it is empty
		t.Fatal(err)
	}
	config, err := s.Unpack(t.Context(), img.Digest, into)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Entrypoint, []string{"/app/api"}) || !slices.Equal(img.Entrypoint, config.Entrypoint) || config.WorkingDir != "/" {
		t.Fatalf("configuration %+v, image %+v", config, img)
	}
	if info, err := os.Stat(into); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the root is %v (%v)", info, err)
	}
	out, err := exec.Command(filepath.Join(into, config.Entrypoint[0]), "you").Output()
	if err != nil || string(out) != "hello [you]\n" {
		t.Fatalf("the unpacked binary says %q (%v)", out, err)
	}
	if info, err := os.Stat(filepath.Join(into, "tmp")); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp: %v (%v)", info.Mode(), err)
	}
	if _, err := s.Unpack(t.Context(), img.Digest, into); !fault.Is(err, fault.Conflict) {
		t.Errorf("unpacking over files: %v", err)
	}
}

func TestBuildRefusesWhatCannotRun(t *testing.T) {
	binary := testBinary(t)
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte, mode fs.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := bytes.Clone(content)
	foreign[18], foreign[19] = 0x08, 0 // MIPS, little endian
	dynamic, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, binary, base, want string }{
		{"missing", filepath.Join(t.TempDir(), "api"), "empty", "go build"},
		{"folder", t.TempDir(), "empty", "not a regular file"},
		{"not executable", file("api", content, 0o644), "empty", "chmod +x"},
		{"script", file("api", []byte("#!/bin/sh\n"), 0o755), "empty", "not a Linux binary"},
		{"other machine", file("api", foreign, 0o755), "empty", "GOARCH=" + runtime.GOARCH},
		{"dynamic", dynamic, "empty", "CGO_ENABLED=0"},
		{"no base", binary, "", "names no base"},
		{"bad base", binary, "UPPER CASE", "not an image reference"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := image.New(dir, image.Options{}).Build(t.Context(), image.Spec{Name: "api", Base: tt.base, Binary: tt.binary})
			wantFault(t, err, fault.Invalid, tt.want)
			wantNoFiles(t, dir)
		})
	}
}

func wantNoFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, testBinary(t), dir)
	cmd.Env = append(cmd.Env, limitFile+"=1")
	out, err := cmd.Output()
	if err == nil || !strings.HasPrefix(string(out), string(fault.Unavailable)) || !strings.Contains(string(out), "make room") {
		t.Errorf("got %q (%v), want unavailable with a hint", out, err)
	}
	wantNoFiles(t, dir)
}

func TestCanceledBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := image.New(dir, image.Options{}).Build(ctx, spec(testBinary(t))); err == nil {
		t.Error("a cancelled build succeeds")
	}
	wantNoFiles(t, dir)
}

func TestGetListRemove(t *testing.T) {
	dir := t.TempDir()
	s := image.New(dir, image.Options{})
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("an empty store lists %v (%v)", all, err)
	}
	binary := testBinary(t)
	one := mustBuild(t, s, spec(binary))
	second := spec(binary)
	second.Name = "other" // another configuration on the same layer
	two := mustBuild(t, s, second)

	all, err := image.New(dir, image.Options{}).List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("listed %v (%v), want two", all, err)
	}
	if err := s.Remove(t.Context(), one.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), one.Digest)
	wantFault(t, err, fault.NotFound, one.Digest)
	wantFault(t, s.Remove(t.Context(), one.Digest), fault.NotFound, one.Digest)
	if _, err := s.Unpack(t.Context(), two.Digest, filepath.Join(t.TempDir(), "root")); err != nil {
		t.Errorf("the other image was damaged: %v", err)
	}
	if got, err := s.Get(t.Context(), two.Digest); err != nil || got.Name != "other" || got.Size == 0 {
		t.Errorf("got %+v (%v)", got, err)
	}
	if err := s.Remove(t.Context(), two.Digest); err != nil {
		t.Fatal(err)
	}
	wantNoFiles(t, dir)
}

func TestWrongDigest(t *testing.T) {
	s := image.New(t.TempDir(), image.Options{})
	for _, digest := range []string{"", "latest", "sha256:12", "../../etc/passwd", "sha256:" + strings.Repeat("0", 64)} {
		_, err := s.Unpack(t.Context(), digest, filepath.Join(t.TempDir(), "root"))
		wantFault(t, err, fault.NotFound, digest)
	}
}

func TestDamageIsFoundAndRepaired(t *testing.T) {
	dir := t.TempDir()
	s := image.New(dir, image.Options{})
	binary := testBinary(t)
	img := mustBuild(t, s, spec(binary))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 3 {
		t.Fatalf("blobs %v (%v), want layer, configuration and manifest", blobs, err)
	}
	for _, blob := range blobs {
		content, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(blob, content, 0o644); err != nil {
			t.Fatal(err)
		}
		parent := t.TempDir()
		_, err = s.Unpack(t.Context(), img.Digest, filepath.Join(parent, "root"))
		wantFault(t, err, fault.Failed, "is damaged")
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("a failed unpack left %v (%v)", left, err)
		}
		mustBuild(t, s, spec(binary))
		if _, err := s.Unpack(t.Context(), img.Digest, filepath.Join(parent, "root")); err != nil {
			t.Errorf("after a new build: %v", err)
		}
	}
}

// pushBase serves a registry with one image of the given layers; the reference
// is returned, and what shuts the registry down.
func pushBase(t *testing.T, layers ...[]tar.Header) (string, func()) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	reference := strings.TrimPrefix(server.URL, "http://") + "/base:1"
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", Created: v1.Time{Time: time.Now()},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Env: []string{"A=b"}, WorkingDir: "/data", Labels: map[string]string{"from": "base"}, Cmd: []string{"x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content := tarOf(t, l)
		opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		layer, err := tarball.LayerFromOpener(opener)
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return reference, server.Close
}

// tarOf makes a tar of headers; a regular file's content is its Linkname.
func tarOf(t *testing.T, headers []tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func regular(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func folder(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }

func TestBaseFromRegistry(t *testing.T) {
	reference, stop := pushBase(t,
		[]tar.Header{
			folder("etc/"), regular("etc/keep", "keep"), regular("etc/gone", "gone"), regular("etc/over", "one"),
			folder("opaque/"), regular("opaque/old", "old"), folder("opaque/sub/"), regular("opaque/sub/old", "old"),
			folder("usr/"), folder("usr/lib/"), link("lib", "/usr/lib"), link("up", "../../../../usr"), link("dangling", "/nowhere"), link("usr/abs", "/etc"),
			{Typeflag: tar.TypeDir, Name: "readonly/", Mode: 0o555},
		},
		[]tar.Header{
			regular("etc/.wh.gone", ""), regular("etc/over", "two"),
			regular("opaque/new", "new"), regular("opaque/sub/new", "new"), regular("opaque/.wh..wh..opq", ""),
			regular("lib/through", "through the link"), regular("up/through", "through the other"), regular("usr/abs/abs", "from the root"),
			{Typeflag: tar.TypeLink, Name: "hard", Linkname: "lib/through"},
			regular("readonly/file", "x"), {Typeflag: tar.TypeReg, Name: "setuid", Mode: 0o4755},
		},
	)
	dir := t.TempDir()
	s := image.New(dir, image.Options{})
	sp := spec(testBinary(t))
	sp.Base = reference
	img := mustBuild(t, s, sp)
	if !strings.Contains(img.Base, reference+"@sha256:") {
		t.Errorf("base is told as %q", img.Base)
	}
	stop() // from here on the kept base must serve
	if again := mustBuild(t, image.New(dir, image.Options{}), sp); again.Digest != img.Digest {
		t.Errorf("built again: %s, first %s", again.Digest, img.Digest)
	}

	root := filepath.Join(t.TempDir(), "root")
	config, err := s.Unpack(t.Context(), img.Digest, root)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Entrypoint, []string{"/app/api"}) || !slices.Equal(config.Env, []string{"A=b"}) || config.WorkingDir != "/data" {
		t.Errorf("configuration %+v", config)
	}
	for name, want := range map[string]string{
		"etc/keep": "keep", "etc/over": "two", "opaque/new": "new", "opaque/sub/new": "new",
		"usr/lib/through": "through the link", "usr/through": "through the other", "hard": "through the link", "etc/abs": "from the root", "readonly/file": "x",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"etc/gone", "etc/.wh.gone", "opaque/old", "opaque/sub/old", "opaque/.wh..wh..opq"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if target, err := os.Readlink(filepath.Join(root, "lib")); err != nil || target != "/usr/lib" {
		t.Errorf("lib leads to %q (%v)", target, err)
	}
	for name, want := range map[string]fs.FileMode{"readonly": fs.ModeDir | 0o555, "setuid": fs.ModeSetuid | 0o755} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want mode %v", name, info, want)
		}
	}
	if err := s.Remove(t.Context(), img.Digest); err != nil {
		t.Fatal(err)
	}
	mustBuild(t, s, sp) // the base outlives the image
}

func TestPulledImageIsTheSame(t *testing.T) {
	reference, stop := pushBase(t, []tar.Header{regular("one", "1")}, []tar.Header{regular("two", "2")})
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	there, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := image.New(dir, image.Options{})
	img, err := s.Pull(t.Context(), reference, "AWS", "x")
	if err != nil || img.Digest != there.Digest.String() || !slices.Equal(img.Entrypoint, []string{"x"}) {
		t.Fatalf("%+v, %v; want digest %s", img, err, there.Digest)
	}
	root := filepath.Join(t.TempDir(), "root")
	config, err := s.Unpack(t.Context(), img.Digest, root)
	if text, readErr := os.ReadFile(filepath.Join(root, "two")); err != nil || readErr != nil || string(text) != "2" || !slices.Equal(config.Env, []string{"A=b"}) {
		t.Errorf("%q, %+v, %v, %v", text, config, err, readErr)
	}
	_, err = s.Pull(t.Context(), strings.Replace(reference, ":1", ":2", 1), "AWS", "x")
	wantFault(t, err, fault.NotFound, "the registry has no image")
	_, err = s.Pull(t.Context(), "http://x", "AWS", "x")
	wantFault(t, err, fault.Invalid, "is not an image reference")

	other, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if other, err = mutate.ConfigFile(other, &v1.ConfigFile{Architecture: "moon", OS: "linux"}); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref.Context().Tag("moon"), other); err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), strings.Replace(reference, ":1", ":moon", 1), "AWS", "x")
	wantFault(t, err, fault.Invalid, "is for linux/moon")

	stop() // what is here is not asked for
	if again, err := s.Pull(t.Context(), strings.TrimSuffix(reference, ":1")+"@"+img.Digest, "AWS", "x"); err != nil || again.Digest != img.Digest {
		t.Errorf("%+v, %v", again, err)
	}
	_, err = s.Pull(t.Context(), reference, "AWS", "x")
	wantFault(t, err, fault.Unavailable, "cannot pull")
}

func TestUnpackStaysInside(t *testing.T) {
	outside := t.TempDir()
	layers := map[string][]tar.Header{
		"dots":           {regular("../../escaped", "x")},
		"absolute":       {regular("/escaped", "x")},
		"link":           {link("out", outside), regular("out/escaped", "x")},
		"link chain":     {link("a", ".."), link("b", "a/.."), regular("b/escaped", "x")},
		"hard link":      {{Typeflag: tar.TypeLink, Name: "passwd", Linkname: "../../../../../../etc/passwd"}},
		"link loop":      {link("a", "b"), link("b", "a"), regular("a/escaped", "x")},
		"whiteout":       {link("out", outside), regular("out/.wh.precious", "")},
		"opaque":         {link("out", outside), regular("out/.wh..wh..opq", "")},
		"replaced by it": {link("f", filepath.Join(outside, "precious")), regular("f", "overwritten")},
	}
	refused := map[string]bool{"hard link": true, "link loop": true}
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	binary := testBinary(t)
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			reference, _ := pushBase(t, layer)
			s := image.New(t.TempDir(), image.Options{})
			img := mustBuild(t, s, image.Spec{Name: "api", Base: reference, Binary: binary})
			parent := t.TempDir()
			_, err := s.Unpack(t.Context(), img.Digest, filepath.Join(parent, "root"))
			if (err != nil) != refused[name] {
				t.Errorf("unpack: %v", err)
			}
			if content, err := os.ReadFile(precious); err != nil || string(content) != "precious" {
				t.Errorf("a file outside holds %q (%v)", content, err)
			}
			for _, dir := range []string{outside, parent, filepath.Dir(parent), "/"} {
				if _, err := os.Lstat(filepath.Join(dir, "escaped")); err == nil {
					t.Errorf("a file escaped into %s", dir)
				}
			}
		})
	}
}

func TestDynamicBinaryOnBaseWithLoader(t *testing.T) {
	dynamic, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	without, _ := pushBase(t, []tar.Header{folder("lib/")})
	s := image.New(t.TempDir(), image.Options{})
	_, err = s.Build(t.Context(), image.Spec{Name: "api", Base: without, Binary: dynamic})
	wantFault(t, err, fault.Invalid, "dynamically linked")
	with, _ := pushBase(t, []tar.Header{folder("lib/"), regular("lib/ld-linux-x86-64.so.2", ""), regular("lib/ld-linux-aarch64.so.1", "")})
	mustBuild(t, s, image.Spec{Name: "api", Base: with, Binary: dynamic})
}

func TestBusybox(t *testing.T) {
	binary := testBinary(t)
	sp := image.Spec{Name: "api", Base: "busybox", Binary: binary}
	const nowhere = "127.0.0.1:1/busybox:1" // a port that nothing listens on

	t.Run("pulled", func(t *testing.T) {
		reference, _ := pushBase(t, []tar.Header{folder("bin/"), regular("bin/busybox", "pulled")})
		img := mustBuild(t, image.New(t.TempDir(), image.Options{Busybox: reference}), sp)
		if !strings.Contains(img.Base, reference) {
			t.Errorf("base is told as %q", img.Base)
		}
	})
	t.Run("of this machine", func(t *testing.T) {
		bin := t.TempDir()
		if err := os.Symlink(binary, filepath.Join(bin, "busybox")); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin)
		s := image.New(t.TempDir(), image.Options{Busybox: nowhere})
		img := mustBuild(t, s, sp)
		if !strings.Contains(img.Base, "of this machine") {
			t.Errorf("base is told as %q", img.Base)
		}
		root := filepath.Join(t.TempDir(), "root")
		config, err := s.Unpack(t.Context(), img.Digest, root)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(filepath.Join(root, "bin", "cat"), "file").Output()
		if err != nil || string(out) != "hello [file]\n" {
			t.Errorf("the applet says %q (%v)", out, err)
		}
		if !slices.Equal(config.Env, []string{"PATH=/bin"}) {
			t.Errorf("environment %v", config.Env)
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := image.New(t.TempDir(), image.Options{Busybox: nowhere}).Build(t.Context(), sp)
		wantFault(t, err, fault.Unavailable, "busybox-static")
	})
}
