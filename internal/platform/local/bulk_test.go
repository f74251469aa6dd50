package local

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/platform/objectserver"
)

// filesOf writes files with those contents and gives their paths by key.
func filesOf(t *testing.T, contents map[string]string) map[string]string {
	t.Helper()
	dir, paths := t.TempDir(), map[string]string{}
	for key, content := range contents {
		paths[key] = filepath.Join(dir, fmt.Sprint(len(paths)))
		if err := os.WriteFile(paths[key], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func someHeader(key string) map[string]string {
	return map[string]string{"Content-Type": "text/x-" + strings.ToLower(key[:1]), "Cache-Control": "max-age=7", "X-Amz-Meta-Key": "the key"}
}

// head asks for all that S3 tells of an object.
func head(t *testing.T, b *objectserver.Bucket, key string) *s3.HeadObjectOutput {
	t.Helper()
	h, err := b.Client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &b.Name, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return h
}

// requests counts what a client sends.
type requests struct {
	s3.HTTPClient
	sent atomic.Int32
}

func (r *requests) Do(request *http.Request) (*http.Response, error) {
	r.sent.Add(1)
	return r.HTTPClient.Do(request)
}

// What PutFiles brings must be what S3 would have made of it, and must not have
// come one by one.
func TestPutFilesIsAsS3Does(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	b := contentOf(t, p, machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{})).PhysicalID)
	contents := map[string]string{"empty": "", "deep/er/x.js": "let x", "with ä, + and %20.txt": "odd", strings.Repeat("long/", 60) + "name": "long", "large": strings.Repeat("0123456789abcdef", 1<<17)}
	for i := range 200 {
		contents[fmt.Sprintf("asset-%03d.bin", i)] = strings.Repeat(fmt.Sprint(i), i)
	}
	o := b.Client.Options()
	counted := &requests{HTTPClient: o.HTTPClient}
	o.HTTPClient = counted
	b.Client = s3.New(o)
	put, err := b.PutFiles(t.Context(), filesOf(t, contents), someHeader)
	if err != nil || len(put) != len(contents) {
		t.Fatalf("put %d of %d: %v", len(put), len(contents), err)
	}
	listed, err := b.List(t.Context())
	if err != nil || len(listed) != len(contents) {
		t.Errorf("listed %d of %d: %v", len(listed), len(contents), err)
	}
	if sent := counted.sent.Load(); sent > 10 {
		t.Errorf("%d requests were sent for %d files", sent, len(contents))
	}
	alone := filesOf(t, map[string]string{"alone": "let x"})["alone"]
	for key, content := range contents {
		sum := md5.Sum([]byte(content))
		if etag := hex.EncodeToString(sum[:]); listed[key] != etag {
			t.Errorf("%s is listed as %s, want %s", key, listed[key], etag)
		}
		var got bytes.Buffer
		if err := b.Get(t.Context(), key, &got); err != nil || got.String() != content {
			t.Errorf("%s: %d bytes, %v; want %d", key, got.Len(), err, len(content))
		}
	}
	if err := b.Put(t.Context(), "d-alone", alone, someHeader("d-alone")); err != nil {
		t.Fatal(err)
	}
	ours, theirs := head(t, b, "deep/er/x.js"), head(t, b, "d-alone")
	if since := theirs.LastModified.Sub(*ours.LastModified); since < 0 || since > time.Hour {
		t.Errorf("last modified %s, and later %s", ours.LastModified, theirs.LastModified)
	}
	if !reflect.DeepEqual(describe(ours), describe(theirs)) {
		t.Errorf("put with others: %v\nput by S3:       %v", describe(ours), describe(theirs))
	}
}

// describe gives what is set, with values in the place of pointers.
func describe(h *s3.HeadObjectOutput) map[string]any {
	return map[string]any{
		"etag": aws.ToString(h.ETag), "length": aws.ToInt64(h.ContentLength), "type": aws.ToString(h.ContentType), "cache": aws.ToString(h.CacheControl),
		"encoding": aws.ToString(h.ContentEncoding), "language": aws.ToString(h.ContentLanguage), "disposition": aws.ToString(h.ContentDisposition),
		"metadata": h.Metadata, "version": aws.ToString(h.VersionId), "class": h.StorageClass, "checksum of": h.ChecksumType, "checksum": aws.ToString(h.ChecksumCRC64NVME),
		"expires": aws.ToString(h.ExpiresString), "ranges": aws.ToString(h.AcceptRanges), "tags": aws.ToInt32(h.TagCount),
	}
}

// In a bucket with versions, a put with others makes one too, and what is
// deleted is not listed while its marker lies there.
func TestPutFilesOfVersions(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	for status, versions := range map[string]int{"Enabled": 3, "Suspended": 2} {
		r := machinetest.Request("AWS::S3::Bucket", "Files"+status, map[string]any{"VersioningConfiguration": map[string]any{"Status": "Enabled"}})
		b := contentOf(t, p, machinetest.Create(t, p, r).PhysicalID)
		put := func(content string) {
			t.Helper()
			if _, err := b.PutFiles(t.Context(), filesOf(t, map[string]string{"a": content, "b": content}), someHeader); err != nil {
				t.Fatal(err)
			}
		}
		put("one")
		r.Previous, r.Properties = r.Properties, map[string]any{"VersioningConfiguration": map[string]any{"Status": status}}
		if _, err := machinetest.Handler(t, p, r.Type).Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		put("two")
		put("three")
		all, err := b.Client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &b.Name, Prefix: aws.String("a")})
		if err != nil || len(all.Versions) != versions {
			t.Errorf("%s: a has %d versions, %v; want %d", status, len(all.Versions), err, versions)
		}
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		listed, err := b.List(t.Context())
		if _, still := listed["a"]; err != nil || still || len(listed) != 1 {
			t.Errorf("%s: after a was deleted, %v, %v are listed", status, listed, err)
		}
	}
}

