package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/record"
	"makeitso/internal/stack"
	"makeitso/internal/testneed"
)

func imagesRequest(id string, properties map[string]any) stack.Request {
	return machinetest.Request(repositoryType, id, properties)
}

// login gives the registry's password to a client.
func login(t *testing.T, p *Platform) remote.Option {
	t.Helper()
	r, err := p.ImageRegistry()
	if err != nil {
		t.Fatal(err)
	}
	return remote.WithAuth(&authn.Basic{Username: repository.User, Password: r.Password})
}

// tagged is a tag of a repository that was made.
func tagged(t *testing.T, made stack.Result, tag string) name.Tag {
	t.Helper()
	ref, err := name.NewTag(machinetest.Attribute(t, made, "RepositoryUri") + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pushImage pushes some image and gives its digest.
func pushImage(t *testing.T, p *Platform, made stack.Result, tag string) v1.Hash {
	t.Helper()
	img, err := random.Image(10_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tagged(t, made, tag), img, login(t, p)); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// wantImage wants a tag to be that of an image, which is there whole.
func wantImage(t *testing.T, p *Platform, made stack.Result, tag string, want v1.Hash) {
	t.Helper()
	img, err := remote.Image(tagged(t, made, tag), login(t, p))
	if err != nil {
		t.Fatal(err)
	}
	got, err := img.Digest()
	if err != nil || got != want {
		t.Errorf("%s is %s, %v; want %s", tag, got, err, want)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed() // fails if the digest is another
		if err == nil {
			_, err = io.Copy(io.Discard, content)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// keepTwo lets all images but two expire.
const keepTwo = `{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 2}, "action": {"type": "expire"}}]}`

// TestRepositoryRunsItsPolicy pushes more images than a policy keeps.
func TestRepositoryRunsItsPolicy(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := imagesRequest("Images", object{"LifecyclePolicy": object{"LifecyclePolicyText": keepTwo}})
	made := machinetest.Create(t, p, r)
	for _, tag := range []string{"v1", "v2", "v3"} {
		pushImage(t, p, made, tag)
	}
	tags, err := remote.List(tagged(t, made, "v1").Context(), login(t, p))
	if err != nil || fmt.Sprint(tags) != "[v2 v3]" {
		t.Errorf("there are %v, %v", tags, err)
	}
	r.Previous, r.Properties = r.Properties, object{}
	if _, err := machinetest.Handler(t, p, repositoryType).Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	pushImage(t, p, made, "v4")
	if tags, err = remote.List(tagged(t, made, "v1").Context(), login(t, p)); err != nil || fmt.Sprint(tags) != "[v2 v3 v4]" {
		t.Errorf("without a policy there are %v, %v", tags, err)
	}
}

func TestRepositoryChecks(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	filter := func(typ, value string) []any {
		return []any{map[string]any{"ImageTagMutabilityExclusionFilterType": typ, "ImageTagMutabilityExclusionFilterValue": value}}
	}
	const mutability, filters = "ImageTagMutability", "ImageTagMutabilityExclusionFilters"
	for _, c := range []struct {
		properties map[string]any
		wrong      string
	}{
		{map[string]any{}, ""},
		{map[string]any{mutability: "IMMUTABLE"}, ""},
		{map[string]any{mutability: "MUTABLE_WITH_EXCLUSION", filters: filter("WILDCARD", "v*")}, ""},
		{map[string]any{"RepositoryName": "a"}, "RepositoryName"},
		{map[string]any{"RepositoryPolicyText": "all"}, "RepositoryPolicyText"},
		{map[string]any{"RepositoryPolicyText": map[string]any{}, "LifecyclePolicy": map[string]any{"LifecyclePolicyText": keepTwo}}, ""},
		{map[string]any{"LifecyclePolicy": map[string]any{"LifecyclePolicyText": strings.Replace(keepTwo, "2", `"two"`, 1)}}, "LifecyclePolicy is wrong: LifecyclePolicyText, line 1, column"},
		{map[string]any{"LifecyclePolicy": map[string]any{"LifecyclePolicyText": strings.Replace(keepTwo, "any", "all", 1)}}, "rules[0].selection.tagStatus"},
		{map[string]any{"RepositoryName": "a_-b"}, "RepositoryName"},
		{map[string]any{mutability: "FIXED"}, "ImageTagMutability is FIXED, not MUTABLE, IMMUTABLE or"},
		{map[string]any{mutability: true}, "ImageTagMutability is true"},
		{map[string]any{mutability: "IMMUTABLE_WITH_EXCLUSION"}, "filters of exclusion are needed"},
		{map[string]any{mutability: "IMMUTABLE", filters: filter("WILDCARD", "v*")}, "only there"},
		{map[string]any{mutability: "IMMUTABLE_WITH_EXCLUSION", filters: filter("REGEX", "v*")}, filters},
		{map[string]any{mutability: "IMMUTABLE_WITH_EXCLUSION", filters: filter("WILDCARD", "v?")}, `"v?"`},
	} {
		err := machinetest.Handler(t, p, repositoryType).Check(t.Context(), imagesRequest("Images", c.properties))
		if c.wrong == "" && err != nil || c.wrong != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%v: %v, want %q", c.properties, err, c.wrong)
		}
	}
}

func TestRepositoryHoldsImages(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	if _, err := p.ImageRegistry(); !fault.Is(err, fault.NotFound) {
		t.Errorf("the registry before its first repository: %v", err)
	}
	r := imagesRequest("Images", map[string]any{})
	r.Stack = "My--Data"
	made := machinetest.Create(t, p, r)
	if !repository.ValidName(made.PhysicalID) || !strings.HasPrefix(made.PhysicalID, "my-data-images-") {
		t.Errorf("generated name %q", made.PhysicalID)
	}
	if arn := machinetest.Attribute(t, made, "Arn"); arn != "arn:aws:ecr:us-east-1:000000000000:repository/"+made.PhysicalID {
		t.Errorf("Arn %s", arn)
	}
	digest := pushImage(t, p, made, "v1")
	wantImage(t, p, made, "v1", digest)
	text, err := os.ReadFile(p.registryFile())
	if err != nil {
		t.Fatal(err)
	}
	registry, err := p.ImageRegistry()
	if err != nil {
		t.Fatal(err)
	}
	if taken, err := p.TakenPorts(); err != nil || !taken(registry.Port) {
		t.Errorf("the registry's port can be given away: %v", err)
	}
	settings, err := os.ReadFile(filepath.Join(p.registryFolder(), "server.json"))
	if err != nil || bytes.Contains(text, []byte(registry.Password)) || bytes.Contains(settings, []byte(registry.Password)) {
		t.Errorf("the password can be read: %v", err)
	}
	if err := filepath.WalkDir(p.registryFolder(), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	h := machinetest.Handler(t, p, repositoryType)
	one := imagesRequest("One", map[string]any{"RepositoryName": "one"})
	machinetest.Create(t, p, one)
	for _, name := range []string{"one", made.PhysicalID} { // declared by the other, and generated for it
		two := imagesRequest("Two", map[string]any{"RepositoryName": name})
		if err := h.Check(t.Context(), two); name == "one" && !fault.Is(err, fault.Conflict) {
			t.Errorf("a second %s is checked: %v", name, err)
		}
		if _, err := h.Create(t.Context(), two); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "already exists") {
			t.Errorf("a second %s is made: %v", name, err)
		}
		if err := h.Delete(t.Context(), two); err != nil {
			t.Error(err)
		}
	}
	if err := h.Delete(t.Context(), one); err != nil {
		t.Error(err)
	}
	wantImage(t, p, made, "v1", digest) // what was never made has taken nothing along

	const full = "cannot be deleted because it still contains images"
	if err := h.Delete(t.Context(), r); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), full) || !strings.Contains(fault.HintOf(err), "EmptyOnDelete") {
		t.Errorf("deleted with images: %v", err)
	}
	r.Properties = map[string]any{"EmptyOnDelete": true, "ImageTagMutability": "IMMUTABLE"}
	if _, err := h.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tagged(t, made, "v1"), img, login(t, p)); err == nil || !strings.Contains(err.Error(), "cannot be overwritten because the tag is immutable") {
		t.Errorf("an immutable tag was moved: %v", err)
	}
	if err := h.Delete(t.Context(), r); err != nil {
		t.Errorf("deleted with EmptyOnDelete: %v", err)
	}
	for _, dir := range []string{"repositories", "blobs"} {
		if left, err := os.ReadDir(filepath.Join(p.registryFolder(), "images", dir)); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if err := p.Running(registryProcess, ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the last repository: %v; want the registry stopped", err)
	}
}

// TestRepositoryOutlivesMakeitsoAndAKill kills the registry in the midst of a
// push and has another makeitso bring it back.
func TestRepositoryOutlivesMakeitsoAndAKill(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := imagesRequest("Images", map[string]any{"RepositoryName": "web"})
	made := machinetest.Create(t, p, r)
	digest := pushImage(t, p, made, "v1")
	registry, err := p.ImageRegistry()
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + registry.Address()
	ask := func(method, path string, body io.Reader) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, body)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(repository.User, registry.Password)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return nil
		}
		answer.Body.Close()
		return answer
	}
	at := ask("POST", "/v2/web/blobs/uploads/", nil).Header.Get("Location")
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	reader, writer := io.Pipe()
	var pushing sync.WaitGroup
	pushing.Go(func() {
		request, err := http.NewRequest("PATCH", base+at, reader)
		if err == nil {
			request.SetBasicAuth(repository.User, registry.Password)
			_, err = http.DefaultClient.Do(request)
		}
		if err == nil {
			t.Error("the chunk was taken by a registry that was killed")
		}
	})
	if _, err := writer.Write(content[:500_000]); err != nil {
		t.Fatal(err)
	}
	upload := filepath.Join(p.registryFolder(), "images", "repositories", "web", "uploads", filepath.Base(at))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // a file tells nobody that it grows
		if info, err := os.Stat(upload); err != nil || time.Now().After(deadline) {
			t.Fatal("nothing of the chunk came", err)
		} else if info.Size() > 0 {
			break
		}
	}
	machinetest.Kill(t, p.Machine, registryProcess)
	writer.Close() // the client waits for its body
	pushing.Wait()

	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := machinetest.Handler(t, again, r.Type).Read(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Errorf("read while the registry does not run: %v", err)
	}
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	wantImage(t, again, made, "v1", digest) // by the address and the password that it had
	var last int
	if come := ask("GET", at, nil).Header.Get("Range"); come == "0-0" {
		t.Fatal("nothing is left of the upload")
	} else if _, err := fmt.Sscanf(come, "0-%d", &last); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	blob := "sha256:" + hex.EncodeToString(sum[:])
	if answer := ask("PUT", at+"?digest="+blob, bytes.NewReader(content[last+1:])); answer.StatusCode != http.StatusCreated {
		t.Errorf("the upload went on with %s", answer.Status)
	}
	if answer := ask("HEAD", "/v2/web/blobs/"+blob, nil); answer.ContentLength != int64(len(content)) {
		t.Errorf("the blob has %d bytes", answer.ContentLength)
	}
	if err := again.Empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := machinetest.Handler(t, again, r.Type).Delete(t.Context(), r); err != nil {
		t.Errorf("a delete of a repository that was emptied: %v", err)
	}
}

