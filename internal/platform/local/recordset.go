package local

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"makeitso/internal/dns"
	"makeitso/internal/fault"
)

// recordSet makes AWS::Route53::RecordSet: a record of a hosted zone, and a
// host name at the edge if it leads to a distribution.
type recordSet struct{ p *Platform }

func (h recordSet) check(_ context.Context, r *resource) error {
	return checkRecord(r, "", r.Properties)
}

func (h recordSet) make(ctx context.Context, r *resource) error {
	if err := h.check(ctx, r); err != nil { // all values are known now
		return err
	}
	if err := h.p.putRecords(ctx, r, []map[string]any{r.Properties}); err != nil {
		return err
	}
	r.PhysicalID = hostName(r.text("Name"))
	r.Attributes = map[string]any{"Id": r.PhysicalID}
	return nil
}

func (h recordSet) read(context.Context, *resource) error { return h.p.dnsAlive() }

func (h recordSet) remove(ctx context.Context, r *resource) error { return h.p.dropRecords(ctx, r) }

func (h recordSet) tell(_ context.Context, r *resource) (map[string]any, error) {
	told, err := h.p.tellRecords(r, []map[string]any{r.Properties})
	if err != nil {
		return nil, err
	}
	if len(told) == 0 {
		return nil, fault.New(fault.NotFound, "the DNS server has no record %s %s", r.PhysicalID, r.text("Type"))
	}
	return told[0], nil
}

// recordSetGroup makes AWS::Route53::RecordSetGroup: several records that are
// put into a zone, changed and removed together.
type recordSetGroup struct{ p *Platform }

func (h recordSetGroup) check(_ context.Context, r *resource) error {
	if unknown(r.Properties["RecordSets"]) {
		return nil
	}
	records, err := groupRecords(r)
	if err != nil {
		return err
	}
	for i, record := range records {
		if err := checkRecord(r, fmt.Sprintf("RecordSets[%d].", i), record); err != nil {
			return err
		}
	}
	return nil
}

// groupRecords gives the records that a group declares.
func groupRecords(r *resource) ([]map[string]any, error) {
	list, isList := r.Properties["RecordSets"].([]any)
	if !isList || len(list) == 0 {
		return nil, r.invalid("RecordSets", "is no list of records")
	}
	var records []map[string]any
	for i, item := range list {
		record, isObject := item.(map[string]any)
		if !isObject {
			return nil, r.invalid(fmt.Sprintf("RecordSets[%d]", i), "is no record")
		}
		records = append(records, record)
	}
	return records, nil
}

func (h recordSetGroup) make(ctx context.Context, r *resource) error {
	if err := h.check(ctx, r); err != nil { // all values are known now
		return err
	}
	records, err := groupRecords(r)
	if err != nil {
		return err
	}
	if err := h.p.putRecords(ctx, r, records); err != nil {
		return err
	}
	r.PhysicalID = r.generatedName(255)
	r.Attributes = map[string]any{"Id": r.PhysicalID}
	return nil
}

func (h recordSetGroup) read(context.Context, *resource) error { return h.p.dnsAlive() }

func (h recordSetGroup) remove(ctx context.Context, r *resource) error {
	return h.p.dropRecords(ctx, r)
}

func (h recordSetGroup) tell(_ context.Context, r *resource) (map[string]any, error) {
	records, err := groupRecords(r)
	if err != nil {
		return nil, err
	}
	there, err := h.p.tellRecords(r, records)
	if err != nil {
		return nil, err
	}
	if len(there) == 0 {
		return nil, fault.New(fault.NotFound, "the DNS server has none of the records of %s", r.PhysicalID)
	}
	list := []any{}
	for _, record := range there {
		list = append(list, record)
	}
	told := maps.Clone(r.Properties)
	told["RecordSets"] = list
	return told, nil
}

// zoneProperties gives what says which zone a record belongs to: its own
// properties, or those of its group.
func zoneProperties(r *resource, record map[string]any) map[string]any {
	_, id := record["HostedZoneId"]
	_, name := record["HostedZoneName"]
	if id || name {
		return record
	}
	return r.Properties
}

// checkZone asks for one way to say which zone a record belongs to.
func checkZone(r *resource, at string, record map[string]any) error {
	properties := zoneProperties(r, record)
	_, id := properties["HostedZoneId"]
	text, name := properties["HostedZoneName"]
	if id == name {
		return r.invalid(at+"HostedZoneId", "or HostedZoneName must be given, and not both")
	}
	if name && !unknown(text) {
		if _, err := dns.Name(textIn(properties, "HostedZoneName")); err != nil {
			return r.invalid(at+"HostedZoneName", "is wrong: %s", err)
		}
	}
	return nil
}

// policies are the properties that say how one of several records with the
// same name and type is chosen.
var policies = map[string]dns.Policy{
	"Weight": dns.Weighted, "Failover": dns.Failover, "MultiValueAnswer": dns.Multivalue,
	"Region": dns.Nearest, "GeoLocation": dns.Nearest, "GeoProximityLocation": dns.Nearest, "CidrRoutingConfig": dns.Nearest,
}

