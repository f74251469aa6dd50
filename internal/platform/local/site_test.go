package local

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
	"makeitso/internal/stack/stacktest"
)

// distributionProperties serves a bucket under aliases.
func distributionProperties(origin any, aliases ...any) map[string]any {
	return map[string]any{"DistributionConfig": map[string]any{
		"Enabled": true, "Aliases": aliases, "DefaultRootObject": "index.html",
		"Origins":              []any{map[string]any{"Id": "files", "DomainName": origin, "OriginAccessControlId": "E1", "S3OriginConfig": map[string]any{}}},
		"DefaultCacheBehavior": map[string]any{"TargetOriginId": "files", "DefaultTTL": "60", "ViewerProtocolPolicy": "redirect-to-https"},
		"CustomErrorResponses": []any{map[string]any{"ErrorCode": 404, "ResponseCode": 200, "ResponsePagePath": "/index.html"}},
	}}
}

func TestDistributionContract(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{}))
	origin := files.Attributes["DomainName"]
	r := machinetest.Request("AWS::CloudFront::Distribution", "Cdn", distributionProperties(origin, "www.shop.localhost"))
	invalid := distributionProperties(origin)
	invalid["DistributionConfig"].(map[string]any)["Origins"] = []any{}
	stacktest.Handler(t, machinetest.Handler(t, p, r.Type), stacktest.Case{
		Name: "distribution", Request: r, Update: distributionProperties(origin, "shop.localhost"), Invalid: invalid,
		Count: func() int {
			sites, err := p.Sites()
			if err != nil {
				t.Fatal(err)
			}
			return len(sites)
		},
	})
}

func TestSitesFollowDistributionsAndRecords(t *testing.T) {
	t.Parallel()
	changes := 0
	p := newPlatform(t, Options{SitesChanged: func(context.Context) error { changes++; return nil }})
	if sites, err := p.Sites(); err != nil || len(sites) != 0 {
		t.Fatalf("before anything: %v, %v", sites, err)
	}
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{"BucketName": "shop-files"}))
	cdn := machinetest.Create(t, p, machinetest.Request("AWS::CloudFront::Distribution", "Cdn", distributionProperties(files.Attributes["RegionalDomainName"], "WWW.shop.localhost")))
	domain := machinetest.Attribute(t, cdn, "DomainName")
	if !strings.HasPrefix(domain, "cdn-") || !strings.HasSuffix(domain, ".shop.localhost") {
		t.Errorf("domain name %q", domain)
	}
	zone := machinetest.Create(t, p, machinetest.Request("AWS::Route53::HostedZone", "Domain", map[string]any{"Name": "shop.localhost"})).PhysicalID
	machinetest.Create(t, p, machinetest.Request("AWS::Route53::RecordSet", "Apex", map[string]any{
		"HostedZoneId": zone, "Name": "shop.localhost.", "Type": "A", "AliasTarget": map[string]any{"DNSName": domain, "HostedZoneId": "Z2FDTNDATAQYW2"},
	}))
	machinetest.Create(t, p, machinetest.Request("AWS::Route53::RecordSet", "Again", map[string]any{
		"HostedZoneId": zone, "Name": "old.shop.localhost", "Type": "CNAME", "TTL": 60, "ResourceRecords": []any{"shop.localhost."},
	}))
	elsewhere := machinetest.Request("AWS::Route53::RecordSet", "Mail", map[string]any{
		"HostedZoneId": zone, "Name": "mail.shop.localhost", "Type": "A", "TTL": 60, "ResourceRecords": []any{"10.0.0.1"},
	})
	machinetest.Create(t, p, elsewhere)
	sites, err := p.Sites()
	if err != nil || len(sites) != 1 {
		t.Fatalf("sites %v, %v; want one", sites, err)
	}
	store, err := p.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	want := edge.Site{
		Name: "local/data/Cdn", Hosts: []string{domain, "old.shop.localhost", "shop.localhost", "www.shop.localhost"},
		Behavior: edge.Behavior{Origin: "http://" + machine.Loopback(store.Port) + "/shop-files", AccessKey: store.AccessKey, SecretKey: store.SecretKey, Region: "us-east-1",
			TTL: time.Minute, Plain: edge.PlainRedirected},
		Index: "index.html", Errors: map[int]edge.Error{404: {Path: "/index.html", Status: 200}},
	}
	if !reflect.DeepEqual(sites[0], want) {
		t.Errorf("site %+v\nwant %+v", sites[0], want)
	}
	if changes != 3 {
		t.Errorf("%d changes were told; want 3: an address leads to no site", changes)
	}
	apex := machinetest.Request("AWS::Route53::RecordSet", "Apex", map[string]any{"HostedZoneId": zone, "Name": "shop.localhost.", "Type": "A", "TTL": 60, "ResourceRecords": []any{"10.0.0.1"}})
	if _, err := machinetest.Handler(t, p, apex.Type).Update(t.Context(), apex); err != nil {
		t.Fatal(err)
	}
	sites, err = p.Sites()
	if err != nil || changes != 4 || slices.Contains(sites[0].Hosts, "shop.localhost") {
		t.Errorf("after an alias became an address: %d changes, %+v, %v", changes, sites, err)
	}
}

