// Package project is makeitso.yaml: what a user writes, as checked values. It
// knows the file's shape and its rules; it must not know how anything in it is
// done.
package project

import "time"

// File is the name of a project's file, in the repository's root.
const File = "makeitso.yaml"

// Project is a checked makeitso.yaml.
type Project struct {
	Name         string                  `yaml:"project" doc:"The project's name: lower-case letters, digits and hyphens."`
	Environments map[string]*Environment `yaml:"environments" doc:"The named places where the project exists."`
	Stacks       map[string]*Stack       `yaml:"stacks" doc:"Named sets of resources described by templates."`
	Artifacts    map[string]*Artifact    `yaml:"artifacts" doc:"What builds make: immutable, named by digest."`
	Services     map[string]*Service     `yaml:"services" doc:"What runs artifacts and answers requests."`
	Sites        map[string]*Site        `yaml:"sites" doc:"Static files in a bucket behind a CDN."`
	Pipelines    map[string]*Pipeline    `yaml:"pipelines" doc:"Ordered stages from a commit to running software."`
}

// Environment is a named place where the project exists.
type Environment struct {
	Platform  string `yaml:"platform" enum:"local,aws,kubernetes" doc:"What the environment stands on."`
	Account   string `yaml:"account" doc:"The account's number (aws)."`
	Region    string `yaml:"region" doc:"The region (aws)."`
	Approvals int    `yaml:"approvals" doc:"How many different people must approve before the first change."`
	Embedded  bool   `yaml:"embedded" doc:"Whether embedded stand-ins may serve where a program is missing (local)."`
}

// Stack is a named set of resources described by a template.
type Stack struct {
	Template   string            `yaml:"template" doc:"The template's path, relative to makeitso.yaml."`
	Parameters map[string]string `yaml:"parameters" doc:"Values for the template's parameters; may hold \\${…} references."`
}

// Artifact is an immutable output of a build. Exactly one kind is set.
type Artifact struct {
	Image *Image `yaml:"image" doc:"An OCI image made from one binary."`
}

// Image says how an OCI image is made.
type Image struct {
	Base   string `yaml:"base" doc:"What the binary is laid upon: empty, busybox, or an image reference."`
	Binary string `yaml:"binary" doc:"The binary's path, relative to makeitso.yaml; it becomes the entrypoint."`
}

// Service is something that runs an artifact and answers requests.
type Service struct {
	Artifact  string            `yaml:"artifact" doc:"The artifact it runs."`
	Port      int               `yaml:"port" doc:"The port it listens on; given to it as PORT."`
	Health    string            `yaml:"health" doc:"The path that answers 200 when an instance is well."`
	Instances int               `yaml:"instances" doc:"How many instances run."`
	Env       map[string]string `yaml:"env" doc:"Its environment variables; may hold \\${…} references."`
	Rollout   Rollout           `yaml:"rollout" doc:"The way from one release to the next."`
}

// Rollout says how a release replaces the one before: by canary steps where
// Canary is set, else rolling, one instance after another.
type Rollout struct {
	Canary []Percent     `yaml:"canary" doc:"The canary's share of requests, step by step, e.g. [10%, 50%]."`
	Watch  time.Duration `yaml:"watch" doc:"How long each step is watched, e.g. 2m."`
}

// Percent is a share between 0 and 100, written like 10%.
type Percent float64

// Site is static files in a bucket behind a CDN.
type Site struct {
	From   string `yaml:"from" doc:"The folder of the files, relative to makeitso.yaml."`
	Bucket string `yaml:"bucket" doc:"The bucket's name; usually a \\${stacks.NAME.outputs.KEY} reference."`
}

// Pipeline is ordered stages from a commit to running software.
type Pipeline struct {
	On           Trigger  `yaml:"on" doc:"What starts it."`
	Environments []string `yaml:"environments" doc:"The environments it goes through, in this order."`
	Stages       []*Stage `yaml:"stages" doc:"What it does, in this order."`
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

// Stage is one step of a pipeline. Exactly one kind is set: Run, Image, Apply,
// Release, Publish or Approve (Serve goes with Run).
type Stage struct {
	Name        string            `yaml:"name" doc:"The stage's name; by default made from its kind."`
	Needs       []string          `yaml:"needs" doc:"Stages that must have succeeded; by default the one before. [] means none."`
	Environment string            `yaml:"environment" doc:"Runs the command once for each environment (with: each), or for the one named."`
	Env         map[string]string `yaml:"env" doc:"Environment variables of the command; may hold \\${…} references."`
	Timeout     time.Duration     `yaml:"timeout" doc:"How long the stage may take, e.g. 10m."`

	Run     string   `yaml:"run" doc:"A shell command, run in a checkout of the commit."`
	Serve   string   `yaml:"serve" doc:"A service to start for the command; its address is given as SERVICE_URL."`
	Image   string   `yaml:"image" doc:"The artifact whose image is made."`
	Apply   []string `yaml:"apply" doc:"The stacks that are made so, in the order of their imports."`
	Release string   `yaml:"release" doc:"The service that gets a new release."`
	Publish string   `yaml:"publish" doc:"The site whose files are published."`
	Approve string   `yaml:"approve" doc:"A question that somebody must answer with yes."`

	// NeedsSet says whether the file has a needs key, since [] differs from none.
	NeedsSet bool `yaml:"-"`
}
