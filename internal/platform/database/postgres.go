package database

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/platform/datafolder"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/postgresql"
	"makeitso/internal/process"
)

// postgres makes AWS::RDS::DBInstance with engine postgres.
type postgres struct{ d *Databases }

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

const databaseType = "AWS::RDS::DBInstance"

func (h postgres) Check(ctx context.Context, r *machine.Resource) error {
	if engine := r.Text("Engine"); !model.Unknown(engine) && engine != "postgres" {
		return r.Invalid("Engine", "%q is not served on this machine; allowed is postgres", engine)
	}
	source, from := sourceOf(r)
	if master := r.Text("MasterUsername"); source == "" && !model.Unknown(master) && (!validMaster.MatchString(master) || slices.Contains(refusedMasters, strings.ToLower(master)) || strings.HasPrefix(master, "pg_")) {
		return r.Invalid("MasterUsername", "%q is not a letter and up to 62 letters, digits and '_', or a word that PostgreSQL keeps for itself", master)
	} else if source != "" && master != "" {
		return r.Invalid("MasterUsername", "comes with the snapshot that %s names; leave it out", from)
	}
	if database := r.Text("DBName"); database != "" && !model.Unknown(database) && (!validDatabase.MatchString(database) || strings.HasPrefix(database, "template")) {
		return r.Invalid("DBName", "%q is not a letter and up to 62 letters, digits and '_', or begins with template, which PostgreSQL keeps for itself", database)
	}
	password, managed := r.Text("MasterUserPassword"), r.Text("ManageMasterUserPassword") == "true"
	switch {
	case managed && password != "":
		return r.Invalid("MasterUserPassword", "is given, and ManageMasterUserPassword says that it is made; leave one of them out")
	case password != "" && !model.Unknown(password) && len(password) < 8:
		return r.Invalid("MasterUserPassword", "has less than 8 letters")
	}
	if err := h.d.checkSeed(ctx, r); err != nil {
		return err
	}
	return h.checkVersions(ctx, r)
}

// refusedMasters are names that PostgreSQL gives to no user.
var refusedMasters = []string{"public", "none", "current_user", "current_role", "session_user", "user"}

// checkVersions judges by what is installed whether a database can be made, or
// served with the data that it has.
func (h postgres) checkVersions(ctx context.Context, r *machine.Resource) error {
	has := ""
	if is := h.d.Existing(r); is != nil {
		has = postgresql.DataVersion(h.data(is))
	} else if s, _, err := h.d.seed(r); err != nil {
		return err
	} else {
		has = s.Version
	}
	if declared := declaredVersionOf(r); has != "" && declared != "" && major(declared) != has {
		return r.Invalid("EngineVersion", "is %s, and the data is of PostgreSQL %s, which is not upgraded in place on this machine", declared, has).
			WithHint("make another instance of the new version, and take the data over with pg_dump and psql")
	}
	folder, found := h.programs(r, has)
	switch {
	case found:
		return checkVersion(ctx, r, filepath.Join(folder, "postgres"), postgresInstall)
	case h.d.DockerAnswers(ctx):
		return checkImage(r, postgresImage)
	case h.d.Options.Embedded:
		return nil
	}
	return machine.Missing(r, "PostgreSQL", postgresInstall)
}

// programs finds the folder that has both initdb and postgres: of the major
// version that the data has, or else that is declared, if there are several.
func (h postgres) programs(r *machine.Resource, has string) (folder string, found bool) {
	wanted := cmp.Or(has, major(declaredVersionOf(r)))
	for _, path := range h.d.FindPrograms("initdb", postgresFolders()...) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real // a link on PATH may stand alone
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "postgres")); err != nil {
			continue
		}
		if !found {
			folder, found = filepath.Dir(path), true
		}
		if wanted == "" {
			break
		}
		is, err := versionOf(context.Background(), filepath.Join(filepath.Dir(path), "postgres"))
		if err == nil && major(is) == wanted {
			return filepath.Dir(path), true
		}
	}
	return folder, found
}

// data is where the server of r keeps its data, on this machine.
func (h postgres) data(r *machine.Resource) string {
	if r.By == machine.ByDocker {
		return h.d.DataFolder(r)
	}
	return filepath.Join(h.d.Folder(r), "postgres", "data")
}

func (h postgres) Named(r *machine.Resource) string {
	return strings.ToLower(r.Text("DBInstanceIdentifier"))
}

