package local

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"makeitso/internal/artifact/image"
	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
)

// pushProgram pushes an image of the test's program that says a word.
func pushProgram(t *testing.T, p *Platform, made stack.Result, tag, word string) v1.Hash {
	t.Helper()
	binary, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err = w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(binary))})
	if err == nil {
		_, err = w.Write(binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Entrypoint: []string{"/app", "one"}, Env: []string{"GREETING=" + word, "FROM=registry"}},
	})
	if err == nil {
		img, err = mutate.AppendLayers(img, layer)
	}
	if err == nil {
		err = remote.Write(tagged(t, made, tag), img, login(t, p))
	}
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// withImages gives a platform an image store of the test's own.
func withImages(t *testing.T, o Options) Options {
	images := image.New(t.TempDir(), image.Options{})
	o.Unpack = func(ctx context.Context, digest, into string) ([]string, []string, error) {
		c, err := images.Unpack(ctx, digest, into)
		return c.Entrypoint, c.Env, err
	}
	o.Pull = func(ctx context.Context, reference, user, password string) (string, error) {
		img, err := images.Pull(ctx, reference, user, password)
		return img.Digest, err
	}
	return o
}

// says gives what the only instance of a group answers.
func says(t *testing.T, p *Platform, group stack.Request) string {
	t.Helper()
	g, err := p.fleets.Get(t.Context(), group.Token)
	if err != nil || len(g.Members) != 1 {
		t.Fatalf("its instances are %+v, %v", g.Members, err)
	}
	i, err := p.Find(t.Context(), g.Members[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return reach(t, i, "/")
}

func TestGroupRunsWhatWasPushed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, withImages(t, Options{}))
	made := machinetest.Create(t, p, imagesRequest("Images", object{"RepositoryName": "shop/web"}))
	digest := pushProgram(t, p, made, "v1", "first")
	uri := machinetest.Attribute(t, made, "RepositoryUri")
	template := machinetest.Request(templateType, "Template", object{"LaunchTemplateData": object{"ImageId": uri + ":v2"}})
	templates := machinetest.Handler(t, p, templateType)
	if err := templates.Check(t.Context(), template); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "has no image v2; it has v1") {
		t.Errorf("a tag that is not there: %v", err)
	}
	template.Properties = object{"LaunchTemplateData": object{"ImageId": uri + ":v1"}}
	launch := machinetest.Create(t, p, template)
	group := machinetest.Request(pace.GroupType, "Group", object{
		"MinSize": "1", "MaxSize": "1", "LaunchTemplate": object{"LaunchTemplateId": launch.PhysicalID, "Version": "1"},
	})
	machinetest.Create(t, p, group)
	if got := says(t, p, group); !strings.HasPrefix(got, "first registry") {
		t.Errorf("it says %q", got)
	}

	// Another release, then back: though the tag has moved, and the image is gone.
	pushProgram(t, p, made, "v2", "second")
	pushProgram(t, p, made, "v1", "moved")
	if err := remote.Delete(tagged(t, made, "v1").Context().Digest(digest.String()), login(t, p)); err != nil {
		t.Fatal(err)
	}
	for version, tag := range []string{"v2", "v1"} {
		previous := template.Properties
		template.Properties, template.Previous = object{"LaunchTemplateData": object{"ImageId": uri + ":" + tag}}, previous
		if _, err := templates.Update(t.Context(), template); err != nil {
			t.Fatal(fault.Text(err))
		}
		number := []string{"2", "3"}[version]
		again := group
		again.Token, again.LogicalID = "data-Group-"+number, "Group"+number
		again.Properties = object{"MinSize": "1", "MaxSize": "1", "LaunchTemplate": object{"LaunchTemplateId": launch.PhysicalID, "Version": number}}
		machinetest.Create(t, p, again)
		if got, want := says(t, p, again), []string{"second", "first"}[version]; !strings.HasPrefix(got, want+" registry") {
			t.Errorf("of %s it says %q", tag, got)
		}
	}
	configuration := machinetest.Create(t, p, machinetest.Request(configurationType, "Configuration", object{"ImageId": uri + ":v2", "InstanceType": "t3.micro"}))
	old := machinetest.Request(pace.GroupType, "Old", object{"MinSize": "1", "MaxSize": "1", "LaunchConfigurationName": configuration.PhysicalID})
	machinetest.Create(t, p, old)
	if got := says(t, p, old); !strings.HasPrefix(got, "second registry") {
		t.Errorf("of a launch configuration it says %q", got)
	}
	if got, err := p.PullImage(t.Context(), uri+"@"+digest.String()); err != nil || got != digest.String() {
		t.Errorf("what was pulled once is %s, %v", got, err)
	}
	if _, err := p.PullImage(t.Context(), "docker.io/library/web:1"); !fault.Is(err, fault.Invalid) {
		t.Errorf("from elsewhere: %v", err)
	}
}

func TestReferencesIntoTheRegistry(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	if _, is, err := p.pushed("127.0.0.1:1/a:b"); is || err != nil {
		t.Errorf("without a registry: %v, %v", is, err)
	}
	host := machinetest.Attribute(t, machinetest.Create(t, p, imagesRequest("Images", nil)), "RepositoryUri")
	host, _, _ = strings.Cut(host, "/")
	for reference, want := range map[string][]string{
		host + "/a/b:c":         {"a/b", "c"},
		host + "/a":             {"a", "latest"},
		host + "/a@sha256:0":    {"a", "sha256:0"},
		host + "/a:b@sha256:0":  {"a", "sha256:0"},
		"elsewhere.example/a:b": nil,
		"sha256:0":              nil,
		"ami-0123456789abcdef0": nil,
	} {
		image, is, err := p.pushed(reference)
		if got := []string{image.repository, image.which}; err != nil || is != (want != nil) || is && !slices.Equal(got, want) {
			t.Errorf("%s is %q, %v, %v", reference, got, is, err)
		}
	}
}
