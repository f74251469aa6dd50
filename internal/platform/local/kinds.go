package local

import (
	"maps"

	"makeitso/internal/changeset"
	"makeitso/internal/pace"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

// allKinds is the table of types.
func (p *Platform) allKinds() map[string]machine.Kind {
	kinds := map[string]machine.Kind{
		"AWS::S3::Bucket":                          machine.Real("a bucket of this environment's S3 server", bucket{p}),
		"AWS::S3::BucketPolicy":                    machine.Real("public access, on the S3 server", bucketPolicy{p}),
		repositoryType:                             machine.Real("a repository of this environment's image registry, where images expire by its LifecyclePolicy; what else it says of access and scanning is kept and not run", imageRepository{p}),
		"AWS::CloudFront::Distribution":            machine.Real("served and cached by the edge", distribution{p}),
		"AWS::Route53::HostedZone":                 machine.Real("answered by a DNS server of this environment", hostedZone{p}),
		"AWS::Route53::RecordSet":                  machine.Real("answered by the DNS server, and routed at the edge if it leads to a distribution", recordSet{p}),
		"AWS::Route53::RecordSetGroup":             machine.Real("records answered by the DNS server", recordSetGroup{p}),
		"AWS::Route53::HealthCheck":                machine.Real("looked after by the DNS server", healthCheck{p}),
		"AWS::Logs::LogGroup":                      machine.Real("a folder of log files; that of /makeitso/ENV/SERVICE has what a service prints", logGroup{p}),
		"AWS::Logs::LogStream":                     machine.Real("a file in the folder of its log group", logStream{p}),
		"AWS::Logs::MetricFilter":                  machine.Real("counts each line when it is written, while makeitso serve runs; a file that was copied counts again", metricFilter{p}),
		"AWS::CloudTrail::Trail":                   machine.Real("the project's events, written into its bucket while makeitso serve runs; no digest files, and no selectors", trail{p}),
		"AWS::CloudFormation::WaitConditionHandle": machine.Real("an address on this machine that takes signals", waitHandle{p}),
		"AWS::CloudFormation::WaitCondition":       machine.Real("complete when its signals have come", waitCondition{}),
	}
	maps.Copy(kinds, p.databases.Kinds())
	for name, t := range model.Types() {
		if k, real := kept(modelled{p, t}, name); real {
			kinds[name] = machine.Kind{Support: changeset.Support{Level: changeset.Real, Note: t.Note, Groups: name == pace.GroupType}, Maker: k}
		} else {
			kinds[name] = machine.Kind{Support: changeset.Support{Level: changeset.Modelled, Note: t.Note}, Maker: modelled{p, t}}
		}
	}
	return kinds
}