// TestRegistriesSideBySide has two environments with a repository of one name.
func TestRegistriesSideBySide(t *testing.T) {
	t.Parallel()
	one, two := newPlatform(t, Options{}), newPlatform(t, Options{})
	r := imagesRequest("Images", map[string]any{"RepositoryName": "web"})
	inOne, inTwo := machinetest.Create(t, one, r), machinetest.Create(t, two, r)
	digest := pushImage(t, one, inOne, "v1")
	wantImage(t, one, inOne, "v1", digest)
	if _, err := remote.Image(tagged(t, inTwo, "v1"), login(t, two)); err == nil {
		t.Error("the other environment has the image too")
	}
	if _, err := remote.Image(tagged(t, inOne, "v1"), login(t, two)); err == nil {
		t.Error("the other environment's password opens this one")
	}
}

const driftingRepository = `
Resources:
  Images:
    Type: AWS::ECR::Repository
    Properties: {RepositoryName: web}
`

func TestRepositoryDrift(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, driftingRepository)
	d.WantInSync(stack.ReportDrift)
	all, err := d.Platform.Complete(repositoryType)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	owner := all[0].Token
	if err := d.Platform.repositories().Make("web", repository.Settings{Owner: owner, Immutable: true}); err != nil {
		t.Fatal(err)
	}
	d.Apply(strings.Replace(driftingRepository, "web}", "web, ImageTagMutability: MUTABLE}", 1))
	d.WantInSync(stack.ReportDrift) // the update has put it right
	if err := d.Platform.repositories().Make("web", repository.Settings{Owner: owner, Immutable: true, Except: []string{"dev-*"}}); err != nil {
		t.Fatal(err)
	}
	d.WantModified("Images", "/ImageTagMutability", "MUTABLE", "IMMUTABLE_WITH_EXCLUSION")
	d.Apply(strings.Replace(driftingRepository, "web}", "web, LifecyclePolicy: {LifecyclePolicyText: '"+keepTwo+"'}}", 1))
	d.WantInSync(stack.ReportDrift)
	other := strings.Replace(keepTwo, "2", "3", 1)
	if err := d.Platform.repositories().Make("web", repository.Settings{Owner: owner, Lifecycle: other}); err != nil {
		t.Fatal(err)
	}
	d.WantModified("Images", "/LifecyclePolicy/LifecyclePolicyText", keepTwo, other)
	if err := d.Platform.repositories().Remove("web", owner, true); err != nil {
		t.Fatal(err)
	}
	if drifted := d.Look(stack.ReportDrift); drifted["Images"].Status != stack.Deleted {
		t.Errorf("after it was removed: %+v", drifted)
	}
}

