package publish

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The digest of a file is remembered only if a change right after it was taken
// would show.
func TestStampsSettle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s, changed := stampOf(info), info.ModTime()
	for after, want := range map[time.Duration]bool{-time.Hour: false, 0: false, 10 * time.Millisecond: false, tick: false, tick + 1: true, time.Hour: true} {
		if got := s.settled(changed.Add(after)); got != want {
			t.Errorf("%s after the change, it is settled: %v", after, got)
		}
	}
}
