// Package dns answers DNS queries for hosted zones: records of all types,
// aliases, wildcards, and the routing policies with their health checks, in
// one process that listens on loopback. It knows the rules of Route 53 and the
// wire format; it must not know templates, stacks, or who declares a record.
package dns

import (
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Config is all that one server serves: the content of its file. Whatever is
// declared has an owner, by which it is changed and removed.
type Config struct {
	Port    int      `json:"port"` // on 127.0.0.1
	Hosts   []Host   `json:"hosts,omitempty"`
	Zones   []Zone   `json:"zones,omitempty"`
	Records []Record `json:"records,omitempty"`
	Checks  []Check  `json:"checks,omitempty"`
}

// Host is a name that leads to this machine, whatever the zones say.
type Host struct {
	Owner string `json:"owner"`
	Name  string `json:"name"`
}

// Zone is a hosted zone. Its SOA and NS records come with it.
type Zone struct {
	Owner   string   `json:"owner"`
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Servers []string `json:"servers"`
	// Private zones are looked in first, as a VPC would.
	Private bool `json:"private,omitempty"`
}

// Policy is how one of the records with the same name and type is chosen.
type Policy string

// The policies. Nearest stands for all that depend on where a query comes
// from: every query comes from this machine.
const (
	Simple     Policy = ""
	Weighted   Policy = "weighted"
	Failover   Policy = "failover"
	Multivalue Policy = "multivalue"
	Nearest    Policy = "nearest"
)

// Record is a resource record set.
type Record struct {
	Owner  string   `json:"owner"`
	Zone   string   `json:"zone"` // the zone's id
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	TTL    uint32   `json:"ttl,omitempty"`
	Values []string `json:"values,omitempty"`
	Alias  *Alias   `json:"alias,omitempty"` // instead of values

	Policy Policy `json:"policy,omitempty"`
	Set    string `json:"set,omitempty"` // tells it from others of its name and type
	Weight int    `json:"weight,omitempty"`
	// First is the primary one of failover, and the near one of nearest.
	First bool   `json:"first,omitempty"`
	Check string `json:"check,omitempty"` // the id of a health check
}

// Alias is what a record answers in place of values of its own.
type Alias struct {
	// Zone is the id of the zone that Name lies in; "" for a service, all of
	// which stand on this machine.
	Zone     string `json:"zone,omitempty"`
	Name     string `json:"name"`
	Evaluate bool   `json:"evaluate,omitempty"` // the health of what it leads to counts
}

// Check is a health check.
type Check struct {
	Owner     string        `json:"owner"`
	ID        string        `json:"id"`
	Type      string        `json:"type"`
	Address   string        `json:"address,omitempty"` // an IP address; "" looks Host up
	Host      string        `json:"host,omitempty"`
	Port      int           `json:"port,omitempty"`
	Path      string        `json:"path,omitempty"`
	Search    string        `json:"search,omitempty"`
	SNI       bool          `json:"sni,omitempty"`
	Interval  time.Duration `json:"interval,omitempty"`
	Threshold int           `json:"threshold,omitempty"` // looks in a row that change the state
	Inverted  bool          `json:"inverted,omitempty"`
	Disabled  bool          `json:"disabled,omitempty"`
	Children  []string      `json:"children,omitempty"`  // of a calculated check
	Need      int           `json:"need,omitempty"`      // how many of Children must be healthy
	Unhealthy bool          `json:"unhealthy,omitempty"` // the state of what is not evaluated here
}

// Zone gives the zone of an id.
func (c *Config) Zone(id string) (Zone, bool) {
	at := slices.IndexFunc(c.Zones, func(z Zone) bool { return z.ID == id })
	if at < 0 {
		return Zone{}, false
	}
	return c.Zones[at], true
}

// PutZone makes z the zone of its owner.
func (c *Config) PutZone(z Zone) {
	c.Zones = put(c.Zones, z, func(other Zone) bool { return other.Owner == z.Owner })
}

// DropZone removes the zone of an owner; one that has records stays.
func (c *Config) DropZone(owner string) error {
	at := slices.IndexFunc(c.Zones, func(z Zone) bool { return z.Owner == owner })
	if at < 0 {
		return nil
	}
	if slices.ContainsFunc(c.Records, func(r Record) bool { return r.Zone == c.Zones[at].ID }) {
		return fault.New(fault.Conflict, "The specified hosted zone contains non-required resource record sets and so cannot be deleted.").
			WithHint("delete the records of %s first: the stacks that declare them", c.Zones[at].Name)
	}
	c.Zones = slices.Delete(c.Zones, at, at+1)
	return nil
}

// PutHost makes h the host of its owner.
func (c *Config) PutHost(h Host) {
	c.Hosts = put(c.Hosts, h, func(other Host) bool { return other.Owner == h.Owner })
}

// PutCheck makes k the health check of its owner.
func (c *Config) PutCheck(k Check) {
	c.Checks = put(c.Checks, k, func(other Check) bool { return other.Owner == k.Owner })
}

// put replaces the item that is the same, or adds one.
func put[T any](all []T, item T, same func(T) bool) []T {
	if at := slices.IndexFunc(all, same); at >= 0 {
		all[at] = item
		return all
	}
	return append(all, item)
}

// Drop removes the records, hosts and health checks of an owner.
func (c *Config) Drop(owner string) {
	c.Records = slices.DeleteFunc(c.Records, func(r Record) bool { return r.Owner == owner })
	c.Hosts = slices.DeleteFunc(c.Hosts, func(h Host) bool { return h.Owner == owner })
	c.Checks = slices.DeleteFunc(c.Checks, func(k Check) bool { return k.Owner == owner })
}

// Put makes records those of an owner in place of what it had, all or none. It
// refuses what Route 53 refuses, in its words.
func (c *Config) Put(owner string, records []Record) error {
	all := slices.DeleteFunc(slices.Clone(c.Records), func(r Record) bool { return r.Owner == owner })
	for _, r := range records {
		r.Owner = owner
		zone, known := c.Zone(r.Zone)
		if !known {
			return fault.New(fault.Invalid, "No hosted zone found with ID: %s", r.Zone)
		}
		if err := admit(zone, all, r); err != nil {
			return err
		}
		all = append(all, r)
	}
	for _, r := range records {
		if err := c.leads(all, r); err != nil {
			return err
		}
	}
	c.Records = all
	return nil
}

// admit judges whether a record may stand in a zone beside all others.
func admit(zone Zone, all []Record, r Record) error {
	apex := r.Name == zone.Name
	switch {
	case !within(r.Name, zone.Name):
		return fault.New(fault.Invalid, "RRSet with DNS name %s is not permitted in zone %s", r.Name, zone.Name)
	case apex && r.Type == "CNAME":
		return fault.New(fault.Invalid, "RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", r.Name, zone.Name)
	case apex && (r.Type == "NS" || r.Type == "SOA"):
		return exists(r)
	}
	for _, other := range all {
		if other.Zone != r.Zone || other.Name != r.Name {
			continue
		}
		switch {
		case other.Type == r.Type && other.Set == r.Set:
			return exists(r)
		case other.Type == r.Type && other.Policy != r.Policy:
			return fault.New(fault.Invalid, "RRSet with DNS name %s, type %s cannot be created as other RRSets exist with the same name and type.", r.Name, r.Type)
		case other.Type != r.Type && r.Type == "CNAME":
			return fault.New(fault.Conflict, "RRSet of type CNAME with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", r.Name, zone.Name)
		case other.Type != r.Type && other.Type == "CNAME":
			return fault.New(fault.Conflict, "RRSet of type %s with DNS name %s is not permitted because a conflicting RRSet of type  CNAME with the same DNS name already exists in zone %s", r.Type, r.Name, zone.Name)
		}
	}
	return nil
}

// exists says that a record of this name, type and set identifier is there.
func exists(r Record) error {
	set := ""
	if r.Set != "" {
		set = ", set-identifier='" + r.Set + "'"
	}
	return fault.New(fault.Conflict, "Tried to create resource record set [name='%s', type='%s'%s] but it already exists", r.Name, r.Type, set)
}

// leads judges whether the record that an alias leads to is among all.
func (c *Config) leads(all []Record, r Record) error {
	if r.Alias == nil || r.Alias.Zone == "" {
		return nil
	}
	const tried = "Tried to create an alias that targets %s, type %s in zone %s, "
	zone, known := c.Zone(r.Alias.Zone)
	if !known || !within(r.Alias.Name, zone.Name) {
		return fault.New(fault.Invalid, tried+"but the alias target name does not lie within the target zone", r.Alias.Name, r.Type, r.Alias.Zone)
	}
	if r.Alias.Name == zone.Name && (r.Type == "NS" || r.Type == "SOA") {
		return nil
	}
	found := slices.ContainsFunc(all, func(other Record) bool {
		return other.Zone == zone.ID && other.Name == r.Alias.Name && other.Type == r.Type
	})
	if !found {
		return fault.New(fault.Invalid, tried+"but that target was not found", r.Alias.Name, r.Type, r.Alias.Zone).
			WithHint("let the alias depend on the record it leads to: DependsOn")
	}
	return nil
}

// within says whether a name is a zone's or lies below it.
func within(name, zone string) bool {
	return name == zone || zone == "." || strings.HasSuffix(name, "."+zone)
}
