// Package examples holds the projects that makeitso shows itself with. It knows
// how to lay one down as a user would have written it, and the changes that a
// demonstration makes to it.
package examples

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"makeitso/internal/fault"
)

// Shop is the files of examples/shop. The names of its go.mod and go.sum end
// with .txt: a folder with a go.mod cannot be embedded.
//
//go:embed all:shop
var Shop embed.FS

// CopyShop lays the shop down in dir, which must not exist or be empty.
func CopyShop(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy the shop: %w", err)
	}
	if len(entries) > 0 {
		return fault.New(fault.Conflict, "the folder %s is not empty", dir).WithHint("name a new folder")
	}
	err = fs.WalkDir(Shop, "shop", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, "shop")))
		if e.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := Shop.ReadFile(name)
		if err != nil {
			return err
		}
		switch filepath.Base(target) {
		case "go.mod.txt", "go.sum.txt":
			target = strings.TrimSuffix(target, ".txt")
		}
		return os.WriteFile(target, content, 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy the shop: %w", err)
	}
	return nil
}

// ShopVersion changes the shop in dir to another version: 2 is good, 3 answers
// every fifth request with a 500.
func ShopVersion(dir string, version int) error {
	const main = "server/main.go"
	if version != 2 && version != 3 {
		return fault.New(fault.Invalid, "the shop has no version %d; allowed are 2 and 3", version)
	}
	if err := replace(dir, main, fmt.Sprintf(`const version = "v%d"`, version-1), fmt.Sprintf(`const version = "v%d"`, version)); err != nil || version == 2 {
		return err
	}
	return replace(dir, main, "\t\t// demo: version 3 is broken here\n", `		if n%5 == 0 {
			http.Error(w, "something is wrong with version 3", http.StatusInternalServerError)
			return
		}
`)
}

// ShopInfraChange changes the infrastructure of the shop in dir: a log group is
// added, and Redis gets a larger node, in place.
func ShopInfraChange(dir string) error {
	const data = "infra/data.yaml"
	if err := replace(dir, data, "cache.t4g.micro", "cache.t4g.small"); err != nil {
		return err
	}
	return replace(dir, data, "\nOutputs:\n", `
  AccessLog:
    Type: AWS::Logs::LogGroup
    Properties:
      LogGroupName: /shop/access
      RetentionInDays: 7

Outputs:
`)
}

// replace changes a text of a file, which must be there exactly once.
func replace(dir, file, old, new string) error {
	path := filepath.Join(dir, filepath.FromSlash(file))
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("change the shop: %w", err)
	}
	if n := strings.Count(string(content), old); n != 1 {
		return fault.New(fault.Conflict, "%s holds %q %d times, not once", path, strings.TrimSpace(old), n).
			WithHint("the shop was changed by hand; begin with a new copy")
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), old, new, 1)), 0o644); err != nil {
		return fmt.Errorf("change the shop: %w", err)
	}
	return nil
}