// Whoever has no key cannot put or list; whoever has one cannot leave the
// bucket; what fails is named and leaves nothing.
func TestPutFilesRefused(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	b := contentOf(t, p, machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{})).PhysicalID)
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		request, err := http.NewRequestWithContext(t.Context(), method, aws.ToString(b.Client.Options().BaseEndpoint)+"/_bulk/"+b.Name, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Makeitso-Bulk", "1")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Errorf("%s without a signature is answered", method)
		}
	}
	for _, key := range []string{"../outside", "a/../../outside", "x/under"} {
		_, err := b.PutFiles(t.Context(), filesOf(t, map[string]string{"x": "object", key: "evil"}), someHeader)
		if err == nil || !strings.Contains(err.Error(), "put "+key) && !strings.Contains(err.Error(), "put x ") {
			t.Errorf("put %s: %v", key, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(p.storeFolder(), "buckets", "*"))
	if err != nil || slices.ContainsFunc(found, func(name string) bool { return strings.HasSuffix(name, "outside") }) {
		t.Errorf("the folder of buckets holds %v (%v)", found, err)
	}
	_, err = b.PutFiles(t.Context(), filesOf(t, map[string]string{"one": "1", "two": "2"}), func(string) map[string]string { return map[string]string{"X-Other": "1"} })
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown header: %v", err)
	}
}

// The server is killed in the middle. What can be seen afterwards is whole.
func TestPutFilesKilled(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	b := contentOf(t, p, machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{})).PhysicalID)
	contents := map[string]string{}
	for i := range 3000 {
		contents[fmt.Sprintf("asset-%04d", i)] = strings.Repeat(fmt.Sprint(i), 2000)
	}
	paths := filesOf(t, contents)
	ended := make(chan error, 1)
	go func() {
		_, err := b.PutFiles(t.Context(), paths, someHeader)
		ended <- err
	}()
	folder := filepath.Join(p.storeFolder(), "buckets", b.Name)
	for visible := 0; visible < 10; {
		found, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		visible = len(found)
	}
	machinetest.Kill(t, p.Machine, storeProcess)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "put asset-") {
		t.Errorf("put into a server that was killed: %v", err)
	}
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	listed, err := b.List(t.Context())
	if err != nil || len(listed) == 0 || len(listed) == len(contents) {
		t.Fatalf("%d of %d are there, %v", len(listed), len(contents), err)
	}
	for key, etag := range listed {
		var got bytes.Buffer
		sum := md5.Sum([]byte(contents[key]))
		if err := b.Get(t.Context(), key, &got); err != nil || got.String() != contents[key] || etag != hex.EncodeToString(sum[:]) || aws.ToString(head(t, b, key).CacheControl) != "max-age=7" {
			t.Errorf("%s is there by half: %d bytes, %s, %v", key, got.Len(), etag, err)
		}
	}
	if put, err := b.PutFiles(t.Context(), paths, someHeader); err != nil || len(put) != len(contents) {
		t.Errorf("put again: %d, %v", len(put), err)
	}
}
