package edge

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"makeitso/internal/edge/outcome"
	"makeitso/internal/edge/upstream"
)

// Defaults of a configuration document.
const (
	defaultHealthInterval = 500 * time.Millisecond
	defaultRequestTimeout = 10 * time.Second
	defaultTTL            = time.Second
	defaultClientTimeout  = time.Minute
)

// keptArms is how many arms that left a service are still counted, the latest
// ones: a rollback brings one back, and its counts go on.
const keptArms = 16

// table is one configuration made ready to serve. It never changes once it is
// in force; what lives longer than a document (requests under way, health,
// counts) hangs on pointers that the next table takes over.
type table struct {
	config    Config
	services  map[string]*service // by name
	hosts     map[string][]route  // by host, the longest path first
	balancers map[string]*Balancer
	sealed    map[string]*Balancer // those of HTTPS, by host too
	sites     map[string]*site     // by host, as balancers are
	instances map[string]*instance
	leaving   []*instance // no longer in the document, with requests under way
	tallies   map[string]*tallies
}

// route is a service that answers for paths of a host.
type route struct {
	path    string // "" for all
	service *service
}

// service is a Service ready to serve.
type service struct {
	Service
	arms    []*arm  // those that may get requests
	weights float64 // of all of them together
	stream  *outcome.Stream
}

// arm is an Arm with the instances that may get new requests.
type arm struct {
	Arm
	share     *outcome.Share
	slow      time.Duration // in which a new instance comes to its full part
	mark      string        // what the cookie of a sticky service has for it
	instances []*instance
}

// site is a Site ready to serve.
type site struct {
	Site
	origin    *url.URL
	whole     *site      // itself, or where it is that of a behavior, the site that has it
	behaviors []behavior // of the whole
}

// behavior is a site as it is for some of its paths.
type behavior struct {
	pattern string
	site    *site
}

// instance is what the edge knows of one upstream, across documents.
type instance struct {
	Instance
	options  upstream.Options
	pool     *upstream.Pool
	inFlight atomic.Int64
	health   health
}

// tallies is what was seen of a service's arms, and the stream of its
// outcomes; gone are the names of the arms no longer in the document, the
// oldest first.
type tallies struct {
	stream *outcome.Stream
	byArm  map[string]*outcome.Tally
	gone   []string
}

// newTable builds the table of a valid document; it takes over what lives on
// from the table before.
func newTable(c Config, before *table) (*table, error) {
	t := &table{
		config: c, services: map[string]*service{}, hosts: map[string][]route{}, balancers: map[string]*Balancer{}, sealed: map[string]*Balancer{}, sites: map[string]*site{},
		instances: map[string]*instance{}, tallies: map[string]*tallies{},
	}
	for _, s := range c.Services {
		t.addService(s, before)
	}
	for _, s := range c.Sites {
		ready, err := newSite(s)
		if err != nil {
			return nil, err
		}
		for _, h := range s.Hosts {
			t.sites[canonicalHost(h)] = ready
		}
	}
	for i := range c.Balancers {
		b, of := &c.Balancers[i], t.balancers
		if b.TLS {
			of = t.sealed
		}
		for _, h := range b.Hosts {
			of[canonicalHost(h)] = b
		}
	}
	for _, in := range before.leaving {
		if in.inFlight.Load() > 0 {
			t.leaving = append(t.leaving, in)
		}
	}
	for id, in := range before.instances {
		if t.instances[id] != in {
			t.leaving = append(t.leaving, in)
		}
	}
	return t, nil
}

// newSite makes a site ready, with each of its behaviors.
func newSite(s Site) (*site, error) {
	with := func(b Behavior) (*site, error) {
		if b.TTL == 0 {
			b.TTL = defaultTTL
		}
		origin, err := url.Parse(b.Origin)
		ready := &site{Site: s, origin: origin}
		ready.Behavior = b
		return ready, err
	}
	ready, err := with(s.Behavior)
	ready.whole = ready
	for _, b := range s.Behaviors {
		if err != nil {
			return nil, err
		}
		var one *site
		one, err = with(b.Behavior)
		one.whole = ready
		ready.behaviors = append(ready.behaviors, behavior{"/" + strings.TrimPrefix(b.Path, "/"), one})
	}
	return ready, err
}

