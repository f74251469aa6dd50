package model

// serverless is the types of functions, of what calls them and of queues.
func serverless() map[string]Type {
	const (
		uncalled = "no code is run"
		function = "arn:aws:lambda:{region}:{account}:function:{after FunctionName function:}"
		api      = "no requests are answered; the edge serves the instances of a release"
	)
	return map[string]Type{
		"AWS::Lambda::Function": {
			Note: uncalled, ref: "{name FunctionName 64}",
			attributes: map[string]any{
				"Arn":                                  "arn:aws:lambda:{region}:{account}:function:{ref}",
				"SnapStartResponse.ApplyOn":            "{property SnapStart/ApplyOn =None}",
				"SnapStartResponse.OptimizationStatus": "Off",
			},
			checks: []check{object("Code"), number("MemorySize", 128, 10240), number("Timeout", 1, 900), words("PackageType", "Zip", "Image")},
		},
		"AWS::Lambda::Version": {
			Note: uncalled, ref: function + ":{number}", series: "FunctionName", attributes: map[string]any{"FunctionArn": "{ref}", "Version": "{number}"},
		},
		"AWS::Lambda::Alias": {Note: uncalled, ref: function + ":{property Name}", attributes: map[string]any{"AliasArn": "{ref}"}},
		"AWS::Lambda::EventSourceMapping": {
			Note: uncalled, ref: "{uuid}", attributes: map[string]any{"Id": "{ref}", "EventSourceMappingArn": "arn:aws:lambda:{region}:{account}:event-source-mapping:{ref}"},
			checks: []check{number("BatchSize", 1, 10000)},
		},
		"AWS::Lambda::LayerVersion": {
			Note: uncalled, ref: "arn:aws:lambda:{region}:{account}:layer:{name LayerName 140}:{number}", series: "LayerName",
			attributes: map[string]any{"LayerVersionArn": "{ref}"}, checks: []check{object("Content")},
		},
		"AWS::Lambda::Permission": {Note: undenied, ref: "{name - 100}", attributes: map[string]any{"Id": "{ref}"}},
		"AWS::Lambda::Url": {
			Note: uncalled, ref: "arn:aws:lambda:{region}:{account}:function:{after TargetFunctionArn function:}{given Qualifier : }{property Qualifier}",
			attributes: map[string]any{"FunctionArn": "{ref}", "FunctionUrl": "https://{hex 32}.lambda-url.{region}.on.aws/"},
			checks:     []check{words("AuthType", "AWS_IAM", "NONE")},
		},
		"AWS::ApiGateway::Account":    {Note: api, ref: "{name - 64}", attributes: map[string]any{"Id": "{ref}"}},
		"AWS::ApiGateway::Deployment": {Note: api, ref: "{hex 6}", attributes: map[string]any{"DeploymentId": "{ref}"}},
		"AWS::ApiGateway::Method": {
			Note: api, ref: "{name - 64}",
			checks: []check{words("HttpMethod", "ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")},
		},
		"AWS::ApiGateway::Resource": {Note: api, ref: "{hex 6}", attributes: map[string]any{"ResourceId": "{ref}"}},
		"AWS::ApiGateway::RestApi": {
			Note: api, ref: "{hex 10}", attributes: map[string]any{"RestApiId": "{ref}", "RootResourceId": "{hex 10 root}"}, checks: []check{notBoth("Body", "BodyS3Location")},
		},
		"AWS::ApiGateway::Stage": {Note: api, ref: "{name StageName 128}", checks: []check{name("StageName", 128)}},
		"AWS::ApiGatewayV2::Api": {
			Note: api, ref: "{hex 10}",
			attributes: map[string]any{"ApiId": "{ref}", "ApiEndpoint": "{choose ProtocolType =https WEBSOCKET=wss}://{ref}.execute-api.{region}.amazonaws.com"},
			checks:     []check{words("ProtocolType", "HTTP", "WEBSOCKET"), notBoth("Body", "BodyS3Location")},
		},
		"AWS::ApiGatewayV2::Deployment": {Note: api, ref: "{hex 6}", attributes: map[string]any{"DeploymentId": "{ref}"}},
		"AWS::ApiGatewayV2::Integration": {
			Note: api, ref: "{hex 7}", attributes: map[string]any{"IntegrationId": "{ref}"},
			checks: []check{words("IntegrationType", "AWS", "AWS_PROXY", "HTTP", "HTTP_PROXY", "MOCK")},
		},
		"AWS::ApiGatewayV2::Route": {Note: api, ref: "{hex 7}", unique: []string{"ApiId", "RouteKey"}, attributes: map[string]any{"RouteId": "{ref}"}},
		"AWS::ApiGatewayV2::Stage": {Note: api, ref: "{property StageName}", unique: []string{"ApiId", "StageName"}, attributes: map[string]any{"Id": "{property ApiId}|{ref}"}},
		"AWS::SQS::Queue": {
			Note: "holds no messages", ref: "https://sqs.{region}.amazonaws.com/{account}/" + queueName,
			attributes: map[string]any{"QueueUrl": "{ref}", "Arn": "arn:aws:sqs:{region}:{account}:" + queueName, "QueueName": queueName},
			checks: []check{
				fifo("QueueName", "FifoQueue"), number("DelaySeconds", 0, 900), number("VisibilityTimeout", 0, 43200), number("MaximumMessageSize", 1024, 1048576),
				number("MessageRetentionPeriod", 60, 1209600), number("ReceiveMessageWaitTimeSeconds", 0, 20),
			},
		},
		"AWS::SNS::Topic": {
			Note: "tells nobody", ref: "arn:aws:sns:{region}:{account}:" + topicName, attributes: map[string]any{"TopicArn": "{ref}", "TopicName": topicName},
			checks: []check{fifo("TopicName", "FifoTopic")},
		},
		"AWS::SNS::Subscription": {
			Note: "tells nobody", ref: "{property TopicArn}:{uuid}", attributes: map[string]any{"Arn": "{ref}"},
			checks: []check{begins("TopicArn", "arn:"), words("Protocol", "http", "https", "email", "email-json", "sms", "sqs", "application", "lambda", "firehose")},
		},
		"AWS::Events::Rule": {
			Note: "no event is looked for and nothing happens by the clock", ref: "{bus |}{name Name 64}",
			attributes: map[string]any{"Arn": "arn:aws:events:{region}:{account}:rule/{bus /}{name Name 64}"},
			replaces:   map[string]string{"EventBusName": ""},
			checks:     []check{anyOf("ScheduleExpression", "EventPattern"), schedule, words("State", "ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")},
		},
	}
}

// The names of queues and topics. One that is made up for a first-in-first-out
// kind has its ending, as the service makes it.
const (
	queueName = "{ending QueueName 80 FifoQueue}"
	topicName = "{ending TopicName 256 FifoTopic}"
)
