package machinetest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"makeitso/internal/platform/machine"
	"makeitso/internal/testneed"
)

// Root is the root file system of an image, made of this machine's files.
type Root struct {
	T       *testing.T
	archive *tar.Writer
	content bytes.Buffer
	Changes []string // what else belongs to the image, as in a Dockerfile
	has     map[string]bool
}

// NeedImage sees to it that the engine has an image. One that it lacks is made
// of this machine's programs, called the same, and removed after the test.
func NeedImage(t *testing.T, c *client.Client, image string, fill func(*Root)) {
	t.Helper()
	if _, err := c.ImageInspect(t.Context(), image); err == nil {
		return
	}
	r := &Root{T: t, has: map[string]bool{}}
	r.archive = tar.NewWriter(&r.content)
	r.Folder("tmp", 0o1777)
	// Anybody may write it: a user who is not in there adds itself.
	r.Text("etc/passwd", 0o666, "root:x:0:0::/:/bin/sh\npostgres:x:70:70::/:/bin/sh\nredis:x:999:999::/:/bin/sh\n")
	r.Text("etc/group", 0o644, "root:x:0:\npostgres:x:70:\nredis:x:999:\n")
	for _, name := range []string{"id", "chmod", "chown", "mkdir", "setpriv"} {
		r.Program(testneed.Program(t, name, "apt-get install coreutils util-linux"))
	}
	r.ProgramAt("/bin/sh", testneed.Program(t, "sh", "apt-get install dash"))
	fill(r)
	if err := r.archive.Close(); err != nil {
		t.Fatal(err)
	}
	source := client.ImageImportSource{Source: &r.content, SourceName: "-"}
	done, err := c.ImageImport(t.Context(), source, image, client.ImageImportOptions{Changes: r.Changes})
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	if answer, err := io.ReadAll(done); err != nil || bytes.Contains(answer, []byte(`"error"`)) {
		t.Fatalf("import %s: %s %v", image, answer, err)
	}
	t.Cleanup(func() {
		if _, err := c.ImageRemove(context.Background(), image, client.ImageRemoveOptions{}); err != nil {
			t.Errorf("remove %s: %v", image, err)
		}
	})
}

func (r *Root) Add(h tar.Header, content []byte) {
	r.T.Helper()
	h.Name = strings.TrimPrefix(h.Name, "/")
	if r.has[h.Name] {
		return
	}
	r.has[h.Name], h.Size = true, int64(len(content))
	err := r.archive.WriteHeader(&h)
	if err == nil {
		_, err = r.archive.Write(content)
	}
	if err != nil {
		r.T.Fatal(err)
	}
}

func (r *Root) Folder(path string, mode int64) {
	r.Add(tar.Header{Name: path, Typeflag: tar.TypeDir, Mode: mode}, nil)
}

func (r *Root) Text(path string, mode int64, content string) {
	r.Add(tar.Header{Name: path, Mode: mode}, []byte(content))
}

// File adds the file of this machine called source.
func (r *Root) File(path, source string, mode int64) {
	r.T.Helper()
	content, err := os.ReadFile(source)
	if err != nil {
		r.T.Fatal(err)
	}
	r.Add(tar.Header{Name: path, Mode: mode}, content)
}

func (r *Root) Tree(folder string) {
	r.T.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			r.File(path, path, 0o644)
		}
		return err
	})
	if err != nil {
		r.T.Fatal(err)
	}
}

// library is a line of ldd's answer.
var library = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(`)

func (r *Root) Program(path string) { r.ProgramAt(path, path) }

// ProgramAt adds the program or library called source with all that it loads.
func (r *Root) ProgramAt(path, source string) {
	r.T.Helper()
	r.File(path, source, 0o755)
	out, err := exec.Command(testneed.Program(r.T, "ldd", "apt-get install libc-bin"), source).Output()
	if err != nil {
		r.T.Fatalf("ldd %s: %v", source, err)
	}
	for _, found := range library.FindAllSubmatch(out, -1) {
		r.File(string(found[1]), string(found[1]), 0o755)
	}
}

// DockerEngine is the engine that docker itself would use.
func DockerEngine(t *testing.T) *client.Client {
	t.Helper()
	m, err := machine.New("local", Options(t, machine.Options{}), machine.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	testneed.DockerEngine(t, m.DockerAnswers(t.Context()))
	c, err := m.Docker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
