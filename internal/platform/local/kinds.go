package local

import (
	"context"

	"makeitso/internal/changeset"
	"makeitso/internal/pace"
	"makeitso/internal/platform/model"
)

// kind is what the platform does with one type.
type kind struct {
	support changeset.Support
	maker   maker
}

// maker makes the resources of one type; handler adds what is the same for
// all: finding again by token, state files, order.
type maker interface {
	// check judges properties. What other resources decide is
	// changeset.KnownAfterApply in a plan and must be let through.
	check(ctx context.Context, r *resource) error
	// make brings the resource to what r declares, whatever stands already,
	// waits until it is ready, and sets its physical id and attributes.
	make(ctx context.Context, r *resource) error
	// read looks whether a complete resource is there: fault.Unavailable if it
	// should run and does not.
	read(ctx context.Context, r *resource) error
	// remove takes away what make made, except the resource's own folder.
	remove(ctx context.Context, r *resource) error
}

// allKinds is the table of types.
func (p *Platform) allKinds() map[string]kind {
	kinds := map[string]kind{
		clusterType:                                {snapshots("a redis-server or valkey-server of its own"), redis{p}},
		groupType:                                  {snapshots("a redis-server or valkey-server for each node, which replicate"), replicationGroup{redis{p}}},
		"AWS::ElastiCache::ParameterGroup":         {note("parameters of the servers whose clusters name it"), parameterGroup{p}},
		databaseType:                               {snapshots("a PostgreSQL server of its own"), postgres{p}},
		databaseParametersType:                     {note("parameters of the servers whose instances name it"), databaseParameters{p}},
		"AWS::S3::Bucket":                          {note("a bucket of this environment's S3 server"), bucket{p}},
		"AWS::S3::BucketPolicy":                    {note("public access, on the S3 server"), bucketPolicy{p}},
		repositoryType:                             {note("a repository of this environment's image registry; its policies are kept and not run"), imageRepository{p}},
		"AWS::CloudFront::Distribution":            {note("served and cached by the edge"), distribution{p}},
		"AWS::Route53::HostedZone":                 {note("answered by a DNS server of this environment"), hostedZone{p}},
		"AWS::Route53::RecordSet":                  {note("answered by the DNS server, and routed at the edge if it leads to a distribution"), recordSet{p}},
		"AWS::Route53::RecordSetGroup":             {note("records answered by the DNS server"), recordSetGroup{p}},
		"AWS::Route53::HealthCheck":                {note("looked after by the DNS server"), healthCheck{p}},
		"AWS::Logs::LogGroup":                      {note("a folder of files that programs append to; /makeitso/ENVIRONMENT/SERVICE has what a service prints; RetentionInDays removes files not written for so long"), logGroup{p}},
		"AWS::Logs::LogStream":                     {note("a file in the folder of its log group"), logStream{p}},
		"AWS::Logs::MetricFilter":                  {note("counts each line when it is written, while makeitso serve runs; a file that was copied counts again"), metricFilter{p}},
		"AWS::CloudTrail::Trail":                   {note("the project's events, written into its bucket while makeitso serve runs; no digest files, and no selectors"), trail{p}},
		"AWS::CloudFormation::WaitConditionHandle": {note("an address on this machine that takes signals"), waitHandle{p}},
		"AWS::CloudFormation::WaitCondition":       {note("complete when its signals have come"), waitCondition{}},
	}
	for name, t := range model.Types() {
		if k, real := kept(modelled{p, t}, name); real {
			kinds[name] = kind{changeset.Support{Level: changeset.Real, Note: t.Note, Groups: name == pace.GroupType}, k}
		} else {
			kinds[name] = kind{changeset.Support{Level: changeset.Modelled, Note: t.Note}, modelled{p, t}}
		}
	}
	return kinds
}

// note is the support of a type that software runs for.
func note(text string) changeset.Support { return changeset.Support{Level: changeset.Real, Note: text} }

// snapshots is the support of a type whose data can be kept apart from it.
func snapshots(text string) changeset.Support {
	return changeset.Support{Level: changeset.Real, Note: text, Snapshots: true}
}
