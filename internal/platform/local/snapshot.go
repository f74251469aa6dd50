package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"makeitso/internal/fault"
	"makeitso/internal/platform/datafolder"
	"makeitso/internal/platform/postgresql"
	"makeitso/internal/process"
	"makeitso/internal/stack"
	"makeitso/internal/statefile"
)

// A snapshot is a folder with the name of the snapshot, for users to list, copy
// and remove: <state>/snapshots/<environment>/<name>. In it are the data and
// snapshot.json. It belongs to nobody: neither the end of its resource, of the
// stack, nor Destroy of the whole environment takes it away, and an environment
// of the same name that is made later finds it.
type snapshot struct {
	Name     string    `json:"name"`
	Type     string    `json:"type"`
	Resource string    `json:"resource"` // stack/LogicalId of which it was made
	Made     time.Time `json:"made"`
	Version  string    `json:"version,omitempty"` // of a database, the major one
}

// The properties by which a new resource starts from a snapshot.
const (
	snapshotName       = "SnapshotName"
	snapshotArns       = "SnapshotArns"
	snapshotIdentifier = "DBSnapshotIdentifier"
)

const (
	redisDump    = "dump.rdb" // the name that Redis gives it
	databaseDump = "base.tar" // a data folder, as a server that was stopped left it
	loginFile    = "login"    // of a database: its first user and password, sealed
)

// snapshotter is a maker whose resources' data can be kept apart from them.
type snapshotter interface {
	// snapshot writes the data into a folder, and sets what else of s is to be
	// known. It may stop the server, which is about to be deleted. It is
	// fault.NotFound if there is no data any more.
	snapshot(ctx context.Context, r *resource, s *snapshot, folder string) error
}

// snapshotHandler is the handler of a type with snapshots.
type snapshotHandler struct{ handler }

// Snapshot implements stack.Snapshotter. What never came to be has no data, and
// of what is half deleted there is a snapshot already.
func (h *snapshotHandler) Snapshot(ctx context.Context, r stack.Request) (where string, err error) {
	defer h.begin()()
	res, err := h.p.load(r.Token)
	if fault.Is(err, fault.NotFound) {
		return h.p.kept(requested(r)), nil
	}
	if err != nil || !res.Complete {
		return "", err
	}
	s := snapshot{Name: res.snapshotName(), Type: res.Type, Resource: res.name(), Made: time.Now().UTC()}
	final := filepath.Join(h.p.snapshots(), s.Name)
	half := filepath.Join(h.p.snapshots(), "."+s.Name)
	if err := os.RemoveAll(half); err != nil {
		return "", fmt.Errorf("clear an unfinished snapshot: %w", err)
	}
	defer os.RemoveAll(half) // also before the next attempt
	if err := os.MkdirAll(half, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the snapshot: %w", err)
	}
	err = h.maker.(snapshotter).snapshot(ctx, res, &s, half)
	if fault.Is(err, fault.NotFound) {
		return h.p.kept(res), nil
	}
	if err != nil {
		return "", err
	}
	if err := statefile.Write(filepath.Join(half, "snapshot.json"), s); err != nil {
		return "", err
	}
	if err := os.RemoveAll(final); err != nil {
		return "", fmt.Errorf("replace an older snapshot: %w", err)
	}
	if err := os.Rename(half, final); err != nil {
		return "", fmt.Errorf("name the snapshot: %w", err)
	}
	return h.p.kept(res), nil
}

// tellSnapshots says, when all of the environment goes, what stays of it.
func (p *Platform) tellSnapshots() {
	if entries, err := os.ReadDir(p.snapshots()); err == nil && len(entries) > 0 {
		p.o.Announce(fmt.Sprintf("environment %s: its snapshots are kept in %s; remove those that nobody needs: %s", p.env, p.snapshots(), p.snapshotNames()))
	}
}

// snapshots is the folder of the environment's snapshots.
func (p *Platform) snapshots() string { return filepath.Join(p.o.State, "snapshots", p.env) }

// snapshotName is that of the snapshot of r.
func (r *resource) snapshotName() string {
	return strings.ToLower(r.Stack + "-snapshot-" + r.LogicalID + "-" + digits(r.Token, "snapshot", 12))
}

// kept tells where the snapshot of r is, "" if there is none.
func (p *Platform) kept(r *resource) string {
	folder := filepath.Join(p.snapshots(), r.snapshotName())
	if _, err := os.Stat(folder); err != nil {
		return ""
	}
	return r.snapshotName() + " (" + folder + ")"
}

// source gives the name of the snapshot that r is to start from, and the
// property that says so.
func (r *resource) source() (name, property string) {
	property = snapshotName
	if r.Type == databaseType {
		property = snapshotIdentifier
	}
	name = r.text(property)
	return name[strings.LastIndex(name, ":")+1:], property // the ARN of one is as good
}

