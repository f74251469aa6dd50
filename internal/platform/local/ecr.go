package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"makeitso/internal/artifact/repository"
	"makeitso/internal/fault"
	"makeitso/internal/process"
	"makeitso/internal/statefile"
)

// ImageRegistry is an environment's registry of container images: one process
// for all of its repositories.
type ImageRegistry struct {
	Port     int    `json:"port"` // on loopback, kept for ever
	Password string `json:"password"`
}

// Address is where the registry listens. docker speaks HTTP with it, as with
// every registry on loopback.
func (r ImageRegistry) Address() string { return loopback(r.Port) }

// User is who the password belongs to.
func (r ImageRegistry) User() string { return repository.User }

// registrySettings is what the registry's process must know.
type registrySettings struct {
	Folder      string `json:"folder"`
	Listen      string `json:"listen"`
	Account     string `json:"account"`
	PasswordSum string `json:"passwordSum"`
}

const (
	repositoryType  = "AWS::ECR::Repository"
	registryProcess = "_ecr"
)

func (p *Platform) registryFolder() string { return filepath.Join(p.dir, "ecr") }

func (p *Platform) registryFile() string { return filepath.Join(p.registryFolder(), "ecr.json") }

func (p *Platform) repositories() *repository.Store {
	return repository.Open(filepath.Join(p.registryFolder(), "images"), p.o.Account)
}

// ImageRegistry gives the environment's registry, fault.NotFound before its
// first repository.
func (p *Platform) ImageRegistry() (ImageRegistry, error) {
	var r ImageRegistry
	err := p.o.Key.ReadFile(p.registryFile(), "image registry "+p.env, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fault.New(fault.NotFound, "environment %s has no image repository", p.env).
			WithHint("declare an %s in a template, and apply it: makeitso up", repositoryType)
	}
	return r, err
}

// runRegistry starts the environment's registry unless it runs.
func (p *Platform) runRegistry(ctx context.Context) (ImageRegistry, error) {
	p.images.Lock()
	defer p.images.Unlock()
	r, err := p.ImageRegistry()
	if fault.Is(err, fault.NotFound) {
		r, err = p.newRegistry()
	}
	if err != nil {
		return r, err
	}
	settings := filepath.Join(p.registryFolder(), "server.json")
	err = statefile.Write(settings, registrySettings{
		Folder: filepath.Join(p.registryFolder(), "images"), Listen: r.Address(),
		Account: p.o.Account, PasswordSum: repository.SumOf(r.Password),
	})
	if err != nil {
		return r, err
	}
	log, err := p.logFile("ecr")
	if err != nil {
		return r, err
	}
	command := p.command("ecr", settings)
	spec := process.Spec{
		Name: registryProcess, Path: command[0], Args: command[1:], Log: log,
		Dir: p.registryFolder(), Env: []string{"PATH=" + os.Getenv("PATH")},
	}
	if err := p.serve(ctx, spec, r.Port, r.answers); err != nil {
		return r, withLastWords(fault.Wrap(fault.Failed, err, "start the image registry of environment %s on port %d", p.env, r.Port), log)
	}
	return r, nil
}

// newRegistry chooses a port and a password, and writes them down.
func (p *Platform) newRegistry() (ImageRegistry, error) {
	p.ports.Lock()
	defer p.ports.Unlock()
	r := ImageRegistry{Password: rand.Text() + rand.Text()}
	if err := os.MkdirAll(filepath.Join(p.registryFolder(), "images"), 0o700); err != nil {
		return r, fmt.Errorf("make the folder of the image registry: %w", err)
	}
	taken, err := p.takenPorts()
	if err != nil {
		return r, err
	}
	if r.Port, err = freePort(taken); err != nil {
		return r, err
	}
	return r, p.o.Key.WriteFile(p.registryFile(), "image registry "+p.env, r)
}

// answers asks the registry whether it is the one with this password.
func (r ImageRegistry) answers(ctx context.Context) error {
	return answersWell(ctx, "http://"+r.Address()+"/v2/", r.User(), r.Password)
}

// ServeECR is the hidden command "ecr": the image registry of one environment.
// args is the file with its settings. It returns when it is asked to end.
func ServeECR(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with a file of settings")
	}
	var c registrySettings
	if err := statefile.Read(args[0], &c); err != nil {
		return fmt.Errorf("read the settings of the image registry: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	images := repository.Open(c.Folder, c.Account)
	if err := images.Sweep(); err != nil {
		return fmt.Errorf("remove what broken pushes have left: %w", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "listen on %s", c.Listen)
	}
	report := func(err error) { fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.RFC3339), err) }
	server := &http.Server{Handler: images.Handler(c.PasswordSum, report), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve images: %w", err)
	case <-ctx.Done():
	}
	// Pushes and pulls that are under way may end; those that take longer are
	// cut off, and a push can go on where it was.
	ending, cancel := context.WithTimeout(context.Background(), stopTime/2)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		err = server.Close()
		<-served
		return err
	}
	<-served
	return nil
}

// imageRepository makes AWS::ECR::Repository.
type imageRepository struct{ p *Platform }

