package local

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

// model is a type that is checked and kept, and for which nothing runs. Its
// Ref and attributes are patterns, expanded by expand.
type model struct {
	p          *Platform
	note       string
	ref        string
	attributes map[string]string
	lists      map[string][]string // attributes that are lists
	cidr       bool                // CidrBlock must be a network
}

// models is the table of modelled types.
func models() map[string]model {
	return map[string]model{
		"AWS::EC2::VPC": {
			note: "all servers share this machine's loopback network", ref: "vpc-{hex17}", cidr: true,
			attributes: map[string]string{
				"VpcId": "{ref}", "CidrBlock": "{property CidrBlock}",
				"DefaultSecurityGroup": "sg-{hex17 sg}", "DefaultNetworkAcl": "acl-{hex17 acl}",
			},
			lists: map[string][]string{"CidrBlockAssociations": {"vpc-cidr-assoc-{hex17 cidr}"}, "Ipv6CidrBlocks": {}},
		},
		"AWS::EC2::Subnet": {
			note: "part of a modelled VPC", ref: "subnet-{hex17}", cidr: true,
			attributes: map[string]string{
				"SubnetId": "{ref}", "VpcId": "{property VpcId}", "CidrBlock": "{property CidrBlock}",
				"AvailabilityZone": "{zone}", "NetworkAclAssociationId": "aclassoc-{hex17 acl}",
			},
			lists: map[string][]string{"Ipv6CidrBlocks": {}},
		},
		"AWS::EC2::SecurityGroup": {
			note: "no packet is filtered on loopback", ref: "sg-{hex17}",
			attributes: map[string]string{"GroupId": "{ref}", "Id": "{ref}", "VpcId": "{property VpcId}"},
		},
		"AWS::EC2::SecurityGroupIngress": {note: "no packet is filtered on loopback", ref: "sgr-{hex17}", attributes: map[string]string{"Id": "{ref}"}},
		"AWS::EC2::SecurityGroupEgress":  {note: "no packet is filtered on loopback", ref: "sgr-{hex17}", attributes: map[string]string{"Id": "{ref}"}},
		"AWS::EC2::InternetGateway": {
			note: "part of a modelled VPC", ref: "igw-{hex17}", attributes: map[string]string{"InternetGatewayId": "{ref}"},
		},
		"AWS::EC2::VPCGatewayAttachment": {
			note: "part of a modelled VPC", ref: "IGW|{property VpcId}", attributes: map[string]string{"AttachmentType": "IGW"},
		},
		"AWS::EC2::RouteTable": {note: "part of a modelled VPC", ref: "rtb-{hex17}", attributes: map[string]string{"RouteTableId": "{ref}"}},
		"AWS::EC2::Route": {
			note: "part of a modelled VPC", ref: "{property RouteTableId}|{property DestinationCidrBlock}",
			attributes: map[string]string{"CidrBlock": "{property DestinationCidrBlock}"},
		},
		"AWS::EC2::SubnetRouteTableAssociation": {note: "part of a modelled VPC", ref: "rtbassoc-{hex17}", attributes: map[string]string{"Id": "{ref}"}},
		"AWS::IAM::Role": {
			note: "nothing is denied on this machine", ref: "{name RoleName 64}",
			attributes: map[string]string{"Arn": "arn:aws:iam::{account}:role{path}{ref}", "RoleId": "AROA{id17}"},
		},
		"AWS::IAM::Policy": {note: "nothing is denied on this machine", ref: "{name - 128}", attributes: map[string]string{"Id": "{ref}"}},
		"AWS::IAM::ManagedPolicy": {
			note: "nothing is denied on this machine", ref: "arn:aws:iam::{account}:policy{path}{name ManagedPolicyName 128}",
			attributes: map[string]string{
				"PolicyArn": "{ref}", "PolicyId": "ANPA{id17}", "DefaultVersionId": "v1", "IsAttachable": "true",
				"AttachmentCount": "0", "PermissionsBoundaryUsageCount": "0",
			},
		},
		"AWS::IAM::InstanceProfile": {
			note: "nothing is denied on this machine", ref: "{name InstanceProfileName 128}",
			attributes: map[string]string{"Arn": "arn:aws:iam::{account}:instance-profile{path}{ref}"},
		},
		"AWS::IAM::User": {
			note: "nothing is denied on this machine", ref: "{name UserName 64}",
			attributes: map[string]string{"Arn": "arn:aws:iam::{account}:user{path}{ref}"},
		},
		"AWS::IAM::Group": {
			note: "nothing is denied on this machine", ref: "{name GroupName 128}",
			attributes: map[string]string{"Arn": "arn:aws:iam::{account}:group{path}{ref}"},
		},
		"AWS::KMS::Key": {
			note: "nothing is encrypted with it", ref: "{uuid}",
			attributes: map[string]string{"Arn": "arn:aws:kms:{region}:{account}:key/{ref}", "KeyId": "{ref}"},
		},
		"AWS::KMS::Alias":               {note: "the name of a modelled key", ref: "{property AliasName}"},
		"AWS::ElastiCache::SubnetGroup": {note: "part of a modelled VPC", ref: "{lower CacheSubnetGroupName 255}"},
		"AWS::RDS::DBSubnetGroup":       {note: "part of a modelled VPC", ref: "{lower DBSubnetGroupName 255}"},
		"AWS::RDS::DBParameterGroup": {
			note: "the server keeps its own settings", ref: "{lower DBParameterGroupName 255}",
			attributes: map[string]string{"DBParameterGroupName": "{ref}"},
		},
		"AWS::CloudFront::OriginAccessControl": {
			note: "the edge signs with the environment's keys", ref: "E{id13}", attributes: map[string]string{"Id": "{ref}"},
		},
		"AWS::Route53::HostedZone": {
			note: "its records are routed by host name at the edge", ref: "Z{id17}",
			attributes: map[string]string{"Id": "{ref}"},
			lists:      map[string][]string{"NameServers": {"ns-1.{property Name}", "ns-2.{property Name}"}},
		},
	}
}

