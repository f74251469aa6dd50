package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// isolate gives this process, which is in a mount namespace of its own
// already, the view of the file system that s asks for.
func isolate(s Spec) error {
	if !s.isolated() {
		return nil
	}
	// Without this, what is mounted here would be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return denied(err, "leave the shared mounts")
	}
	if s.Root == "" {
		for _, b := range s.Binds {
			if err := bind(b.Source, b.Target); err != nil {
				return err
			}
		}
		return nil
	}
	return enterRoot(s)
}

// enterRoot makes s.Root the root folder, with what a program expects of a
// Linux machine in it.
func enterRoot(s Spec) error {
	// The new root has to be a mount of its own to be pivoted to.
	if err := bind(s.Root, s.Root); err != nil {
		return err
	}
	// Targets are opened through root, which no symbolic link in an image can
	// leave, and mounted upon by their descriptor.
	root, err := os.OpenRoot(s.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	binds := []Bind{{"/proc", "/proc"}, {"/etc/resolv.conf", "/etc/resolv.conf"}, {"/etc/hosts", "/etc/hosts"}}
	for _, device := range []string{"null", "zero", "full", "random", "urandom"} {
		binds = append(binds, Bind{"/dev/" + device, "/dev/" + device})
	}
	for _, b := range append(binds, s.Binds...) {
		if err := bindInside(root, b); err != nil {
			return err
		}
	}
	if err := os.Chdir(s.Root); err != nil {
		return err
	}
	// Both at one place: the old root lies over the new one and is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return denied(err, "make %s the root folder", s.Root)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return denied(err, "take the old root folder away")
	}
	return nil
}

// bindInside shows b.Source at b.Target below root, which is created if need
// be. A file that this machine lacks is left out.
func bindInside(root *os.Root, b Bind) error {
	info, err := os.Stat(b.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(filepath.Clean(b.Target), "/")
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make a place for %s: %w", b.Target, err)
	}
	var target *os.File
	if info.IsDir() {
		if err := root.MkdirAll(name, 0o755); err != nil {
			return fmt.Errorf("make a place for %s: %w", b.Target, err)
		}
		target, err = root.Open(name)
	} else {
		target, err = root.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644)
	}
	if err != nil {
		return fmt.Errorf("make a place for %s: %w", b.Target, err)
	}
	defer target.Close()
	return bind(b.Source, fmt.Sprintf("/proc/self/fd/%d", target.Fd()))
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return denied(err, "show %s at %s", source, target)
	}
	return nil
}