func (h postgres) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.d.ClaimPort(r); err != nil {
		return err
	}
	if err := h.choose(ctx, r); err != nil {
		return err
	}
	if err := h.inherit(r); err != nil {
		return err
	}
	if err := h.start(ctx, r); err != nil {
		return err
	}
	// settle has given the server this password.
	r.Password = masterPasswordOf(r)
	r.PhysicalID = strings.ToLower(r.DeclaredOr("DBInstanceIdentifier", 63))
	r.Attributes = map[string]any{
		"Endpoint.Address":      "127.0.0.1",
		"Endpoint.Port":         strconv.Itoa(r.Port),
		"Endpoint.HostedZoneId": "Z" + strings.ToUpper(model.Digits(r.Token, "zone", 13)),
		"DBInstanceArn":         fmt.Sprintf("arn:aws:rds:%s:%s:db:%s", h.d.Options.Region, h.d.Options.Account, r.PhysicalID),
		"DbiResourceId":         "db-" + strings.ToUpper(model.Digits(r.Token, "dbi", 26)),
	}
	if err := h.d.keepMasterSecret(r); err != nil {
		return err
	}
	return h.configure(ctx, r)
}

// start brings the server up, if it does not run, with the settings that it
// came up with last, and waits until it is settled.
func (h postgres) start(ctx context.Context, r *machine.Resource) error {
	log, err := h.d.LogFile(r.Token)
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return h.settle(ctx, r) }
	if r.By == machine.ByDocker {
		err = h.d.ServeContainer(ctx, h.container(r), log, ready)
	} else {
		err = h.serve(ctx, r, log, ready)
	}
	if err != nil {
		return h.d.FailedToStart(r, log, err)
	}
	return nil
}

// databaseOf is how r's server is asked.
func databaseOf(r *machine.Resource) postgresql.Server {
	return postgresql.Server{Port: r.Port, User: masterOf(r), Password: r.Password}
}

// settle gives a server that answers the password and database declared, and
// tells, when a database is made, that another version serves it than was
// declared.
func (h postgres) settle(ctx context.Context, r *machine.Resource) error {
	server := databaseOf(r)
	server.Password = masterPasswordOf(r)
	serves, err := server.Settle(ctx, r.Password, r.Text("DBName"))
	if err != nil || r.Complete {
		return err
	}
	for _, text := range sameMajor(r, serves) {
		h.d.Options.Announce(fmt.Sprintf("%s: PostgreSQL: %s", r.Name(), text))
	}
	return nil
}

// choose decides once what serves the database.
func (h postgres) choose(ctx context.Context, r *machine.Resource) error {
	if r.By != "" {
		return nil
	}
	_, found := h.programs(r, "")
	switch {
	case found:
		r.By = machine.ByProgram
	case h.d.DockerHas(ctx, postgresImage):
		r.By = machine.ByDocker
		h.d.Options.Announce(fmt.Sprintf("%s: served by Docker, image %s", r.Name(), postgresImage))
	case h.d.Options.Embedded:
		r.By = machine.ByEmbedded
		h.d.Options.Announce(fmt.Sprintf("%s: served by a PostgreSQL that makeitso downloads", r.Name()))
	default:
		return machine.Missing(r, "PostgreSQL", postgresInstall)
	}
	return h.d.Save(r)
}

// Replaces implements machine.Replacer: an instance that is to come of another snapshot,
// or of none any more, is another one.
func (h postgres) Replaces(is *machine.Resource, wanted map[string]any) error {
	after := model.Resource{Properties: wanted}
	if is.Text(snapshotIdentifier) != after.Text(snapshotIdentifier) {
		return fault.New(fault.Unsupported, "%s is not restored in place: its %s changes", is.Name(), snapshotIdentifier)
	}
	return nil
}

// initdbArgs make text sort alike whatever serves the database.
func initdbArgs() []string { return []string{"--encoding", "UTF8", "--locale", "C"} }

