// Package project is makeitso.yaml: what a user writes, as checked values. It
// knows the file's shape and its rules; it must not know how anything in it is
// done.
//
// The types' tags are the rules of single keys, read by the decoder and by
// Schema alike: yaml (the key), doc, required, enum, default, min and max (of a
// number, a size, a share or a list's length), pattern (of a string or of a map's keys),
// refs (whether ${…} may stand there, or the text is a "shell"'s), kind (one of
// several, exactly one is set), with (only beside that key) and, on a blank
// field, later (keys that a later version brings). What joins several keys is
// in check.go.
package project

import "time"

// File is the name of a project's file, in the repository's root.
const File = "makeitso.yaml"

// Project is a checked makeitso.yaml.
type Project struct {
	Name         string                  `yaml:"project" required:"true" pattern:"name" doc:"The project's name: lower-case letters, digits and hyphens."`
	Environments map[string]*Environment `yaml:"environments" pattern:"name" doc:"The named places where the project exists; by default one, local."`
	Stacks       map[string]*Stack       `yaml:"stacks" pattern:"name" doc:"Named sets of resources described by templates."`
	Artifacts    map[string]*Artifact    `yaml:"artifacts" pattern:"name" doc:"What builds make: immutable, named by digest."`
	Services     map[string]*Service     `yaml:"services" pattern:"name" doc:"What runs artifacts and answers requests."`
	Sites        map[string]*Site        `yaml:"sites" pattern:"name" doc:"Static files in a bucket behind a CDN."`
	Pipelines    map[string]*Pipeline    `yaml:"pipelines" pattern:"name" doc:"Ordered stages from a commit to running software."`
}

// Environment is a named place where the project exists.
type Environment struct {
	Platform  string `yaml:"platform" required:"true" enum:"local,aws,kubernetes" doc:"What the environment stands on."`
	Account   string `yaml:"account" pattern:"account" doc:"The account's number (aws)."`
	Region    string `yaml:"region" pattern:"region" doc:"The region (aws)."`
	Approvals int    `yaml:"approvals" min:"0" doc:"How many different people must approve before the first change."`
	Embedded  bool   `yaml:"embedded" doc:"Whether embedded stand-ins may serve where a program is missing (local)."`
	Edge      *Edge  `yaml:"edge" json:",omitzero" doc:"Names and certificates beside those below .localhost (local)."`
	// Former says that the file does not have it any more, and that something
	// of it is left.
	Former bool `yaml:"-" json:"-"`
}

// Edge is how the services and sites of an environment are reached by names of
// the user's own.
type Edge struct {
	Hosts        map[string][]string `yaml:"hosts" pattern:"name" doc:"The host names at which a service answers, beside its own below .localhost, e.g. {api: api.example.com}."`
	Certificates []*Certificate      `yaml:"certificates" min:"1" doc:"Certificates of your own; each is shown for the names that it holds. Changed files are taken at once."`
	ACME         *ACME               `yaml:"acme" doc:"An authority that is asked for certificates over the network."`
}

// Certificate is the files of a certificate. They are of this machine: their
// paths may lead out of the repository, where a key had better not be.
type Certificate struct {
	Cert string `yaml:"cert" required:"true" doc:"The certificate's file (PEM), with those that signed it behind: a path, or one relative to makeitso.yaml."`
	Key  string `yaml:"key" required:"true" doc:"The file of its private key (PEM)."`
}

// ACME is an authority that gives certificates for hosts that it can reach.
type ACME struct {
	Hosts     []string `yaml:"hosts" required:"true" min:"1" doc:"The host names that it is asked for, and no others."`
	Email     string   `yaml:"email" doc:"Where it writes to when a certificate is about to end."`
	Directory string   `yaml:"directory" doc:"Its URL; by default that of Let's Encrypt."`
}

