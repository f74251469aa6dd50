// Package beanstalk reads what ElasticBeanstalk's resources say: the option
// settings of environments, and the source bundles of versions. It must not
// know where bundles are kept, nor how instances run.
package beanstalk

import (
	"archive/zip"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/platform/model"
)

// The types of resources that this package reads.
const (
	ApplicationType = "AWS::ElasticBeanstalk::Application"
	VersionType     = "AWS::ElasticBeanstalk::ApplicationVersion"
	EnvironmentType = "AWS::ElasticBeanstalk::Environment"
	TemplateType    = "AWS::ElasticBeanstalk::ConfigurationTemplate"
)

// Settings is what option settings say, as far as it counts on one machine.
type Settings struct {
	Min, Max int
	Check    edge.Check
	Env      map[string]string
}

// Read reads the option settings of an environment, given the properties of its
// configuration template, nil for none: its own overrule those.
func Read(environment, template map[string]any) (Settings, error) {
	s := Settings{Min: 1, Max: 4, Env: map[string]string{}}
	single := false
	for _, properties := range []map[string]any{template, environment} {
		list, _ := properties["OptionSettings"].([]any)
		for _, o := range list {
			o, _ := o.(map[string]any)
			namespace, name, value := fmt.Sprint(o["Namespace"]), fmt.Sprint(o["OptionName"]), fmt.Sprint(o["Value"])
			var err error
			switch namespace + " " + name {
			case "aws:autoscaling:asg MinSize":
				s.Min, err = strconv.Atoi(value)
			case "aws:autoscaling:asg MaxSize":
				s.Max, err = strconv.Atoi(value)
			case "aws:elasticbeanstalk:environment EnvironmentType":
				single = value == "SingleInstance"
			case "aws:elasticbeanstalk:environment:process:default HealthCheckPath":
				s.Check.Path = value
			case "aws:elasticbeanstalk:application Application Healthcheck URL":
				s.Check.Path = value[strings.LastIndexByte(value, ':')+1:] // HTTP:80/path is written too
				s.Check.Path = s.Check.Path[max(0, strings.IndexByte(s.Check.Path, '/')):]
			case "aws:elasticbeanstalk:environment:process:default MatcherHTTPCode":
				s.Check.Codes = value
			}
			if err != nil {
				return s, fault.New(fault.Invalid, "the option %s of %s is %q; it is a number", name, namespace, value)
			}
			if namespace == "aws:elasticbeanstalk:application:environment" {
				s.Env[name] = value
			}
		}
	}
	if single {
		s.Min, s.Max = 1, 1
	}
	if s.Min < 0 || s.Min > s.Max {
		return s, fault.New(fault.Invalid, "the options of aws:autoscaling:asg are MinSize %d and MaxSize %d; the first is not above the second", s.Min, s.Max)
	}
	return s, nil
}

// Judge says what of an environment cannot run on this machine.
func Judge(r model.Resource) error {
	tier, _ := r.Properties["Tier"].(map[string]any)
	if name, _ := tier["Name"].(string); name == "Worker" {
		return fault.New(fault.Unsupported, "%s (%s): a tier of workers is not run on this machine", r.Name(), r.Type).
			WithHint("use the tier WebServer")
	}
	return nil
}

// Edge is how the edge serves an environment, at port 80 and its own.
func Edge(environment, name string, hosts []string, s Settings, instances []edge.Instance) (edge.Service, edge.Balancer) {
	service := edge.Service{
		Name: environment + "/targets/" + name, Health: s.Check.Path, HealthCodes: s.Check.Codes,
		Arms: []edge.Arm{{Name: name, Weight: 1, Instances: instances}},
	}
	return service, edge.Balancer{
		Name: environment + "/balancer/" + name, Hosts: hosts, Port: 80,
		Rules: []edge.Rule{{Forward: []edge.Share{{Service: service.Name, Weight: 1}}}},
	}
}

// maxBundle is how many bytes a bundle may hold.
const maxBundle = 512 << 20

// Unpack puts the files of a source bundle, a zip file, into a folder, and gives
// the command line of its web process: that of its Procfile, or its program
// application or bin/application.
func Unpack(bundle io.ReaderAt, size int64, into string) (command []string, err error) {
	archive, err := zip.NewReader(bundle, size)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "a source bundle is no zip file")
	}
	root, err := os.OpenRoot(into) // no name leads out of it
	if err != nil {
		return nil, fmt.Errorf("open the folder of a bundle: %w", err)
	}
	defer root.Close()
	left := int64(maxBundle)
	for _, f := range archive.File {
		if err := unpackFile(root, f, &left); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "unpack %s of a source bundle", f.Name)
		}
	}
	return webCommand(root)
}

func unpackFile(root *os.Root, f *zip.File, left *int64) error {
	if f.FileInfo().IsDir() {
		return root.MkdirAll(path.Clean(f.Name), 0o755)
	}
	if err := root.MkdirAll(path.Dir(f.Name), 0o755); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644|f.Mode().Perm()&0o111)
	if err != nil {
		return err
	}
	n, err := io.Copy(to, io.LimitReader(from, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = fmt.Errorf("it has more than %d bytes", int64(maxBundle))
	}
	return errors.Join(err, to.Close())
}

// webCommand finds the web process of an unpacked bundle.
func webCommand(root *os.Root) ([]string, error) {
	text, err := root.ReadFile("Procfile")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the Procfile: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, command, _ := strings.Cut(line, ":")
		if words := strings.Fields(command); strings.TrimSpace(name) == "web" && len(words) > 0 {
			return program(root, words)
		}
	}
	for _, name := range []string{"application", "bin/application"} {
		if words, err := program(root, []string{name}); err == nil {
			return words, nil
		}
	}
	return nil, fault.New(fault.Invalid, "a source bundle has neither a Procfile with a web process nor a program application").
		WithHint("put a Procfile into it, such as: web: ./app")
}

// program gives a command line whose program lies in the bundle.
func program(root *os.Root, words []string) ([]string, error) {
	name := strings.TrimPrefix(path.Clean("/"+words[0]), "/")
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return nil, fault.New(fault.Invalid, "the web process of a source bundle is %q, which is no program in it", words[0]).
			WithHint("on this machine a bundle brings all that it runs: one binary without libraries, executable")
	}
	return append([]string{"/" + name}, words[1:]...), nil
}

// Label is the first part of an environment's host name.
func Label(r model.Resource, name string) string {
	return strings.ToLower(cmp.Or(r.Text("CNAMEPrefix"), name))
}
