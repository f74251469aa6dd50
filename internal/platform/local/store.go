package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// storeConfig is the S3 server of an environment: one process for all of its
// buckets, with keys of its own.
type storeConfig struct {
	Root        string `json:"root"`     // a folder for each bucket
	Versions    string `json:"versions"` // older versions of objects
	Sidecar     string `json:"sidecar"`  // metadata, where files cannot hold it
	Port        int    `json:"port"`
	WebsitePort int    `json:"websitePort"`
	AccessKey   string `json:"accessKey"`
	SecretKey   string `json:"secretKey"`
	Region      string `json:"region"`
}

// The domains under which buckets are served: the S3 API and websites.
const (
	storeDomain   = "s3.localhost"
	websiteDomain = "s3-website.localhost"
	storeProcess  = "_s3"
	healthPath    = "/_health" // no bucket can have that name
)

func (p *Platform) storeFolder() string { return filepath.Join(p.dir, "s3") }

func (p *Platform) storeFile() string { return filepath.Join(p.storeFolder(), "s3.json") }

// storeConfig gives the S3 server's settings, fault.NotFound before the first
// bucket.
func (p *Platform) storeConfig() (storeConfig, error) {
	var c storeConfig
	err := statefile.Read(p.storeFile(), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fault.New(fault.NotFound, "environment %s has no bucket", p.env)
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
	return Keys{c.AccessKey, c.SecretKey, c.Region, "http://" + loopback(c.Port)}, err
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
func (p *Platform) knownStore() (storeConfig, error) {
	c, err := p.storeConfig()
	if fault.Is(err, fault.NotFound) {
		return p.newStore()
	}
	return c, err
}

// runStore starts the environment's S3 server unless it runs.
func (p *Platform) runStore(ctx context.Context) (storeConfig, error) {
	p.buckets.Lock()
	defer p.buckets.Unlock()
	c, err := p.knownStore()
	if err != nil {
		return c, err
	}
	log, err := p.logFile("s3")
	if err != nil {
		return c, err
	}
	command := p.command("s3", p.storeFile())
	spec := process.Spec{
		Name: storeProcess, Path: command[0], Args: command[1:], Log: log,
		Dir: p.storeFolder(), Env: []string{"PATH=" + os.Getenv("PATH")},
	}
	if err := p.serve(ctx, spec, c.Port, func(ctx context.Context) error { return storeAnswers(ctx, c) }); err != nil {
		return c, withLastWords(fault.Wrap(fault.Failed, err, "start the S3 server of environment %s on port %d", p.env, c.Port), log)
	}
	return c, nil
}

// newStore chooses ports and keys, and writes them down.
func (p *Platform) newStore() (storeConfig, error) {
	p.ports.Lock()
	defer p.ports.Unlock()
	dir := p.storeFolder()
	c := storeConfig{
		Root: filepath.Join(dir, "buckets"), Versions: filepath.Join(dir, "versions"), Sidecar: filepath.Join(dir, "metadata"),
		AccessKey: "MIS" + rand.Text()[:17], SecretKey: rand.Text() + rand.Text(), Region: p.o.Region,
	}
	for _, folder := range []string{c.Root, c.Versions, c.Sidecar} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return c, fmt.Errorf("make the folders of the S3 server: %w", err)
		}
	}
	taken, err := p.takenPorts()
	if err != nil {
		return c, err
	}
	if c.Port, err = freePort(taken); err != nil {
		return c, err
	}
	if c.WebsitePort, err = freePort(func(port int) bool { return port == c.Port || taken(port) }); err != nil {
		return c, err
	}
	return c, statefile.Write(p.storeFile(), c)
}

// storeAnswers asks the server for its health.
func storeAnswers(ctx context.Context, c storeConfig) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(c.Port)+healthPath, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "it answers %s", answer.Status)
	}
	return nil
}

// storeAlive is fault.Unavailable unless the S3 server runs.
func (p *Platform) storeAlive() error {
	running, err := p.keeper.Find(storeProcess)
	if err == nil && running.Alive() {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return fault.New(fault.Unavailable, "the S3 server of environment %s does not run", p.env).
		WithHint("start what is missing, with its data: makeitso up")
}

// stopStoreIfEmpty stops the S3 server when no bucket is left but the one of
// that token, which is being removed.
func (p *Platform) stopStoreIfEmpty(ctx context.Context, token string) error {
	p.buckets.Lock()
	defer p.buckets.Unlock()
	all, err := p.resources()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Type == "AWS::S3::Bucket" && r.Token != token {
			return nil
		}
	}
	return p.stopServer(ctx, storeProcess)
}

// ServeS3 is the hidden command "s3": the S3 server of one environment. args
// is the file with its settings. It returns when it is asked to end.
func ServeS3(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with a file of settings")
	}
	var c storeConfig
	if err := statefile.Read(args[0], &c); err != nil {
		return fmt.Errorf("read the settings of the S3 server: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	options := posix.PosixOpts{VersioningDir: c.Versions, CopyObjectThreshold: 5 << 30, Concurrency: 256}
	// Metadata lies in extended attributes of the files, or beside them where
	// the file system has none. The choice holds: the file system stays.
	var metadata meta.MetadataStorer = meta.XattrMeta{}
	if (meta.XattrMeta{}).Test(c.Root) != nil {
		sidecar, err := meta.NewSideCar(c.Sidecar)
		if err != nil {
			return fmt.Errorf("open the metadata of the S3 server: %w", err)
		}
		metadata, options.SideCarDir = sidecar, c.Sidecar
	}
	files, err := posix.New(c.Root, metadata, options)
	if err != nil {
		return fmt.Errorf("open the folder of buckets: %w", err)
	}
	err = embedgw.RunVersityGW(ctx, files, &embedgw.Config{
		RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Region: c.Region,
		Ports: []string{loopback(c.Port)}, VirtualDomain: storeDomain, HealthPath: healthPath,
		WebsitePorts: []string{loopback(c.WebsitePort)}, WebsiteDomain: websiteDomain,
		MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
		CORSAllowOrigin: "*", Version: "makeitso",
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve S3: %w", err)
	}
	return nil
}
