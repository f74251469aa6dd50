// Package project is makeitso.yaml: what a user writes, as checked values. It
// knows the file's shape and its rules; it must not know how anything in it is
// done.
//
// The types' tags are the rules of single keys, read by the decoder and by
// Schema alike: yaml (the key), doc, required, enum, default, min and max (of a
// number or of a list's length), pattern (of a string or of a map's keys),
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
	// Former says that the file does not have it any more, and that something
	// of it is left.
	Former bool `yaml:"-" json:"-"`
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
	Instances int               `yaml:"instances" default:"1" min:"1" doc:"How many instances run."`
	Env       map[string]string `yaml:"env" pattern:"variable" refs:"true" doc:"Its environment variables; may hold ${…} references."`
	Rollout   Rollout           `yaml:"rollout" doc:"The way from one release to the next: rolling, or canary steps."`
}

// References gives the texts of a service that may hold ${…} references.
func (s *Service) References() []string { return append(valuesOf(s.Env), s.Image) }

// Rollout says how a release replaces the one before: by canary steps where
// Canary is set, else rolling, one instance after another. The word "rolling"
// alone is the zero value.
type Rollout struct {
	Canary []Percent     `yaml:"canary" min:"1" doc:"The canary's share of requests, step by step, e.g. [10%, 50%]."`
	Watch  time.Duration `yaml:"watch" with:"canary" doc:"How long each step is watched, e.g. 2m; by default 2m."`
}

// DefaultWatch is how long a canary's step is watched where the file does not
// say it.
const DefaultWatch = 2 * time.Minute

// Percent is a share between 0 and 100, written like 10%.
type Percent float64

// Site is static files in a bucket behind a CDN.
type Site struct {
	From   string `yaml:"from" required:"true" doc:"The folder of the files, relative to makeitso.yaml."`
	Bucket string `yaml:"bucket" required:"true" refs:"true" doc:"The bucket's name; usually a ${stacks.NAME.outputs.KEY} reference."`
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

// Stage is one step of a pipeline. Exactly one kind is set: Run, Image, Apply,
// Release, Publish or Approve (Serve, Env and Environment go with Run).
type Stage struct {
	Name    string        `yaml:"name" json:"name,omitzero" pattern:"name" doc:"The stage's name; by default made from its kind."`
	Needs   []string      `yaml:"needs" json:"needs,omitzero" doc:"Stages that must have succeeded; by default the one before. [] means none."`
	Timeout time.Duration `yaml:"timeout" json:"timeout,omitzero" doc:"How long the stage may take, e.g. 10m."`

	Run     string   `yaml:"run" json:"run,omitzero" kind:"true" refs:"shell" doc:"A shell command, run in a checkout of the commit."`
	Image   string   `yaml:"image" json:"image,omitzero" kind:"true" doc:"The artifact whose image is made."`
	Apply   []string `yaml:"apply" json:"apply,omitzero" kind:"true" min:"1" doc:"The stacks that are made so, in the order of their imports."`
	Release string   `yaml:"release" json:"release,omitzero" kind:"true" doc:"The service that gets a new release."`
	Publish string   `yaml:"publish" json:"publish,omitzero" kind:"true" doc:"The site whose files are published."`
	Approve string   `yaml:"approve" json:"approve,omitzero" kind:"true" doc:"A question that somebody must answer with yes."`

	Serve       string            `yaml:"serve" json:"serve,omitzero" with:"run" doc:"A service to start for the command; its address is given as SERVICE_URL."`
	Environment string            `yaml:"environment" json:"environment,omitzero" with:"run" doc:"Runs the command once for each environment (with: each), or for the one named."`
	Env         map[string]string `yaml:"env" json:"env,omitzero" with:"run" pattern:"variable" refs:"true" doc:"Environment variables of the command; may hold ${…} references."`

	_ struct{} `later:"bundle,machine,watch"`

	// NeedsSet says whether the file has a needs key, since [] differs from none.
	NeedsSet bool `yaml:"-" json:"needsSet,omitzero"`
}
