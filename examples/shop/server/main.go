// Command server is the shop's service: carts are counted in Redis, orders are
// kept in PostgreSQL.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// version is what GET /version tells. "makeitso demo" changes it here, and for
// its broken third version the marked line below.
const version = "v1"

const (
	startLimit = 30 * time.Second // how long Redis and PostgreSQL may take to answer at first
	drainLimit = 10 * time.Second // how long requests may go on after SIGTERM
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the shop cannot serve", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	carts := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR"), ContextTimeoutEnabled: true})
	defer func() { err = errors.Join(err, carts.Close()) }()
	orders, err := pgxpool.New(starting, os.Getenv("DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("read DATABASE_URL: %w", err)
	}
	defer orders.Close()
	s := &shop{carts: carts, orders: orders}
	if err := s.prepare(starting); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")))
	if err != nil {
		return fmt.Errorf("listen on PORT: %w", err)
	}
	return serve(ctx, listener, handler(s))
}

// serve answers requests until ctx ends, and then those that have begun.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	slog.Info("the shop is open", "version", version, "address", listener.Addr().String())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	err := server.Shutdown(draining)
	if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	slog.Info("the shop is closed", "error", err)
	return err
}

// handler gives all that the service answers.
func handler(s *shop) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", getVersion)
	mux.HandleFunc("GET /cart", s.getCart)
	mux.HandleFunc("POST /cart", s.addToCart)
	mux.HandleFunc("GET /orders", s.getOrders)
	mux.HandleFunc("POST /orders", s.placeOrder)
	all := http.NewServeMux()
	all.HandleFunc("GET /healthz", s.health)
	all.Handle("/", counted(forSite(mux)))
	return all
}

// counted numbers the answers of this instance.
func counted(next http.Handler) http.Handler {
	var answers atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := answers.Add(1)
		w.Header().Set("X-Answer", strconv.FormatInt(n, 10))
		// demo: version 3 is broken here
		next.ServeHTTP(w, r)
	})
}

func getVersion(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"version": version})
}
