package database

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alicebob/miniredis/v2"
	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
)

// ServeRedis is the hidden command "redis": a stand-in for Redis that keeps
// its data in memory. args is the address to listen on. It returns when it is
// asked to end.
func ServeRedis(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with an address")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(args[0]); err != nil {
		return fault.Wrap(fault.Unavailable, err, "listen on %s", args[0])
	}
	defer server.Close()
	<-ctx.Done()
	return nil
}

// embeddedPrograms is where the PostgreSQL that makeitso downloads is kept:
// one for all environments, since its programs hold no data.
func embeddedPrograms(state string) string { return filepath.Join(state, "cache", "postgresql") }

// fetchPostgres downloads PostgreSQL once and unpacks it; the library checks
// the digest. Only the programs are wanted of it: what runs them is the same
// as for a PostgreSQL of this machine. The library offers no call for that
// alone, so it is given a locale that no system has, for which initdb ends
// right after the programs are in place. repository is where to download
// from, "" for the library's own.
func fetchPostgres(ctx context.Context, state, repository string) error {
	programs := embeddedPrograms(state)
	if isThere(programs) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	cache := filepath.Dir(programs)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("make the folder of downloads: %w", err)
	}
	scratch, err := os.MkdirTemp(cache, "postgresql-")
	if err != nil {
		return fmt.Errorf("make a folder for the download: %w", err)
	}
	defer os.RemoveAll(scratch) // what stays is found and harmless
	port, err := machine.FreePort(func(int) bool { return false })
	if err != nil {
		return err
	}
	unpacked := filepath.Join(scratch, "programs")
	config := embeddedpostgres.DefaultConfig().Version(embeddedpostgres.V16).Port(uint32(port)).Logger(io.Discard).
		CachePath(filepath.Join(scratch, "download")).BinariesPath(unpacked).
		RuntimePath(filepath.Join(scratch, "run")).DataPath(filepath.Join(scratch, "data")).Locale("none-such")
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	server := embeddedpostgres.NewDatabase(config)
	startErr := server.Start()
	if startErr == nil {
		startErr = server.Stop()
	}
	if !isThere(unpacked) {
		return fault.Wrap(fault.Unavailable, startErr, "download PostgreSQL").
			WithHint("connect this machine to the network, or install PostgreSQL: %s", postgresInstall)
	}
	// In one step, so that half of it is never taken for the whole.
	if err := os.Rename(unpacked, programs); err != nil && !isThere(programs) {
		return fmt.Errorf("keep the downloaded PostgreSQL: %w", err)
	}
	return nil
}

// isThere says whether a folder holds PostgreSQL's programs.
func isThere(programs string) bool {
	_, err := os.Stat(filepath.Join(programs, "bin", "postgres"))
	return err == nil
}