func (m model) check(_ context.Context, r *resource) error {
	cidr := r.text("CidrBlock")
	if !m.cidr || cidr == "" || unknown(cidr) {
		return nil
	}
	if _, err := netip.ParsePrefix(cidr); err != nil {
		return r.invalid("CidrBlock", "%q is not a network such as 10.0.0.0/16", cidr)
	}
	return nil
}

func (m model) make(_ context.Context, r *resource) error {
	var err error
	if r.PhysicalID, err = m.expand(m.ref, r); err != nil {
		return err
	}
	r.Attributes = map[string]any{}
	for name, pattern := range m.attributes {
		if r.Attributes[name], err = m.expand(pattern, r); err != nil {
			return err
		}
	}
	for name, patterns := range m.lists {
		list := []any{}
		for _, pattern := range patterns {
			text, err := m.expand(pattern, r)
			if err != nil {
				return err
			}
			list = append(list, text)
		}
		r.Attributes[name] = list
	}
	return nil
}

func (m model) read(context.Context, *resource) error   { return nil }
func (m model) remove(context.Context, *resource) error { return nil }

// modelHandler is the stack.Handler of a modelled type. Nothing stands for such
// a resource but what is known of it, which is a record beside those of its
// stack: one sync of the store keeps many.
type modelHandler struct{ handler }

// modelKey is the key of a modelled resource's record.
func (p *Platform) modelKey(token string) string { return p.env + "/" + token }

// load gives the modelled resource of a token, fault.NotFound if there is none.
func (h *modelHandler) load(ctx context.Context, token string) (*resource, error) {
	res, err := h.p.models.Get(ctx, h.p.modelKey(token))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "no resource %s exists in environment %s", token, h.p.env)
	}
	return &res, err
}

func (h *modelHandler) Create(ctx context.Context, r stack.Request) (stack.Result, error) {
	// The folder says that there is something of the environment.
	if err := os.MkdirAll(h.p.dir, 0o700); err != nil {
		return stack.Result{}, fmt.Errorf("make the folder of environment %s: %w", h.p.env, err)
	}
	res, err := h.load(ctx, r.Token)
	if fault.Is(err, fault.NotFound) {
		res, err = requested(r), nil
	}
	if err != nil {
		return stack.Result{}, err
	}
	return h.put(ctx, res, r)
}

func (h *modelHandler) Read(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.load(ctx, r.Token)
	if err != nil {
		return stack.Result{}, err
	}
	return res.result(), nil
}

