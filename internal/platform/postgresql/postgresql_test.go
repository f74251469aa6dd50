package postgresql

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func TestWriteParameters(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := WriteParameters(data, nil); !fault.Is(err, fault.Failed) || !strings.Contains(fault.HintOf(err), "put the file back") {
		t.Errorf("a folder without postgresql.conf: %v", err)
	}
	own := filepath.Join(data, "postgresql.conf")
	if err := os.WriteFile(own, []byte("work_mem = 1MB"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := WriteParameters(data, map[string]string{"work_mem": "2MB", "log_line_prefix": "it's "}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		own:                       "work_mem = 1MB\ninclude_if_exists 'makeitso.conf'\n",
		filepath.Join(data, file): "log_line_prefix = 'it''s '\nwork_mem = '2MB'\n",
	} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v; want %q", path, text, err, want)
		}
	}
	if version := DataVersion(data); version != "" {
		t.Errorf("no data is of version %s", version)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if version := DataVersion(data); version != "15" {
		t.Errorf("data of 15 is of version %q", version)
	}
}

func TestAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	if err := (Server{Port: 1, User: "keeper"}).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("asked nobody: %v", err)
	}
}
