package local

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"makeitso/internal/fault"
)

// versionWritten finds the version in what a server's program says of itself.
var versionWritten = regexp.MustCompile(`(?:v=|PostgreSQL\) )(\d+(?:\.\d+)*)`)

// versionOf asks a server's program for its version.
func versionOf(ctx context.Context, path string) (string, error) {
	said, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "ask %s for its version", path)
	}
	found := versionWritten.FindSubmatch(said)
	if found == nil {
		return "", fault.New(fault.Unavailable, "%s does not tell its version: %q", path, strings.TrimSpace(string(said)))
	}
	return string(found[1]), nil
}

func major(version string) string {
	first, _, _ := strings.Cut(version, ".")
	return first
}

// declaredVersion is the version that a template names, "" for any.
func (r *resource) declaredVersion() string {
	version := r.text("EngineVersion")
	if unknown(version) {
		return ""
	}
	return version
}

// checkVersion judges whether a program is of the major version declared.
func checkVersion(ctx context.Context, r *resource, path, install string) error {
	if r.declaredVersion() == "" {
		return nil
	}
	is, err := versionOf(ctx, path)
	if err != nil {
		return err
	}
	return compareMajor(r, fmt.Sprintf("%s %s is installed", filepath.Base(path), is), is, install)
}

// checkImage judges whether an image is of the major version declared.
func checkImage(r *resource, image string) error {
	_, tag, _ := strings.Cut(image, ":")
	return compareMajor(r, "this machine serves the image "+image, strings.TrimSuffix(tag, "-alpine"), "that version")
}

// warn implements warner.
func (h redis) warn(ctx context.Context, r *resource) ([]string, error) {
	path, found := h.program(r)
	if !found || r.declaredVersion() == "" {
		return nil, nil
	}
	is, err := versionOf(ctx, path)
	return sameMajor(r, is), err
}

// warn implements warner: what has another meaning on one machine is said.
func (h replicationGroup) warn(ctx context.Context, r *resource) ([]string, error) {
	told, err := h.redis.warn(ctx, r)
	if r.text("AutomaticFailoverEnabled") == "true" {
		told = append(told, "AutomaticFailoverEnabled: a primary that ends is started again at its address, with its data; no replica takes its place")
	}
	if r.text("TransitEncryptionEnabled") == "true" {
		told = append(told, "TransitEncryptionEnabled: the servers listen on this machine alone, without TLS: a client must connect without it")
	}
	return told, err
}

func compareMajor(r *resource, what, is, install string) error {
	if declared := r.declaredVersion(); declared != "" && major(declared) != major(is) {
		return r.invalid("EngineVersion", "is %s, and %s", declared, what).
			WithHint("write EngineVersion: %q, or leave it out, or install %s: %s", major(is), declared, install)
	}
	return nil
}

// sameMajor tells that another minor version serves than was declared.
func sameMajor(r *resource, is string) []string {
	declared := r.declaredVersion()
	if declared == "" || is == "" || is == declared || strings.HasPrefix(is, strings.TrimSuffix(declared, "x")) {
		return nil
	}
	return []string{fmt.Sprintf("version %s serves, which stands in for %s", is, declared)}
}