// Stack is a named set of resources described by a template.
type Stack struct {
	Template   string            `yaml:"template" required:"true" doc:"The template's path, relative to makeitso.yaml."`
	Parameters map[string]string `yaml:"parameters" pattern:"parameter" refs:"true" doc:"Values for the template's parameters; may hold ${…} references."`
	Tags       map[string]string `yaml:"tags" refs:"true" doc:"Tags that the stack gives to its resources; may hold ${…} references."`
	Drift      Drift             `yaml:"drift" doc:"What becomes of drift, and how often it is looked for: report, repair, adopt, or a map."`
	Timeout    time.Duration     `yaml:"timeout" doc:"How long its creation may take, e.g. 30m; by default as long as it takes."`
	OnFailure  string            `yaml:"on-failure" enum:"rollback,delete,do-nothing" doc:"What becomes of it when its creation fails; by default it is rolled back."`
	Rollback   *Alarms           `yaml:"rollback" doc:"The alarms that roll a change of it back."`
}

// References gives the texts of a stack that may hold ${…} references.
func (s *Stack) References() []string {
	texts := append(valuesOf(s.Parameters), valuesOf(s.Tags)...)
	if s.Rollback != nil {
		texts = append(texts, s.Rollback.Alarms...)
	}
	return texts
}

// Alarms are what rolls a change of a stack back when it goes off.
type Alarms struct {
	Alarms  []string      `yaml:"alarms" required:"true" min:"1" max:"5" refs:"true" doc:"The alarms' ARNs; may hold ${…} references."`
	Monitor time.Duration `yaml:"monitor" doc:"How long they are watched after all was made, e.g. 10m; by default only until then."`
}

// Drift says how often a stack is compared with what exists of it, and what
// becomes of a difference. The word for that alone leaves the rest as it is by
// default.
type Drift struct {
	Every time.Duration `yaml:"every" doc:"How often it is looked for, e.g. 30m; by default 1h, at least 1s."`
	Then  string        `yaml:"then" enum:"report,repair,adopt" default:"report" doc:"What becomes of it: it is reported, or what exists is repaired, or adopted as what is wanted."`
}

// How often drift is looked for where the file does not say it, and at most.
const (
	DefaultDriftEvery = time.Hour
	shortestEvery     = time.Second
)

// Artifact is an immutable output of a build. Exactly one kind is set.
type Artifact struct {
	Image *Image `yaml:"image" kind:"true" doc:"An OCI image made from one binary."`

	_ struct{} `later:"bundle,machine"`
}

// Image says how an OCI image is made.
type Image struct {
	Base   string `yaml:"base" default:"empty" doc:"What the binary is laid upon: empty, busybox, or an image reference."`
	Binary string `yaml:"binary" required:"true" doc:"The binary's path, relative to makeitso.yaml; it becomes the entrypoint."`
}

// Service is something that runs an artifact and answers requests. Exactly one
// kind of artifact is set.
type Service struct {
	Artifact  string            `yaml:"artifact" kind:"true" doc:"The artifact it runs."`
	Image     string            `yaml:"image" json:",omitzero" kind:"true" refs:"true" doc:"An image of the environment's own registry that it runs instead, e.g. ${stacks.images.outputs.Uri}:v1."`
	Port      int               `yaml:"port" required:"true" min:"1" max:"65535" doc:"The port it listens on; given to it as PORT."`
	Health    string            `yaml:"health" doc:"The path that answers 200 when an instance is well."`
	Protocol  string            `yaml:"protocol" json:",omitzero" enum:"http1,h2c" doc:"What its instances speak: http1 (the default), or h2c, HTTP/2 without TLS, which gRPC needs."`
	Instances int               `yaml:"instances" default:"1" min:"1" doc:"How many instances run."`
	Env       map[string]string `yaml:"env" pattern:"variable" refs:"true" doc:"Its environment variables; may hold ${…} references."`
	Rollout   Rollout           `yaml:"rollout" doc:"The way from one release to the next: rolling, all-at-once, blue-green, or a map that says more."`

	Limits Limits   `yaml:"limits" json:",omitzero" doc:"What clients may ask of it."`
	Paths  []string `yaml:"paths" json:",omitzero" min:"1" doc:"The paths below which alone it answers, e.g. /api, so that services may share a host name; the longest that fits decides. It is asked for them as they are."`
	Sticky *Sticky  `yaml:"sticky" json:",omitzero" doc:"Keeps a client at the version that answered it first, by a cookie; {} for one that ends with the browser."`

	SlowStart time.Duration `yaml:"slow-start" json:",omitzero" doc:"In what time an instance that is new, or was unwell, comes to its full part of the requests, e.g. 30s; by default it has it at once."`

	KeepReleases int `yaml:"keep-releases" default:"10" min:"1" doc:"How many releases are kept to go back to, beside the live one and the last good one before it."`
}