// seed gives the snapshot that r is to start from, and its folder; none and ""
// if it is to start empty.
func (p *Platform) seed(r *resource) (s snapshot, folder string, err error) {
	name, property := r.source()
	if name == "" || unknown(name) {
		return snapshot{}, "", nil
	}
	folder = filepath.Join(p.snapshots(), filepath.Base(strings.ToLower(name)))
	err = statefile.Read(filepath.Join(folder, "snapshot.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, "", r.invalid(property, "%q is no snapshot of environment %s", name, p.env).WithHint("there are: %s", p.snapshotNames())
	}
	if err != nil {
		return s, "", fmt.Errorf("read snapshot %s: %w", name, err)
	}
	if (s.Type == databaseType) != (r.Type == databaseType) {
		return s, "", r.invalid(property, "is %q, which is a snapshot of %s (%s)", name, s.Resource, s.Type)
	}
	return s, folder, nil
}

// snapshotNames lists the snapshots for people.
func (p *Platform) snapshotNames() string {
	entries, err := os.ReadDir(p.snapshots())
	names := []string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	if err != nil || len(names) == 0 {
		return "none (they are kept by a DeletionPolicy of Snapshot, in " + p.snapshots() + ")"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// checkSeed judges what a new resource is to start from.
func (p *Platform) checkSeed(_ context.Context, r *resource) error {
	if p.existing(r) != nil { // it has its data
		return nil
	}
	arns, _ := r.Properties[snapshotArns].([]any)
	if len(arns) > 1 {
		return r.invalid(snapshotArns, "names %d files; data is not sharded on this machine, so there is 1", len(arns))
	}
	for _, arn := range arns {
		if _, _, ok := objectOf(fmt.Sprint(arn)); !ok && !unknown(arn) {
			return r.invalid(snapshotArns, "%q is not the ARN of a file of a bucket, as arn:aws:s3:::bucket/dump.rdb", arn)
		}
	}
	_, _, err := p.seed(r)
	return err
}

// objectOf gives the bucket and key that an ARN names.
func objectOf(arn string) (bucket, key string, ok bool) {
	path, isObject := strings.CutPrefix(arn, "arn:aws:s3:::")
	bucket, key, ok = strings.Cut(path, "/")
	return bucket, key, ok && isObject && key != ""
}

// snapshot lets the server write its data to a file.
func (h redis) snapshot(ctx context.Context, r *resource, _ *snapshot, folder string) error {
	data := h.p.dataFolder(r)
	if _, err := os.Stat(data); r.By == byEmbedded || errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "%s has no data on disk", r.name())
	}
	if err := h.start(ctx, r); err != nil {
		return err
	}
	if _, err := r.server().Await(ctx, "SAVE"); err != nil {
		return fmt.Errorf("save the data of %s: %w", r.name(), err)
	}
	return datafolder.Copy(filepath.Join(data, redisDump), filepath.Join(folder, redisDump))
}

// snapshot keeps the data of the primary.
func (h replicationGroup) snapshot(ctx context.Context, r *resource, s *snapshot, folder string) error {
	nodes, err := h.nodes(r)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fault.New(fault.NotFound, "%s has no nodes", r.name())
	}
	return h.redis.snapshot(ctx, nodes[0], s, folder)
}

// seedRedis puts a snapshot into a data folder that no server has used yet. It
// is given the name that the append-only file had in former versions: every
// version starts from that one, whichever form it keeps its own in.
func (p *Platform) seedRedis(ctx context.Context, r *resource, data string) error {
	const former, current = "appendonly.aof", "appendonlydir"
	for _, name := range []string{former, current} {
		if _, err := os.Stat(filepath.Join(data, name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if arns, _ := r.Properties[snapshotArns].([]any); len(arns) == 1 {
		return p.fetch(ctx, r, fmt.Sprint(arns[0]), filepath.Join(data, former))
	}
	_, folder, err := p.seed(r)
	if err != nil || folder == "" {
		return err
	}
	return datafolder.Copy(filepath.Join(folder, redisDump), filepath.Join(data, former))
}

// fetch gets a file out of a bucket of this environment.
func (p *Platform) fetch(ctx context.Context, r *resource, arn, to string) error {
	bucket, key, _ := objectOf(arn)
	c, err := p.storeConfig()
	if err != nil {
		return r.invalid(snapshotArns, "names %s, and this environment has no bucket", arn)
	}
	found, err := c.Client().GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%s: get %s", r.name(), arn)
	}
	defer found.Body.Close()
	return datafolder.Write(to, found.Body)
}

// snapshot keeps the data folder: of a server that was stopped it is a whole
// base backup, and of one that was killed or cannot start as good as it can be.
func (h postgres) snapshot(ctx context.Context, r *resource, s *snapshot, folder string) error {
	data := h.data(r)
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "%s has no data on disk", r.name())
	}
	if err := h.p.stop(ctx, r); err != nil {
		return err
	}
	s.Version = postgresql.DataVersion(data)
	if err := h.p.o.Key.WriteFile(filepath.Join(folder, loginFile), loginFile, masterSecret{r.master(), r.Password}); err != nil {
		return err
	}
	return datafolder.Pack(data, filepath.Join(folder, databaseDump))
}

// restore puts a snapshot's data folder where a new one is to be. as is whose
// it shall be, nil for whose it was.
func restore(folder, into string, as *process.User) error {
	if err := datafolder.Unpack(filepath.Join(folder, databaseDump), into, as); err != nil {
		return fmt.Errorf("restore snapshot %s: %w", filepath.Base(folder), err)
	}
	return nil
}
