package local

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/platform/machine/machinetest"
)

func TestWebsiteRedirects(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	website := func(c map[string]any) map[string]any { return map[string]any{"WebsiteConfiguration": c} }
	r := machinetest.Request("AWS::S3::Bucket", "Files", website(map[string]any{
		"IndexDocument": "index.html",
		"RoutingRules": []any{
			map[string]any{"RoutingRuleCondition": map[string]any{"KeyPrefixEquals": "old/"}, "RedirectRule": map[string]any{"ReplaceKeyPrefixWith": "new/"}},
			map[string]any{"RoutingRuleCondition": map[string]any{"KeyPrefixEquals": "wiki"}, "RedirectRule": map[string]any{
				"HostName": "wiki.example.com", "Protocol": "https", "ReplaceKeyWith": "start", "HttpRedirectCode": 302, // as people write it
			}},
		},
	}))
	made := machinetest.Create(t, p, r)
	at := machinetest.Attribute(t, made, "WebsiteURL")
	expect := func(path string, status int, location string) {
		t.Helper()
		if got, _, header := get(t, at+path); got != status || header.Get("Location") != location {
			t.Errorf("%s: %d %s; want %d %s", path, got, header.Get("Location"), status, location)
		}
	}
	expect("/old/a?b=c", http.StatusMovedPermanently, at+"/new/a?b=c")
	expect("/wiki/x", http.StatusFound, "https://wiki.example.com/start")

	h := machinetest.Handler(t, p, r.Type)
	r.PhysicalID = made.PhysicalID
	if _, err := h.Update(t.Context(), machinetest.Request(r.Type, "Files", website(map[string]any{
		"RedirectAllRequestsTo": map[string]any{"HostName": "www.example.com", "Protocol": "https"},
	}))); err != nil {
		t.Fatal(err)
	}
	expect("/any", http.StatusMovedPermanently, "https://www.example.com/any")
}

// What somebody else changes of a website is told in a template's form.
func TestToldWebsite(t *testing.T) {
	declared := map[string]any{
		"IndexDocument": "index.html", "ErrorDocument": "e.html",
		"RoutingRules": []any{map[string]any{
			"RoutingRuleCondition": map[string]any{"HttpErrorCodeReturnedEquals": "404", "KeyPrefixEquals": "a/"},
			"RedirectRule": map[string]any{
				"HostName": "h", "Protocol": "https", "HttpRedirectCode": "307", "ReplaceKeyPrefixWith": "b/",
			},
		}},
	}
	as := func(c *types.WebsiteConfiguration) *s3.GetBucketWebsiteOutput {
		return &s3.GetBucketWebsiteOutput{IndexDocument: c.IndexDocument, ErrorDocument: c.ErrorDocument, RoutingRules: c.RoutingRules, RedirectAllRequestsTo: c.RedirectAllRequestsTo}
	}
	if told := toldWebsite(map[string]any{}, as(websiteOf(declared))); !reflect.DeepEqual(told, declared) {
		t.Errorf("told is %v; want %v", told, declared)
	}
	numbers := map[string]any{"RoutingRules": []any{map[string]any{"RedirectRule": map[string]any{"HttpRedirectCode": 307, "ReplaceKeyWith": "k"}}}}
	if told := toldWebsite(numbers, as(websiteOf(numbers))); !reflect.DeepEqual(told, numbers) {
		t.Errorf("what means the same is told as %v", told)
	}
	all := &types.WebsiteConfiguration{RedirectAllRequestsTo: &types.RedirectAllRequestsTo{HostName: aws.String("h"), Protocol: "http"}}
	want := map[string]any{"RedirectAllRequestsTo": map[string]any{"HostName": "h", "Protocol": "http"}}
	if told := toldWebsite(declared, as(all)); !reflect.DeepEqual(told, want) {
		t.Errorf("told is %v; want %v", told, want)
	}
}

func TestSitesOfWebsitesAndPolicies(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{"WebsiteConfiguration": map[string]any{"IndexDocument": "index.html"}}))
	make := func(name string, origin any, policy string) {
		properties := distributionProperties(origin, strings.ToLower(name)+".shop.localhost")
		behavior := properties["DistributionConfig"].(map[string]any)["DefaultCacheBehavior"].(map[string]any)
		delete(behavior, "DefaultTTL")
		behavior["CachePolicyId"], behavior["Compress"] = policy, name == "Website"
		machinetest.Create(t, p, machinetest.Request("AWS::CloudFront::Distribution", name, properties))
	}
	host := strings.TrimPrefix(machinetest.Attribute(t, files, "WebsiteURL"), "http://")
	open := distributionProperties(machinetest.Attribute(t, files, "DomainName"), "open.shop.localhost")
	delete(open["DistributionConfig"].(map[string]any)["Origins"].([]any)[0].(map[string]any), "OriginAccessControlId")
	machinetest.Create(t, p, machinetest.Request("AWS::CloudFront::Distribution", "Open", open))
	make("Website", host, "4135ea2d-6df8-44a3-9df3-4b5a84be39ad")
	make("Optimized", machinetest.Attribute(t, files, "DomainName"), "658327ea-f89d-4fab-a63d-7e88639e58f6")
	sites, err := p.Sites()
	if err != nil || len(sites) != 3 {
		t.Fatalf("sites %v, %v", sites, err)
	}
	if of, err := p.SitesOf(files.PhysicalID); err != nil || !reflect.DeepEqual(of, sites) {
		t.Errorf("of the bucket %v, %v; want all", of, err)
	}
	if of, err := p.SitesOf("files"); err != nil || len(of) != 0 {
		t.Errorf("of another bucket %v, %v", of, err)
	}
	everybody, objects, website := sites[0], sites[1], sites[2]
	if everybody.AccessKey != "" || everybody.SecretKey != "" {
		t.Errorf("without an access control it is read with keys: %+v", everybody)
	}
	if objects.TTL != 24*time.Hour || objects.Compress || objects.AccessKey == "" || objects.OriginHost != "" {
		t.Errorf("of the objects: %+v", objects)
	}
	_, port, _ := strings.Cut(host, ":")
	if website.TTL != 1 || !website.Compress || website.AccessKey != "" || website.OriginHost != files.PhysicalID+".s3-website.localhost" || website.Origin != "http://127.0.0.1:"+port {
		t.Errorf("of the website: %+v", website)
	}
}
