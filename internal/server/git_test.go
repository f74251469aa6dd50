package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestLoopbackOnly says that a web page cannot have a browser ask for it, by a
// name of its own that leads to this machine.
func TestLoopbackOnly(t *testing.T) {
	handler := loopbackOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for host, want := range map[string]int{
		"127.0.0.1:7700": 200, "localhost:7700": 200, "[::1]:7700": 200, "shop.localhost": 200,
		"evil.example": 403, "evil.example:7700": 403, "10.0.0.1:7700": 403, "127.0.0.1.evil.example": 403,
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s is answered %d, want %d", host, w.Code, want)
		}
	}
}

func TestReachable(t *testing.T) {
	for listens, want := range map[string]string{"127.0.0.1:7700": "127.0.0.1:7700", "0.0.0.0:7700": "127.0.0.1:7700", "[::]:7700": "127.0.0.1:7700", "[::1]:1": "[::1]:1"} {
		if got := reachable(listens); got != want {
			t.Errorf("%s is reached at %s, want %s", listens, got, want)
		}
	}
}
