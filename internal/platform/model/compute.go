package model

// unstarted is the note of what would run on machines of its own.
const unstarted = "nothing is started; instances of a release run with makeitso instead"

// launches is the note of what says how instances are made.
const launches = "groups start their instances from it: ImageId is the digest of an image"

// compute is the types of groups of machines, of containers and of Beanstalk.
func compute() map[string]Type {
	const group = "autoScalingGroupName/{property AutoScalingGroupName}"
	return map[string]Type{
		"AWS::AutoScaling::AutoScalingGroup": {
			Note: "processes of an image, kept at their number", ref: "{name AutoScalingGroupName 255}",
			attributes: map[string]any{"AutoScalingGroupARN": "arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{uuid}:autoScalingGroupName/{ref}"},
			checks:     []check{number("MinSize", 0, 10000), number("MaxSize", 0, 10000), rising("MinSize", "DesiredCapacity", "MaxSize")},
		},
		"AWS::AutoScaling::LaunchConfiguration": {Note: launches, ref: "{name LaunchConfigurationName 255}"},
		"AWS::AutoScaling::LifecycleHook": {
			Note: "part of a modelled group", ref: "{name LifecycleHookName 255}",
			checks: []check{
				words("LifecycleTransition", "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"),
				words("DefaultResult", "CONTINUE", "ABANDON"), number("HeartbeatTimeout", 30, 7200),
			},
		},
		"AWS::AutoScaling::ScalingPolicy": {
			Note: "part of a modelled group", ref: "arn:aws:autoscaling:{region}:{account}:scalingPolicy:{uuid}:" + group + ":policyName/{name - 255}",
			attributes: map[string]any{"Arn": "{ref}", "PolicyName": "{name - 255}"},
			checks:     []check{words("PolicyType", "SimpleScaling", "StepScaling", "TargetTrackingScaling", "PredictiveScaling")},
		},
		"AWS::AutoScaling::ScheduledAction": {
			Note: "part of a modelled group", ref: "{name - 255}", attributes: map[string]any{"ScheduledActionName": "{ref}"},
			checks: []check{rising("MinSize", "DesiredCapacity", "MaxSize")},
		},
		"AWS::ECS::Cluster": {
			Note: unstarted, ref: "{name ClusterName 255}", attributes: map[string]any{"Arn": "arn:aws:ecs:{region}:{account}:cluster/{ref}"},
		},
		"AWS::ECS::Service": {
			Note: unstarted, ref: "arn:aws:ecs:{region}:{account}:service/{after Cluster / =default}/{name ServiceName 255}",
			attributes: map[string]any{"ServiceArn": "{ref}", "Name": "{name ServiceName 255}"},
			replaces:   map[string]string{"LaunchType": ""},
			checks:     []check{number("DesiredCount", 0, 100000), words("LaunchType", "EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES")},
		},
		"AWS::ECS::TaskDefinition": {
			Note: unstarted, ref: "arn:aws:ecs:{region}:{account}:task-definition/{name Family 255}:{number}", series: "Family",
			attributes: map[string]any{"TaskDefinitionArn": "{ref}"},
			checks:     []check{words("NetworkMode", "awsvpc", "bridge", "host", "none"), each("ContainerDefinitions", needs("Name", "Image"))},
		},
		"AWS::ElasticBeanstalk::Application": {Note: "a name for its versions and environments", ref: "{name ApplicationName 100}"},
		"AWS::ElasticBeanstalk::ApplicationVersion": {
			Note: "a zip file of a bucket: a program and its Procfile", ref: "{lower - 100}", attributes: map[string]any{"Id": "{ref}"}, checks: []check{object("SourceBundle")},
		},
		"AWS::ElasticBeanstalk::ConfigurationTemplate": {
			Note: "options of the environments that name it", ref: "{name - 100}", attributes: map[string]any{"TemplateName": "{ref}"},
		},
		"AWS::ElasticBeanstalk::Environment": {
			Note: "processes of its version, behind a host name at the edge", ref: "{name EnvironmentName 40}",
			attributes: map[string]any{"EndpointURL": "awseb-{hex 8}-{decimal 9}.{region}.elb.amazonaws.com"},
		},
		"AWS::CodeBuild::Project": {
			Note: "builds nothing; the stages of makeitso.yaml do", ref: "{name Name 255}",
			attributes: map[string]any{"Id": "{ref}", "Arn": "arn:aws:codebuild:{region}:{account}:project/{ref}"},
			checks:     []check{number("TimeoutInMinutes", 5, 2160), object("Artifacts"), object("Environment"), object("Source")},
		},
		"AWS::CodeDeploy::Application":     {Note: undeployed, ref: "{name ApplicationName 100}", checks: []check{words("ComputePlatform", "Server", "Lambda", "ECS", "Kubernetes")}},
		"AWS::CodeDeploy::DeploymentGroup": {Note: undeployed, ref: "{name DeploymentGroupName 100}"},
		"AWS::CodePipeline::Pipeline": {
			Note: undeployed, ref: "{name Name 100}", attributes: map[string]any{"Version": "{version}"}, checks: []check{each("Stages", needs("Name", "Actions"))},
		},
	}
}

const undeployed = "deploys nothing; the pipelines of makeitso.yaml do"