func (h postgres) container(r *machine.Resource) machine.Container {
	return machine.Container{
		Resource: r, Image: postgresImage, Port: postgresPort, Data: "/var/lib/postgresql/data",
		Env: []string{
			"POSTGRES_USER=" + masterOf(r), "POSTGRES_PASSWORD=" + cmp.Or(r.Password, masterPasswordOf(r)),
			"POSTGRES_DB=postgres", // which is there: no other is wanted
			"POSTGRES_INITDB_ARGS=" + strings.Join(initdbArgs(), " "),
		},
		Fill: func(data string) error { return h.fillContainer(r, data) },
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
func (h postgres) cluster(r *machine.Resource) (cluster, error) {
	home := filepath.Join(h.d.Folder(r), "postgres")
	programs, found := h.programs(r, postgresql.DataVersion(h.data(r)))
	if r.By == machine.ByEmbedded {
		programs, found = filepath.Join(embeddedPrograms(h.d.Options.State), "bin"), true
	}
	if !found {
		return cluster{}, machine.Missing(r, "PostgreSQL", postgresInstall)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return cluster{}, fmt.Errorf("make the data folder of %s: %w", r.Name(), err)
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
		return cluster{}, fmt.Errorf("give the data folder of %s to its user: %w", r.Name(), err)
	}
	c.base.As = &as
	if runtime.GOOS != "linux" {
		return c, nil
	}
	c.seen = homePlace
	c.base.Binds = []process.Bind{{Source: home, Target: homePlace}}
	if r.By == machine.ByEmbedded {
		c.programs = filepath.Join(programsPlace, "bin")
		c.base.Binds = append(c.base.Binds, process.Bind{Source: embeddedPrograms(h.d.Options.State), Target: programsPlace})
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
func (h postgres) serve(ctx context.Context, r *machine.Resource, log string, ready func(context.Context) error) error {
	if r.By == machine.ByEmbedded {
		if err := fetchPostgres(ctx, h.d.Options.State, ""); err != nil {
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
	if err := postgresql.WriteParameters(filepath.Join(c.home, "data"), started(r)); err != nil {
		return err
	}
	spec := c.base
	spec.Name, spec.Log, spec.StopSignal = r.Token, log, syscall.SIGINT // ends without waiting for clients
	spec.Path, spec.Dir = filepath.Join(c.programs, "postgres"), c.seen
	spec.Args = []string{"-D", filepath.Join(c.seen, "data"), "-p", strconv.Itoa(r.Port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}
	// After a kill, what postgres left may hold its memory for a moment; it
	// leaves no event to wait for, and postgres refuses to start meanwhile.
	for end := time.Now().Add(machine.StopTime); ; {
		err := h.d.Serve(ctx, spec, r.Port, ready)
		if err == nil || time.Now().After(end) || !strings.Contains(machine.Tail(log), "pre-existing shared memory block") {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(machine.ReadyInterval):
		}
	}
}

// initialise makes the data folder. initdb works in a folder that gets its
// name only when it is whole.
func (h postgres) initialise(ctx context.Context, r *machine.Resource, c cluster, log string) error {
	data, half := filepath.Join(c.home, "data"), filepath.Join(c.home, "init")
	if err := h.d.DataIsThere(r, data); err != nil {
		return err
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What an earlier attempt left may still be at work.
	if err := h.d.StopServer(ctx, r.Token+".initdb"); err != nil {
		return err
	}
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("clear the data folder of %s: %w", r.Name(), err)
	}
	_, folder, err := h.d.seed(r)
	if err != nil {
		return err
	}
	if folder != "" {
		if err := restore(folder, half, c.base.As); err != nil {
			return err
		}
		return h.initialised(r, half, data, r.Password)
	}
	password := filepath.Join(c.home, "password")
	if err := os.WriteFile(password, []byte(masterPasswordOf(r)), 0o600); err != nil {
		return fmt.Errorf("hand over the password of %s: %w", r.Name(), err)
	}
	defer os.Remove(password) // removed with the folder at the latest
	if c.base.As != nil {
		if err := os.Chown(password, c.base.As.UID, c.base.As.GID); err != nil {
			return fmt.Errorf("hand over the password of %s: %w", r.Name(), err)
		}
	}
	spec := c.base
	spec.Name, spec.Log, spec.Dir = r.Token+".initdb", log, c.seen
	spec.Path = filepath.Join(c.programs, "initdb")
	spec.Args = []string{"-D", filepath.Join(c.seen, "init"), "-U", masterOf(r),
		"--pwfile", filepath.Join(c.seen, "password"), "--auth", "scram-sha-256",
		"--no-sync"} // file by file takes it long
	spec.Args = append(spec.Args, initdbArgs()...)
	if err := h.d.RunOnce(ctx, spec); err != nil {
		return err
	}
	if err := datafolder.Sync(half); err != nil {
		return fmt.Errorf("write the data folder of %s to the disk: %w", r.Name(), err)
	}
	return h.initialised(r, half, data, masterPasswordOf(r))
}

// initialised gives a data folder that is whole its name. The password it has
// is written down first: to a folder without name it does no harm.
func (h postgres) initialised(r *machine.Resource, half, data, password string) error {
	r.Password = password
	if err := h.d.Save(r); err != nil {
		return err
	}
	if err := os.Rename(half, data); err != nil {
		return fmt.Errorf("name the data folder of %s: %w", r.Name(), err)
	}
	return nil
}

// fillContainer puts a snapshot into the folder of a container that is new, and
// the parameters into that of one that has its data.
func (h postgres) fillContainer(r *machine.Resource, data string) error {
	if postgresql.DataVersion(data) != "" {
		return postgresql.WriteParameters(data, started(r))
	}
	_, folder, err := h.d.seed(r)
	if err != nil || folder == "" || r.Complete {
		return err
	}
	return restore(folder, data, nil)
}

func (h postgres) Read(ctx context.Context, r *machine.Resource) error {
	if r.By == machine.ByDocker {
		return h.d.ContainerAlive(ctx, r, func(ctx context.Context) error { return databaseOf(r).Probe(ctx) })
	}
	return h.d.Alive(r)
}

func (h postgres) Remove(ctx context.Context, r *machine.Resource) error {
	if r.By == machine.ByDocker {
		return h.d.RemoveContainer(ctx, r)
	}
	for _, name := range []string{r.Token, r.Token + ".initdb"} {
		if err := h.d.StopServer(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
