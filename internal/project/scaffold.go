package project

import (
	"embed"
	"io/fs"
	"path"
	"strings"

	"makeitso/internal/fault"
)

// scaffold holds the files of a new project. Those that would mean something
// to the Go tool or to git here end in .txt.
//
//go:embed scaffold
var scaffold embed.FS

// ScaffoldFile is a file of a new project.
type ScaffoldFile struct {
	Path string // relative to the project's folder, with slashes
	Data []byte
	Mode fs.FileMode
}

// Scaffold gives the files of a small project called name that works: a static
// site and a server, each with its pipeline. A name that is none is
// fault.Invalid.
func Scaffold(name string) ([]ScaffoldFile, error) {
	if p := patterns["name"]; !p.expr.MatchString(name) {
		err := fault.New(fault.Invalid, "found %q as the project's name, allowed: %s", name, p.allowed)
		if better := nameLike(name); better != "" {
			err = err.WithHint("did you mean %q?", better)
		}
		return nil, err
	}
	var files []ScaffoldFile
	err := fs.WalkDir(scaffold, "scaffold", func(from string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := scaffold.ReadFile(from)
		if err != nil {
			return err
		}
		to := strings.TrimSuffix(strings.TrimPrefix(from, "scaffold/"), ".txt")
		if path.Base(to) == "gitignore" {
			to = path.Join(path.Dir(to), ".gitignore")
		}
		text := strings.ReplaceAll(string(data), "PROJECT", name)
		files = append(files, ScaffoldFile{Path: to, Data: []byte(text), Mode: 0o644})
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "read the files of a new project")
	}
	return files, nil
}