// HTTP1 is the protocol of a service's instances where it is named no other.
const HTTP1 = "http1"

// References gives the texts of a service that may hold ${…} references.
func (s *Service) References() []string {
	texts := append(append(valuesOf(s.Env), s.Image), s.Rollout.Alarms...)
	if p := s.Rollout.Analysis.From.Prometheus; p != nil {
		texts = append(texts, p.URL, p.Errors, p.Total)
	}
	return texts
}

// Limits bound what clients may ask of a service; what is left out is as it is
// by default.
type Limits struct {
	Header        Size          `yaml:"header" max:"65536" json:",omitzero" doc:"How large the header of a request may be, e.g. 16KiB; by default, and at most, 64KiB."`
	Body          Size          `yaml:"body" json:",omitzero" doc:"How large the body of a request may be, e.g. 10MB; by default of any size."`
	Requests      int           `yaml:"requests" min:"1" json:",omitzero" doc:"How many requests may be under way at one instance; by default any number."`
	Answer        time.Duration `yaml:"answer" json:",omitzero" doc:"How long it may take to begin an answer, e.g. 30s; by default 10s. Later ones count as failed."`
	ClientTimeout time.Duration `yaml:"client-timeout" json:",omitzero" doc:"How long a client may neither send of its body nor take of the answer, e.g. 30s; by default 60s."`
}

// Sticky says how a client is known again.
type Sticky struct {
	Cookie string        `yaml:"cookie" default:"makeitso" pattern:"cookie" doc:"The cookie's name; by default makeitso."`
	For    time.Duration `yaml:"for" json:",omitzero" doc:"How long it lasts, e.g. 1h; by default until the browser ends."`
}

// Size is a number of bytes, written like 10MB or 64KiB.
type Size int64

// Rollout says how a release replaces the one before. At most one of the
// strategies is set; by default it is rolling.
type Rollout struct {
	Rolling   *Rolling   `yaml:"rolling" doc:"Some instances after others."`
	AllAtOnce *AllAtOnce `yaml:"all-at-once" doc:"Every new instance is started, then all requests move at once; {} here."`
	BlueGreen *BlueGreen `yaml:"blue-green" doc:"The whole new version runs beside the old one, then all requests move at once."`
	Canary    []Percent  `yaml:"canary" min:"1" doc:"The canary's share of requests, step by step, e.g. [10%, 50%]."`
	Watch     Watch      `yaml:"watch" with:"canary" doc:"How long each step is watched: a duration, auto (until the evidence allows the next step), or a map; by default 2m."`
	Analysis  Analysis   `yaml:"analysis" with:"canary" json:",omitzero" doc:"How the canary is judged, where the defaults do not fit."`
	Alarms    []string   `yaml:"alarms" json:",omitzero" min:"1" refs:"true" doc:"Alarms, by name or ARN, of which none may go off meanwhile: one that does sends the rollout back. One that was on before counts when it has been off. May hold ${…} references."`
	Before    string     `yaml:"before" refs:"shell" doc:"A shell command before each change of traffic; if it fails, the rollout goes back. MAKEITSO_CANARY_URL is a new instance's address."`
	After     string     `yaml:"after" refs:"shell" doc:"A shell command after each change of traffic; if it fails, the rollout goes back."`
}