// TestDockerPushesAndPulls uses the registry with docker as it is.
func TestDockerPushesAndPulls(t *testing.T) {
	t.Parallel()
	docker := testneed.Program(t, "docker", "apt-get install docker.io")
	c := machinetest.DockerEngine(t)
	p := newPlatform(t, Options{Options: machine.Options{Records: record.NewMemory()}})
	made := machinetest.Create(t, p, imagesRequest("Images", map[string]any{"RepositoryName": "shop/web", "ImageTagMutability": "IMMUTABLE"}))
	image := machinetest.Attribute(t, made, "RepositoryUri") + ":v1"
	registry, err := p.ImageRegistry()
	if err != nil {
		t.Fatal(err)
	}
	config := t.TempDir() // docker writes what it is told at login there
	run := func(input string, args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), docker, append([]string{"--config", config, "--host", c.DaemonHost()}, args...)...)
		command.Stdin = strings.NewReader(input)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	must := func(input string, args ...string) string {
		t.Helper()
		out, err := run(input, args...)
		if err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
		return out
	}
	const small = "makeitso-test-small"
	machinetest.NeedImage(t, c, small, func(*machinetest.Root) {})
	must("", "tag", small, image)
	t.Cleanup(func() {
		command := exec.CommandContext(context.Background(), docker, "--host", c.DaemonHost(), "rmi", image)
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("docker rmi: %v\n%s", err, out)
		}
	})
	if out, err := run("", "push", image); err == nil {
		t.Errorf("pushed without a password: %s", out)
	}
	if out, err := run("wrong", "login", "--username", repository.User, "--password-stdin", registry.Address()); err == nil {
		t.Errorf("logged in with a wrong password: %s", out)
	}
	must(registry.Password, "login", "--username", repository.User, "--password-stdin", registry.Address())
	must("", "push", image)
	id := must("", "image", "inspect", "--format", "{{.Id}}", image)
	must("", "rmi", image)
	machinetest.Kill(t, p.Machine, registryProcess)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	must("", "pull", image)
	if got := must("", "image", "inspect", "--format", "{{.Id}}", image); got != id {
		t.Errorf("pulled %s, pushed %s", got, id)
	}
	must("", "push", image) // nothing changes
	must("FROM "+small+"\nLABEL other=1\n", "build", "--tag", image, "-")
	if out, err := run("", "push", image); err == nil || !strings.Contains(out, "cannot be overwritten because the tag is immutable") {
		t.Errorf("an immutable tag was moved: %v\n%s", err, out)
	}
	unknown := registry.Address() + "/shop/none:v1"
	must("", "tag", small, unknown)
	if out, err := run("", "push", unknown); err == nil || !strings.Contains(out, "The repository with name 'shop/none' does not exist in the registry with id") {
		t.Errorf("pushed where there is no repository: %v\n%s", err, out)
	}
	must("", "rmi", unknown)
}
