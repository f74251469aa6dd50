package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
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

// otherStore is the S3 server that ours is compared with, once as it keeps
// objects in files, as ours does, and once as it forgets them when it ends. It is
// built apart, so that the module of makeitso needs nothing of it.
const otherStore = "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0"

// objects measures how a thousand files come into a bucket: by aws s3 sync into
// our store and into another, by makeitso publish, and by a run of a pipeline
// whose stage publishes. Each round fills buckets of its own.
func (b *bench) objects(ctx context.Context) (failed error) {
	if _, err := exec.LookPath("aws"); err != nil {
		b.add(row{what: "aws s3 sync, publish", figure: "aws is not here"})
		return nil
	}
	rounds := min(b.rounds, 5)
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
	for _, backend := range otherBackends() {
		theirs, at, err := b.otherStore(ctx, backend)
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			b.add(row{what: "aws s3 sync into another store", figure: first})
			break
		}
		defer func() { failed = errors.Join(failed, theirs.stop()) }()
		sides = append(sides, each(func(n int) error { return c.sync(ctx, at, fmt.Sprintf("sync%d", n)) }))
	}
	t, err := alternateSides(rounds, sides...)
	if err != nil {
		return err
	}
	if len(t) == 5 {
		b.limit(fmt.Sprintf("aws s3 sync, %d files of %d bytes", objects, objectSize), t[0], "gofakes3 in files", t[3], maxSync)
		b.beside("  against one that keeps nothing", t[0], "gofakes3 in memory", t[4])
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

// otherBackends are the flags by which the other store keeps objects in files and
// in memory.
func otherBackends() [][]string {
	return [][]string{{"-backend", "fs", "-fs.path", "other-store", "-fs.create"}, {"-backend", "memory"}}
}

// otherStore builds and starts the other store, which makes buckets when they
// are used.
func (b *bench) otherStore(ctx context.Context, backend []string) (s *server, address string, err error) {
	build := exec.CommandContext(ctx, "go", "install", otherStore)
	build.Env = append(os.Environ(), "GOBIN="+b.folder)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build %s: %w\n%s", otherStore, err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.CommandContext(ctx, filepath.Join(b.folder, "gofakes3"), append(backend, "-host", address, "-autobucket", "-quiet")...)
	cmd.Dir = b.folder
	s, err = begin(ctx, cmd, func() error { return connects("tcp4", address) })
	return s, "http://" + address, err
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
	cmd := exec.CommandContext(ctx, "aws", "s3", "sync", "--only-show-errors", "files", "s3://"+bucket, "--endpoint-url", endpoint)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+c.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.SecretKey, "AWS_REGION="+c.Region,
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aws s3 sync into %s: %w\n%s", endpoint, err, out)
	}
	return nil
}