// Rolling says how many instances are replaced at a time.
type Rolling struct {
	Surge       *Amount `yaml:"surge" doc:"How many instances there may be beyond those wanted, e.g. 1, 25% or 200%; by default 1."`
	Unavailable *Amount `yaml:"unavailable" max:"100" doc:"How many instances fewer may answer requests meanwhile, e.g. 1 or 25%; by default 0."`
}

// AllAtOnce has nothing more to say.
type AllAtOnce struct{}

// BlueGreen says how long both versions run.
type BlueGreen struct {
	Soak time.Duration `yaml:"soak" doc:"How long the new version runs before it takes requests, seen at preview.HOST alone, e.g. 1m; by default no time."`
	Keep time.Duration `yaml:"keep" doc:"How long the old version runs on afterwards, for an instant way back, e.g. 10m; by default no time."`
}

// Amount is a number of instances or a part of them; one of the two is 0.
type Amount struct {
	Count int     `json:",omitzero"`
	Part  Percent `json:",omitzero"`
}

// Watch says how long a canary's step is watched: until the evidence allows the
// next step. The word auto leaves the rest as it is by default; a duration alone
// stands for just so long, and is AtMost.
type Watch struct {
	AtLeast time.Duration `yaml:"at-least" default:"30s" doc:"How long each step is watched whatever the evidence says, e.g. 1m; by default 30s."`
	AtMost  time.Duration `yaml:"at-most" default:"10m" doc:"When the next step comes unless something speaks against it, e.g. 20m; by default 10m."`
}

// Analysis says how a canary is judged: it is always compared with the version
// before, and limits may be added.
type Analysis struct {
	Max5xx   Percent `yaml:"max-5xx" json:",omitzero" doc:"The most of the canary's own requests that may fail, e.g. 5%; by default there is no such limit. An outage that is not its fault counts too."`
	Guard5xx Percent `yaml:"guard-5xx" json:",omitzero" doc:"The most of all requests, to both versions, that may fail, against damage that a canary does to what they share, e.g. 20%; by default there is no such limit."`
	From     From    `yaml:"from" json:",omitzero" doc:"Where the outcomes of requests come from: edge (the default), or a map like {log: {field: status}}. Only the edge sends each request by a coin; by others, failures alone are compared, and nothing is promoted early."`
	Latency  Latency `yaml:"latency" json:",omitzero" doc:"How much slower the canary may be: off, or a map like {margin: 25%, slack: 5ms}."`
	// Inconclusive is "" for the default.
	Inconclusive string `yaml:"inconclusive" enum:"promote,hold" json:",omitzero" doc:"What becomes of a canary that nothing speaks for or against when its time is over: promote (the default), or hold, until somebody decides."`
}

// From says where the outcomes of requests come from. Exactly one kind is set,
// or none for the word edge.
type From struct {
	Log        *Lines      `yaml:"log" json:",omitzero" kind:"true" doc:"The logs of the service's own instances, each line of which tells an outcome."`
	Command    *Outcomes   `yaml:"command" json:",omitzero" kind:"true" doc:"A command that prints a line for each outcome."`
	Prometheus *Prometheus `yaml:"prometheus" json:",omitzero" kind:"true" doc:"Counters that a Prometheus has."`
}

// Lines says how a line tells an outcome.
type Lines struct {
	Pattern string `yaml:"pattern" json:",omitzero" kind:"true" doc:"A regular expression with a group named status for the HTTP status, e.g. ' (?P<status>[0-9]{3}) '. 500 and above have failed."`
	Field   string `yaml:"field" json:",omitzero" kind:"true" doc:"The field with the HTTP status, where lines are JSON objects, e.g. status or response.status. 500 and above have failed."`
	Except  string `yaml:"except" json:",omitzero" doc:"A regular expression for lines that do not count, such as those of health checks, e.g. ' /healthz '."`
}