func (t *table) addService(s Service, before *table) {
	if s.HealthInterval == 0 {
		s.HealthInterval = defaultHealthInterval
	}
	if s.RequestTimeout == 0 {
		s.RequestTimeout = defaultRequestTimeout
	}
	if s.EjectAfter == 0 {
		s.EjectAfter = defaultEjectAfter
	}
	if s.Limits.ClientTimeout == 0 {
		s.Limits.ClientTimeout = defaultClientTimeout
	}
	all := before.tallies[s.Name].next(s.Arms)
	t.tallies[s.Name] = all
	all.stream.SetDeadline(s.RequestTimeout)
	ready := &service{Service: s, stream: all.stream}
	for _, a := range s.Arms {
		to := &arm{Arm: a, slow: s.SlowStart, mark: mark(s.Name, a.Name)}
		for _, in := range a.Instances {
			known := t.takeOver(in, upstream.Options{Protocol: a.Protocol, MaxConns: s.Limits.Requests}, before)
			if !in.Draining {
				to.instances = append(to.instances, known)
			}
		}
		if a.Weight > 0 && len(to.instances) > 0 {
			ready.arms = append(ready.arms, to)
			ready.weights += a.Weight
		}
	}
	for _, a := range ready.arms {
		a.share = &outcome.Share{Arm: a.Name, Weight: a.Weight / ready.weights, Tally: all.byArm[a.Name]}
	}
	t.services[s.Name] = ready
	for _, h := range s.Hosts {
		host := canonicalHost(h)
		for _, path := range s.paths() {
			t.hosts[host] = append(t.hosts[host], route{path, ready})
		}
		slices.SortStableFunc(t.hosts[host], func(a, b route) int { return cmp.Compare(len(b.path), len(a.path)) })
	}
}

// hostNames gives all names that are served, in order.
func (t *table) hostNames() []string {
	all := slices.Concat(slices.Collect(maps.Keys(t.hosts)), slices.Collect(maps.Keys(t.balancers)), slices.Collect(maps.Keys(t.sealed)), slices.Collect(maps.Keys(t.sites)))
	slices.Sort(all)
	return slices.Compact(all)
}

// paths gives what requests of the service begin with, "" for anything.
func (s Service) paths() []string {
	if len(s.Paths) == 0 {
		return []string{""}
	}
	var all []string
	for _, p := range s.Paths {
		all = append(all, strings.TrimRight(p, "/"))
	}
	return all
}

// takeOver gives an instance as the table before knows it, or a new one.
func (t *table) takeOver(in Instance, options upstream.Options, before *table) *instance {
	known := before.instances[in.ID]
	if known == nil || known.Address != in.Address || known.options != options {
		known = &instance{Instance: in, options: options, pool: upstream.NewPool(in.Address, options)}
		known.health.since.Store(time.Now().UnixNano())
	}
	t.instances[in.ID] = known
	return known
}

// next gives the tallies under a new list of arms.
func (c *tallies) next(arms []Arm) *tallies {
	n := &tallies{byArm: map[string]*outcome.Tally{}}
	if c == nil {
		n.stream = outcome.New()
		c = n
	}
	n.stream = c.stream
	for _, a := range arms {
		n.byArm[a.Name] = c.byArm[a.Name]
		if n.byArm[a.Name] == nil {
			n.byArm[a.Name] = &outcome.Tally{}
		}
	}
	gone := slices.Clone(c.gone)
	for name := range c.byArm {
		if !slices.Contains(gone, name) {
			gone = append(gone, name)
		}
	}
	gone = slices.DeleteFunc(gone, func(name string) bool { return n.byArm[name] != nil })
	n.gone = gone[max(0, len(gone)-keptArms):]
	for _, name := range n.gone {
		n.byArm[name] = c.byArm[name]
	}
	return n
}

// retire closes what a table has and the one after it has not.
func (t *table) retire(next *table) {
	for id, in := range t.instances {
		if next.instances[id] != in {
			in.pool.Close()
		}
	}
	for name, all := range t.tallies {
		if next.tallies[name] == nil {
			all.stream.Close()
		}
	}
}

