package model

// inVPC is the note of what only a network could show.
const inVPC = "part of a modelled VPC; all servers share this machine's loopback network"

// network is the types of EC2.
func network() map[string]Type {
	const unfiltered = "no packet is filtered on loopback"
	return map[string]Type{
		"AWS::EC2::VPC": {
			Note: "all servers share this machine's loopback network", ref: "vpc-{hex 17}",
			attributes: map[string]any{
				"VpcId": "{ref}", "CidrBlock": "{property CidrBlock}", "DefaultSecurityGroup": "sg-{hex 17 sg}", "DefaultNetworkAcl": "acl-{hex 17 acl}",
				"CidrBlockAssociations": []any{"vpc-cidr-assoc-{hex 17 cidr}"}, "Ipv6CidrBlocks": []any{},
			},
			replaces: map[string]string{"InstanceTenancy": "default"},
			checks:   []check{oneOf("CidrBlock", "Ipv4IpamPoolId"), network4("CidrBlock", 16, 28), words("InstanceTenancy", "default", "dedicated", "host")},
		},
		"AWS::EC2::Subnet": {
			Note: inVPC, ref: "subnet-{hex 17}",
			attributes: map[string]any{
				"SubnetId": "{ref}", "VpcId": "{property VpcId}", "CidrBlock": "{property CidrBlock}", "AvailabilityZone": "{zone}",
				"AvailabilityZoneId": when{"AvailabilityZoneId", "{property AvailabilityZoneId}"}, "NetworkAclAssociationId": "aclassoc-{hex 17 acl}", "Ipv6CidrBlocks": []any{},
				"BlockPublicAccessStates": map[string]any{"InternetGatewayBlockMode": "off"},
			},
			checks: []check{network4("CidrBlock", 16, 28), within("CidrBlock", "AWS::EC2::VPC", "VpcId")},
		},
		"AWS::EC2::SecurityGroup": {
			Note: unfiltered, ref: "sg-{hex 17}", unique: []string{"GroupName", "VpcId"},
			attributes: map[string]any{"GroupId": "{ref}", "Id": "{ref}", "VpcId": "{property VpcId}"},
			checks:     []check{each("SecurityGroupIngress", rule), each("SecurityGroupEgress", rule)},
		},
		"AWS::EC2::SecurityGroupIngress": {
			Note: unfiltered, ref: "sgr-{hex 17}", attributes: map[string]any{"Id": "{ref}"},
			checks: []check{oneOf("GroupId", "GroupName"), rule},
		},
		"AWS::EC2::SecurityGroupEgress": {
			Note: unfiltered, ref: "sgr-{hex 17}", attributes: map[string]any{"Id": "{ref}"}, checks: []check{rule},
		},
		"AWS::EC2::InternetGateway": {Note: inVPC, ref: "igw-{hex 17}", attributes: map[string]any{"InternetGatewayId": "{ref}"}},
		"AWS::EC2::VPCGatewayAttachment": {
			Note: inVPC, ref: "{given InternetGatewayId IGW VGW}|{property VpcId}", attributes: map[string]any{"AttachmentType": "{given InternetGatewayId IGW VGW}"},
			checks: []check{oneOf("InternetGatewayId", "VpnGatewayId")},
		},
		"AWS::EC2::NatGateway": {
			Note: inVPC, ref: "nat-{hex 17}",
			attributes: map[string]any{
				"NatGatewayId": "{ref}", "EniId": "eni-{hex 17 eni}", "RouteTableId": "rtb-{hex 17 rtb}", "AutoProvisionZones": "disabled", "AutoScalingIps": "disabled",
			},
			checks: []check{words("ConnectivityType", "public", "private")},
		},
		"AWS::EC2::EIP": {
			Note: inVPC + "; the address belongs to nobody", ref: "{address 198.18}",
			attributes: map[string]any{"PublicIp": "{ref}", "AllocationId": "eipalloc-{hex 17}"},
			checks:     []check{words("Domain", "vpc", "standard")},
		},
		"AWS::EC2::RouteTable": {Note: inVPC, ref: "rtb-{hex 17}", attributes: map[string]any{"RouteTableId": "{ref}"}},
		"AWS::EC2::Route": {
			Note: inVPC, ref: "{property RouteTableId}|{property DestinationCidrBlock DestinationIpv6CidrBlock DestinationPrefixListId}",
			attributes: map[string]any{"CidrBlock": "{property DestinationCidrBlock DestinationIpv6CidrBlock DestinationPrefixListId}"},
			checks:     []check{oneOf("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId"), network4("DestinationCidrBlock", 0, 32)},
		},
		"AWS::EC2::SubnetRouteTableAssociation": {Note: inVPC, ref: "rtbassoc-{hex 17}", attributes: map[string]any{"Id": "{ref}"}},
		"AWS::EC2::VPCEndpoint": {
			Note: inVPC, ref: "vpce-{hex 17}",
			attributes: map[string]any{
				"Id": "{ref}", "CreationTimestamp": "{made}",
				"NetworkInterfaceIds": when{"SubnetIds", []any{"eni-{hex 17 eni}"}},
				"DnsEntries":          when{"SubnetIds", []any{"Z{id 13}:{ref}-{hex 8 dns}.{after ServiceName .}.{region}.vpce.amazonaws.com"}},
			},
			checks: []check{words("VpcEndpointType", "Interface", "Gateway", "GatewayLoadBalancer", "Resource", "ServiceNetwork"), document("PolicyDocument")},
		},
		"AWS::EC2::Instance": {
			Note: "no machine is started; instances of a release run with makeitso instead", ref: "i-{hex 17}",
			attributes: map[string]any{
				"InstanceId": "{ref}", "VpcId": "vpc-{hex 17 vpc}", "AvailabilityZone": "{zone}",
				"PrivateIp": "{address 10.0 PrivateIpAddress}", "PrivateDnsName": "ip-{hex 8}.{region}.compute.internal",
				"PublicIp": "{address 198.19}", "PublicDnsName": "ec2-{hex 8}.{region}.compute.amazonaws.com",
				"State": map[string]any{"Code": "16", "Name": "running"},
			},
			checks: []check{oneOf("ImageId", "LaunchTemplate")},
		},
		"AWS::EC2::LaunchTemplate": {
			Note: launches, ref: "lt-{hex 17}", unique: []string{"LaunchTemplateName"},
			attributes: map[string]any{"LaunchTemplateId": "{ref}", "DefaultVersionNumber": "1", "LatestVersionNumber": "{version}"},
			checks:     []check{object("LaunchTemplateData")},
		},
		"AWS::EC2::Volume": {
			Note: "no disk is made", ref: "vol-{hex 17}", attributes: map[string]any{"VolumeId": "{ref}"},
			checks: []check{number("Size", 1, 65536), words("VolumeType", "gp2", "gp3", "io1", "io2", "sc1", "st1", "standard")},
		},
	}
}

