package local

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/testneed"
)

// programRepository serves a PostgreSQL as the library downloads it: a jar with a
// .txz in it, and its digest. The programs in it do nothing.
func programRepository(t *testing.T, digest func(jar []byte) string) (address string, downloads *int) {
	t.Helper()
	testneed.Program(t, "xz", "apt-get install xz-utils")
	dir := t.TempDir()
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		path := filepath.Join(dir, "bin", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	packed, err := exec.Command("tar", "-cJ", "-C", dir, "bin").Output()
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	archive := zip.NewWriter(&jar)
	w, err := archive.Create("postgres.txz")
	if err == nil {
		_, err = w.Write(packed)
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	downloads = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			w.Write([]byte(digest(jar.Bytes())))
			return
		}
		*downloads++
		w.Write(jar.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL, downloads
}

func TestPostgresIsDownloadedOnce(t *testing.T) {
	t.Parallel()
	address, downloads := programRepository(t, func(jar []byte) string {
		sum := sha256.Sum256(jar)
		return hex.EncodeToString(sum[:])
	})
	state := t.TempDir()
	for range 2 {
		if err := fetchPostgres(t.Context(), state, address); err != nil {
			t.Fatal(fault.Text(err))
		}
	}
	if _, err := os.Stat(filepath.Join(embeddedPrograms(state), "bin", "initdb")); err != nil || *downloads != 1 {
		t.Errorf("%v, %d downloads; want initdb after one", err, *downloads)
	}
	left, err := os.ReadDir(filepath.Join(state, "cache"))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the programs: %v, %v", left, err)
	}
}

func TestPostgresWithAnotherDigestIsRefused(t *testing.T) {
	t.Parallel()
	address, _ := programRepository(t, func([]byte) string { return strings.Repeat("0", 64) })
	state := t.TempDir()
	err := fetchPostgres(t.Context(), state, address)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "checksums do not match") || !strings.Contains(fault.HintOf(err), "install PostgreSQL") {
		t.Errorf("%v", err)
	}
	if isThere(embeddedPrograms(state)) {
		t.Error("it is kept nevertheless")
	}
}
