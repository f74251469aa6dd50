package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/process"
)

// postgres makes AWS::RDS::DBInstance with engine postgres.
type postgres struct{ p *Platform }

const (
	postgresInstall = "apt-get install postgresql | dnf install postgresql-server | brew install postgresql@16"
	postgresImage   = "postgres:16-alpine"
	postgresPort    = 5432 // inside a container
)

// postgresFolders are where distributions keep the programs outside PATH:
// Debian, Fedora and Homebrew.
func postgresFolders() []string {
	return []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	}
}

var (
	validMaster   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
	validDatabase = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

func (h postgres) check(ctx context.Context, r *resource) error {
	if engine := r.text("Engine"); !unknown(engine) && engine != "postgres" {
		return r.invalid("Engine", "%q is not served on this machine; allowed is postgres", engine)
	}
	if master := r.text("MasterUsername"); !unknown(master) && (!validMaster.MatchString(master) || strings.HasPrefix(master, "pg_")) {
		return r.invalid("MasterUsername", "%q is not a letter and up to 62 letters, digits and '_'", master)
	}
	if database := r.text("DBName"); database != "" && !unknown(database) && !validDatabase.MatchString(database) {
		return r.invalid("DBName", "%q is not a letter and up to 62 letters, digits and '_'", database)
	}
	if password := r.text("MasterUserPassword"); !unknown(password) && len(password) < 8 {
		return r.invalid("MasterUserPassword", "is missing or has less than 8 letters; a managed one (ManageMasterUserPassword) is not made on this machine")
	}
	if _, found := h.programs(); found || h.p.o.Embedded || h.p.dockerAnswers(ctx) {
		return nil
	}
	return missing(r, "PostgreSQL", postgresInstall)
}

// programs finds the folder that has both initdb and postgres.
func (h postgres) programs() (folder string, found bool) {
	path, found := h.p.findProgram("initdb", postgresFolders()...)
	if !found {
		return "", false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link on PATH may stand alone
	}
	folder = filepath.Dir(path)
	_, err := os.Stat(filepath.Join(folder, "postgres"))
	return folder, err == nil
}

func (h postgres) named(r *resource) string {
	return strings.ToLower(r.text("DBInstanceIdentifier"))
}

func (h postgres) make(ctx context.Context, r *resource) error {
	if err := h.p.claimPort(r); err != nil {
		return err
	}
	if err := h.choose(ctx, r); err != nil {
		return err
	}
	log, err := h.p.logFile(r.Token)
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return h.settle(ctx, r) }
	if r.By == byDocker {
		err = h.p.serveContainer(ctx, h.container(r), log, ready)
	} else {
		err = h.serve(ctx, r, log, ready)
	}
	if err != nil {
		return failedToStart(r, log, err)
	}
	// settle has given the server this password.
	r.Password = r.text("MasterUserPassword")
	r.PhysicalID = strings.ToLower(r.declaredOr("DBInstanceIdentifier", 63))
	r.Attributes = map[string]any{
		"Endpoint.Address":      "127.0.0.1",
		"Endpoint.Port":         strconv.Itoa(r.Port),
		"Endpoint.HostedZoneId": "Z" + strings.ToUpper(digits(r.Token, "zone", 13)),
		"DBInstanceArn":         fmt.Sprintf("arn:aws:rds:%s:%s:db:%s", h.p.o.Region, h.p.o.Account, r.PhysicalID),
		"DbiResourceId":         "db-" + strings.ToUpper(digits(r.Token, "dbi", 26)),
	}
	return nil
}

// choose decides once what serves the database.
func (h postgres) choose(ctx context.Context, r *resource) error {
	if r.By != "" {
		return nil
	}
	_, found := h.programs()
	switch {
	case found:
		r.By = byProgram
	case h.p.dockerHas(ctx, postgresImage):
		r.By = byDocker
		h.p.o.Announce(fmt.Sprintf("%s: served by Docker, image %s", r.name(), postgresImage))
	case h.p.o.Embedded:
		r.By = byEmbedded
		h.p.o.Announce(fmt.Sprintf("%s: served by a PostgreSQL that makeitso downloads", r.name()))
	default:
		return missing(r, "PostgreSQL", postgresInstall)
	}
	return h.p.save(r)
}

// initdbArgs make text sort alike whatever serves the database.
func initdbArgs() []string { return []string{"--encoding", "UTF8", "--locale", "C"} }

func (h postgres) container(r *resource) container {
	return container{
		resource: r, image: postgresImage, port: postgresPort, data: "/var/lib/postgresql/data",
		env: []string{
			"POSTGRES_USER=" + r.text("MasterUsername"), "POSTGRES_PASSWORD=" + cmp.Or(r.Password, r.text("MasterUserPassword")),
			"POSTGRES_DB=postgres", // which is there: no other is wanted
			"POSTGRES_INITDB_ARGS=" + strings.Join(initdbArgs(), " "),
		},
	}
}

// cluster is where one PostgreSQL's programs and data are, as seen by it.
type cluster struct {
	home     string // the folder that init and data lie in, on this machine
	seen     string // the same, as the programs see it
	programs string // as they see it
	base     process.Spec
}

// The places at which programs see folders that their user could not reach
// otherwise. Every system has these two, and they are empty.
const (
	homePlace     = "/mnt"
	programsPlace = "/media"
)

