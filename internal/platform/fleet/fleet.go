// Package fleet keeps groups of instances: of each group as many run as it
// shall have, and what ends or fails its health check is replaced. It knows
// instances, their checks and what is recorded of a group; it must not know
// resources of stacks, nor how an instance is run.
package fleet

import (
	"context"
	"slices"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/pace"
	"makeitso/internal/release"
)

// Spec is what a group shall be.
type Spec struct {
	Name  string `json:"name"`  // unique in an environment, for ever
	Title string `json:"title"` // what people call it: a part of the names of logs
	Size  int    `json:"size"`  // how many instances it has in the end
	Most  int    `json:"most"`  // how many it may have meanwhile
	// From names what new instances are made from; one that was made from
	// something else is not current.
	From  string            `json:"from"`
	Image string            `json:"image"` // "" for one that cannot run here: then nothing does
	Env   map[string]string `json:"env,omitempty"`
	// Checks are those of the target groups that the instances are registered
	// with. A new instance must pass all before it gets requests.
	Checks   []edge.Check  `json:"checks,omitempty"`
	Interval time.Duration `json:"interval,omitempty"` // between two checks
	Failures int           `json:"failures,omitempty"` // so many in a row, and an instance is replaced; 0: only one that has ended is
	Grace    time.Duration `json:"grace,omitempty"`    // how long a new instance is not replaced for its checks
	Drain    time.Duration `json:"drain,omitempty"`    // how long its requests may take once an instance leaves
}

// Member is an instance of a group. It is recorded before it is started, and
// forgotten after it has been stopped.
type Member struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`
	Address string    `json:"address,omitempty"` // set when it was started
	Ready   bool      `json:"ready,omitempty"`   // it has passed its checks
	Since   time.Time `json:"since"`             // when it was begun
	Leaving bool      `json:"leaving,omitempty"`
}

// Group is a group and what there is of it.
type Group struct {
	Spec
	// Wanted is how many instances there are to be now: Size, except while they
	// are replaced step by step.
	Wanted    int      `json:"wanted"`
	Suspended []string `json:"suspended,omitempty"` // processes of the group that do not run
	Members   []Member `json:"members,omitempty"`
}

// Routed gives the instances that get requests, and those that finish theirs.
func (g Group) Routed() (all []edge.Instance) {
	for _, m := range g.Members {
		if m.Ready {
			all = append(all, edge.Instance{ID: m.ID, Address: m.Address, Draining: m.Leaving})
		}
	}
	return all
}

// Fleet gives the instances as a rolling update asks for them.
func (g Group) Fleet() pace.Fleet {
	f := pace.Fleet{Size: g.Size, Most: g.Most}
	for _, m := range g.Members {
		if !m.Leaving {
			f.Instances = append(f.Instances, pace.Instance{ID: m.ID, Current: m.From == g.From})
		}
	}
	return f
}

// runs says whether one of the group's own processes is not suspended.
func (g Group) runs(process string) bool { return !slices.Contains(g.Suspended, process) }

// staying counts the instances that are to stay.
func (g Group) staying() (n int) {
	for _, m := range g.Members {
		if !m.Leaving {
			n++
		}
	}
	return n
}

// shrink makes so many of those leave that Wanted are left: first those that
// are not current, then those that never became ready, then the oldest.
func (g *Group) shrink() {
	surplus := g.staying() - g.Wanted
	order := make([]*Member, 0, len(g.Members))
	for i := range g.Members {
		if !g.Members[i].Leaving {
			order = append(order, &g.Members[i])
		}
	}
	rank := func(m *Member) int {
		switch {
		case m.From != g.From:
			return 0
		case !m.Ready:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(order, func(a, b *Member) int { return rank(a) - rank(b) }) // the oldest are first already
	for _, m := range order[:max(0, min(surplus, len(order)))] {
		m.Leaving = true
	}
}

// leave makes those leave of which gone is true, and says whether it did.
func (g *Group) leave(gone func(Member) bool) (any bool) {
	for i := range g.Members {
		if m := &g.Members[i]; !m.Leaving && gone(*m) {
			m.Leaving, any = true, true
		}
	}
	return any
}

// update changes a member, if it is there.
func (g *Group) update(id string, change func(*Member)) {
	for i := range g.Members {
		if g.Members[i].ID == id {
			change(&g.Members[i])
		}
	}
}

// Instances run what an image holds; see release.Instances, of which this is a
// part.
type Instances interface {
	Start(ctx context.Context, spec release.InstanceSpec) (release.Instance, error)
	Find(ctx context.Context, id string) (release.Instance, error)
	Exited(id string) <-chan struct{}
	Stop(ctx context.Context, id string, grace time.Duration) error
}
