package local

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/beanstalk"
	"makeitso/internal/platform/fleet"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
)

// ofBundle begins the names of what instances run that is no image.
const ofBundle = "bundle:"

// version makes AWS::ElasticBeanstalk::ApplicationVersion.
type version struct{ modelled }

func (h version) Make(ctx context.Context, r *machine.Resource) error {
	source, _ := r.Properties["SourceBundle"].(map[string]any)
	b, err := h.p.Bucket(machine.TextIn(source, "S3Bucket"))
	if err != nil {
		return err
	}
	objects, err := b.List(ctx)
	if err != nil {
		return err
	}
	if _, there := objects[machine.TextIn(source, "S3Key")]; !there {
		return r.Invalid("SourceBundle", "names %s, which is not in bucket %s", machine.TextIn(source, "S3Key"), machine.TextIn(source, "S3Bucket"))
	}
	return h.modelled.Make(ctx, r)
}

// unpackBundle is Options.Unpack for a source bundle.
func (p *Platform) unpackBundle(ctx context.Context, bundle, into string) (command []string, err error) {
	name, key, _ := strings.Cut(bundle, "/")
	b, err := p.Bucket(name)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(p.Dir, "bundle-*")
	if err != nil {
		return nil, fmt.Errorf("make a file for a bundle: %w", err)
	}
	defer os.Remove(file.Name()) // Destroy takes what is left
	defer file.Close()
	if err := b.Get(ctx, key, file); err != nil {
		return nil, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("measure a bundle: %w", err)
	}
	return beanstalk.Unpack(file, size, into)
}

// beanstalkEnvironment makes AWS::ElasticBeanstalk::Environment: a group of
// instances with a host name at the edge.
type beanstalkEnvironment struct {
	p *Platform
	t model.Type
}

func (h beanstalkEnvironment) Named(r *machine.Resource) string { return r.Text("EnvironmentName") }

func (h beanstalkEnvironment) Check(_ context.Context, r *machine.Resource) error {
	if _, err := beanstalk.Read(r.Properties, nil); err != nil {
		return r.Invalid("OptionSettings", "are wrong: %s", err)
	}
	return beanstalk.Judge(r.Resource)
}

func (h beanstalkEnvironment) Make(ctx context.Context, r *machine.Resource) error {
	if err := modelled(h).Make(ctx, r); err != nil {
		return err
	}
	label := beanstalk.Label(r.Resource, r.PhysicalID)
	r.Attributes["EndpointURL"] = label + ".elasticbeanstalk." + h.p.Env + "." + h.p.o.Project + ".localhost"
	if err := h.p.Save(r); err != nil { // where it is served
		return err
	}
	settings, err := h.p.settingsOf(ctx, r)
	if err != nil {
		return err
	}
	spec := fleet.Spec{
		Name: r.Token, Title: r.Stack + "-" + r.LogicalID, Size: settings.Min, Most: settings.Max, Env: settings.Env,
		Checks: []edge.Check{settings.Check}, Interval: lookHealth, Failures: 3, Drain: machine.StopTime,
	}
	if label := r.Text("VersionLabel"); label != "" {
		found, err := h.p.recordNamed(ctx, beanstalk.VersionType, label)
		if err != nil {
			return err
		}
		source, _ := found.Properties["SourceBundle"].(map[string]any)
		spec.Image = ofBundle + machine.TextIn(source, "S3Bucket") + "/" + machine.TextIn(source, "S3Key")
	} else {
		spec.Size = 0
		h.p.o.Announce(r.Name() + ": nothing is started, since it has no VersionLabel")
	}
	form, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("write down the settings of %s: %w", r.Name(), err)
	}
	spec.From = r.Text("VersionLabel") + " with " + model.Digits(string(form), "settings", 12)
	return h.p.fleets.Renew(ctx, spec)
}

// lookHealth is the time between two checks of an environment's instances.
const lookHealth = 10 * time.Second

// settingsOf gives the settings of an environment, with those of its template.
func (p *Platform) settingsOf(ctx context.Context, r *machine.Resource) (beanstalk.Settings, error) {
	var template machine.Resource
	if name := r.Text("TemplateName"); name != "" {
		var err error
		if template, err = p.recordNamed(ctx, beanstalk.TemplateType, name); err != nil {
			return beanstalk.Settings{}, err
		}
	}
	return beanstalk.Read(r.Properties, template.Properties)
}

func (h beanstalkEnvironment) Read(context.Context, *machine.Resource) error { return nil }

func (h beanstalkEnvironment) Remove(ctx context.Context, r *machine.Resource) error {
	return h.p.fleets.Remove(ctx, r.Token)
}

// served gives what the edge serves of a Beanstalk environment.
func (p *Platform) served(ctx context.Context, r *machine.Resource, links []link, g fleet.Group) (edge.Service, edge.Balancer, error) {
	settings, err := p.settingsOf(ctx, r)
	if fault.Is(err, fault.Invalid) { // its template is gone
		settings, err = beanstalk.Settings{}, nil
	}
	host, _ := r.Attributes["EndpointURL"].(string)
	instances := g.Routed()
	for i := range instances {
		instances[i].ID = r.Token + "/" + instances[i].ID
	}
	service, balancer := beanstalk.Edge(p.Env, r.Name(), leadingTo(links, host), settings, instances)
	return service, balancer, err
}