// Outcomes is a command that prints outcomes.
type Outcomes struct {
	Run string `yaml:"run" required:"true" refs:"shell" doc:"The shell command. It is run every 5s for each of both releases, and prints the outcomes of MAKEITSO_RELEASE from MAKEITSO_SINCE on and before MAKEITSO_UNTIL, times like 2026-01-31T12:00:00Z. MAKEITSO_COMMIT, MAKEITSO_INSTANCE_URLS and MAKEITSO_INSTANCE_LOGS say more of it."`
	Lines
}

// Prometheus says by which counters outcomes are counted.
type Prometheus struct {
	URL    string `yaml:"url" required:"true" refs:"true" doc:"The address, e.g. http://localhost:9090; may hold ${…} references."`
	Errors string `yaml:"errors" required:"true" refs:"true" doc:"The query for the counters of requests that failed, e.g. 'http_requests_total{version=\"$commit\",status=~\"5..\"}'. $release, $commit and $instances (addresses, joined by |) are those of each version; may hold ${…} references."`
	Total  string `yaml:"total" required:"true" refs:"true" doc:"The query for the counters of all requests, likewise."`
}

// Latency says how much slower a canary may be; the word off says that this is
// not looked at.
type Latency struct {
	Off    bool          `json:",omitzero"`
	Margin Percent       `yaml:"margin" json:",omitzero" doc:"How much longer its answers may take, at the median and the slowest tenth and hundredth, e.g. 50%; by default 25%."`
	Slack  time.Duration `yaml:"slack" json:",omitzero" doc:"What they may take beyond that, e.g. 20ms; by default 5ms."`
}

// Auto says whether the evidence may end a watch.
func (w Watch) Auto() bool { return w.AtLeast > 0 }

// DefaultWatch is how long a canary's step is watched where the file does not
// say it.
const DefaultWatch = 2 * time.Minute

// Percent is a share between 0 and 100, written like 10%.
type Percent float64

// Site is static files in a bucket behind a CDN.
type Site struct {
	From   string `yaml:"from" required:"true" doc:"The folder of the files, relative to makeitso.yaml."`
	Bucket string `yaml:"bucket" required:"true" refs:"true" doc:"The bucket's name; usually a ${stacks.NAME.outputs.KEY} reference."`

	Redirects []*Redirect       `yaml:"redirects" min:"1" doc:"Paths that lead elsewhere; the first that fits counts."`
	Fallback  string            `yaml:"fallback" doc:"The page for paths of no file, with status 200: that of an application in the browser, e.g. /index.html."`
	Errors    map[string]string `yaml:"errors" pattern:"status" doc:"The pages of errors by their status, e.g. {404: /404.html}."`
}

// Redirect sends those who ask for a path of a site elsewhere.
type Redirect struct {
	From   string `yaml:"from" required:"true" doc:"The path; a last part * stands for all that follows, and a part :name for one part, e.g. /old/*."`
	To     string `yaml:"to" required:"true" doc:"A path or a URL, with :splat for what * stands for and :name for that part, e.g. /new/:splat."`
	Status int    `yaml:"status" default:"301" doc:"301 (the default), 302, 303, 307 or 308."`
}

// Pipeline is ordered stages from a commit to running software.
type Pipeline struct {
	On           Trigger  `yaml:"on" doc:"What starts it."`
	Environments []string `yaml:"environments" min:"1" doc:"The environments it goes through, in this order; by default the only one."`
	Stages       []*Stage `yaml:"stages" required:"true" min:"1" doc:"What it does, in this order."`
}

// Trigger says what starts a pipeline; without one it is started by hand.
type Trigger struct {
	Push *Push `yaml:"push" doc:"A push of commits."`
}

