package model

// operations is the types of CloudWatch, CloudTrail and Logs.
func operations() map[string]Type {
	const told = "nothing measures for it; its state is said with makeitso stack alarm"
	return map[string]Type{
		"AWS::CloudWatch::Alarm": {
			Note: told, ref: "{name AlarmName 255}", attributes: map[string]any{"Arn": "arn:aws:cloudwatch:{region}:{account}:alarm:{ref}"},
			checks: []check{number("EvaluationPeriods", 1, 1440), number("DatapointsToAlarm", 1, 1440), words("TreatMissingData", "breaching", "notBreaching", "ignore", "missing")},
		},
		"AWS::CloudWatch::CompositeAlarm": {
			Note: "no alarm is looked at", ref: "{name AlarmName 255}", attributes: map[string]any{"Arn": "arn:aws:cloudwatch:{region}:{account}:alarm:{ref}"},
		},
		"AWS::CloudWatch::Dashboard": {Note: "nothing is shown", ref: "{name DashboardName 255}", checks: []check{jsonText("DashboardBody")}},
		"AWS::CloudTrail::Trail": {
			Note: "nothing is recorded", ref: "{name TrailName 128}",
			attributes: map[string]any{
				"Arn":         "arn:aws:cloudtrail:{region}:{account}:trail/{ref}",
				"SnsTopicArn": when{"SnsTopicName", "arn:aws:sns:{region}:{account}:{after SnsTopicName :}"},
			},
			checks: []check{words("IsLogging", "true", "false")},
		},
		"AWS::Logs::LogStream":    {Note: "part of a group of log files", ref: "{name LogStreamName 512}"},
		"AWS::Logs::MetricFilter": {Note: "nothing measures", ref: "{name FilterName 512}", checks: []check{each("MetricTransformations", needs("MetricName", "MetricNamespace", "MetricValue"))}},
		"AWS::Logs::SubscriptionFilter": {
			Note: "nothing is passed on", ref: "{name FilterName 512}", checks: []check{begins("DestinationArn", "arn:")},
		},
	}
}
