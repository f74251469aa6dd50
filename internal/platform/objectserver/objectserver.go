// Package objectserver is the S3 server that a local environment keeps its
// buckets in: what it is set up with, the process itself, and what is in a
// bucket. It knows S3 and files; it must not know environments, resources, or
// who starts it.
package objectserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/website"

	"makeitso/internal/fault"
	"makeitso/internal/platform/datafolder"
	"makeitso/internal/statefile"
)

// The domains under which buckets are served: the S3 API and websites.
const (
	Domain        = "s3.localhost"
	WebsiteDomain = "s3-website.localhost"
	healthPath    = "/_health" // no bucket can have that name
)

// What the server takes at a time; a client beyond that is told to come again.
const (
	maxConnections = 4096
	maxRequests    = 1024
	maxParts       = 10000 // of one upload, as S3 has it
)

// Config is the S3 server of an environment: one process for all of its buckets,
// with keys of its own.
type Config struct {
	Root        string `json:"root"`     // a folder for each bucket
	Versions    string `json:"versions"` // older versions of objects
	Sidecar     string `json:"sidecar"`  // metadata, where files cannot hold it
	Port        int    `json:"port"`
	WebsitePort int    `json:"websitePort"`
	AccessKey   string `json:"accessKey"`
	SecretKey   string `json:"secretKey"`
	Region      string `json:"region"`
}

// Health is the page that the server answers once it serves.
func (c Config) Health() string { return "http://" + at(c.Port) + healthPath }

// at is the address of a port on this machine alone.
func at(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Serve is the hidden command "s3": the S3 server of one environment. args
// is the file with its settings. It returns when it is asked to end.
func Serve(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with a file of settings")
	}
	var c Config
	if err := statefile.Read(args[0], &c); err != nil {
		return fmt.Errorf("read the settings of the S3 server: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// This process alone has the folder: its own locks on objects suffice.
	options := posix.PosixOpts{VersioningDir: c.Versions, CopyObjectThreshold: 5 << 30, Concurrency: 256, ForceNoObjLockFile: true}
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
	// Put together here and not by the gateway's own main, which brings along
	// clients of message brokers, directories and vaults that nobody asks for.
	root := auth.Account{Access: c.AccessKey, Secret: c.SecretKey, Role: auth.RoleAdmin}
	users := auth.NewIAMServiceSingle(root)
	disk := &disk{write: func() error { return datafolder.Sync(c.Root) }}
	api, err := s3api.New(durable{files, disk}, middlewares.RootUserConfig{Access: c.AccessKey, Secret: c.SecretKey}, c.Region,
		users, nil, nil, nil, nil, append(bulkServer{files, disk, metadata, root, users, c.Region}.routes(),
			s3api.WithHostStyle(Domain), s3api.WithHealth(healthPath), s3api.WithKeepAlive(), s3api.WithQuiet(),
			s3api.WithConcurrencyLimiter(maxConnections, maxRequests), s3api.WithMpMaxParts(maxParts))...)
	if err != nil {
		return fmt.Errorf("serve S3: %w", err)
	}
	sites := website.NewServer(files, WebsiteDomain, website.WithQuiet())
	ended := make(chan error, 2)
	go func() { ended <- api.ServeMultiPort([]string{at(c.Port)}) }()
	go func() { ended <- sites.ServeMultiPort([]string{at(c.WebsitePort)}) }()
	select {
	case err = <-ended:
		err = fmt.Errorf("serve S3: %w", cmp.Or(err, net.ErrClosed))
	case <-ctx.Done():
		err = nil
	}
	err = errors.Join(err, api.ShutDown(), sites.Shutdown())
	files.Shutdown()
	return err
}
