package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/record/recordtest"
	"makeitso/internal/store"
	"makeitso/internal/testneed"
)

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLite(t *testing.T) {
	recordtest.Run(t, open(t, filepath.Join(t.TempDir(), "with space?#", "state.db")))
}

func TestPostgres(t *testing.T) {
	url := testneed.PostgresServer(t)
	open := func() *store.Store {
		s, err := store.OpenPostgres(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	one, other := open(), open()
	recordtest.Run(t, one)
	t.Run("wakes the other replica", func(t *testing.T) {
		woken := make(chan error, 1)
		go func() { woken <- other.Wait(t.Context(), "between", 0) }()
		if _, err := one.Append(t.Context(), "between", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-woken; err != nil {
			t.Error(err)
		}
	})
	t.Run("no server", func(t *testing.T) {
		_, err := store.OpenPostgres(t.Context(), "postgres://test@127.0.0.1:1/postgres")
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.HintOf(err), "--database") {
			t.Errorf("%v (hint %q)", err, fault.HintOf(err))
		}
	})
}

func TestReopenKeepsEverything(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "state.db"), context.Background()
	first := open(t, path)
	if err := record.Of[string](first, "k").Put(ctx, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Append(ctx, "s", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	if v, err := record.Of[string](second, "k").Get(ctx, "a"); err != nil || v != "kept" {
		t.Errorf("got %q, %v", v, err)
	}
	if n, err := second.Append(ctx, "s", []byte("2")); err != nil || n != 2 {
		t.Errorf("the stream goes on at %d, %v; want 2", n, err)
	}
}

func TestDeferredIsForAWhile(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	synchronous := func() (level int) {
		if err := s.SQLite().QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level); err != nil {
			t.Fatal(err)
		}
		return level
	}
	const normal, full = 1, 2
	broken := errors.New("broken")
	err := s.Deferred(t.Context(), func() error {
		if level := synchronous(); level != normal {
			t.Errorf("synchronous is %d while writes are deferred, want %d", level, normal)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Deferred: %v, want what was done", err)
	}
	if level := synchronous(); level != full {
		t.Errorf("synchronous is %d after it, want %d", level, full)
	}
}

func TestNobodyElseReadsTheFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // a folder that was there before
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "state.db"))
	if _, err := s.Append(t.Context(), "stream", []byte("x")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 2 { // the file and its log
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", entry.Name(), info.Mode(), err)
		}
	}
}

func TestBadFolders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("not a folder, not a database, but long enough to be looked at"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a file where the folder should be": filepath.Join(file, "state.db"),
		"not a database":                    file,
	} {
		_, err := store.Open(context.Background(), path)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.HintOf(err), "state") {
			t.Errorf("%s: %v (hint %q)", name, err, fault.HintOf(err))
		}
	}
}