// Push says which pushes start a pipeline. Empty lists match everything.
type Push struct {
	Branches []string `yaml:"branches" doc:"Branch patterns, e.g. main or release/*."`
	Paths    []string `yaml:"paths" doc:"Path patterns of changed files, e.g. server/**."`
}

// EachEnvironment is the value of a stage's environment key that means: once
// for each environment of the run.
const EachEnvironment = "each"

// Migration changes data for a release. Whether it is reversible decides what
// it means to go back to the release before.
type Migration struct {
	Run        string            `yaml:"run" required:"true" refs:"shell" doc:"The shell command that migrates; it must be safe to run again."`
	Reversible *bool             `yaml:"reversible" required:"true" doc:"Whether the release before can work with what it does, or undo takes it back. If not, going back past it needs --force."`
	Undo       string            `yaml:"undo" json:",omitzero" refs:"shell" doc:"The shell command that takes it back; makeitso says when it is to be run."`
	Env        map[string]string `yaml:"env" json:",omitzero" pattern:"variable" refs:"true" doc:"Environment variables of the command; may hold ${…} references."`
}

// Describe says in a word or two what going back past the migration means.
func (m *Migration) Describe() string {
	switch {
	case !*m.Reversible:
		return "forward-only"
	case m.Undo != "":
		return "reversible by " + m.Undo
	}
	return "reversible"
}

// Stage is one step of a pipeline. Exactly one kind is set: Run, Image, Apply,
// Migrate, Release, Publish or Approve (Serve, Env and Environment go with Run).
type Stage struct {
	Name    string        `yaml:"name" json:"name,omitzero" pattern:"name" doc:"The stage's name; by default made from its kind."`
	Needs   []string      `yaml:"needs" json:"needs,omitzero" doc:"Stages that must have succeeded; by default the one before. [] means none."`
	Timeout time.Duration `yaml:"timeout" json:"timeout,omitzero" doc:"How long the stage may take, e.g. 10m."`

	Run     string     `yaml:"run" json:"run,omitzero" kind:"true" refs:"shell" doc:"A shell command, run in a checkout of the commit."`
	Image   string     `yaml:"image" json:"image,omitzero" kind:"true" doc:"The artifact whose image is made."`
	Apply   []string   `yaml:"apply" json:"apply,omitzero" kind:"true" min:"1" doc:"The stacks that are made so, in the order of their imports."`
	Migrate *Migration `yaml:"migrate" json:"migrate,omitzero" kind:"true" doc:"A change of data for the release that comes after it."`
	Release string     `yaml:"release" json:"release,omitzero" kind:"true" doc:"The service that gets a new release."`
	Publish string     `yaml:"publish" json:"publish,omitzero" kind:"true" doc:"The site whose files are published."`
	Approve string     `yaml:"approve" json:"approve,omitzero" kind:"true" doc:"A question that somebody must answer with yes."`

	Serve       string            `yaml:"serve" json:"serve,omitzero" with:"run" doc:"A service to start for the command; its address is given as SERVICE_URL."`
	Environment string            `yaml:"environment" json:"environment,omitzero" with:"run" doc:"Runs the command once for each environment (with: each), or for the one named."`
	Env         map[string]string `yaml:"env" json:"env,omitzero" with:"run" pattern:"variable" refs:"true" doc:"Environment variables of the command; may hold ${…} references."`

	_ struct{} `later:"bundle,machine,watch"`

	// NeedsSet says whether the file has a needs key, since [] differs from none.
	NeedsSet bool `yaml:"-" json:"needsSet,omitzero"`
}

// References gives the texts of a stage's own that may hold ${…} references.
func (s *Stage) References() []string {
	texts := valuesOf(s.Env)
	if s.Migrate != nil {
		texts = append(texts, valuesOf(s.Migrate.Env)...)
	}
	return texts
}
