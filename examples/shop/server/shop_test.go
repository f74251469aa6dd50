package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// away is a shop whose Redis and PostgreSQL do not answer.
func away(t *testing.T) http.Handler {
	t.Helper()
	const nowhere = "127.0.0.1:1"
	carts := redis.NewClient(&redis.Options{Addr: nowhere, MaxRetries: -1, DialerRetries: 1})
	orders, err := pgxpool.New(t.Context(), "postgres://shop:secret@"+nowhere+"/shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		orders.Close()
		if err := carts.Close(); err != nil {
			t.Error(err)
		}
	})
	return handler(&shop{carts: carts, orders: orders})
}

func TestVersion(t *testing.T) {
	w := httptest.NewRecorder()
	away(t).ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"version":"`+version+`"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTroubleIsToldWithoutSecrets(t *testing.T) {
	for path, want := range map[string]int{"/healthz": 503, "/cart": 500, "/orders": 500, "/cart?cart=a:b": 400, "/nothing": 404} {
		w := httptest.NewRecorder()
		away(t).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}

func TestOnlyTheSiteMayUseIt(t *testing.T) {
	for origin, want := range map[string]bool{
		"http://www.shop.localhost:8080": true,
		"http://www.shop.localhost:9090": false,
		"http://www.evil.localhost:8080": false,
		"http://shop.localhost:8080":     false,
		"null":                           false,
		"":                               false,
	} {
		r := httptest.NewRequest("OPTIONS", "http://api.shop.localhost:8080/cart", nil)
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		away(t).ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Origin"); (got == origin && got != "") != want || w.Code != http.StatusNoContent {
			t.Errorf("origin %q: %d, allowed %q", origin, w.Code, got)
		}
	}
}

func TestServeFinishesWhatHasBegun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-finish
			w.WriteHeader(http.StatusTeapot)
		}))
	}()
	status := make(chan int, 1)
	go func() {
		res, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			status <- 0
			return
		}
		res.Body.Close()
		status <- res.StatusCode
	}()
	<-begun
	stop()
	close(finish)
	if got := <-status; got != http.StatusTeapot {
		t.Errorf("the request that had begun got %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
