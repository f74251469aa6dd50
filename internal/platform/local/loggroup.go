package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/watch"
)

// logGroup makes AWS::Logs::LogGroup.
type logGroup struct{ p *Platform }

const logGroupType = "AWS::Logs::LogGroup"

// retentions are the days that logs may be kept, as with the service.
const retentions = "1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653"

// It is compiled when it is needed: counted repeats take long.
var validLogGroup = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._/#-]{1,512}$`) })

func (h logGroup) Check(_ context.Context, r *machine.Resource) error {
	name := r.Text("LogGroupName")
	if name != "" && !model.Unknown(name) && !validLogGroup().MatchString(name) {
		return r.Invalid("LogGroupName", "%q is not up to 512 letters, digits, '.', '_', '/', '#' and '-'", name)
	}
	if days := r.Properties["RetentionInDays"]; days != nil && !model.Unknown(days) && !slices.Contains(strings.Fields(retentions), fmt.Sprint(days)) {
		return r.Invalid("RetentionInDays", "is %v; allowed are %s", days, retentions)
	}
	return nil
}

func (h logGroup) Named(r *machine.Resource) string { return r.Text("LogGroupName") }

// folder is where a group's files lie. The name's slashes become part of one
// folder's name, so that no name can lead elsewhere or lie within another.
func (h logGroup) folder(name string) string {
	return filepath.Join(h.p.Logs, "groups", "group-"+strings.ReplaceAll(name, "/", "~"))
}

func (h logGroup) Make(_ context.Context, r *machine.Resource) error {
	name := r.DeclaredOr("LogGroupName", 512)
	for _, source := range h.p.logSources(name) { // all are there, to be followed
		if err := os.MkdirAll(source.Folder, 0o700); err != nil {
			return fmt.Errorf("make the folder of log group %s: %w", name, err)
		}
	}
	r.PhysicalID = name
	r.Attributes = map[string]any{"Arn": fmt.Sprintf("arn:aws:logs:%s:%s:log-group:%s:*", h.p.o.Region, h.p.o.Account, name)}
	return nil
}

func (h logGroup) Read(_ context.Context, r *machine.Resource) error {
	return standing(h.folder(r.PhysicalID), "the folder of log group %s is gone", r.PhysicalID)
}

// standing is fault.Unavailable with a text if a file or folder is not there.
func standing(path, text string, args ...any) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unavailable, text, args...).WithHint("make it again: makeitso up")
	}
	return err
}

// logSources are the folders with the files of a log group: its own, to which
// programs append, and, if it is called /makeitso/ENVIRONMENT/SERVICE, what the
// instances of that service print.
func (p *Platform) logSources(name string) []watch.Source {
	sources := []watch.Source{{Folder: logGroup{p}.folder(name)}}
	if service, ok := strings.CutPrefix(name, "/makeitso/"+p.Env+"/"); ok && service != "" && !strings.Contains(service, "/") {
		begin := service + "-" + p.Env + "." + service // see Platform.prepare: an instance's id begins so
		sources = append(sources, watch.Source{Folder: filepath.Join(p.Logs, "instances"), Has: func(file string) bool {
			rest, ok := strings.CutPrefix(file, begin)
			return ok && strings.IndexAny(rest, "-.") == 0
		}})
	}
	return sources
}

func (h logGroup) Remove(_ context.Context, r *machine.Resource) error {
	if r.PhysicalID == "" {
		return nil // never made
	}
	return os.RemoveAll(h.folder(r.PhysicalID))
}
