package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
)

// Parse reads the text of a makeitso.yaml and checks all that can be checked
// without other files. file is its name in the diagnostics. All mistakes are
// given at once, in the order of the file; only if none is an error is the
// project whole.
func Parse(file string, src []byte) (*Project, diag.List) {
	p, d := parse(file, src)
	d.list.Sort()
	return p, d.list
}

// Load reads dir/makeitso.yaml, checks it like Parse, and checks that the
// files it names are there. What a build makes first (binaries, folders of
// sites) is not looked for. An error means that the file could not be read.
func Load(dir string) (*Project, diag.List, error) {
	src, err := os.ReadFile(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault.New(fault.NotFound, "there is no %s in %s", File, dir).
			WithHint(`go to your project's folder, or run "makeitso init" to begin one`)
	}
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, err, "read %s", File)
	}
	p, d := parse(File, src)
	if err := errors.Join(checkTemplates(d, p, dir), checkCertificates(d, p, dir, time.Now())); err != nil {
		return nil, nil, err
	}
	d.list.Sort()
	return p, d.list, nil
}

func parse(file string, src []byte) (*Project, *decoder) {
	p := &Project{}
	d := &decoder{file: file, places: map[string]place{}}
	top := d.document(src)
	if top == nil {
		return p, d
	}
	d.value(top, reflect.ValueOf(p).Elem(), "", rule{})
	if d.values < maxValues && resolve(top).Kind == yaml.MappingNode {
		complete(p)
		check(d, p)
	}
	return p, d
}

// document gives the one value of the YAML text src, nil after a mistake.
func (d *decoder) document(src []byte) *yaml.Node {
	var documents []yaml.Node
	err := yaml.Load(src, &documents, yaml.WithAllDocuments())
	if err != nil {
		d.syntax(src, err)
		return nil
	}
	top := diag.Pos{File: d.file, Line: 1, Column: 1}
	switch {
	case len(documents) == 0 || len(documents[0].Content) == 0:
		m := d.list.Errorf(top, "the file is empty")
		m.Allowed, m.Hint = `a map that begins with "project: NAME"`, `"makeitso init" writes one to begin with`
		return nil
	case len(documents) > 1:
		d.list.Errorf(d.pos(&documents[1]), "found a second YAML document").Allowed = "one document in the file, without ---"
	}
	return documents[0].Content[0]
}

// syntax notes that src is no YAML, and what often is the reason.
func (d *decoder) syntax(src []byte, err error) {
	at := diag.Pos{File: d.file, Line: 1, Column: 1}
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		d.list.Errorf(at, "the file is no YAML: %v", err)
		return
	}
	if load.Mark.Line > 0 {
		at.Line, at.Column = load.Mark.Line, load.Mark.Column
	}
	text := load.Message
	if load.ContextMsg != "" {
		text += " " + load.ContextMsg
		if line := load.ContextMark.Line; line > 0 && line != at.Line {
			text += fmt.Sprintf(" that begins on line %d", line)
		}
	}
	m := d.list.Errorf(at, "the file is no YAML: %s", text)
	lines := strings.Split(string(src), "\n")
	line := lines[min(at.Line, len(lines))-1]
	switch {
	case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
		m.Hint = "indent with spaces, a tab is not allowed there"
	case strings.Contains(line, "${") && strings.ContainsAny(line, "[{"):
		m.Hint = `put a ${…} inside {…} or […] between quotes`
	case slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "<<<<<<< ") }):
		m.Hint = "resolve the merge conflict first"
	case strings.Contains(load.Message, "mapping values are not allowed"):
		m.Hint = `put a text that holds ": " between quotes, and check the indentation`
	}
}

// checkTemplates checks that the templates of p's stacks are files in dir.
func checkTemplates(d *decoder, p *Project, dir string) error {
	for _, name := range sortedKeys(p.Stacks) {
		template := p.Stacks[name].Template
		at := "stacks." + name + ".template"
		if template == "" || !filepath.IsLocal(template) {
			continue // told by Parse
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(template)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			m := d.list.Errorf(d.valuePos(at), "%s: there is no file %q", at, template)
			m.Allowed = "the path of a template, relative to " + File
			m.Hint = nearestFile(dir, template)
		case err != nil:
			return fault.Wrap(fault.Unavailable, err, "look for %s", template)
		case info.IsDir():
			d.list.Errorf(d.valuePos(at), "%s: %q is a folder", at, template).Allowed = "the path of a template file"
		}
	}
	return nil
}

// nearestFile proposes the file beside name that is spelled most like it.
func nearestFile(dir, name string) string {
	folder := path.Dir(name)
	entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(folder)))
	if err != nil {
		return "" // a hint is worth no error: the missing file itself is told
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = path.Join(folder, e.Name())
	}
	return suggest(name, names)
}
