// Package edge is the data plane: load balancer, CDN and host routing of one
// machine, driven by one configuration document that is swapped whole. It runs
// as a process of its own, so that it goes on serving while makeitso is away.
// It knows hosts, arms and instances; it must not know releases or pipelines.
package edge

import (
	"time"

	"makeitso/internal/edge/certificate"
)

// Config is everything the edge does. Documents are swapped whole; Version
// rises with each, and an older one is refused.
type Config struct {
	Version  int64     `json:"version"`
	Services []Service `json:"services"`
	Sites    []Site    `json:"sites"`
	// Balancers choose among services by rules.
	Balancers []Balancer `json:"balancers,omitempty"`
	TLS       *TLS       `json:"tls,omitempty"`
}

// TLS is where HTTPS is spoken and where its certificates come from: the files
// of all sources first, then ACME for its hosts, then the local authority for
// what is served below .localhost. All that is served is served there too.
type TLS struct {
	Listen  string               `json:"listen,omitempty"` // host:port; "" speaks it at the ports of balancers only
	Sources []certificate.Source `json:"sources,omitempty"`
}

// Service is instances behind host names.
type Service struct {
	Name string `json:"name"` // unique in the document, e.g. local/api
	// Hosts are host names without port, e.g. api.shop.localhost. None are
	// needed where a balancer forwards to the service.
	Hosts []string `json:"hosts"`
	// Paths narrow that to paths below these, e.g. /api; of several services
	// at one host, the one with the longest path that fits answers.
	Paths  []string `json:"paths,omitempty"`
	Arms   []Arm    `json:"arms"`
	Limits Limits   `json:"limits,omitzero"`
	// Sticky keeps a client at the arm that it drew first; nil draws for each request.
	Sticky *Sticky `json:"sticky,omitempty"`
	// Health is the path asked of every instance, "" for none.
	Health         string        `json:"health,omitempty"`
	HealthCodes    string        `json:"healthCodes,omitempty"`    // of a healthy answer, e.g. 200,301-302; default 200-399
	HealthInterval time.Duration `json:"healthInterval,omitempty"` // default 500 ms
	HealthTimeout  time.Duration `json:"healthTimeout,omitempty"`  // default 2 s
	// UnhealthyAfter failures in a row take an instance out, HealthyAfter
	// successes bring it back; default 2 and 1.
	UnhealthyAfter int `json:"unhealthyAfter,omitempty"`
	HealthyAfter   int `json:"healthyAfter,omitempty"`
	// EjectAfter is how many bad answers in a row take an instance out for a
	// time that grows each time; at least half of an arm's stay. Default 5,
	// negative for never.
	EjectAfter int `json:"ejectAfter,omitempty"`
	// SlowStart is how long an instance that is new, or was out, gets less than
	// its part: from a tenth up to all. Default none.
	SlowStart time.Duration `json:"slowStart,omitempty"`
	// RequestTimeout is the time until an answer's header; it is also the
	// deadline L at which an outcome is fixed as bad. Default 10 s.
	RequestTimeout time.Duration `json:"requestTimeout,omitempty"`
}

// Limits bound what clients may ask of a service; the zero value of each is
// its default.
type Limits struct {
	HeaderBytes int   `json:"headerBytes,omitempty"` // of a request; default, and most, 64 KiB
	BodyBytes   int64 `json:"bodyBytes,omitempty"`   // of a request; default any number
	// ClientTimeout is how long a client may neither send of a body that it
	// has announced nor take of the answer; default 60 s.
	ClientTimeout time.Duration `json:"clientTimeout,omitempty"`
	// Requests is how many may be under way at one instance; default any number.
	Requests int `json:"requests,omitempty"`
}

// Sticky says how a client is known again. Its first request draws the arm and
// is counted; those that follow go the same way, and are not.
type Sticky struct {
	Cookie string        `json:"cookie"`        // its name
	TTL    time.Duration `json:"ttl,omitempty"` // default until the browser ends
}

// Arm is the instances of one version. Each request draws its arm by an
// independent coin with probability Weight / sum of weights.
type Arm struct {
	Name      string     `json:"name"`   // the version, e.g. a release id
	Weight    float64    `json:"weight"` // not negative; the sum over arms is positive unless there are no arms
	Instances []Instance `json:"instances"`
	// Protocol is what the instances speak: "" is HTTP/1.1, h2c is HTTP/2
	// without TLS, which gRPC needs.
	Protocol string `json:"protocol,omitempty"`
}

