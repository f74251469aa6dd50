package repository

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"makeitso/internal/fault"
)

const password = "correct horse"

// A test runs its own program as a server that may not write large files: the
// nearest to a full disk that needs no rights.
const limited = "REPOSITORY_TEST_LIMITED" // the folder

func TestMain(m *testing.M) {
	if dir := os.Getenv(limited); dir != "" {
		fmt.Fprintln(os.Stderr, serveLimited(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fileLimit is the size of the largest file of a limited server.
const fileLimit = 64 << 10

func serveLimited(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: fileLimit, Max: fileLimit}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, Open(dir, "123456789012").Handler(SumOf(password), func(error) {}))
}

// registry is a server with the repositories "team/app" and "other".
type registry struct {
	t    *testing.T
	s    *Store
	host string
}

func newRegistry(t *testing.T) registry {
	t.Helper()
	s := Open(filepath.Join(t.TempDir(), "images"), "123456789012")
	for _, name := range []string{"team/app", "other"} {
		if err := s.Make(name, Settings{Owner: "me"}); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(s.Handler(SumOf(password), func(err error) { t.Error(err) }))
	t.Cleanup(server.Close)
	return registry{t, s, strings.TrimPrefix(server.URL, "http://")}
}

// reply is an answer as tests look at it.
type reply struct {
	status int
	header http.Header
	body   string
	code   string // of the error, if it is one
}

// ask sends a request; a header is "Name: value".
func (r registry) ask(method, path, body string, headers ...string) reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.host+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth(User, password)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var failed struct{ Errors []struct{ Code string } }
	got := reply{answer.StatusCode, answer.Header, string(text), ""}
	if json.Unmarshal(text, &failed) == nil && len(failed.Errors) == 1 {
		got.code = failed.Errors[0].Code
	}
	return got
}

// must sends a request that is to be answered with that status.
func (r registry) must(status int, method, path, body string, headers ...string) reply {
	r.t.Helper()
	got := r.ask(method, path, body, headers...)
	if got.status != status {
		r.t.Fatalf("%s %s: %d %s, want %d", method, path, got.status, got.body, status)
	}
	return got
}

// push sends a blob and gives its digest.
func (r registry) push(name, content string) string {
	r.t.Helper()
	digest := digestOf([]byte(content))
	r.must(201, "POST", "/v2/"+name+"/blobs/uploads/?digest="+digest, content)
	return digest
}

func describe(mediaType, content string) descriptor {
	return descriptor{MediaType: mediaType, Digest: digestOf([]byte(content)), Size: int64(len(content))}
}

// manifestOf is an image of a configuration and layers, of which blobs are
// pushed before.
func manifestOf(t *testing.T, m manifest) string {
	t.Helper()
	m.SchemaVersion = 2
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const ociType = "Content-Type: application/vnd.oci.image.manifest.v1+json"

// image pushes an image of "{}" and a layer, and gives its manifest.
func (r registry) image(name, tag, layer string) string {
	r.t.Helper()
	r.push(name, "{}")
	r.push(name, layer)
	config := describe("application/vnd.oci.image.config.v1+json", "{}")
	text := manifestOf(r.t, manifest{Config: &config, Layers: []descriptor{describe("application/vnd.oci.image.layer.v1.tar", layer)}})
	r.must(201, "PUT", "/v2/"+name+"/manifests/"+tag, text, ociType)
	return text
}

// blobs gives how many blobs are kept.
func (r registry) blobs() int {
	r.t.Helper()
	found, err := os.ReadDir(filepath.Join(r.s.dir, "blobs"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(found)
}

// TestRequests asks what the specification has an answer for.
func TestRequests(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	text := r.image("team/app", "v1", "a layer")
	digest, layer := digestOf([]byte(text)), digestOf([]byte("a layer"))
	none := "sha256:" + strings.Repeat("0", 64)
	config := describe("c", "{}")
	wrongSize := config
	wrongSize.Size = 99
	foreign := descriptor{MediaType: "l", Digest: none, URLs: []string{"http://example.com/l"}}
	const app = "/v2/team/app"
	for _, c := range []struct {
		request string // method and path
		body    string
		headers []string
		status  int
		code    string // of the error
		want    string // in the body or the headers
	}{
		{request: "GET /v2/", status: 200, want: "Docker-Distribution-Api-Version: registry/2.0"},
		{request: "GET /v2/", headers: []string{"Authorization: "}, status: 401, code: "UNAUTHORIZED", want: "Basic realm"},
		{request: "GET " + app + "/tags/list", headers: []string{"Authorization: Basic QVdTOndyb25n"}, status: 401, code: "UNAUTHORIZED"},
		{request: "GET /", status: 404, code: "UNSUPPORTED"},
		{request: "GET /v2/team/app", status: 404, code: "UNSUPPORTED"},
		{request: "GET /v2/Team/manifests/v1", status: 400, code: "NAME_INVALID"},
		{request: "GET /v2/../manifests/v1", status: 400, code: "NAME_INVALID"},
		{request: "GET /v2/team/manifests/v1", status: 404, code: "NAME_UNKNOWN", want: "The repository with name 'team' does not exist in the registry with id '123456789012'"},
		{request: "POST /v2/team/blobs/uploads/", status: 404, code: "NAME_UNKNOWN"},
		{request: "GET /v2/_catalog", status: 200, want: `["other","team/app"]`},
		{request: "GET /v2/_catalog?n=1", status: 200, want: `<` + `/v2/_catalog?last=other&n=1>; rel="next"`},

		{request: "GET " + app + "/manifests/v1", status: 200, want: text},
		{request: "GET " + app + "/manifests/" + digest, status: 200, want: "Docker-Content-Digest: " + digest},
		{request: "HEAD " + app + "/manifests/v1", status: 200, want: fmt.Sprintf("Content-Length: %d", len(text))},
		{request: "GET " + app + "/manifests/v1", status: 200, want: ociType},
		{request: "GET " + app + "/manifests/v9", status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "HEAD " + app + "/manifests/v9", status: 404},
		{request: "GET " + app + "/manifests/" + none, status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "GET " + app + "/manifests/sha256:../../repository.json", status: 404, code: "UNSUPPORTED"},
		{request: "GET " + app + "/manifests/sha256:short", status: 400, code: "DIGEST_INVALID"},
		{request: "GET /v2/other/manifests/" + digest, status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "PUT " + app + "/manifests/v2", body: "not JSON", headers: []string{ociType}, status: 400, code: "MANIFEST_INVALID"},
		{request: "PUT " + app + "/manifests/v2", body: text, status: 400, code: "MANIFEST_INVALID", want: "are not kept; allowed are"},
		{request: "PUT " + app + "/manifests/v2", body: `{"schemaVersion":2}`, headers: []string{ociType}, status: 400, code: "MANIFEST_INVALID", want: "no config"},
		{request: "PUT " + app + "/manifests/v2", body: `{"schemaVersion":1}`, headers: []string{ociType}, status: 400, code: "MANIFEST_INVALID", want: "schemaVersion 1"},
		{request: "PUT " + app + "/manifests/v2", body: `{"schemaVersion":2,"config":{"digest":"md5:1"}}`, headers: []string{ociType}, status: 400, code: "DIGEST_INVALID"},
		{request: "PUT " + app + "/manifests/v2", body: `{"schemaVersion":2,"mediaType":"x/y"}`, headers: []string{ociType}, status: 400, code: "MANIFEST_INVALID", want: "calls itself x/y"},
		{request: "PUT " + app + "/manifests/v2", body: `{"schemaVersion":2,"layers":[]}`, headers: []string{"Content-Type: " + index[0]}, status: 201},
		{request: "PUT " + app + "/manifests/v2", body: manifestOf(t, manifest{Config: &wrongSize}), headers: []string{ociType}, status: 400, code: "SIZE_INVALID"},
		{request: "PUT " + app + "/manifests/v2", body: strings.Repeat(" ", maxManifest+1), headers: []string{ociType}, status: 413, code: "MANIFEST_INVALID"},
		{request: "PUT /v2/other/manifests/v2", body: text, headers: []string{ociType}, status: 404, code: "MANIFEST_BLOB_UNKNOWN"},
		{request: "PUT " + app + "/manifests/v2", body: manifestOf(t, manifest{Manifests: []descriptor{foreign}}), headers: []string{"Content-Type: " + index[0]}, status: 404, code: "MANIFEST_BLOB_UNKNOWN"},
		{request: "PUT " + app + "/manifests/v2", body: manifestOf(t, manifest{Config: &config, Layers: []descriptor{foreign}}), headers: []string{ociType}, status: 201},
		{request: "PUT " + app + "/manifests/" + none, body: text, headers: []string{ociType}, status: 400, code: "DIGEST_INVALID"},
		{request: "PUT " + app + "/manifests/" + digest, body: text, headers: []string{ociType}, status: 201, want: "Location: " + app + "/manifests/" + digest},
		{request: "PUT " + app + "/manifests/.v2", body: text, headers: []string{ociType}, status: 400, code: "TAG_INVALID"},
		{request: "PUT " + app + "/manifests/v2", body: text, headers: []string{ociType + "; charset=utf-8"}, status: 201, want: "Docker-Content-Digest: " + digest},
		{request: "POST " + app + "/manifests/v2", status: 405, code: "UNSUPPORTED"},

		{request: "GET " + app + "/blobs/" + layer, status: 200, want: "a layer"},
		{request: "HEAD " + app + "/blobs/" + layer, status: 200, want: "Content-Length: 7"},
		{request: "GET " + app + "/blobs/" + layer, headers: []string{"Range: bytes=2-6"}, status: 206, want: "layer"},
		{request: "GET " + app + "/blobs/" + layer, headers: []string{"Range: bytes=7-"}, status: 416},
		{request: "GET " + app + "/blobs/" + none, status: 404, code: "BLOB_UNKNOWN"},
		{request: "GET " + app + "/blobs/sha256:short", status: 400, code: "DIGEST_INVALID"},
		{request: "HEAD /v2/other/blobs/" + layer, status: 404},
		{request: "DELETE " + app + "/blobs/" + layer, status: 405, code: "UNSUPPORTED"},
		{request: "POST " + app + "/blobs/uploads/?digest=" + none, body: "other", status: 400, code: "DIGEST_INVALID"},
		{request: "POST /v2/other/blobs/uploads/?mount=" + layer + "&from=no", status: 202, want: "Range: 0-0"},
		{request: "POST /v2/other/blobs/uploads/?mount=" + none + "&from=team/app", status: 202},
		{request: "POST /v2/other/blobs/uploads/?mount=" + layer + "&from=team/app", status: 201, want: "Location: /v2/other/blobs/" + layer},
		{request: "HEAD /v2/other/blobs/" + layer, status: 200},
		{request: "PATCH " + app + "/blobs/uploads/" + strings.Repeat("A", 26), status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		{request: "GET " + app + "/blobs/uploads/..", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},

		{request: "GET " + app + "/tags/list", status: 200, want: `{"name":"team/app","tags":["v1","v2"]}`},
		{request: "GET " + app + "/tags/list?n=1", status: 200, want: `Link: <` + app + `/tags/list?last=v1&n=1>; rel="next"`},
		{request: "GET " + app + "/tags/list?n=1&last=v1", status: 200, want: `"tags":["v2"]`},
		{request: "GET " + app + "/tags/list?last=v10", status: 200, want: `"tags":["v2"]`},
		{request: "GET " + app + "/tags/list?n=0", status: 200, want: `"tags":[]`},
		{request: "GET " + app + "/tags/list?n=-1", status: 400, code: "PAGINATION_NUMBER_INVALID"},
		{request: "GET /v2/other/tags/list", status: 200, want: `{"name":"other","tags":[]}`},
		{request: "GET " + app + "/tags/other", status: 404, code: "UNSUPPORTED"},
		{request: "GET " + app + "/referrers/" + digest, status: 200, want: `"manifests":[]`},
		{request: "GET " + app + "/referrers/v1", status: 400, code: "DIGEST_INVALID"},

		{request: "DELETE " + app + "/manifests/v9", status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "DELETE " + app + "/manifests/" + none, status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "DELETE " + app + "/manifests/v2", status: 202},
		{request: "GET " + app + "/manifests/v2", status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "DELETE " + app + "/manifests/" + digest, status: 202},
		{request: "GET " + app + "/manifests/v1", status: 404, code: "MANIFEST_UNKNOWN"},
		{request: "GET " + app + "/manifests/" + digest, status: 404, code: "MANIFEST_UNKNOWN"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		got := r.ask(method, path, c.body, c.headers...)
		var all bytes.Buffer
		if err := got.header.Write(&all); err != nil {
			t.Fatal(err)
		}
		if got.status != c.status || got.code != c.code || !strings.Contains(all.String()+got.body, c.want) {
			t.Errorf("%s: %d %s\n%s%s\nwant %d %s %s", c.request, got.status, got.code, all.String(), got.body, c.status, c.code, c.want)
		}
	}
}

func TestUploadInChunks(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	const content = "0123456789"
	at := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	for _, c := range []struct {
		body, contentRange string
		status             int
		come               string
	}{
		{"0123", "0-3", 202, "0-3"},
		{"0123", "0-3", 416, "0-3"}, // once more
		{"67", "6-7", 416, "0-3"},   // a gap
		{"45", "4-9", 400, ""},      // not so much
		{"45", "4to5", 400, ""},
		{"45", "4-5", 202, "0-5"},
		{"678", "", 202, "0-8"}, // the rest, as a stream
	} {
		headers := []string{"Content-Range: " + c.contentRange}
		if c.contentRange == "" {
			headers = nil
		}
		if got := r.must(c.status, "PATCH", at, c.body, headers...); got.header.Get("Range") != c.come {
			t.Errorf("after %q %s: %q has come, want %q", c.body, c.contentRange, got.header.Get("Range"), c.come)
		}
	}
	if got := r.must(204, "GET", at, ""); got.header.Get("Range") != "0-8" || got.header.Get("Location") != at {
		t.Errorf("the upload's state: %v", got.header)
	}
	digest := digestOf([]byte(content))
	r.must(201, "PUT", at+"?digest="+digest, "9", "Content-Range: 9-9")
	if got := r.must(200, "GET", "/v2/team/app/blobs/"+digest, ""); got.body != content {
		t.Errorf("the blob is %q", got.body)
	}
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		r.must(404, method, at, "")
	}
	cancelled := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	r.must(204, "DELETE", cancelled, "")
	r.must(404, "PATCH", cancelled, "x")
	wrong := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	r.must(400, "PUT", wrong+"?digest=", "x")
	r.must(400, "PUT", wrong+"?digest="+digest, "y")
	r.must(404, "GET", wrong, "") // what it was can be no blob
}

// TestBrokenUploadGoesOn breaks a connection off in the midst of a chunk.
func TestBrokenUploadGoesOn(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	at := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	connection, err := net.Dial("tcp", r.host)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest("PATCH", "http://"+r.host+at, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(User, password)
	fmt.Fprintf(connection, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 10\r\n\r\n01234", at, request.Header.Get("Authorization"))
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, connection); err != nil { // until the server has done with it
		t.Fatal(err)
	}
	connection.Close()
	if got := r.must(204, "GET", at, ""); got.header.Get("Range") != "0-4" {
		t.Fatalf("of the broken chunk %s has come", got.header.Get("Range"))
	}
	r.must(202, "PATCH", at, "56789", "Content-Range: 5-9")
	r.must(201, "PUT", at+"?digest="+digestOf([]byte("0123456789")), "")
}

func TestReferrersAndLists(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	text := r.image("team/app", "v1", "a layer")
	subject := describe("application/vnd.oci.image.manifest.v1+json", text)
	config := describe("application/vnd.oci.empty.v1+json", "{}")
	signature := manifestOf(t, manifest{ArtifactType: "test/signature", Config: &config, Subject: &subject, Annotations: map[string]string{"by": "me"}})
	said := r.must(201, "PUT", "/v2/team/app/manifests/"+digestOf([]byte(signature)), signature, ociType)
	if said.header.Get("OCI-Subject") != subject.Digest {
		t.Errorf("OCI-Subject is %q", said.header.Get("OCI-Subject"))
	}
	for _, c := range []struct {
		query string
		found int
	}{{"", 1}, {"?artifactType=test/signature", 1}, {"?artifactType=test/other", 0}} {
		got := r.must(200, "GET", "/v2/team/app/referrers/"+subject.Digest+c.query, "")
		var list manifest
		if err := json.Unmarshal([]byte(got.body), &list); err != nil || len(list.Manifests) != c.found {
			t.Fatalf("%s: %s, %v; want %d", c.query, got.body, err, c.found)
		}
		if c.found == 1 && (list.Manifests[0].Digest != digestOf([]byte(signature)) || list.Manifests[0].Annotations["by"] != "me") {
			t.Errorf("%s: %s", c.query, got.body)
		}
		if (got.header.Get("OCI-Filters-Applied") != "") != (c.query != "") {
			t.Errorf("%s: filters %q", c.query, got.header.Get("OCI-Filters-Applied"))
		}
	}
	list := manifestOf(t, manifest{Manifests: []descriptor{subject}})
	r.must(201, "PUT", "/v2/team/app/manifests/all", list, "Content-Type: "+index[0])
	if got := r.must(403, "DELETE", "/v2/team/app/manifests/"+subject.Digest, ""); got.code != "DENIED" || !strings.Contains(got.body, digestOf([]byte(list))) {
		t.Errorf("a part of a list was deleted: %s", got.body)
	}
	r.must(202, "DELETE", "/v2/team/app/manifests/"+digestOf([]byte(list)), "")
	r.must(202, "DELETE", "/v2/team/app/manifests/"+subject.Digest, "")
}

func TestImmutableTags(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	first, second := r.image("team/app", "v1", "one"), r.image("team/app", "dev-1", "two")
	const refused = "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable."
	for _, c := range []struct {
		settings Settings
		tag      string
		free     bool
	}{
		{Settings{}, "v1", true},
		{Settings{Immutable: true}, "v1", false},
		{Settings{Immutable: true, Except: []string{"dev-*"}}, "v1", false},
		{Settings{Immutable: true, Except: []string{"dev-*"}}, "dev-1", true},
		{Settings{Except: []string{"v*"}}, "v1", false},
		{Settings{Except: []string{"v*"}}, "dev-1", true},
	} {
		c.settings.Owner = "me"
		if err := r.s.Make("team/app", c.settings); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{first, second} { // one of them is there
			got := r.ask("PUT", "/v2/team/app/manifests/"+c.tag, text, ociType)
			now := r.must(200, "GET", "/v2/team/app/manifests/"+c.tag, "").body
			switch {
			case got.status == 201 && now != text:
				t.Errorf("%+v %s: it was taken, and is not there", c.settings, c.tag)
			case got.status == 400 && (c.free || now == text || got.code != "TAG_INVALID" || !strings.Contains(got.body, refused)):
				t.Errorf("%+v %s: %s", c.settings, c.tag, got.body)
			case got.status != 201 && got.status != 400:
				t.Errorf("%+v %s: %d", c.settings, c.tag, got.status)
			}
		}
		if moved := r.ask("PUT", "/v2/team/app/manifests/"+c.tag, first, ociType).status == 201 && r.ask("PUT", "/v2/team/app/manifests/"+c.tag, second, ociType).status == 201; moved != c.free {
			t.Errorf("%+v %s: moved %t, want %t", c.settings, c.tag, moved, c.free)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"v1", "v1", true}, {"v1", "v12", false}, {"v1", "av1", false},
		{"v*", "v", true}, {"v*", "xv", false}, {"*", "", true}, {"*-dev", "1-dev", true}, {"*-dev", "1-dev2", false},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "a-b-c", true}, {"a*b*c", "a-c", false}, {"a*b*b", "ab", false},
	} {
		if matches(c.pattern, c.text) != c.want {
			t.Errorf("%q, %q: want %t", c.pattern, c.text, c.want)
		}
	}
}

func TestGarbageGoesWithTheLastThatNeedsIt(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	one, two := r.image("team/app", "one", "first"), r.image("team/app", "two", "second")
	r.image("other", "one", "first")
	want := func(blobs int, when string) {
		t.Helper()
		if got := r.blobs(); got != blobs {
			t.Fatalf("%s: %d blobs, want %d", when, got, blobs)
		}
	}
	want(3, "after three images of {}, first and second")
	r.push("team/app", "in a push")
	r.must(202, "DELETE", "/v2/team/app/manifests/"+digestOf([]byte(two)), "")
	want(3, "after one went while another was pushed") // second has gone
	r.must(200, "GET", "/v2/team/app/manifests/one", "")
	r.must(202, "DELETE", "/v2/team/app/manifests/"+digestOf([]byte(one)), "")
	want(3, "after one went that another repository has too")
	r.must(404, "HEAD", "/v2/team/app/blobs/"+digestOf([]byte("first")), "")
	r.must(200, "GET", "/v2/other/blobs/"+digestOf([]byte("first")), "")
	if err := r.s.Remove("other", "me", true); err != nil {
		t.Fatal(err)
	}
	want(1, "after the other repository went")
	begun := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	old := time.Now().Add(-abandoned - time.Minute)
	half := filepath.Join(r.s.folder("team/app"), "images", ".half")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	upload := r.s.uploadFile("team/app", filepath.Base(begun))
	for _, file := range []string{upload, r.s.layer("team/app", digestOf([]byte("in a push")))} {
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.must(200, "HEAD", "/v2/team/app/blobs/"+digestOf([]byte("in a push")), "") // somebody wants it still
	if err := r.s.Sweep(); err != nil {
		t.Fatal(err)
	}
	want(1, "after one was asked for")
	if err := os.Chtimes(r.s.layer("team/app", digestOf([]byte("in a push"))), old, old); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Sweep(); err != nil {
		t.Fatal(err)
	}
	want(0, "after it was abandoned")
	for _, file := range []string{upload, half} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is left", file)
		}
	}
}

func TestRepositoriesHaveOwners(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.image("team/app", "v1", "a layer")
	if err := r.s.Make("team/app", Settings{Owner: "you"}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "The repository with name 'team/app' already exists in the registry with id '123456789012'") {
		t.Errorf("made by two: %v", err)
	}
	if err := r.s.Remove("team/app", "you", true); err != nil {
		t.Errorf("removed by who has not made it: %v", err)
	}
	if err := r.s.Remove("team/app", "me", false); !fault.Is(err, fault.Conflict) || err.Error() != "The repository with name 'team/app' in registry with id '123456789012' cannot be deleted because it still contains images" {
		t.Errorf("removed with images: %v", err)
	}
	if err := r.s.Make("team/app", Settings{Owner: "me", Immutable: true}); err != nil {
		t.Fatal(err)
	}
	r.must(200, "GET", "/v2/team/app/manifests/v1", "")
	if err := r.s.Empty("team/app"); err != nil {
		t.Fatal(err)
	}
	r.must(404, "GET", "/v2/team/app/manifests/v1", "")
	if is, err := r.s.Get("team/app"); err != nil || !is.Immutable || r.blobs() != 0 {
		t.Errorf("emptied: %+v, %v, %d blobs", is, err, r.blobs())
	}
	for range 2 {
		if err := r.s.Remove("team/app", "me", false); err != nil {
			t.Errorf("removed when empty: %v", err)
		}
	}
	if _, err := r.s.Get("team/app"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a removed one: %v", err)
	}
	for _, name := range []string{"", "a", "A/b", "a//b", "/a", "a/", "../b", "a~b", strings.Repeat("a", 256)} {
		if err := r.s.Make(name, Settings{Owner: "me"}); !fault.Is(err, fault.Invalid) {
			t.Errorf("a repository %q: %v", name, err)
		}
	}
	for _, name := range []string{"a1", "a/b", "a.b-c_d/e", strings.Repeat("a", 255)} {
		if err := r.s.Make(name, Settings{Owner: "me"}); err != nil {
			t.Errorf("a repository %q: %v", name, err)
		}
	}
}

// TestOldBlobsStay sweeps when blobs are old that an image needs, or that a push
// has named anew.
func TestOldBlobsStay(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.image("team/app", "v1", "a layer")
	again := r.push("team/app", "pushed again")
	old := time.Now().Add(-abandoned - time.Minute)
	for _, digest := range []string{digestOf([]byte("{}")), digestOf([]byte("a layer")), again} {
		if err := os.Chtimes(r.s.layer("team/app", digest), old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.push("team/app", "pushed again")
	if err := r.s.Sweep(); err != nil || r.blobs() != 3 {
		t.Errorf("%d blobs are left, want 3 (%v)", r.blobs(), err)
	}
}

// TestHalfRemoved finds a repository as a process has left it that was killed
// while it removed it.
func TestHalfRemoved(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.image("team/app", "v1", "a layer")
	if err := os.Remove(r.s.file("team/app")); err != nil {
		t.Fatal(err)
	}
	r.must(404, "GET", "/v2/team/app/manifests/v1", "")
	if err := r.s.Make("team/app", Settings{Owner: "you"}); err != nil {
		t.Fatal(err)
	}
	if images, err := r.s.images("team/app"); err != nil || len(images) != 0 {
		t.Errorf("the new one has what the old one had: %v, %v", images, err)
	}
	if err := r.s.Remove("team/app", "you", false); err != nil || r.blobs() != 0 {
		t.Errorf("%v, %d blobs", err, r.blobs())
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), limited+"="+r.s.dir)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	if _, err := fmt.Fscanln(out, &r.host); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", fileLimit+1)
	if got := r.must(507, "POST", "/v2/team/app/blobs/uploads/?digest="+digestOf([]byte(large)), large); !strings.Contains(got.body, "no room") {
		t.Error(got.body)
	}
	left, err := os.ReadDir(filepath.Join(r.s.folder("team/app"), "uploads"))
	if err != nil || len(left) != 0 || r.blobs() != 0 {
		t.Errorf("it has left %v (%v) and %d blobs", left, err, r.blobs())
	}
	at := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
	r.must(202, "PATCH", at, "begun")
	r.must(507, "PATCH", at, large)
	if got := r.must(204, "GET", at, ""); got.header.Get("Range") != "0-4" {
		t.Errorf("after what did not fit, %s has come", got.header.Get("Range"))
	}
	config := describe("c", "{}")
	r.push("team/app", "{}")
	many := manifestOf(t, manifest{Config: &config, Annotations: map[string]string{"x": large}})
	r.must(507, "PUT", "/v2/team/app/manifests/v1", many, ociType)
	r.must(404, "GET", "/v2/team/app/manifests/v1", "")
	r.image("team/app", "v1", "a layer")
}

// TestAtOnce pushes, pulls and removes at the same time.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	var working sync.WaitGroup
	for i := range 4 {
		working.Go(func() {
			layer := fmt.Sprint("layer ", i)
			for range 5 {
				for _, content := range []string{"{}", "shared", layer} {
					at := r.ask("POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
					if got := r.ask("PUT", at+"?digest="+digestOf([]byte(content)), content); got.status != 201 {
						t.Errorf("push: %d %s", got.status, got.body)
					}
				}
				config := describe("c", "{}")
				text := manifestOf(t, manifest{Config: &config, Layers: []descriptor{describe("l", "shared"), describe("l", layer)}})
				tag := fmt.Sprint("/v2/team/app/manifests/v", i)
				// Another that went meanwhile may have taken the shared ones along.
				got := r.ask("PUT", tag, text, ociType)
				if got.status != 201 && got.code != "MANIFEST_BLOB_UNKNOWN" {
					t.Errorf("manifest: %d %s", got.status, got.body)
				}
				if got.status == 201 {
					for _, b := range []string{"{}", "shared", layer} {
						if got := r.ask("GET", "/v2/team/app/blobs/"+digestOf([]byte(b)), ""); got.body != b {
							t.Errorf("%q of a complete image: %d %s", b, got.status, got.body)
						}
					}
					if got := r.ask("DELETE", "/v2/team/app/manifests/"+digestOf([]byte(text)), ""); got.status != 202 {
						t.Errorf("delete: %d %s", got.status, got.body)
					}
				}
			}
		})
	}
	working.Wait()
	if tags := r.must(200, "GET", "/v2/team/app/tags/list", "").body; !strings.Contains(tags, `"tags":[]`) {
		t.Errorf("left: %s", tags)
	}
}

// TestUploadEndsOnce ends uploads several times at once.
func TestUploadEndsOnce(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for i := range 20 {
		content := fmt.Sprint("content ", i)
		at := r.must(202, "POST", "/v2/team/app/blobs/uploads/", "").header.Get("Location")
		r.must(202, "PATCH", at, content)
		var ending sync.WaitGroup
		answers := make([]int, 4)
		for j := range answers {
			ending.Go(func() {
				answers[j] = r.ask("PUT", at+"?digest="+digestOf([]byte(content)), "").status
				r.ask("PATCH", at, "more")
			})
		}
		ending.Wait()
		slices.Sort(answers)
		if !slices.Equal(answers, []int{201, 404, 404, 404}) {
			t.Fatalf("ended with %v", answers)
		}
		if got := r.must(200, "GET", "/v2/team/app/blobs/"+digestOf([]byte(content)), ""); got.body != content {
			t.Fatalf("the blob is %q, not %q", got.body, content)
		}
	}
}

func TestPageOrder(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	text := r.image("team/app", "b", "a layer")
	for _, tag := range []string{"c", "A", "a10", "a9"} {
		r.must(201, "PUT", "/v2/team/app/manifests/"+tag, text, ociType)
	}
	var all []string
	for path := "/v2/team/app/tags/list?n=2"; path != ""; {
		got := r.must(200, "GET", path, "")
		var list struct{ Tags []string }
		if err := json.Unmarshal([]byte(got.body), &list); err != nil {
			t.Fatal(err)
		}
		all = append(all, list.Tags...)
		path, _, _ = strings.Cut(strings.TrimPrefix(got.header.Get("Link"), "<"), ">")
	}
	if !slices.Equal(all, []string{"A", "a10", "a9", "b", "c"}) {
		t.Errorf("page by page: %v", all)
	}
}
