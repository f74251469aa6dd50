package edge

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"makeitso/internal/fault"
)

// LoadConfig reads the configuration that an edge has saved at path; where
// there is none yet it is empty.
func LoadConfig(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fault.Wrap(fault.Unavailable, err, "the edge's saved configuration cannot be read")
	}
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return Config{}, fault.Wrap(fault.Invalid, err, "the edge's saved configuration %s is damaged", path).
			WithHint("remove the file; makeitso gives the edge its configuration again")
	}
	return c, nil
}
