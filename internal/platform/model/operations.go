package model

// operations is the types of CloudWatch and Logs. Of alarms it says what they are
// called; how they are evaluated is said elsewhere.
func operations() map[string]Type {
	return map[string]Type{
		"AWS::CloudWatch::Alarm": {
			Note: "evaluated while makeitso serve runs, by what metric filters count and what the edge sees of load balancers and services; its actions are told, not taken",
			ref:  "{name AlarmName 255}", attributes: map[string]any{"Arn": "arn:aws:cloudwatch:{region}:{account}:alarm:{ref}"},
			checks: []check{number("EvaluationPeriods", 1, 1440), number("DatapointsToAlarm", 1, 1440), words("TreatMissingData", "breaching", "notBreaching", "ignore", "missing")},
		},
		"AWS::CloudWatch::CompositeAlarm": {
			Note: "evaluated from the states of the alarms that its rule names while makeitso serve runs; its actions are told, not taken",
			ref:  "{name AlarmName 255}", attributes: map[string]any{"Arn": "arn:aws:cloudwatch:{region}:{account}:alarm:{ref}"},
		},
		"AWS::CloudWatch::Dashboard": {Note: "nothing is shown", ref: "{name DashboardName 255}", checks: []check{jsonText("DashboardBody")}},
		"AWS::Logs::SubscriptionFilter": {
			Note: "nothing is passed on", ref: "{name FilterName 512}", checks: []check{begins("DestinationArn", "arn:")},
		},
	}
}