const (
	unbalanced = "no requests are balanced; use ElasticLoadBalancingV2"
	balanced   = "the edge balances requests, which are HTTP, at its own port"
	balancer   = "{choose Type =app network=net gateway=gwy}/{name Name 32}/{hex 16}"
)

// balancing is the types of load balancing.
func balancing() map[string]Type {
	return map[string]Type{
		"AWS::ElasticLoadBalancing::LoadBalancer": {
			Note: unbalanced, ref: "{name LoadBalancerName 32}",
			attributes: map[string]any{
				"Id": "{ref}", "DNSName": "{ref}-{decimal 10}.{region}.elb.amazonaws.com", "CanonicalHostedZoneName": "{ref}-{decimal 10}.{region}.elb.amazonaws.com",
				"CanonicalHostedZoneNameID": "Z{id 13}", "SourceSecurityGroup.GroupName": "amazon-elb-sg", "SourceSecurityGroup.OwnerAlias": "amazon-elb",
			},
			checks: []check{each("Listeners", all(number("LoadBalancerPort", 1, 65535), number("InstancePort", 1, 65535)))},
		},
		"AWS::ElasticLoadBalancingV2::LoadBalancer": {
			Note: balanced, ref: "arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/" + balancer, unique: []string{"Name"},
			attributes: map[string]any{
				"LoadBalancerArn": "{ref}", "LoadBalancerFullName": balancer, "LoadBalancerName": "{name Name 32}",
				"DNSName": "{name Name 32}-{decimal 10}.{region}.elb.amazonaws.com", "CanonicalHostedZoneID": "Z{id 13}",
			},
			checks: []check{words("Type", "application", "network", "gateway"), words("Scheme", "internal", "internet-facing"), name("Name", 32)},
		},
		"AWS::ElasticLoadBalancingV2::TargetGroup": {
			Note: balanced, ref: "arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{name Name 32}/{hex 16}", unique: []string{"Name"},
			attributes: map[string]any{
				"TargetGroupArn": "{ref}", "TargetGroupFullName": "targetgroup/{name Name 32}/{hex 16}", "TargetGroupName": "{name Name 32}", "LoadBalancerArns": []any{},
			},
			checks: []check{
				number("Port", 1, 65535), name("Name", 32), words("TargetType", "instance", "ip", "lambda", "alb"),
				words("Protocol", "HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "GENEVE", "QUIC", "TCP_QUIC"),
			},
		},
		"AWS::ElasticLoadBalancingV2::Listener": {
			Note: balanced, ref: "arn:aws:elasticloadbalancing:{region}:{account}:listener/{after LoadBalancerArn loadbalancer/}/{hex 16}",
			attributes: map[string]any{"ListenerArn": "{ref}"},
			checks:     []check{number("Port", 1, 65535), each("DefaultActions", action)},
		},
		"AWS::ElasticLoadBalancingV2::ListenerRule": {
			Note: balanced, ref: "arn:aws:elasticloadbalancing:{region}:{account}:listener-rule/{after ListenerArn listener/}/{hex 16}",
			attributes: map[string]any{"RuleArn": "{ref}", "IsDefault": "false"},
			checks:     []check{number("Priority", 1, 50000), each("Actions", action)},
		},
	}
}
