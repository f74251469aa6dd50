package local

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"makeitso/internal/fault"
	"makeitso/internal/platform/objectserver"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// get asks this machine for a URL, whatever its host name: not every resolver
// knows that names under localhost are this machine. It gives status, body and
// header.
func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

func put(t *testing.T, b *objectserver.Bucket, key, content string, header map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), key, path, header); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, p *Platform, name string) *objectserver.Bucket {
	t.Helper()
	b, err := p.Bucket(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucketContract(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := request("AWS::S3::Bucket", "Files", map[string]any{"BucketName": "shop-files"})
	stacktest.Handler(t, handlerOf(t, p, r.Type), stacktest.Case{
		Name: "bucket", Request: r,
		Update: map[string]any{
			"BucketName":              "shop-files",
			"VersioningConfiguration": map[string]any{"Status": "Enabled"},
			"WebsiteConfiguration":    map[string]any{"IndexDocument": "index.html"},
		},
		Invalid: map[string]any{"BucketName": "Shop_Files"},
		Count: func() int {
			folders, err := os.ReadDir(filepath.Join(p.storeFolder(), "buckets"))
			if err != nil {
				t.Fatal(err)
			}
			return len(folders)
		},
	})
	if err := p.storeAlive(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the last bucket: %v; want the server stopped", err)
	}
}

func TestBucketHoldsObjects(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	made := create(t, p, request("AWS::S3::Bucket", "Files", map[string]any{}))
	if !validBucket.MatchString(made.PhysicalID) || !strings.HasPrefix(made.PhysicalID, "data-files-") {
		t.Fatalf("generated name %q", made.PhysicalID)
	}
	b := contentOf(t, p, made.PhysicalID)
	put(t, b, "a/b.js", "let x", map[string]string{"content-type": "text/javascript", "Cache-Control": "max-age=9", "x-amz-meta-who": "me"})
	put(t, b, "index.html", "<p>", nil)
	sum := md5.Sum([]byte("let x"))
	objects, err := b.List(t.Context())
	if err != nil || len(objects) != 2 || objects["a/b.js"] != hex.EncodeToString(sum[:]) {
		t.Errorf("listed %v, %v; want two, a/b.js with its MD5", objects, err)
	}
	if err := b.Put(t.Context(), "x", "/dev/null", map[string]string{"X-Other": "1"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown header: %v", err)
	}
	status, _, _ := get(t, "http://"+attribute(t, made, "DomainName")+"/a/b.js")
	if status != http.StatusForbidden {
		t.Errorf("without a signature: %d; want 403", status)
	}
	r := request("AWS::S3::Bucket", "Files", map[string]any{})
	h := handlerOf(t, p, r.Type)
	if err := h.Delete(t.Context(), r); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.HintOf(err), "makeitso destroy") {
		t.Errorf("deleted while not empty: %v", err)
	}
	if err := b.Delete(t.Context(), "a/b.js", "index.html", "never-was"); err != nil {
		t.Fatal(err)
	}
	if objects, err := b.List(t.Context()); err != nil || len(objects) != 0 {
		t.Errorf("after delete: %v, %v", objects, err)
	}
	if err := h.Delete(t.Context(), r); err != nil {
		t.Errorf("deleted when empty: %v", err)
	}
	if _, err := p.Bucket(made.PhysicalID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a deleted bucket: %v", err)
	}
}

func TestPublicPolicyAndWebsite(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	made := create(t, p, request("AWS::S3::Bucket", "Files", map[string]any{
		"WebsiteConfiguration": map[string]any{"IndexDocument": "index.html", "ErrorDocument": "error.html"},
	}))
	b := contentOf(t, p, made.PhysicalID)
	put(t, b, "index.html", "<p>hello", map[string]string{"Content-Type": "text/html", "Cache-Control": "no-cache"})
	object := "http://" + attribute(t, made, "RegionalDomainName") + "/index.html"
	policy := func(principal any) stack.Request {
		return request("AWS::S3::BucketPolicy", "Policy", map[string]any{
			"Bucket": made.PhysicalID,
			"PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": []any{
				map[string]any{"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + made.PhysicalID + "/*"},
			}},
		})
	}
	h := handlerOf(t, p, "AWS::S3::BucketPolicy")
	create(t, p, policy(map[string]any{"Service": "cloudfront.amazonaws.com"}))
	if status, _, _ := get(t, object); status != http.StatusForbidden {
		t.Errorf("allowed for CloudFront only: %d; want 403", status)
	}
	if _, err := h.Update(t.Context(), policy("*")); err != nil {
		t.Fatal(err)
	}
	status, body, header := get(t, object)
	if status != http.StatusOK || body != "<p>hello" || header.Get("Cache-Control") != "no-cache" {
		t.Errorf("public: %d %q %v", status, body, header)
	}
	if status, body, _ := get(t, attribute(t, made, "WebsiteURL")+"/"); status != http.StatusOK || body != "<p>hello" {
		t.Errorf("website: %d %q", status, body)
	}
	if err := h.Delete(t.Context(), policy("*")); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, object); status != http.StatusForbidden {
		t.Errorf("after the policy was deleted: %d; want 403", status)
	}
}

func TestBucketsOutliveMakeitsoAndAKill(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := request("AWS::S3::Bucket", "Files", map[string]any{"VersioningConfiguration": map[string]any{"Status": "Enabled"}})
	made := create(t, p, r)
	put(t, contentOf(t, p, made.PhysicalID), "x", "kept", map[string]string{"Content-Type": "text/plain"})
	killServer(t, p, storeProcess)
	again, err := New("local", p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(fault.Text(err))
	}
	objects, err := contentOf(t, again, made.PhysicalID).List(t.Context())
	if err != nil || len(objects) != 1 {
		t.Errorf("after a kill and Resume: %v, %v; want x", objects, err)
	}
	if err := handlerOf(t, again, r.Type).Delete(t.Context(), r); !fault.Is(err, fault.Conflict) {
		t.Errorf("a delete of a bucket that is not empty: %v, want conflict", err)
	}
	if err := again.Empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := handlerOf(t, again, r.Type).Delete(t.Context(), r); err != nil {
		t.Errorf("a delete of a bucket that was emptied: %v", err)
	}
}

// TestBucketTags reads through the S3 API what tags a bucket has: its own and
// those of its stack.
func TestBucketTags(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	r := request("AWS::S3::Bucket", "Files", map[string]any{"BucketName": "tagged-files", "Tags": []any{map[string]any{"Key": "own", "Value": "1"}}})
	r.Tags = map[string]string{"cost": "2", "aws:cloudformation:stack-name": "app"}
	create(t, p, r)
	tags := func() string {
		bucket, err := p.Bucket("tagged-files")
		if err != nil {
			t.Fatal(err)
		}
		got, err := bucket.Client.GetBucketTagging(t.Context(), &s3.GetBucketTaggingInput{Bucket: &bucket.Name})
		if err != nil {
			return objectserver.Code(err)
		}
		all := map[string]string{}
		for _, tag := range got.TagSet {
			all[*tag.Key] = *tag.Value
		}
		return fmt.Sprint(all)
	}
	if got := tags(); got != "map[cost:2 own:1]" {
		t.Errorf("the bucket has %s", got)
	}
	r.Previous, r.Properties, r.Tags = r.Properties, map[string]any{"BucketName": "tagged-files"}, nil
	if _, err := handlerOf(t, p, r.Type).Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := tags(); got != "NoSuchTagSet" {
		t.Errorf("without tags, the bucket has %s", got)
	}
}

// TestKeys says that the keys of an environment are those of its S3 server,
// whoever needs them first, and that nobody else can read them.
func TestKeys(t *testing.T) {
	p := newPlatform(t, Options{})
	if _, err := p.Keys(); !fault.Is(err, fault.NotFound) {
		t.Errorf("before anybody needed keys, they are asked for and answer %v", err)
	}
	made, err := p.MakeKeys()
	if err != nil || len(made.Access) != 20 || len(made.Secret) < 40 || made.Region != "us-east-1" {
		t.Fatalf("the keys are %+v (%v)", made, err)
	}
	if again, err := p.MakeKeys(); err != nil || again != made {
		t.Errorf("made again, they are %+v (%v)", again, err)
	}
	info, err := os.Stat(p.storeFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("they lie in a file of mode %v (%v)", info.Mode(), err)
	}
	c, err := p.runStore(t.Context())
	if err != nil || c.AccessKey != made.Access || "http://"+loopback(c.Port) != made.S3 {
		t.Errorf("the S3 server has %+v (%v)", c, err)
	}
	if err := p.stopServer(t.Context(), storeProcess); err != nil {
		t.Error(err)
	}
}
