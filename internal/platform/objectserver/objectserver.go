// Package objectserver is the S3 server that a local environment keeps its
// buckets in: what it is set up with, and the process itself. It knows S3 and
// files; it must not know environments, resources, or who starts it.
package objectserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// The domains under which buckets are served: the S3 API and websites.
const (
	Domain        = "s3.localhost"
	WebsiteDomain = "s3-website.localhost"
	healthPath    = "/_health" // no bucket can have that name
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

// at is the address of a port on this machine alone.
func at(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Answers asks the server for its health.
func (c Config) Answers(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at(c.Port)+healthPath, nil)
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
		Ports: []string{at(c.Port)}, VirtualDomain: Domain, HealthPath: healthPath,
		WebsitePorts: []string{at(c.WebsitePort)}, WebsiteDomain: WebsiteDomain,
		MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
		CORSAllowOrigin: "*", Version: "makeitso",
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve S3: %w", err)
	}
	return nil
}