// Instance is one upstream.
type Instance struct {
	ID      string `json:"id"`
	Address string `json:"address"` // host:port
	// Draining instances finish what they have and get nothing new.
	Draining bool `json:"draining,omitempty"`
}

// Site is static files of a bucket behind host names, cached.
type Site struct {
	Name   string        `json:"name"` // e.g. local/site/Distribution
	Hosts  []string      `json:"hosts"`
	Index  string        `json:"index,omitempty"`  // default root object, e.g. index.html
	Errors map[int]Error `json:"errors,omitempty"` // custom error answers by status
	Pages
	Behavior                 // what is done with the paths that are none of Behaviors
	Behaviors []PathBehavior `json:"behaviors,omitempty"` // the first that fits counts
}

// Pages is what a site answers with beside its objects.
type Pages struct {
	// Fallback is the object served, with status 200, for paths of no object
	// that name no file: those that an application in the browser knows.
	Fallback  string         `json:"fallback,omitempty"`
	Redirects []SiteRedirect `json:"redirects,omitempty"` // the first that fits counts
}

// PathBehavior is a Behavior for the paths that are as Path says, in which *
// stands for any letters and ? for one.
type PathBehavior struct {
	Path string `json:"path"`
	Behavior
}

// Behavior is where a site's objects come from and how they are kept.
type Behavior struct {
	// Origin is the bucket's URL in path style, e.g. http://127.0.0.1:9000/bucket.
	Origin string `json:"origin"`
	// OriginHost is the Host that the origin is asked with, "" for that of Origin.
	OriginHost string `json:"originHost,omitempty"`
	// AccessKey and SecretKey sign requests to the origin (SigV4, region
	// Region, service s3); empty keys ask without a signature.
	AccessKey string        `json:"accessKey,omitempty"`
	SecretKey string        `json:"secretKey,omitempty"`
	Region    string        `json:"region,omitempty"`
	TTL       time.Duration `json:"ttl,omitempty"` // how long an object without Cache-Control is kept; default 1 s
	// MinTTL and MaxTTL bound what an object says of itself. With a MinTTL those
	// are kept too that must not be. A MaxTTL of 0 is no bound.
	MinTTL time.Duration `json:"minTTL,omitempty"`
	MaxTTL time.Duration `json:"maxTTL,omitempty"`
	// Compress sends text in the coding that a client prefers: the object's
	// own, published beside it as NAME.br, NAME.zst or NAME.gz, or made here.
	Compress bool `json:"compress,omitempty"`
	// Plain is what becomes of requests that do not come by HTTPS, where it is
	// spoken: "" answers them.
	Plain string `json:"plain,omitempty"`
}

// What a site does with plain requests, by the names that CloudFront has for it.
const (
	PlainRedirected = "redirect-to-https"
	PlainRefused    = "https-only"
)

// Error is what a site answers in place of an origin's error.
type Error struct {
	Path   string `json:"path"`   // the object served, e.g. /index.html
	Status int    `json:"status"` // the status it is served with
}

// Counts is what the edge has seen of one arm since it first heard of it.
type Counts struct {
	Requests int64 `json:"requests"`
	Bad      int64 `json:"bad"` // 5xx, no answer by the deadline, connection refused or reset
}

// Stats is the edge's own report.
type Stats struct {
	PID      int                          `json:"pid"`
	Version  int64                        `json:"version"`  // of the configuration in force
	Listen   string                       `json:"listen"`   // address served, host:port
	Services map[string]map[string]Counts `json:"services"` // by service name and arm name
	// InFlight counts the requests under way at each instance, by instance id.
	InFlight map[string]int64 `json:"inFlight"`
	// Unhealthy lists the instances that fail their health check, with the reason.
	Unhealthy map[string]string `json:"unhealthy"`
	// PortsRefused lists the ports of balancers that could not be taken, with
	// the reason: they answer at the edge's own ports only.
	PortsRefused map[int]string `json:"portsRefused,omitempty"`
	// Secure gives the addresses at which HTTPS is spoken, by the configured ones.
	Secure map[string]string `json:"secure,omitempty"`
	// CertificateTroubles tells what keeps HTTPS from hosts, or soon will.
	CertificateTroubles []string `json:"certificateTroubles,omitempty"`
	Metrics             string   `json:"metrics,omitempty"` // the address that gives metrics, host:port
	// LogDropped counts access log lines that were not written, because the
	// disk was too slow or failed; LogError is its last failure, "" for none.
	LogDropped int64  `json:"logDropped,omitempty"`
	LogError   string `json:"logError,omitempty"`
}