// serviceFor gives the service for a path of a host, nil if there is none.
func (t *table) serviceFor(host, path string) *service {
	for _, r := range t.hosts[host] {
		if r.path == "" || path == r.path || strings.HasPrefix(path, r.path) && path[len(r.path)] == '/' {
			return r.service
		}
	}
	return nil
}

// balancerFor gives the balancer of a host, nil if there is none. Where a host
// has one for HTTP and one for HTTPS, each answers what was asked its way; an
// edge that speaks HTTPS nowhere by itself gives the other to those who ask plainly.
func (t *table) balancerFor(host string, secure bool) *Balancer {
	plain, sealed := t.balancers[host], t.sealed[host]
	if plain == nil || sealed != nil && (secure || t.config.TLS == nil || t.config.TLS.Listen == "") {
		return sealed
	}
	return plain
}

// choice is where one attempt of a request goes.
type choice struct {
	arm      *arm
	instance *instance
	// fair says that the arm was drawn by a coin with the configured weights.
	// Only such attempts are counted: the analysis of a canary stands on it.
	fair bool
}

// choose draws an arm by its weight and takes the less loaded of two random
// instances of it, none of those tried before; nil if there is none left.
func (s *service) choose(tried []*instance) *choice {
	if len(s.arms) == 1 && len(tried) == 0 { // there is nothing to draw
		return &choice{arm: s.arms[0], instance: s.arms[0].pick(tried), fair: true}
	}
	fair := len(tried) == 0 || !slices.ContainsFunc(s.arms, func(a *arm) bool { return a.spent(tried) })
	a := s.draw(func(*arm) bool { return true })
	if a != nil && a.spent(tried) {
		a = s.draw(func(a *arm) bool { return !a.spent(tried) })
	}
	if a == nil {
		return nil
	}
	return &choice{arm: a, instance: a.pick(tried), fair: fair}
}

// draw throws the coin among the arms that may.
func (s *service) draw(may func(*arm) bool) *arm {
	sum := 0.0
	for _, a := range s.arms {
		if may(a) {
			sum += a.Weight
		}
	}
	var drawn *arm
	at := rand.Float64() * sum
	for _, a := range s.arms {
		if !may(a) {
			continue
		}
		drawn = a
		if at -= a.Weight; at < 0 {
			break
		}
	}
	return drawn
}

// spent says that every instance of the arm was tried.
func (a *arm) spent(tried []*instance) bool {
	for _, in := range a.instances {
		if !slices.Contains(tried, in) {
			return false
		}
	}
	return true
}

// pick gives the less loaded of two random instances that were not tried: of
// those that are well, else of all. Of those that pass their checks, at least
// half get requests, whatever their answers were.
func (a *arm) pick(tried []*instance) *instance {
	if len(a.instances) == 1 && len(tried) == 0 {
		return a.instances[0]
	}
	now := time.Now()
	in, ejected := 0, 0
	for _, i := range a.instances {
		if i.health.out() {
			continue
		}
		if in++; i.health.ejected(now) {
			ejected++
		}
	}
	untried := func(i *instance) bool { return !slices.Contains(tried, i) }
	well := func(i *instance) bool {
		return !i.health.out() && untried(i) && (2*ejected > in || !i.health.ejected(now))
	}
	if a.slow > 0 {
		part := func(i *instance) bool { return well(i) && rand.Float64() < i.health.part(a.slow, now) }
		if i := twoChoices(a.instances, part); i != nil {
			return i
		}
	}
	if i := twoChoices(a.instances, well); i != nil {
		return i
	}
	return twoChoices(a.instances, untried)
}

// twoChoices samples two of those that may in one pass and gives the one with
// fewer requests under way; nil if none may.
func twoChoices(all []*instance, may func(*instance) bool) *instance {
	var two [2]*instance
	n := 0
	for _, in := range all {
		if !may(in) {
			continue
		}
		if n < 2 {
			two[n] = in
		} else if slot := rand.IntN(n + 1); slot < 2 {
			two[slot] = in
		}
		n++
	}
	if n < 2 {
		return two[0]
	}
	one, other := two[0].inFlight.Load(), two[1].inFlight.Load()
	if other < one || other == one && rand.IntN(2) == 0 {
		return two[1]
	}
	return two[0]
}