// settings gives what the properties of a repository say.
func (h imageRepository) settings(r *resource) (repository.Settings, error) {
	s := repository.Settings{Owner: r.Token}
	const property, filters = "ImageTagMutability", "ImageTagMutabilityExclusionFilters"
	mode := r.text(property)
	if r.Properties[property] == nil {
		mode = mutable
	}
	base, excluding := strings.CutSuffix(mode, withExclusion)
	if base != mutable && base != immutable {
		return s, r.invalid(property, "is %v, not %s, %s or one of these with %s", r.Properties[property], mutable, immutable, withExclusion)
	}
	s.Immutable = base == immutable
	declared, _ := r.Properties[filters].([]any)
	if excluding != (len(declared) > 0) {
		return s, r.invalid(filters, "belongs to an %s that ends with %s, and is needed there", property, withExclusion)
	}
	for _, filter := range declared {
		pattern := textIn(filter, "ImageTagMutabilityExclusionFilterValue")
		if !validTagPattern.MatchString(pattern) || textIn(filter, "ImageTagMutabilityExclusionFilterType") != "WILDCARD" {
			return s, r.invalid(filters, "has %v: allowed are filters of type WILDCARD with up to 128 letters, digits, '.', '_', '-' and '*'", filter)
		}
		s.Except = append(s.Except, pattern)
	}
	return s, nil
}

// What ImageTagMutability can be.
const (
	mutable       = "MUTABLE"
	immutable     = "IMMUTABLE"
	withExclusion = "_WITH_EXCLUSION"
)

var (
	validTagPattern = regexp.MustCompile(`^[0-9a-zA-Z._*-]{1,128}$`)
	hyphens         = regexp.MustCompile(`-+`)
)

func (h imageRepository) check(_ context.Context, r *resource) error {
	name := r.text("RepositoryName")
	if name != "" && !unknown(name) && !repository.ValidName(name) {
		return r.invalid("RepositoryName", "%q is not 2 to 255 small letters and digits, with '.', '_', '-' or '/' between them", name)
	}
	policy := r.Properties["RepositoryPolicyText"]
	if _, isObject := policy.(map[string]any); policy != nil && !unknown(policy) && !isObject {
		return r.invalid("RepositoryPolicyText", "is not a policy document")
	}
	if !unknown(r.Properties["ImageTagMutability"]) {
		if _, err := h.settings(r); err != nil {
			return err
		}
	}
	return h.unclaimed(r)
}

// unclaimed refuses a name that another repository of this environment has.
func (h imageRepository) unclaimed(r *resource) error {
	all, err := h.p.complete(repositoryType)
	if err != nil {
		return err
	}
	for _, other := range all {
		if !r.is(other) && other.PhysicalID == r.text("RepositoryName") {
			return fault.New(fault.Conflict, "%s: the repository name %s belongs to %s", r.name(), other.PhysicalID, other.name()).
				WithHint("choose another RepositoryName, or leave it out and let one be generated; what a stack left behind is taken back with: makeitso import")
		}
	}
	return nil
}

// named gives the name of a repository: declared or generated, and kept for
// ever.
func (h imageRepository) named(r *resource) string {
	return cmp.Or(r.PhysicalID, r.text("RepositoryName"), hyphens.ReplaceAllString(strings.ToLower(r.generatedName(maxRepository)), "-"))
}

// maxRepository is the length of the longest name that is generated.
const maxRepository = 255

func (h imageRepository) make(ctx context.Context, r *resource) error {
	if err := h.unclaimed(r); err != nil {
		return err
	}
	settings, err := h.settings(r)
	if err != nil {
		return err
	}
	registry, err := h.p.runRegistry(ctx)
	if err != nil {
		return err
	}
	name := h.named(r)
	if err := h.p.repositories().Make(name, settings); err != nil {
		return err
	}
	r.PhysicalID = name
	r.Attributes = map[string]any{
		"Arn":           fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", h.p.o.Region, h.p.o.Account, name),
		"RepositoryUri": registry.Address() + "/" + name,
	}
	return nil
}

func (h imageRepository) read(context.Context, *resource) error {
	return h.p.running(registryProcess, "the image registry of environment "+h.p.env)
}

// tell gives a repository with the mutability of its tags as the registry has
// it.
func (h imageRepository) tell(_ context.Context, r *resource) (map[string]any, error) {
	has, err := h.p.repositories().Get(r.PhysicalID)
	if err != nil {
		return nil, err
	}
	wanted, err := h.settings(r)
	if err != nil {
		return nil, err
	}
	if has.Immutable == wanted.Immutable && slices.Equal(has.Except, wanted.Except) {
		return r.Properties, nil
	}
	told := maps.Clone(r.Properties)
	mode, filters := mutable, []any{}
	if has.Immutable {
		mode = immutable
	}
	for _, pattern := range has.Except {
		filters = append(filters, map[string]any{
			"ImageTagMutabilityExclusionFilterType": "WILDCARD", "ImageTagMutabilityExclusionFilterValue": pattern,
		})
	}
	delete(told, "ImageTagMutabilityExclusionFilters")
	if len(filters) > 0 {
		mode += withExclusion
		told["ImageTagMutabilityExclusionFilters"] = filters
	}
	told["ImageTagMutability"] = mode
	return told, nil
}

func (h imageRepository) remove(ctx context.Context, r *resource) error {
	// What was never ready has no physical id, but may have been made.
	name := h.named(r)
	withImages := r.Properties["EmptyOnDelete"] == true || r.Properties["EmptyOnDelete"] == "true"
	err := h.p.repositories().Remove(name, r.Token, withImages)
	if fault.Is(err, fault.Conflict) {
		return fault.Wrap(fault.Conflict, err, "delete %s", r.name()).
			WithHint("delete its images first, or put EmptyOnDelete: true on it, or remove the whole environment with everything in it: makeitso destroy")
	}
	if err != nil {
		return fmt.Errorf("remove repository %s: %w", name, err)
	}
	h.p.images.Lock()
	defer h.p.images.Unlock()
	return h.p.stopAfterLast(ctx, r, registryProcess)
}
