// Command build bundles the page into client/dist. Scripts and styles get
// names that change with their content, so that they may be kept for ever; the
// page itself is written to refer to those names. Run it in the project's
// folder: go run ./client/build
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

const (
	page = "client/index.html"
	dist = "client/dist"
)

// entries are what the page refers to, as written there.
func entries() []string { return []string{"src/main.ts", "src/style.css"} }

func main() {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build() error {
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	names, err := bundle()
	if err != nil {
		return err
	}
	html, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text := string(html)
	for _, entry := range entries() {
		if n := strings.Count(text, `"`+entry+`"`); n != 1 {
			return fmt.Errorf("%s refers %d times to %q, not once", page, n, entry)
		}
		text = strings.ReplaceAll(text, `"`+entry+`"`, `"`+names[entry]+`"`)
	}
	if err := os.WriteFile(filepath.Join(dist, "index.html"), []byte(text), 0o644); err != nil {
		return err
	}
	for _, entry := range entries() {
		fmt.Println(names[entry])
	}
	return nil
}

// bundle gives the name in dist of each entry.
func bundle() (map[string]string, error) {
	meta := filepath.Join(dist, "meta.json")
	args := []string{"tool", "esbuild", "--bundle", "--minify", "--target=es2022", "--log-level=warning",
		"--entry-names=[name]-[hash]", "--outdir=" + dist, "--metafile=" + meta}
	for _, entry := range entries() {
		args = append(args, path.Join("client", entry))
	}
	cmd := exec.Command("go", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go tool esbuild: %w", err)
	}
	data, err := os.ReadFile(meta)
	if err != nil {
		return nil, err
	}
	var made struct {
		Outputs map[string]struct{ EntryPoint string }
	}
	if err := json.Unmarshal(data, &made); err != nil {
		return nil, fmt.Errorf("read %s: %w", meta, err)
	}
	names := map[string]string{}
	for output, of := range made.Outputs {
		names[strings.TrimPrefix(of.EntryPoint, "client/")] = path.Base(output)
	}
	for _, entry := range entries() {
		if names[entry] == "" {
			return nil, fmt.Errorf("esbuild made nothing of %s", entry)
		}
	}
	return names, os.Remove(meta)
}
