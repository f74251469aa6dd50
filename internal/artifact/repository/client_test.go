package repository

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// TestClient uses the registry with a client as it is.
func TestClient(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	app, err := name.NewRepository(r.host + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	other, err := name.NewRepository(r.host + "/other")
	if err != nil {
		t.Fatal(err)
	}
	auth := remote.WithAuth(&authn.Basic{Username: User, Password: password})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	img, err := random.Image(100_000, 3)
	must(err)
	must(remote.Write(app.Tag("v1"), img, auth))
	pulled, err := remote.Image(app.Tag("v1"), auth)
	must(err)
	same(t, img, pulled)

	all, err := random.Index(1000, 2, 3)
	must(err)
	must(remote.WriteIndex(app.Tag("all"), all, auth))
	list, err := remote.Index(app.Tag("all"), auth)
	must(err)
	parts, err := list.IndexManifest()
	must(err)
	for _, part := range parts.Manifests {
		one, err := all.Image(part.Digest)
		must(err)
		two, err := list.Image(part.Digest)
		must(err)
		same(t, one, two)
	}
	tags, err := remote.List(app, auth, remote.WithPageSize(1))
	if err != nil || !slices.Equal(tags, []string{"all", "v1"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
	catalog, err := name.NewRegistry(r.host)
	must(err)
	if names, err := remote.Catalog(t.Context(), catalog, auth); err != nil || !slices.Equal(names, []string{"other", "team/app"}) {
		t.Errorf("repositories %v, %v", names, err)
	}

	must(remote.Write(other.Tag("copy"), pulled, auth)) // its layers are mounted
	copied, err := remote.Image(other.Tag("copy"), auth)
	must(err)
	same(t, img, copied)

	subject, err := remote.Head(app.Tag("v1"), auth)
	must(err)
	note, err := random.Image(10, 1)
	must(err)
	note = mutate.Subject(note, *subject).(v1.Image)
	must(remote.Write(app.Tag("note"), note, auth))
	referrers, err := remote.Referrers(app.Digest(subject.Digest.String()), auth)
	must(err)
	found, err := referrers.IndexManifest()
	must(err)
	if digest, err := note.Digest(); err != nil || len(found.Manifests) != 1 || found.Manifests[0].Digest != digest {
		t.Errorf("about the image: %v, %v", found.Manifests, err)
	}

	must(remote.Delete(app.Digest(subject.Digest.String()), auth))
	for what, c := range map[string]struct {
		ref    name.Reference
		option remote.Option
		status int
	}{
		"a deleted image":       {app.Tag("v1"), auth, http.StatusNotFound},
		"nobody":                {other.Tag("copy"), remote.WithAuth(authn.Anonymous), http.StatusUnauthorized},
		"with another password": {other.Tag("copy"), remote.WithAuth(&authn.Basic{Username: User, Password: "wrong"}), http.StatusUnauthorized},
		"with another user":     {other.Tag("copy"), remote.WithAuth(&authn.Basic{Username: "aws", Password: password}), http.StatusUnauthorized},
		"an unknown repository": {catalog.Repo("none").Tag("v1"), auth, http.StatusNotFound},
	} {
		var answer *transport.Error
		if _, err := remote.Image(c.ref, c.option); !errors.As(err, &answer) || answer.StatusCode != c.status {
			t.Errorf("%s: %v, want %d", what, err, c.status)
		}
	}
}

// same wants two images to be one, and reads the second whole: the client
// checks digests on the way.
func same(t *testing.T, a, b v1.Image) {
	t.Helper()
	one, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if two, err := b.Digest(); err != nil || one != two {
		t.Errorf("digests %s, %s, %v", one, two, err)
	}
	layers, err := b.Layers()
	if err != nil || len(layers) == 0 {
		t.Fatal(layers, err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err == nil {
			_, err = io.Copy(io.Discard, content)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