// cluster prepares the folder of r and says how programs are to run there.
// PostgreSQL refuses to run as root; for root it runs as another user, who
// cannot traverse the folders above, and is shown its own at homePlace.
func (h postgres) cluster(r *resource) (cluster, error) {
	home := filepath.Join(h.p.folder(r), "postgres")
	programs, found := h.programs()
	if r.By == byEmbedded {
		programs, found = filepath.Join(embeddedPrograms(h.p.o.State), "bin"), true
	}
	if !found {
		return cluster{}, missing(r, "PostgreSQL", postgresInstall)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return cluster{}, fmt.Errorf("make the data folder of %s: %w", r.name(), err)
	}
	c := cluster{home: home, seen: home, programs: programs}
	c.base.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if os.Geteuid() != 0 {
		return c, nil
	}
	as, err := unprivileged()
	if err != nil {
		return cluster{}, err
	}
	if err := os.Chown(home, as.UID, as.GID); err != nil {
		return cluster{}, fmt.Errorf("give the data folder of %s to its user: %w", r.name(), err)
	}
	c.base.As = &as
	if runtime.GOOS != "linux" {
		return c, nil
	}
	c.seen = homePlace
	c.base.Binds = []process.Bind{{Source: home, Target: homePlace}}
	if r.By == byEmbedded {
		c.programs = filepath.Join(programsPlace, "bin")
		c.base.Binds = append(c.base.Binds, process.Bind{Source: embeddedPrograms(h.p.o.State), Target: programsPlace})
	}
	return c, nil
}

// unprivileged gives the user that PostgreSQL runs as where makeitso is root.
func unprivileged() (process.User, error) {
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil {
			return process.User{UID: uid, GID: gid}, nil
		}
	}
	return process.User{}, fault.New(fault.Unavailable, "PostgreSQL does not run as root, and there is no user postgres or nobody").
		WithHint("make one: useradd --system postgres, or run makeitso as an ordinary user")
}

// serve initialises the data folder if that was not done, and runs postgres.
func (h postgres) serve(ctx context.Context, r *resource, log string, ready func(context.Context) error) error {
	if r.By == byEmbedded {
		if err := fetchPostgres(ctx, h.p.o.State, ""); err != nil {
			return err
		}
	}
	c, err := h.cluster(r)
	if err != nil {
		return err
	}
	if err := h.initialise(ctx, r, c, log); err != nil {
		return err
	}
	spec := c.base
	spec.Name, spec.Log, spec.StopSignal = r.Token, log, syscall.SIGINT // ends without waiting for clients
	spec.Path, spec.Dir = filepath.Join(c.programs, "postgres"), c.seen
	spec.Args = []string{"-D", filepath.Join(c.seen, "data"), "-p", strconv.Itoa(r.Port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}
	// After a kill, what postgres left may hold its memory for a moment; it
	// leaves no event to wait for, and postgres refuses to start meanwhile.
	for end := time.Now().Add(stopTime); ; {
		err := h.p.serve(ctx, spec, r.Port, ready)
		if err == nil || time.Now().After(end) || !strings.Contains(tail(log), "pre-existing shared memory block") {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(readyInterval):
		}
	}
}

// initialise makes the data folder. initdb works in a folder that gets its
// name only when it is whole.
func (h postgres) initialise(ctx context.Context, r *resource, c cluster, log string) error {
	data, half := filepath.Join(c.home, "data"), filepath.Join(c.home, "init")
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What an earlier attempt left may still be at work.
	if err := h.p.stopServer(ctx, r.Token+".initdb"); err != nil {
		return err
	}
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("clear the data folder of %s: %w", r.name(), err)
	}
	password := filepath.Join(c.home, "password")
	if err := os.WriteFile(password, []byte(r.text("MasterUserPassword")), 0o600); err != nil {
		return fmt.Errorf("hand over the password of %s: %w", r.name(), err)
	}
	defer os.Remove(password) // removed with the folder at the latest
	if c.base.As != nil {
		if err := os.Chown(password, c.base.As.UID, c.base.As.GID); err != nil {
			return fmt.Errorf("hand over the password of %s: %w", r.name(), err)
		}
	}
	spec := c.base
	spec.Name, spec.Log, spec.Dir = r.Token+".initdb", log, c.seen
	spec.Path = filepath.Join(c.programs, "initdb")
	spec.Args = []string{"-D", filepath.Join(c.seen, "init"), "-U", r.text("MasterUsername"),
		"--pwfile", filepath.Join(c.seen, "password"), "--auth", "scram-sha-256"}
	spec.Args = append(spec.Args, initdbArgs()...)
	if err := h.p.runOnce(ctx, spec); err != nil {
		return err
	}
	if err := os.Rename(half, data); err != nil {
		return fmt.Errorf("name the data folder of %s: %w", r.name(), err)
	}
	r.Password = r.text("MasterUserPassword")
	return h.p.save(r)
}

// runOnce runs a program to its end.
func (p *Platform) runOnce(ctx context.Context, spec process.Spec) error {
	running, err := p.keeper.Start(ctx, spec)
	if err != nil {
		return err
	}
	var failure error
	select {
	case <-running.Exited():
		if ending := running.Ending(); ending != "exit status 0" {
			failure = fault.New(fault.Failed, "%s ended with %s", filepath.Base(spec.Path), ending)
		}
	case <-ctx.Done():
		failure = context.Cause(ctx)
	}
	if err := running.Stop(context.WithoutCancel(ctx), stopTime); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

func (h postgres) read(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return h.p.containerAlive(ctx, r, func(ctx context.Context) error { return probe(ctx, r) })
	}
	return h.p.alive(r)
}

func (h postgres) remove(ctx context.Context, r *resource) error {
	if r.By == byDocker {
		return h.p.removeContainer(ctx, r)
	}
	for _, name := range []string{r.Token, r.Token + ".initdb"} {
		if err := h.p.stopServer(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
