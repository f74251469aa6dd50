package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// The targets for the store of objects and what publishes into it.
const (
	maxSync      = 1.0      // of the other store
	maxPublish   = 1.0 / 10 // of aws s3 sync
	maxPublished = 1.0 / 20 // of aws s3 sync, when nothing has changed
)

// The files that are brought into a store.
const (
	objects    = 1000
	objectSize = 4096
)

// otherStore is an S3 server that ours is compared with. It is built apart, so that
// the module of makeitso needs nothing of it.
type otherStore struct {
	what   string
	module string // of its program
	// args are its command line at an address, for those who sign with the keys of
	// c; the folder is its own.
	args func(address, folder string, c client) []string
	// aims says that ours is to be as fast: it checks signatures and keeps objects
	// in files, as ours does.
	aims bool
}

// otherStores are an S3 server that does what ours does, and one that checks no
// signature, once with its objects in files and once in memory.
func otherStores() []otherStore {
	const rclone, gofakes3 = "github.com/rclone/rclone@v1.76.0", "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0"
	return []otherStore{
		{"rclone serve s3", rclone, func(address, folder string, c client) []string {
			return []string{"serve", "s3", "--addr", address, "--auth-key", c.AccessKey + "," + c.SecretKey, folder}
		}, true},
		{"gofakes3 in files", gofakes3, func(address, folder string, _ client) []string {
			return []string{"-host", address, "-quiet", "-backend", "fs", "-fs.path", folder}
		}, false},
		{"gofakes3 in memory", gofakes3, func(address, _ string, _ client) []string {
			return []string{"-host", address, "-quiet", "-backend", "memory"}
		}, false},
	}
}

// objects measures how a thousand files come into a bucket: by aws s3 sync into
// our store and into another, by makeitso publish, and by a run of a pipeline
// whose stage publishes. Each round fills buckets of its own.
func (b *bench) objects(ctx context.Context) (failed error) {
	if _, err := exec.LookPath("aws"); err != nil {
		b.add(row{what: "aws s3 sync, publish", figure: "aws is not here"})
		return nil
	}
	rounds := min(b.rounds, 9) // the client of the field is noisier than the stores are apart
	dir, err := b.publisher(2 * (rounds + 1))
	if err != nil {
		return err
	}
	ours, err := b.store(ctx, dir)
	if err != nil {
		return err
	}
	defer func() {
		failed = errors.Join(failed, ours.stop(), command(context.WithoutCancel(ctx), dir, b.program, "destroy", "--environment", "local", "--yes")())
	}()
	c, err := b.client(ctx, dir)
	if err != nil {
		return err
	}
	publish := func(site int) func() error { return command(ctx, dir, b.program, "publish", fmt.Sprintf("s%d", site)) }
	run := func(site int) func() error {
		return command(ctx, dir, b.program, "run", fmt.Sprintf("publish%d", site))
	}
	sides := []side{
		each(func(n int) error { return c.sync(ctx, c.S3, c.buckets[fmt.Sprintf("Sync%d", n)]) }),
		each(func(n int) error { return publish(n)() }),
		each(func(n int) error { return run(rounds + 1 + n)() }),
	}
	var others []otherStore
	for _, other := range otherStores() {
		theirs, at, err := b.otherStore(ctx, other, rounds+1, c)
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			b.add(row{what: "aws s3 sync into " + other.what, figure: first})
			continue
		}
		defer func() { failed = errors.Join(failed, theirs.stop()) }()
		others = append(others, other)
		sides = append(sides, each(func(n int) error { return c.sync(ctx, at, fmt.Sprintf("sync%d", n)) }))
	}
	t, err := alternateSides(rounds, sides...)
	if err != nil {
		return err
	}
	for i, other := range others {
		if theirs := t[3+i]; other.aims {
			b.limit(fmt.Sprintf("aws s3 sync, %d files of %d bytes", objects, objectSize), t[0], other.what, theirs, maxSync)
		} else {
			b.beside("  against one that checks no signature", t[0], other.what, theirs)
		}
	}
	b.limit(fmt.Sprintf("publish, %d files", objects), t[1], "aws s3 sync", t[0], maxPublish)
	b.beside("  as a stage of a run", t[2], "aws s3 sync", t[0])
	t, err = alternate(min(b.rounds, 7), publish(0), run(0), func() error { return c.sync(ctx, c.S3, c.buckets["Sync0"]) })
	if err != nil {
		return err
	}
	b.limit("publish, nothing changed", t[0], "aws s3 sync", t[2], maxPublished)
	b.beside("  as a stage of a run", t[1], "aws s3 sync", t[2])
	return nil
}

// each is a side that counts its rounds.
func each(do func(round int) error) side {
	round := -1
	return timed(func() error { round++; return do(round) })
}