// routing gives the properties of a record that say how it is chosen.
func routing(record map[string]any) (given []string) {
	for _, property := range slices.Sorted(maps.Keys(policies)) {
		if v, has := record[property]; has && !(property == "MultiValueAnswer" && fmt.Sprint(v) == "false") {
			given = append(given, property)
		}
	}
	return given
}

// checkRecord judges one record; at stands before the names of its properties.
func checkRecord(r *resource, at string, record map[string]any) error {
	if err := checkZone(r, at, record); err != nil {
		return err
	}
	name, typ := textIn(record, "Name"), textIn(record, "Type")
	if !unknown(name) {
		if _, err := dns.Name(name); err != nil {
			return r.invalid(at+"Name", "is wrong: %s", err)
		}
	}
	if unknown(typ) {
		return nil
	}
	if !slices.Contains(dns.Types(), typ) {
		return r.invalid(at+"Type", "%q is none of %s", typ, strings.Join(dns.Types(), " "))
	}
	if err := checkContent(r, at, record); err != nil {
		return err
	}
	return checkPolicy(r, at, record)
}

// checkContent judges what a record answers: an alias, or TTL and values.
func checkContent(r *resource, at string, record map[string]any) error {
	_, alias := record["AliasTarget"]
	ttl, hasTTL := record["TTL"]
	values, hasValues := record["ResourceRecords"]
	if alias == (hasTTL && hasValues) || alias && (hasTTL || hasValues) {
		found := "none"
		if alias {
			found = "more than one"
		}
		name, _ := dns.Name(textIn(record, "Name")) // judged already, or not known yet
		set := textIn(record, "SetIdentifier")
		if set == "" {
			set = "null"
		}
		return fault.New(fault.Invalid, "%s: Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found %s in Change with [Action=CREATE, Name=%s, Type=%s, SetIdentifier=%s]",
			r.name(), found, name, textIn(record, "Type"), set)
	}
	if alias {
		return checkAlias(r, at, record)
	}
	if seconds, isNumber := number(ttl); !unknown(ttl) && (!isNumber || seconds < 0 || seconds > 1<<31-1) {
		return r.invalid(at+"TTL", "%v is no number of seconds from 0 to 2147483647", ttl)
	}
	list, isList := values.([]any)
	if unknown(values) {
		return nil
	}
	if !isList || len(list) == 0 {
		return r.invalid(at+"ResourceRecords", "is no list of values")
	}
	if textIn(record, "Type") == "CNAME" && len(list) > 1 {
		return r.invalid(at+"ResourceRecords", "has %d values, and a CNAME record has one", len(list))
	}
	for i, v := range list {
		if unknown(v) {
			continue
		}
		value, isText := v.(string)
		if !isText {
			value = fmt.Sprint(v)
		}
		if err := dns.CheckValue(textIn(record, "Type"), value); err != nil {
			return r.invalid(fmt.Sprintf("%sResourceRecords[%d]", at, i), "is wrong: %s", err)
		}
	}
	return nil
}

// checkAlias judges what an alias leads to.
func checkAlias(r *resource, at string, record map[string]any) error {
	if unknown(record["AliasTarget"]) {
		return nil
	}
	for _, property := range []string{"DNSName", "HostedZoneId"} {
		if textIn(record["AliasTarget"], property) == "" {
			return r.invalid(at+"AliasTarget."+property, "is required and missing")
		}
	}
	if name := textIn(record["AliasTarget"], "DNSName"); !unknown(name) {
		if _, err := dns.Name(name); err != nil {
			return r.invalid(at+"AliasTarget.DNSName", "is wrong: %s", err)
		}
	}
	return nil
}

// checkPolicy judges how a record is chosen among others.
func checkPolicy(r *resource, at string, record map[string]any) error {
	given := routing(record)
	set, typ := textIn(record, "SetIdentifier"), textIn(record, "Type")
	switch {
	case len(given) > 1:
		return r.invalid(at+given[1], "and %s stand together; a record has one routing policy", given[0])
	case len(given) == 1 && set == "":
		return r.invalid(at+"SetIdentifier", "is required with %s, to tell the record from others of its name and type", given[0])
	case len(given) == 0 && set != "":
		return r.invalid(at+"SetIdentifier", "%q stands without a routing policy: one of %s", set, strings.Join(slices.Sorted(maps.Keys(policies)), ", "))
	}
	if slices.Contains(given, "MultiValueAnswer") && (record["AliasTarget"] != nil || typ == "CNAME" || typ == "NS") {
		return r.invalid(at+"MultiValueAnswer", "stands on an alias or on a record of type %s; it is for records with values of other types than CNAME and NS", typ)
	}
	const mostWeight = 255
	if v, has := record["Weight"]; has && !unknown(v) {
		if weight, isNumber := number(v); !isNumber || weight < 0 || weight > mostWeight {
			return r.invalid(at+"Weight", "%v is no number from 0 to %d", v, mostWeight)
		}
	}
	if v, has := record["Failover"]; has && !unknown(v) && v != "PRIMARY" && v != "SECONDARY" {
		return r.invalid(at+"Failover", "%v is neither PRIMARY nor SECONDARY", v)
	}
	return nil
}