// Find implements stack.Importer.
func (h *modelHandler) Find(ctx context.Context, _ stack.Request, identifier map[string]string) (string, stack.Result, error) {
	every, err := h.p.models.List(ctx, h.p.modelKey(""))
	if err != nil {
		return "", stack.Result{}, fmt.Errorf("list modelled resources: %w", err)
	}
	var all []*resource
	for i := range every {
		if every[i].Type == h.typ {
			all = append(all, &every[i])
		}
	}
	res, err := h.among(all, identifier)
	if err != nil {
		return "", stack.Result{}, err
	}
	return res.Token, res.result(), nil
}

// result is what the engine is told of a modelled resource.
func (r *resource) result() stack.Result {
	return stack.Result{PhysicalID: r.PhysicalID, Attributes: r.Attributes, Properties: r.Properties}
}

func (h *modelHandler) Update(ctx context.Context, r stack.Request) (stack.Result, error) {
	res, err := h.load(ctx, r.Token)
	if err != nil {
		return stack.Result{}, err
	}
	return h.put(ctx, res, r)
}

// put keeps a resource with the properties and tags it shall have.
func (h *modelHandler) put(ctx context.Context, res *resource, r stack.Request) (stack.Result, error) {
	h.p.changing.RLock()
	defer h.p.changing.RUnlock()
	res.Properties, res.Tags, res.Complete = r.Properties, r.Tags, true
	if err := h.maker.make(ctx, res); err != nil {
		return stack.Result{}, err
	}
	if err := h.p.models.Put(ctx, h.p.modelKey(res.Token), *res); err != nil {
		return stack.Result{}, fmt.Errorf("keep %s: %w", res.name(), err)
	}
	return stack.Result{PhysicalID: res.PhysicalID, Attributes: res.Attributes}, nil
}

func (h *modelHandler) Delete(ctx context.Context, r stack.Request) error {
	h.p.changing.RLock()
	defer h.p.changing.RUnlock()
	key := h.p.modelKey(r.Token)
	var err error
	if h.typ == alarmType {
		err = h.p.changeAlarm(ctx, r.PhysicalID, h.p.models.DeleteOp(key), h.p.alarmStates().DeleteOp(key))
	} else {
		err = h.p.models.Delete(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", requested(r).name(), err)
	}
	return nil
}

// forgetModels removes the records of all modelled resources, and what was
// said of alarms.
func (p *Platform) forgetModels(ctx context.Context) error {
	all, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return fmt.Errorf("list modelled resources: %w", err)
	}
	var ops []record.Op
	for _, res := range all {
		ops = append(ops, p.models.DeleteOp(p.modelKey(res.Token)))
		if res.Type == alarmType {
			ops = append(ops, p.alarmStates().DeleteOp(p.modelKey(res.Token)))
		}
	}
	return p.o.Records.Write(ctx, ops...)
}

// expand replaces each {word …} of a pattern by what value says.
func (m model) expand(pattern string, r *resource) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(pattern, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		words, after, closed := strings.Cut(rest, "}")
		value, known := m.value(strings.Fields(words), r)
		if !closed || !known {
			return "", fault.New(fault.Internal, "the pattern %q of type %s has an unknown part", pattern, r.Type)
		}
		b.WriteString(value)
		pattern = after
	}
}

// value is what the words of one part of a pattern stand for. Generated
// values belong to the resource's token and never change.
func (m model) value(words []string, r *resource) (value string, known bool) {
	words = append(words, "", "")[:max(len(words), 2)]
	switch words[0] {
	case "ref":
		return r.PhysicalID, true
	case "hex17":
		return digits(r.Token, words[1], 17), true
	case "id17":
		return strings.ToUpper(digits(r.Token, "id", 17)), true
	case "id13":
		return strings.ToUpper(digits(r.Token, "id", 13)), true
	case "uuid":
		d := digits(r.Token, "uuid", 32)
		return d[:8] + "-" + d[8:12] + "-4" + d[13:16] + "-8" + d[17:20] + "-" + d[20:], true
	case "property":
		return r.text(words[1]), true
	case "name", "lower":
		limit, isNumber := number(words[len(words)-1])
		name := r.declaredOr(words[1], limit)
		if words[0] == "lower" {
			name = strings.ToLower(name)
		}
		return name, isNumber
	case "path":
		if path := r.text("Path"); path != "" {
			return path, true
		}
		return "/", true
	case "zone":
		if zone := r.text("AvailabilityZone"); zone != "" {
			return zone, true
		}
		return m.p.o.Region + "a", true
	case "region":
		return m.p.o.Region, true
	case "account":
		return m.p.o.Account, true
	}
	return "", false
}
