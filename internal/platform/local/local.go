// Package local is the platform that stands on this machine: it has the table of
// its types, runs the instances of a release, holds the buckets of sites, and
// keeps the resources for which nothing runs. It knows the S3 server, the DNS
// server and what the edge is to serve; it must not know what is the same of every
// resource (package machine), databases (package database), pipelines, the HTTP
// API, or how a stack is planned.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"makeitso/internal/fault"
	"makeitso/internal/platform/database"
	"makeitso/internal/platform/fleet"
	"makeitso/internal/platform/machine"
	"makeitso/internal/stack"
	"makeitso/internal/statefile"
)

// Options are a Platform's settings.
type Options struct {
	machine.Options
	// Project is the project's name, the last part of generated host names.
	// Required.
	Project string
	// SitesChanged is called after Sites gives something else, and returns
	// when that is in force; nil for nobody.
	SitesChanged func(ctx context.Context) error
	// Edge serves the environment's load balancers; nil for nobody.
	Edge Edge
	// AlarmChanged is told each time the state of an alarm is another, and why;
	// nil for nobody.
	AlarmChanged func(ctx context.Context, alarm, state, reason string)
	// Events is the stream of records that trails write down. Needed for trails
	// only.
	Events string
	// Signal keeps a signal that was put to the address of a wait condition's
	// handle. Needed for handles only.
	Signal func(ctx context.Context, address string, s stack.Signal) error
	// Unpack puts an image's files into a folder that exists and is empty, and
	// gives its command line and environment. Needed for instances only.
	Unpack func(ctx context.Context, digest, into string) (entrypoint, env []string, err error)
	// Pull fetches an image of a registry for Unpack, and gives its digest.
	// Needed for images that were pushed to this environment's registry only.
	Pull func(ctx context.Context, reference, user, password string) (digest string, err error)
}

// Platform is one environment on this machine. It is safe for concurrent use.
type Platform struct {
	*machine.Machine
	o         Options
	databases *database.Databases

	buckets sync.Mutex    // held while the S3 server is started or stopped
	zones   sync.Mutex    // held while what the DNS server has is changed
	waiting sync.Mutex    // guards changes
	changes []*zoneChange // that wait for zones
	images  sync.Mutex    // held while the image registry is started or stopped
	hosts   sync.Mutex    // held while host names are claimed
	// balancing is held while the edge is told of load balancers, so that the
	// newest state is the one in force.
	balancing sync.Mutex
	fleets    *fleet.Runner
	signals   signalServer
}

// New makes the platform of an environment. Nothing runs and nothing is
// written before the first resource or instance.
func New(env string, o Options) (*Platform, error) {
	if o.Project == "" {
		return nil, fault.New(fault.Internal, "a local platform needs a project")
	}
	p := &Platform{o: o}
	m, err := machine.New(env, o.Options, machine.Hooks{
		Ports: p.otherPorts, Forget: p.forget, Concerns: isSite, Changed: p.sitesChanged,
	})
	if err != nil {
		return nil, err
	}
	p.Machine, p.o.Options = m, m.Options
	p.databases, p.fleets = database.New(m, p.object), p.newFleets()
	p.Add(p.allKinds())
	return p, nil
}

// Close lets go of the environment's processes, which live on, and takes no
// more signals.
func (p *Platform) Close() {
	p.refuseSignals()
	p.Machine.Close()
}

// Destroy stops every process of the environment and removes its folder and
// its logs: all data in it is lost, but for snapshots.
func (p *Platform) Destroy(ctx context.Context) error {
	defer p.Notify() // nothing is left to be watched
	if err := p.Machine.Destroy(ctx); err != nil {
		return err
	}
	p.databases.TellSnapshots()
	return nil
}

// forget takes no more signals, and removes what lies outside of the
// environment's folder.
func (p *Platform) forget(ctx context.Context) error {
	p.refuseSignals()
	return p.forgetModels(ctx)
}

// Keep brings back every server of the environment that ends by itself, with
// its data and at its address, and replaces the instances of groups that end,
// until ctx ends. Those of a release are not its matter: it replaces them.
func (p *Platform) Keep(ctx context.Context) {
	var groups sync.WaitGroup
	defer groups.Wait()
	groups.Go(func() { p.fleets.Keep(ctx) })
	p.Machine.Keep(ctx)
}

// sitesChanged puts other sites in force, and load balancers at the names that
// lead to them now.
func (p *Platform) sitesChanged(ctx context.Context) error {
	if err := p.Balance(ctx); err != nil {
		return err
	}
	if p.o.SitesChanged == nil {
		return nil
	}
	if err := p.o.SitesChanged(ctx); err != nil {
		return fmt.Errorf("put the sites in force: %w", err)
	}
	return nil
}

// otherPorts gives the ports that belong to no resource: those of instances,
// and of the servers that all of a kind share.
func (p *Platform) otherPorts() ([]int, error) {
	ports, err := p.instancePorts()
	if err != nil {
		return nil, err
	}
	store, err := p.storeConfig()
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	zones, err := p.zonesConfig()
	if err == nil {
		ports = append(ports, zones.Port)
	} else if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	var signals signalPort
	if err := statefile.Read(p.signalFile(), &signals); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	images, err := p.ImageRegistry()
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	return append(ports, store.Port, store.WebsitePort, signals.Port, images.Port), nil
}