// putRecords puts the records of r into their zone, all at once.
func (p *Platform) putRecords(ctx context.Context, r *resource, declared []map[string]any) error {
	nearest := ""
	err := p.changeZones(ctx, func(c *dns.Config) error {
		var records []dns.Record
		for _, properties := range declared {
			zone, err := zoneOf(c, r, zoneProperties(r, properties))
			if err != nil {
				return err
			}
			record, err := p.recordOf(c, properties)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name(), err)
			}
			if record.Check != "" && !slices.ContainsFunc(c.Checks, func(k dns.Check) bool { return k.ID == record.Check }) {
				return r.invalid("HealthCheckId", "%s is no health check of environment %s", record.Check, p.env)
			}
			record.Zone = zone.ID
			records = append(records, record)
			if record.Policy == dns.Nearest {
				nearest = record.Name
			}
		}
		return c.Put(r.Token, records)
	})
	if err == nil && nearest != "" {
		p.o.Announce(fmt.Sprintf("%s: all who ask for %s are on this machine: of its healthy records, that of region %s or of everywhere answers, else the first by SetIdentifier",
			r.name(), nearest, p.o.Region))
	}
	return err
}

// recordOf gives a record as the DNS server takes it. An alias to a zone of
// another kind than ours leads to a service, which stands on this machine.
func (p *Platform) recordOf(c *dns.Config, properties map[string]any) (dns.Record, error) {
	name, err := dns.Name(textIn(properties, "Name"))
	if err != nil {
		return dns.Record{}, err
	}
	record := dns.Record{
		Name: name, Type: textIn(properties, "Type"), Set: textIn(properties, "SetIdentifier"), Check: textIn(properties, "HealthCheckId"),
		Values: valuesIn(properties),
	}
	ttl, _ := number(properties["TTL"])
	record.TTL = uint32(ttl)
	if alias := properties["AliasTarget"]; alias != nil {
		record.Alias = &dns.Alias{Evaluate: isTrue(alias, "EvaluateTargetHealth")}
		if record.Alias.Name, err = dns.Name(textIn(alias, "DNSName")); err != nil {
			return record, err
		}
		id := zoneID(textIn(alias, "HostedZoneId"))
		if _, ours := c.Zone(id); ours {
			record.Alias.Zone = id
		}
	}
	for _, property := range routing(properties) {
		record.Policy = policies[property]
	}
	record.Weight, _ = number(properties["Weight"])
	record.First = properties["Failover"] == "PRIMARY" || properties["Region"] == p.o.Region ||
		textIn(properties["GeoLocation"], "CountryCode") == "*"
	return record, nil
}

// valuesIn gives the values that a record declares.
func valuesIn(properties map[string]any) (values []string) {
	list, _ := properties["ResourceRecords"].([]any)
	for _, v := range list {
		values = append(values, fmt.Sprint(v))
	}
	return values
}

// isTrue says whether a property of an object is true, which may be written as
// text.
func isTrue(object any, property string) bool {
	properties, _ := object.(map[string]any)
	return fmt.Sprint(properties[property]) == "true"
}

// dropRecords takes the records of r out of their zone.
func (p *Platform) dropRecords(ctx context.Context, r *resource) error {
	return p.changeAnyZones(ctx, func(c *dns.Config) error { c.Drop(r.Token); return nil })
}

// tellRecords gives those of the declared records that the DNS server has, with
// the TTL and the values they have there.
func (p *Platform) tellRecords(r *resource, declared []map[string]any) (told []map[string]any, err error) {
	c, err := p.zonesConfig()
	if err != nil {
		return nil, err
	}
	for _, properties := range declared {
		wanted, err := p.recordOf(c, properties)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(c.Records, func(has dns.Record) bool {
			return has.Owner == r.Token && has.Name == wanted.Name && has.Type == wanted.Type && has.Set == wanted.Set
		})
		if at < 0 {
			continue
		}
		has, is := c.Records[at], maps.Clone(properties)
		if has.TTL != wanted.TTL {
			is["TTL"] = fmt.Sprint(has.TTL)
		}
		if !slices.Equal(has.Values, wanted.Values) {
			values := []any{}
			for _, value := range has.Values {
				values = append(values, value)
			}
			is["ResourceRecords"] = values
		}
		told = append(told, is)
	}
	return told, nil
}

// link is a record that sends its name to another.
type link struct{ from, to string }

// links gives all of the environment's records that do.
func (p *Platform) links() ([]link, error) {
	c, err := p.zonesConfig()
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []link
	for _, record := range c.Records {
		switch {
		case record.Alias != nil:
			all = append(all, link{hostName(record.Name), hostName(record.Alias.Name)})
		case record.Type == "CNAME":
			all = append(all, link{hostName(record.Name), hostName(record.Values[0])})
		}
	}
	return all, nil
}