// limit adds a row whose target is a part of the other side's time.
func (b *bench) limit(what string, ours time.Duration, other string, theirs time.Duration, most float64) {
	b.add(row{
		what: what, figure: show(ours), other: other + " " + show(theirs), ratio: ratio(ours, theirs),
		target: fmt.Sprintf("ratio <= %.2f", most), met: ratio(ours, theirs) <= most,
	})
}

// beside adds a row that has no target of its own.
func (b *bench) beside(what string, ours time.Duration, other string, theirs time.Duration) {
	b.add(row{what: what, figure: show(ours), other: other + " " + show(theirs), ratio: ratio(ours, theirs)})
}

// publisher writes a project of n sites with the same files, each with a bucket
// and a pipeline that publishes it, and as many buckets besides.
func (b *bench) publisher(n int) (dir string, err error) {
	var stack, outputs, sites, pipelines strings.Builder
	for i := range n {
		for _, kind := range []string{"Site", "Sync"} {
			fmt.Fprintf(&stack, "  %s%d: {Type: \"AWS::S3::Bucket\"}\n", kind, i)
			fmt.Fprintf(&outputs, "  %s%d: {Value: !Ref %s%d}\n", kind, i, kind, i)
		}
		fmt.Fprintf(&sites, "  s%d: {from: files, bucket: \"${stacks.store.outputs.Site%d}\"}\n", i, i)
		fmt.Fprintf(&pipelines, "  publish%d: {environments: [local], stages: [{publish: s%d}]}\n", i, i)
	}
	dir, err = b.files(map[string]string{
		"makeitso.yaml": "project: bench\nenvironments:\n  local: {platform: local}\nstacks:\n  store: {template: store.yaml}\n" +
			"sites:\n" + sites.String() + "pipelines:\n" + pipelines.String(),
		"store.yaml": "Resources:\n" + stack.String() + "Outputs:\n" + outputs.String(),
	})
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		return "", err
	}
	random := rand.NewChaCha8([32]byte{})
	content := make([]byte, objectSize)
	for i := range objects {
		if _, err := random.Read(content); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "files", fmt.Sprintf("asset-%d.bin", i)), content, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// store makes the buckets and has makeitso serve the project.
func (b *bench) store(ctx context.Context, dir string) (*server, error) {
	s, err := b.serve(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := command(ctx, dir, b.program, "apply", "--yes")(); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// otherStore builds and starts another store, with buckets for the rounds.
func (b *bench) otherStore(ctx context.Context, o otherStore, buckets int, c client) (s *server, address string, err error) {
	build := exec.CommandContext(ctx, "go", "install", o.module)
	build.Env = append(os.Environ(), "GOBIN="+b.folder)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build %s: %w\n%s", o.module, err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	folder, err := os.MkdirTemp(b.folder, "other-store-")
	if err != nil {
		return nil, "", err
	}
	name, _, _ := strings.Cut(path.Base(o.module), "@")
	s, err = begin(ctx, exec.CommandContext(ctx, filepath.Join(b.folder, name), o.args(address, folder, c)...), func() error { return connects("tcp4", address) })
	if err != nil {
		return nil, "", err
	}
	for n := range buckets {
		if err := c.aws(ctx, "mb", fmt.Sprintf("s3://sync%d", n), "--endpoint-url", "http://"+address); err != nil {
			return nil, "", errors.Join(err, s.stop())
		}
	}
	return s, "http://" + address, nil
}

// client is what aws needs to drive our store.
type client struct {
	AccessKey, SecretKey, Region, S3 string

	dir     string
	buckets map[string]string // by the output that names it
}

// client asks makeitso.
func (b *bench) client(ctx context.Context, dir string) (client, error) {
	c := client{dir: dir}
	if err := b.ask(ctx, dir, &c, "credentials", "--json"); err != nil {
		return client{}, err
	}
	var outputs map[string]map[string]string
	if err := b.ask(ctx, dir, &outputs, "outputs", "--json"); err != nil {
		return client{}, err
	}
	c.buckets = outputs["store"]
	return c, nil
}

// ask runs makeitso and reads what it prints.
func (b *bench) ask(ctx context.Context, dir string, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("makeitso %v: %w", args, err)
	}
	return json.Unmarshal(out, into)
}

// sync runs aws s3 sync of the files into a bucket of the store at endpoint.
func (c client) sync(ctx context.Context, endpoint, bucket string) error {
	return c.aws(ctx, "sync", "--only-show-errors", "files", "s3://"+bucket, "--endpoint-url", endpoint)
}

// aws runs a command of aws s3.
func (c client) aws(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "aws", append([]string{"s3"}, args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+c.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.SecretKey, "AWS_REGION="+c.Region,
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aws s3 %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