func TestHostNamesBelongToOneDistribution(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{}))
	origin := files.Attributes["DomainName"]
	machinetest.Create(t, p, machinetest.Request("AWS::CloudFront::Distribution", "One", distributionProperties(origin, "www.shop.localhost")))
	second := machinetest.Request("AWS::CloudFront::Distribution", "Two", distributionProperties(origin, "www.shop.localhost."))
	h := machinetest.Handler(t, p, second.Type)
	if err := h.Check(t.Context(), second); !fault.Is(err, fault.Conflict) {
		t.Errorf("check of the second: %v", err)
	}
	if _, err := h.Create(t.Context(), second); !fault.Is(err, fault.Conflict) {
		t.Errorf("create of the second: %v", err)
	}
}

func TestOriginsThatCannotBeServed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	for _, c := range []struct {
		origin string
		code   fault.Code // "" passes Check
	}{
		{changeset.KnownAfterApply, ""},
		{"example.com", fault.Unsupported},
	} {
		r := machinetest.Request("AWS::CloudFront::Distribution", "Cdn", distributionProperties(c.origin))
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); fault.CodeOf(err) != c.code {
			t.Errorf("origin %s: %v; want %q", c.origin, err, c.code)
		}
	}
}

// TestCacheBehaviors has a distribution with two buckets, and refuses by name
// what is not served.
func TestCacheBehaviors(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	files := machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{"BucketName": "shop-files"}))
	machinetest.Create(t, p, machinetest.Request("AWS::S3::Bucket", "Images", map[string]any{"BucketName": "shop-images"}))
	with := func(change map[string]any) stack.Request {
		properties := distributionProperties(files.Attributes["DomainName"])
		config := properties["DistributionConfig"].(map[string]any)
		config["Origins"] = append(config["Origins"].([]any), map[string]any{"Id": "images", "DomainName": "shop-images.s3.amazonaws.com", "S3OriginConfig": map[string]any{}},
			map[string]any{"Id": "api", "DomainName": "api.example.com", "CustomOriginConfig": map[string]any{}})
		behavior := map[string]any{"PathPattern": "/img/*.pn?", "TargetOriginId": "images", "ViewerProtocolPolicy": "https-only", "AllowedMethods": []any{"GET", "HEAD", "OPTIONS"},
			"Compress": true, "MinTTL": 10, "DefaultTTL": "0", "MaxTTL": 100, "SmoothStreaming": false, "FunctionAssociations": []any{}}
		for key, value := range change {
			behavior[key] = value
		}
		config["CacheBehaviors"] = []any{behavior, map[string]any{"PathPattern": "*.js", "TargetOriginId": "files", "ViewerProtocolPolicy": "allow-all", "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6"}}
		return machinetest.Request("AWS::CloudFront::Distribution", "Cdn", properties)
	}
	for _, c := range []struct {
		change map[string]any
		code   fault.Code
		want   string
	}{
		{map[string]any{"TargetOriginId": "none"}, fault.Invalid, "DistributionConfig.CacheBehaviors.0.TargetOriginId"},
		{map[string]any{"PathPattern": ""}, fault.Invalid, "DistributionConfig.CacheBehaviors.0.PathPattern"},
		{map[string]any{"MinTTL": 1000}, fault.Invalid, "DistributionConfig.CacheBehaviors.0.MinTTL"},
		{map[string]any{"TargetOriginId": "api"}, fault.Unsupported, "api.example.com is no bucket"},
		{map[string]any{"AllowedMethods": []any{"GET", "HEAD", "PUT"}}, fault.Unsupported, "AllowedMethods has PUT"},
		{map[string]any{"LambdaFunctionAssociations": []any{map[string]any{}}}, fault.Unsupported, "CacheBehaviors.0.LambdaFunctionAssociations is not served"},
		{map[string]any{"PathPattern": changeset.KnownAfterApply}, "", ""},
	} {
		r := with(c.change)
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); fault.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q %s", c.change, err, c.code, c.want)
		}
	}
	machinetest.Create(t, p, with(nil))
	store, err := p.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	origin := "http://" + machine.Loopback(store.Port)
	want := []edge.PathBehavior{
		{Path: "/img/*.pn?", Behavior: edge.Behavior{Origin: origin + "/shop-images", Compress: true, Plain: edge.PlainRefused, TTL: 1, MinTTL: 10 * time.Second, MaxTTL: 100 * time.Second}},
		{Path: "*.js", Behavior: edge.Behavior{Origin: origin + "/shop-files", AccessKey: store.AccessKey, SecretKey: store.SecretKey, Region: store.Region, TTL: 24 * time.Hour}},
	}
	for _, bucket := range []string{"shop-files", "shop-images"} {
		sites, err := p.SitesOf(bucket)
		if err != nil || len(sites) != 1 || !reflect.DeepEqual(sites[0].Behaviors, want) || sites[0].Origin != origin+"/shop-files" {
			t.Errorf("%s is served as %+v, %v\nwant %+v", bucket, sites, err, want)
		}
	}
}

