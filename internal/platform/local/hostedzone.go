package local

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/dns"
	"makeitso/internal/fault"
)

// hostedZone makes AWS::Route53::HostedZone: a zone of this environment's DNS
// server.
type hostedZone struct{ p *Platform }

// nameServers is how many names the server has, as in Route 53, so that a
// template may select any of them. All are this machine; the port stands in no
// name, and is told by status.
const nameServers = 4

func (h hostedZone) check(_ context.Context, r *resource) error {
	if unknown(r.Properties["Name"]) {
		return nil
	}
	if _, err := dns.Name(r.text("Name")); err != nil {
		return r.invalid("Name", "is wrong: %s", err)
	}
	return nil
}

func (h hostedZone) make(ctx context.Context, r *resource) error {
	name, err := dns.Name(r.text("Name"))
	if err != nil {
		return r.invalid("Name", "is wrong: %s", err)
	}
	r.PhysicalID = cmp.Or(r.PhysicalID, "Z"+strings.ToUpper(digits(r.Token, "id", 17)))
	vpcs, _ := r.Properties["VPCs"].([]any)
	zone := dns.Zone{Owner: r.Token, ID: r.PhysicalID, Name: name, Private: len(vpcs) > 0}
	for i := range nameServers {
		zone.Servers = append(zone.Servers, fmt.Sprintf("ns-%d.%s.%s.localhost.", i+1, h.p.env, h.p.o.Project))
	}
	before := r.Port
	err = h.p.changeZones(ctx, func(c *dns.Config) error {
		r.Port = c.Port
		c.PutZone(zone)
		return nil
	})
	if err != nil {
		return err
	}
	servers := []any{}
	for _, server := range zone.Servers {
		servers = append(servers, hostName(server))
	}
	r.Attributes = map[string]any{"Id": r.PhysicalID, "NameServers": servers}
	if before == 0 {
		h.p.o.Announce(fmt.Sprintf("%s: the zone %s is answered at %s: dig @127.0.0.1 -p %d %s", r.name(), name, dns.Address(r.Port), r.Port, hostName(name)))
	}
	return nil
}

func (h hostedZone) read(_ context.Context, r *resource) error { return h.p.dnsAlive() }

func (h hostedZone) remove(ctx context.Context, r *resource) error {
	return h.p.changeAnyZones(ctx, func(c *dns.Config) error { return c.DropZone(r.Token) })
}

// tell says whether the DNS server has the zone.
func (h hostedZone) tell(_ context.Context, r *resource) (map[string]any, error) {
	c, err := h.p.zonesConfig()
	if err != nil {
		return nil, err
	}
	if _, has := c.Zone(r.PhysicalID); !has {
		return nil, fault.New(fault.NotFound, "the DNS server has no zone %s", r.PhysicalID)
	}
	return r.Properties, nil
}

// zoneOf finds the zone that properties of r name, by id or by name.
func zoneOf(c *dns.Config, r *resource, properties map[string]any) (dns.Zone, error) {
	if id := zoneID(textIn(properties, "HostedZoneId")); id != "" {
		zone, known := c.Zone(id)
		if !known {
			return zone, fault.New(fault.Invalid, "No hosted zone found with ID: %s", id).
				WithHint("use !Ref of a hosted zone of this environment")
		}
		return zone, nil
	}
	name, err := dns.Name(textIn(properties, "HostedZoneName"))
	if err != nil {
		return dns.Zone{}, r.invalid("HostedZoneName", "is wrong: %s", err)
	}
	named := slices.DeleteFunc(slices.Clone(c.Zones), func(z dns.Zone) bool { return z.Name != name })
	switch len(named) {
	case 0:
		return dns.Zone{}, r.invalid("HostedZoneName", "%s is no hosted zone of this environment; let the record depend on its zone: DependsOn", name)
	case 1:
		return named[0], nil
	}
	return dns.Zone{}, r.invalid("HostedZoneName", "%s is the name of %d hosted zones; say which with HostedZoneId", name, len(named))
}

// zoneID gives a zone's id, which may be written as the API writes it.
func zoneID(text string) string { return strings.TrimPrefix(text, "/hostedzone/") }
