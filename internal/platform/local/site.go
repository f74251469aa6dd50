package local

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"makeitso/internal/dns"
	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/objectserver"
)

// distribution makes AWS::CloudFront::Distribution: a site of the edge.
type distribution struct{ p *Platform }

func (h distribution) Check(_ context.Context, r *machine.Resource) error {
	config, isObject := r.Properties["DistributionConfig"].(map[string]any)
	if !isObject {
		if model.Unknown(r.Properties["DistributionConfig"]) {
			return nil
		}
		return r.Invalid("DistributionConfig", "is not an object")
	}
	for _, b := range behaviorsOf(config) {
		if err := h.checkBehavior(r, b); err != nil {
			return err
		}
	}
	return h.unclaimed(r)
}

// behavior is one of a distribution's: where it stands, and what it says.
type behavior struct {
	at     string
	path   string // "" for that of all paths that are none of the others'
	config map[string]any
}

// behaviorsOf gives the default behavior and then the others, in their order.
func behaviorsOf(config map[string]any) []behavior {
	first, _ := config["DefaultCacheBehavior"].(map[string]any)
	all := []behavior{{at: "DistributionConfig.DefaultCacheBehavior", config: first}}
	more, _ := config["CacheBehaviors"].([]any)
	for i, v := range more {
		b, _ := v.(map[string]any)
		all = append(all, behavior{fmt.Sprintf("DistributionConfig.CacheBehaviors.%d", i), machine.TextIn(v, "PathPattern"), b})
	}
	return all
}

func (h distribution) checkBehavior(r *machine.Resource, b behavior) error {
	origin, err := originOf(r, b)
	if err != nil {
		return err
	}
	if domain := origin["DomainName"]; !model.Unknown(domain) {
		if _, err := h.bucket(r, b); err != nil {
			return err
		}
	}
	if strings.HasSuffix(b.at, "DefaultCacheBehavior") {
		return nil
	}
	if b.path == "" && !model.Unknown(b.config["PathPattern"]) {
		return r.Invalid(b.at+".PathPattern", "is missing")
	}
	for _, key := range []string{"FunctionAssociations", "LambdaFunctionAssociations", "TrustedSigners", "TrustedKeyGroups", "FieldLevelEncryptionId", "SmoothStreaming"} {
		if given := fmt.Sprint(b.config[key]); given != "<nil>" && given != "[]" && given != "false" && given != "" {
			return fault.New(fault.Unsupported, "%s: %s.%s is not served on this machine", r.Name(), b.at, key).
				WithHint("take it out here, e.g. by a condition; a distribution on this machine serves files")
		}
	}
	methods, _ := b.config["AllowedMethods"].([]any)
	for _, method := range methods {
		if !slices.Contains([]any{"GET", "HEAD", "OPTIONS"}, method) && !model.Unknown(method) {
			return fault.New(fault.Unsupported, "%s: %s.AllowedMethods has %v; on this machine a distribution is only read", r.Name(), b.at, method).
				WithHint("allow GET, HEAD and OPTIONS there")
		}
	}
	least, _ := machine.Number(b.config["MinTTL"])
	if most, given := machine.Number(b.config["MaxTTL"]); given && least > most {
		return r.Invalid(b.at+".MinTTL", "is %d, above MaxTTL, %d", least, most)
	}
	return nil
}

// originOf gives the origin that a behavior names.
func originOf(r *machine.Resource, b behavior) (map[string]any, error) {
	config, _ := r.Properties["DistributionConfig"].(map[string]any)
	target := machine.TextIn(b.config, "TargetOriginId")
	origins, _ := config["Origins"].([]any)
	var ids []string
	for _, o := range origins {
		origin, _ := o.(map[string]any)
		if id := machine.TextIn(o, "Id"); id == target && target != "" {
			return origin, nil
		} else if id != "" {
			ids = append(ids, id)
		}
	}
	return nil, r.Invalid(b.at+".TargetOriginId", "%q is none of the Origins %v", target, ids)
}

// bucket finds the bucket that a behavior serves.
func (h distribution) bucket(r *machine.Resource, b behavior) (*machine.Resource, error) {
	origin, err := originOf(r, b)
	if err != nil {
		return nil, err
	}
	domain := machine.TextIn(origin, "DomainName")
	all, err := h.p.Complete("AWS::S3::Bucket")
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		// As GetAtt gives it here, or written out as on AWS.
		if domain == b.Attributes["DomainName"] || strings.HasPrefix(domain, b.PhysicalID+".s3.") || strings.HasPrefix(domain, b.PhysicalID+".s3-") {
			return b, nil
		}
	}
	return nil, fault.New(fault.Unsupported, "%s: the origin %s is no bucket of environment %s", r.Name(), domain, h.p.Env).
		WithHint("on this machine a distribution serves a bucket: use !GetAtt Bucket.RegionalDomainName")
}

