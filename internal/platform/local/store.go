package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/objectserver"
	"makeitso/internal/statefile"
)

const storeProcess = "_s3" // the keeper's name for the S3 server

func (p *Platform) storeFolder() string { return filepath.Join(p.Dir, "s3") }

func (p *Platform) storeFile() string { return filepath.Join(p.storeFolder(), "s3.json") }

// storeConfig gives the S3 server's settings, fault.NotFound before the first
// bucket.
func (p *Platform) storeConfig() (objectserver.Config, error) {
	var c objectserver.Config
	err := statefile.Read(p.storeFile(), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fault.New(fault.NotFound, "environment %s has no bucket", p.Env)
	}
	if err != nil {
		return c, fmt.Errorf("read the settings of the S3 server: %w", err)
	}
	return c, nil
}

// Keys are what clients of AWS sign with who mean this environment.
type Keys struct {
	Access, Secret, Region string
	S3                     string // the URL of its S3 server, which runs while there is a bucket
}

// Keys gives the environment's keys, fault.NotFound if nobody has needed any
// yet.
func (p *Platform) Keys() (Keys, error) {
	c, err := p.storeConfig()
	return Keys{c.AccessKey, c.SecretKey, c.Region, "http://" + machine.Loopback(c.Port)}, err
}

// MakeKeys gives the environment's keys, and makes them if there are none.
func (p *Platform) MakeKeys() (Keys, error) {
	p.buckets.Lock()
	defer p.buckets.Unlock()
	if _, err := p.knownStore(); err != nil {
		return Keys{}, err
	}
	return p.Keys()
}

// knownStore gives the S3 server's settings, which are chosen when they are
// needed first. The lock on buckets must be held.
func (p *Platform) knownStore() (objectserver.Config, error) {
	c, err := p.storeConfig()
	if fault.Is(err, fault.NotFound) {
		return p.newStore()
	}
	return c, err
}

// runStore starts the environment's S3 server unless it runs.
func (p *Platform) runStore(ctx context.Context) (objectserver.Config, error) {
	p.buckets.Lock()
	defer p.buckets.Unlock()
	c, err := p.knownStore()
	if err != nil {
		return c, err
	}
	return c, p.ServeAll(ctx, "s3", "the S3 server", p.storeFile(), c.Port, func(ctx context.Context) error {
		return machine.Answers(ctx, c.Health(), "", "")
	})
}

// newStore chooses ports and keys, and writes them down.
func (p *Platform) newStore() (objectserver.Config, error) {
	p.Ports.Lock()
	defer p.Ports.Unlock()
	dir := p.storeFolder()
	c := objectserver.Config{
		Root: filepath.Join(dir, "buckets"), Versions: filepath.Join(dir, "versions"), Sidecar: filepath.Join(dir, "metadata"),
		AccessKey: "MIS" + rand.Text()[:17], SecretKey: rand.Text() + rand.Text(), Region: p.o.Region,
	}
	for _, folder := range []string{c.Root, c.Versions, c.Sidecar} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return c, fmt.Errorf("make the folders of the S3 server: %w", err)
		}
	}
	taken, err := p.TakenPorts()
	if err != nil {
		return c, err
	}
	if c.Port, err = machine.FreePort(taken); err != nil {
		return c, err
	}
	if c.WebsitePort, err = machine.FreePort(func(port int) bool { return port == c.Port || taken(port) }); err != nil {
		return c, err
	}
	return c, statefile.Write(p.storeFile(), c)
}

// storeAlive is fault.Unavailable unless the S3 server runs.
func (p *Platform) storeAlive() error {
	return p.Running(storeProcess, "the S3 server of environment "+p.Env)
}
