package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"makeitso/internal/fault"
)

// logGroup makes AWS::Logs::LogGroup.
type logGroup struct{ p *Platform }

var validLogGroup = regexp.MustCompile(`^[A-Za-z0-9._/#-]{1,512}$`)

func (h logGroup) check(_ context.Context, r *resource) error {
	name := r.text("LogGroupName")
	if name != "" && !unknown(name) && !validLogGroup.MatchString(name) {
		return r.invalid("LogGroupName", "%q is not up to 512 letters, digits, '.', '_', '/', '#' and '-'", name)
	}
	return nil
}

func (h logGroup) named(r *resource) string { return r.text("LogGroupName") }

// folder is where a group's files lie. The name's slashes become part of one
// folder's name, so that no name can lead elsewhere or lie within another.
func (h logGroup) folder(name string) string {
	return filepath.Join(h.p.logs, "groups", "group-"+strings.ReplaceAll(name, "/", "~"))
}

func (h logGroup) make(_ context.Context, r *resource) error {
	name := r.declaredOr("LogGroupName", 512)
	if err := os.MkdirAll(h.folder(name), 0o700); err != nil {
		return fmt.Errorf("make the folder of log group %s: %w", name, err)
	}
	r.PhysicalID = name
	r.Attributes = map[string]any{"Arn": fmt.Sprintf("arn:aws:logs:%s:%s:log-group:%s:*", h.p.o.Region, h.p.o.Account, name)}
	return nil
}

func (h logGroup) read(_ context.Context, r *resource) error {
	_, err := os.Stat(h.folder(r.PhysicalID))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unavailable, "the folder of log group %s is gone", r.PhysicalID).
			WithHint("make it again: makeitso up")
	}
	return err
}

func (h logGroup) remove(_ context.Context, r *resource) error {
	if r.PhysicalID == "" {
		return nil // never made
	}
	return os.RemoveAll(h.folder(r.PhysicalID))
}