func (h distribution) Make(ctx context.Context, r *machine.Resource) error {
	config, _ := r.Properties["DistributionConfig"].(map[string]any)
	for _, b := range behaviorsOf(config) {
		if _, err := h.bucket(r, b); err != nil {
			return err
		}
	}
	h.p.hosts.Lock()
	defer h.p.hosts.Unlock()
	if err := h.unclaimed(r); err != nil {
		return err
	}
	r.PhysicalID = "E" + strings.ToUpper(model.Digits(r.Token, "distribution", 13))
	label := strings.ToLower(r.LogicalID) + "-" + model.Digits(r.Token, "distribution", 6)
	r.Attributes = map[string]any{
		"Id":         r.PhysicalID,
		"DomainName": label[max(0, len(label)-63):] + "." + h.p.o.Project + ".localhost",
	}
	// Written before the lock is given back, so that its names are claimed, and
	// before the DNS server is told, which may just be made.
	if err := h.p.Save(r); err != nil {
		return err
	}
	host, _ := distributionHost(r)
	return h.p.changeAnyZones(ctx, func(c *dns.Config) error { c.PutHost(host); return nil })
}

// distributionHost gives a distribution's own name as the DNS server is to
// know it; is tells whether r is one that has its name.
func distributionHost(r *machine.Resource) (h dns.Host, is bool) {
	domain, is := r.Attributes["DomainName"].(string)
	return dns.Host{Owner: r.Token, Name: domain + "."}, is && r.Type == "AWS::CloudFront::Distribution"
}

// unclaimed refuses host names that another distribution has.
func (h distribution) unclaimed(r *machine.Resource) error {
	all, err := h.p.Resources()
	if err != nil {
		return err
	}
	mine := aliases(r)
	for _, other := range all {
		if other.Type != r.Type || r.Is(other) || other.PhysicalID == "" {
			continue
		}
		for _, host := range aliases(other) {
			if slices.Contains(mine, host) {
				return fault.New(fault.Conflict, "%s: the host name %s belongs to %s", r.Name(), host, other.Name()).
					WithHint("choose another of DistributionConfig.Aliases")
			}
		}
	}
	return nil
}

func (h distribution) Read(context.Context, *machine.Resource) error { return nil }

func (h distribution) Remove(ctx context.Context, r *machine.Resource) error {
	return h.p.changeAnyZones(ctx, func(c *dns.Config) error { c.Drop(r.Token); return nil })
}

// aliases are the host names that a distribution declares.
func aliases(r *machine.Resource) []string {
	config, _ := r.Properties["DistributionConfig"].(map[string]any)
	declared, _ := config["Aliases"].([]any)
	var hosts []string
	for _, alias := range declared {
		if host, isText := alias.(string); isText && !model.Unknown(host) {
			hosts = append(hosts, hostName(host))
		}
	}
	return hosts
}

// hostName is a name as the edge compares it.
func hostName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Sites gives what the edge is to serve from this environment's buckets, in
// the order of their names.
func (p *Platform) Sites() ([]edge.Site, error) {
	distributions, err := p.Complete("AWS::CloudFront::Distribution")
	if err != nil {
		return nil, err
	}
	if len(distributions) == 0 {
		return nil, nil
	}
	links, err := p.links()
	if err != nil {
		return nil, err
	}
	c, err := p.storeConfig()
	if err != nil {
		return nil, err
	}
	var sites []edge.Site
	for _, r := range distributions {
		config, _ := r.Properties["DistributionConfig"].(map[string]any)
		if enabled, given := config["Enabled"]; given && fmt.Sprint(enabled) == "false" {
			continue
		}
		site := siteOf(config)
		site.Name, site.Hosts = p.Env+"/"+r.Name(), hostsOf(r, links)
		for _, b := range behaviorsOf(config) {
			from, err := distribution{p}.bucket(r, b)
			if fault.Is(err, fault.Unsupported) {
				continue // its bucket is gone: there is nothing to serve
			}
			if err != nil {
				return nil, err
			}
			if served := servedAs(r, b, from, c); b.path == "" {
				site.Behavior = served
			} else {
				site.Behaviors = append(site.Behaviors, edge.PathBehavior{Path: b.path, Behavior: served})
			}
		}
		if site.Origin != "" {
			sites = append(sites, site)
		}
	}
	slices.SortFunc(sites, func(a, b edge.Site) int { return strings.Compare(a.Name, b.Name) })
	return sites, nil
}

// servedAs gives how the edge serves a behavior from its bucket.
func servedAs(r *machine.Resource, b behavior, from *machine.Resource, c objectserver.Config) edge.Behavior {
	served := behaviorOf(b.config)
	origin, err := originOf(r, b)
	switch {
	case err == nil && strings.Contains(machine.TextIn(origin, "DomainName"), ".s3-website"):
		// The bucket's website, with what that does with paths and errors,
		// rather than the objects themselves.
		served.Origin, served.OriginHost = "http://"+machine.Loopback(c.WebsitePort), websiteHost(from.PhysicalID)
		return served
	case err == nil && (machine.TextIn(origin, "OriginAccessControlId") != "" || machine.TextIn(origin["S3OriginConfig"], "OriginAccessIdentity") != ""):
		// Without an access control or identity it sees what everybody may see.
		served.AccessKey, served.SecretKey, served.Region = c.AccessKey, c.SecretKey, c.Region
	}
	served.Origin = "http://" + machine.Loopback(c.Port) + "/" + from.PhysicalID
	return served
}

