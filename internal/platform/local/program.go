package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"makeitso/internal/fault"
)

// backing is what serves a resource.
type backing string

const (
	byProgram  backing = "program"  // a program of this machine
	byDocker   backing = "docker"   // a container of the Docker Engine
	byEmbedded backing = "embedded" // a stand-in of makeitso's own
)

// findProgram gives the first of findPrograms.
func (p *Platform) findProgram(name string, patterns ...string) (string, bool) {
	all := p.findPrograms(name, patterns...)
	return strings.Join(all[:min(len(all), 1)], ""), len(all) > 0
}

// findPrograms looks for a program on PATH and then in folders that match the
// patterns; of these the highest version comes first.
func (p *Platform) findPrograms(name string, patterns ...string) (all []string) {
	folders := p.o.Path
	if folders == nil {
		folders = filepath.SplitList(os.Getenv("PATH"))
		folders = append(folders, "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin")
		for _, pattern := range patterns {
			found, err := filepath.Glob(pattern)
			if err != nil {
				continue // a pattern of ours that is malformed matches nothing
			}
			slices.SortFunc(found, byVersion)
			folders = append(folders, found...)
		}
	}
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			all = append(all, path)
		}
	}
	return all
}

// byVersion orders /usr/lib/postgresql/16/bin before /usr/lib/postgresql/9/bin.
func byVersion(a, b string) int {
	if len(a) != len(b) {
		return len(b) - len(a)
	}
	if a > b {
		return -1
	}
	return 1
}

// missing says that no way to run a resource was found, and how to get one.
func missing(r *resource, what, install string) error {
	return fault.New(fault.Unavailable, "%s (%s) needs %s, and neither the program nor a Docker Engine with an image of it was found", r.name(), r.Type, what).
		WithHint("install it: %s\nor start Docker, with a network to pull the image\nor allow a stand-in: put embedded: true on the environment in makeitso.yaml", install)
}