func TestSitesThatCannotBePutInForceFail(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{SitesChanged: func(context.Context) error { return errors.New("the edge is away") }})
	zone := machinetest.Create(t, p, machinetest.Request("AWS::Route53::HostedZone", "Zone", map[string]any{"Name": "localhost"})).PhysicalID
	r := machinetest.Request("AWS::Route53::RecordSet", "R", map[string]any{"HostedZoneId": zone, "Name": "a.localhost", "Type": "CNAME", "TTL": 60, "ResourceRecords": []any{"b.localhost"}})
	_, err := machinetest.Handler(t, p, r.Type).Create(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "the edge is away") {
		t.Errorf("create: %v", err)
	}
}

func TestLogGroupContract(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	group := machinetest.Request("AWS::Logs::LogGroup", "Log", map[string]any{"LogGroupName": "/shop/../api"})
	stacktest.Handler(t, machinetest.Handler(t, p, group.Type), stacktest.Case{
		Name: "log group", Request: group, Invalid: map[string]any{"LogGroupName": "a b"},
		Update: map[string]any{"LogGroupName": "/shop/../api", "RetentionInDays": 7},
	})
}

func TestPlannedAgainDoesNotCollideWithItself(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	bucket := machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{"BucketName": "shop-files"})
	files := machinetest.Create(t, p, bucket)
	cdn := machinetest.Request("AWS::CloudFront::Distribution", "Cdn", distributionProperties(files.Attributes["DomainName"], "www.shop.localhost"))
	bucket.PhysicalID, cdn.PhysicalID = files.PhysicalID, machinetest.Create(t, p, cdn).PhysicalID
	for _, r := range []stack.Request{bucket, cdn} {
		r.Token = ""
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); err != nil {
			t.Errorf("planned again: %v", err)
		}
		r.PhysicalID = "" // a new one, whatever its logical id was the name of before
		if err := machinetest.Handler(t, p, r.Type).Check(t.Context(), r); !fault.Is(err, fault.Conflict) {
			t.Errorf("planned a second %s of that name: %v", r.Type, err)
		}
	}
}