// SitesOf gives those of Sites that serve a bucket, its objects or its website.
func (p *Platform) SitesOf(bucket string) ([]edge.Site, error) {
	sites, err := p.Sites()
	return slices.DeleteFunc(sites, func(s edge.Site) bool {
		return !p.Serves(s.Behavior, bucket) && !slices.ContainsFunc(s.Behaviors, func(b edge.PathBehavior) bool { return p.Serves(b.Behavior, bucket) })
	}), err
}

// Serves says whether a behavior of a site serves a bucket, its objects or its
// website.
func (p *Platform) Serves(b edge.Behavior, bucket string) bool {
	return b.OriginHost == websiteHost(bucket) || strings.HasSuffix(b.Origin, "/"+bucket)
}

// websiteHost is the host name of a bucket's website.
func websiteHost(bucket string) string { return bucket + "." + objectserver.WebsiteDomain }

// managedTTL gives how long an object without Cache-Control is kept by a cache
// policy that CloudFront has for everybody; given is false for any other.
func managedTTL(policy string) (ttl time.Duration, given bool) {
	switch policy {
	case "658327ea-f89d-4fab-a63d-7e88639e58f6", // CachingOptimized
		"b2884449-e4de-46a7-ac36-70bc7f1ddd6d": // CachingOptimizedForUncompressedObjects
		return 24 * time.Hour, true
	case "4135ea2d-6df8-44a3-9df3-4b5a84be39ad": // CachingDisabled
		return 0, true
	}
	return 0, false
}

// isSite says whether a site depends on r: it is one, or may lead to one.
func isSite(r *machine.Resource) bool {
	var records []map[string]any
	switch r.Type {
	case "AWS::CloudFront::Distribution":
		return true
	case "AWS::Route53::RecordSet":
		records = append(records, r.Properties)
	case "AWS::Route53::RecordSetGroup":
		list, _ := r.Properties["RecordSets"].([]any)
		for _, item := range list {
			record, _ := item.(map[string]any)
			records = append(records, record)
		}
	}
	return slices.ContainsFunc(records, func(record map[string]any) bool {
		return record["AliasTarget"] != nil || record["Type"] == "CNAME"
	})
}

// siteOf gives what a distribution says of the way it is served.
func siteOf(config map[string]any) edge.Site {
	s := edge.Site{Index: strings.TrimPrefix(machine.TextIn(config, "DefaultRootObject"), "/")}
	responses, _ := config["CustomErrorResponses"].([]any)
	for _, v := range responses {
		response, _ := v.(map[string]any)
		code, given := machine.Number(response["ErrorCode"])
		page := machine.TextIn(v, "ResponsePagePath")
		if !given || page == "" {
			continue
		}
		status, given := machine.Number(response["ResponseCode"])
		if !given {
			status = code
		}
		if s.Errors == nil {
			s.Errors = map[int]edge.Error{}
		}
		s.Errors[code] = edge.Error{Path: page, Status: status}
	}
	return s
}

// behaviorOf gives what a behavior says of the way it is served.
func behaviorOf(config map[string]any) edge.Behavior {
	b := edge.Behavior{Compress: fmt.Sprint(config["Compress"]) == "true"}
	switch policy := machine.TextIn(config, "ViewerProtocolPolicy"); policy {
	case edge.PlainRedirected, edge.PlainRefused:
		b.Plain = policy
	}
	ttl, managed := managedTTL(machine.TextIn(config, "CachePolicyId"))
	if managed {
		b.TTL = max(ttl, 1) // none would be the edge's own default
		return b
	}
	seconds := func(key string, none time.Duration) time.Duration {
		n, given := machine.Number(config[key])
		if given && n == 0 {
			return none
		}
		return time.Duration(n) * time.Second
	}
	b.TTL, b.MinTTL, b.MaxTTL = seconds("DefaultTTL", 1), seconds("MinTTL", 0), seconds("MaxTTL", 1)
	return b
}

// hostsOf gives a distribution's host names: its own, its aliases, and the
// records that lead to any of them.
func hostsOf(r *machine.Resource, links []link) []string {
	own, _ := r.Attributes["DomainName"].(string)
	return leadingTo(links, append(aliases(r), own)...)
}

// leadingTo gives names and those that lead to any of them.
func leadingTo(links []link, names ...string) []string {
	hosts := map[string]bool{}
	for _, name := range names {
		hosts[name] = true
	}
	for range links { // a record may lead to a record
		for _, l := range links {
			if hosts[l.to] {
				hosts[l.from] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}
