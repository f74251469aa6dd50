package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"makeitso/internal/dns"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// dnsProcess serves all hosted zones of an environment and looks after its
// health checks.
const dnsProcess = "_dns"

func (p *Platform) zonesFolder() string { return filepath.Join(p.Dir, "dns") }

// zonesFile is what the DNS server has: the truth of all zones and records.
func (p *Platform) zonesFile() string { return filepath.Join(p.zonesFolder(), "zones.json") }

// zonesConfig gives what the DNS server has, fault.NotFound before the first
// zone or health check.
func (p *Platform) zonesConfig() (*dns.Config, error) {
	var c dns.Config
	err := statefile.Read(p.zonesFile(), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "environment %s has no hosted zone", p.Env)
	}
	if err != nil {
		return nil, fmt.Errorf("read the zones of the DNS server: %w", err)
	}
	return &c, nil
}

// zoneChange is a change of what the DNS server has, which waits for its turn.
type zoneChange struct {
	do   func(*dns.Config) error
	done bool
	err  error
}

// changeZones changes what the DNS server has and returns when that is in
// force. What fails has changed nothing. All changes that wait at a time are
// written, and taken by the server, as one.
func (p *Platform) changeZones(ctx context.Context, change func(*dns.Config) error) error {
	mine := &zoneChange{do: change}
	p.waiting.Lock()
	p.changes = append(p.changes, mine)
	p.waiting.Unlock()

	p.zones.Lock()
	defer p.zones.Unlock()
	if mine.done {
		return mine.err
	}
	p.waiting.Lock()
	all := p.changes
	p.changes = nil
	p.waiting.Unlock()
	// Not with ctx: the changes of others are among them.
	err := p.putInForce(context.WithoutCancel(ctx), all)
	for _, c := range all {
		c.done = true
		if c.err == nil {
			c.err = err
		}
	}
	return mine.err
}

// putInForce makes changes. The server is started with the first of all and
// stopped when no zone and no health check is left.
func (p *Platform) putInForce(ctx context.Context, changes []*zoneChange) error {
	c, err := p.zonesConfig()
	if fault.Is(err, fault.NotFound) {
		c, err = p.newZones()
	}
	if err != nil {
		return err
	}
	for _, change := range changes {
		change.err = change.do(c)
	}
	if err := c.Verify(); err != nil {
		return fmt.Errorf("change the zones of the DNS server: %w", err)
	}
	if err := statefile.Write(p.zonesFile(), c); err != nil {
		return err
	}
	if len(c.Zones)+len(c.Checks) == 0 {
		return p.StopServer(ctx, dnsProcess)
	}
	return p.runDNS(ctx, c.Port)
}

// changeAnyZones is changeZones for what is no reason to start the server.
func (p *Platform) changeAnyZones(ctx context.Context, change func(*dns.Config) error) error {
	if _, err := p.zonesConfig(); fault.Is(err, fault.NotFound) {
		return nil
	}
	return p.changeZones(ctx, change)
}

// newZones chooses the server's port, which is kept for ever, and knows the
// names of the distributions that are there already.
func (p *Platform) newZones() (*dns.Config, error) {
	p.Ports.Lock()
	defer p.Ports.Unlock()
	if err := os.MkdirAll(p.zonesFolder(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the DNS server: %w", err)
	}
	taken, err := p.TakenPorts()
	if err != nil {
		return nil, err
	}
	c := &dns.Config{}
	if c.Port, err = machine.FreePort(func(port int) bool { return taken(port) || machine.PortIsFree("udp4", port) != nil }); err != nil {
		return nil, err
	}
	all, err := p.Resources()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if h, is := distributionHost(r); is {
			c.PutHost(h)
		}
	}
	// Written before the port is given back, so that it is taken.
	return c, statefile.Write(p.zonesFile(), c)
}

// runDNS lets the server take what its file says, and starts it if it does not
// run.
func (p *Platform) runDNS(ctx context.Context, port int) error {
	reload := func(ctx context.Context) error { return dns.Reload(ctx, port) }
	running, err := p.Keeper.Find(dnsProcess)
	if err == nil && running.Alive() {
		// It serves others too: whatever comes of this, it is not stopped.
		waiting, stop := context.WithTimeout(ctx, machine.StartTime)
		defer stop()
		err := machine.AwaitReady(waiting, running.Exited(), reload)
		if err == nil || running.Alive() {
			return err
		}
	}
	log, err := p.LogFile("dns")
	if err != nil {
		return err
	}
	command := p.Command("dns", p.zonesFile())
	spec := process.Spec{
		Name: dnsProcess, Path: command[0], Args: command[1:], Log: log,
		Dir: p.zonesFolder(), Env: []string{"PATH=" + os.Getenv("PATH")},
	}
	if err = machine.AwaitPort(ctx, "udp4", port); err == nil {
		err = p.Serve(ctx, spec, port, reload)
	}
	if err != nil {
		return machine.WithLastWords(fault.Wrap(fault.Failed, err, "start the DNS server of environment %s on port %d", p.Env, port), log)
	}
	return nil
}

// dnsAlive is fault.Unavailable unless the DNS server runs.
func (p *Platform) dnsAlive() error {
	return p.Running(dnsProcess, "the DNS server of environment "+p.Env)
}

// A ZoneAddress is where a hosted zone is answered.
type ZoneAddress struct {
	Zone    string // its name, without the full stop at the end
	Address string
}

// Zones lists where the environment's hosted zones are answered.
func (p *Platform) Zones() ([]ZoneAddress, error) {
	c, err := p.zonesConfig()
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []ZoneAddress
	for _, z := range c.Zones {
		all = append(all, ZoneAddress{Zone: hostName(z.Name), Address: dns.Address(c.Port)})
	}
	return all, nil
}
