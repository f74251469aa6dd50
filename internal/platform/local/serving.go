package local

import (
	"cmp"
	"context"
	"slices"

	"makeitso/internal/changeset"
	"makeitso/internal/platform/machine"
)

// Serving is a real resource and what stands for it.
type Serving struct {
	Resource string `json:"resource"` // stack/LogicalId, as it was made
	Token    string `json:"token"`
	Group    string `json:"group,omitempty"` // the token of the resource that it is a node of
	Name     string `json:"name"`            // its physical id
	Type     string `json:"type"`
	By       string `json:"by"`
	Address  string `json:"address,omitempty"` // where its server listens, "" if it has none of its own
}

// Serving lists the environment's real resources and says of each what stands
// for it, so that nobody takes a stand-in for the real thing.
func (p *Platform) Serving(ctx context.Context) ([]Serving, error) {
	all, err := p.Resources()
	if err != nil {
		return nil, err
	}
	var list []Serving
	for _, r := range all {
		k := p.Kind(r.Type)
		if k.Support.Level != changeset.Real || !r.Complete {
			continue
		}
		s := Serving{Resource: r.Name(), Token: r.Token, Group: r.Group, Name: r.PhysicalID, Type: r.Type, By: k.Support.Note}
		switch r.By {
		case machine.ByDocker:
			s.By = "a container of the Docker Engine"
		case machine.ByEmbedded:
			s.By = "a stand-in that makeitso brings along"
		}
		if r.Port != 0 {
			s.Address = machine.Loopback(r.Port)
		}
		switch {
		case r.Type == "AWS::Route53::HealthCheck":
			s.By += ": " + p.healthOf(ctx, r)
		case r.Type == "AWS::Route53::HostedZone" && p.dnsAlive() != nil:
			s.By += ", which does not run now"
		}
		if (r.By == machine.ByProgram || r.By == machine.ByEmbedded) && p.Alive(r) != nil {
			s.By += ", which does not run now"
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Serving) int { return cmp.Compare(a.Resource, b.Resource) })
	return list, nil
}
