package objectserver

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// oldServer is a server of S3 that knows nothing of ours. It refuses the key
// "refused"; if it waits, it answers no put before as many are under way as
// together waits for.
type oldServer struct {
	mu       sync.Mutex
	put      []string
	waits    bool
	together sync.WaitGroup
}

func (s *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || strings.HasPrefix(r.URL.Path, bulkPath) {
		http.Error(w, "<Error><Code>NoSuchBucket</Code></Error>", http.StatusNotFound)
		return
	}
	if s.waits {
		s.together.Done()
		s.together.Wait()
	}
	key := strings.TrimPrefix(r.URL.Path, "/b/")
	if key == "refused" {
		http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put = append(s.put, key)
}

// bucket gives a bucket of the server and files of that size to put.
func (s *oldServer) bucket(t *testing.T, size int, keys ...string) (*Bucket, map[string]string) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	paths := map[string]string{}
	for _, key := range keys {
		paths[key] = filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(paths[key], make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{Port: server.Listener.Addr().(*net.TCPAddr).Port, AccessKey: "key", SecretKey: "secret", Region: "us-east-1"}
	return c.Bucket("b"), paths
}

func noHeader(string) map[string]string { return nil }

// After makeitso was replaced, the server that runs may be one of before.
func TestPutFilesIntoAnEarlierServer(t *testing.T) {
	var s oldServer
	b, paths := s.bucket(t, 1, "a", "b", "c")
	put, err := b.PutFiles(t.Context(), paths, noHeader)
	slices.Sort(put)
	if want := slices.Sorted(maps.Keys(paths)); err != nil || !slices.Equal(put, want) || !slices.Equal(s.put, want) {
		t.Errorf("put %v, %v; the server has %v", put, err, s.put)
	}
}

// What is under way when a put fails comes to its end, and is reported.
func TestPutFilesSideBySide(t *testing.T) {
	var s oldServer
	b, paths := s.bucket(t, bulkBytes, "a", "refused", "z")
	s.together.Add(len(paths))
	s.waits = true
	put, err := b.PutFiles(t.Context(), paths, noHeader)
	slices.Sort(put)
	if Code(err) != "AccessDenied" || !strings.Contains(err.Error(), "put refused into bucket b") || !slices.Equal(put, []string{"a", "z"}) {
		t.Errorf("put %v, %v", put, err)
	}
}

// Of a request that failed nobody knows how far it came.
func TestPutFilesReportsWhatMayBe(t *testing.T) {
	var s oldServer
	b, paths := s.bucket(t, 1, "a", "refused", "z")
	put, err := b.PutFiles(t.Context(), paths, noHeader)
	if !strings.Contains(fmt.Sprint(err), "put refused into") || len(put) != 3 || !slices.Equal(s.put, []string{"a"}) {
		t.Errorf("put %v, %v; the server has %v", put, err, s.put)
	}
	paths["gone"] = filepath.Join(t.TempDir(), "gone")
	if put, err := b.PutFiles(t.Context(), paths, noHeader); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "put gone:") || len(put) != 0 {
		t.Errorf("with a file that is not there, put %v, %v", put, err)
	}
}
