package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

const (
	healthLimit = 2 * time.Second
	newestCount = 10
	cartLife    = 30 * 24 * time.Hour
)

// shop is the service's state, all of it elsewhere.
type shop struct {
	carts  *redis.Client
	orders *pgxpool.Pool
}

// order is a placed order.
type order struct {
	ID    int64     `json:"id"`
	Items int64     `json:"items"`
	At    time.Time `json:"at"`
}

// prepare sees that Redis and PostgreSQL answer and makes the table of orders.
func (s *shop) prepare(ctx context.Context) error {
	if err := s.carts.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reach Redis: %w", err)
	}
	// Instances that start at once take turns: CREATE TABLE IF NOT EXISTS
	// alone may fail for the second of them.
	err := pgx.BeginFunc(ctx, s.orders, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('shop.orders'))`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS orders (
			id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			items bigint NOT NULL CHECK (items > 0),
			at    timestamptz NOT NULL DEFAULT now()
		)`)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the table of orders: %w", err)
	}
	return nil
}

// health answers whether the service can do its work.
func (s *shop) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthLimit)
	defer cancel()
	if err := s.carts.Ping(ctx).Err(); err != nil {
		http.Error(w, "redis: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err := s.orders.Ping(ctx); err != nil {
		http.Error(w, "postgres: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "well"})
}

func (s *shop) getCart(w http.ResponseWriter, r *http.Request) {
	key, ok := cartKey(w, r)
	if !ok {
		return
	}
	items, err := s.carts.Get(r.Context(), key).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		failed(w, "count the cart", err)
		return
	}
	answer(w, http.StatusOK, map[string]int64{"items": items})
}

func (s *shop) addToCart(w http.ResponseWriter, r *http.Request) {
	key, ok := cartKey(w, r)
	if !ok {
		return
	}
	var items *redis.IntCmd
	_, err := s.carts.Pipelined(r.Context(), func(p redis.Pipeliner) error {
		items = p.Incr(r.Context(), key)
		p.Expire(r.Context(), key, cartLife)
		return nil
	})
	if err != nil {
		failed(w, "add to the cart", err)
		return
	}
	answer(w, http.StatusOK, map[string]int64{"items": items.Val()})
}

// placeOrder makes an order of what is in the cart. The cart is emptied first,
// so that two clicks are not two orders; where the order fails it is filled
// again.
func (s *shop) placeOrder(w http.ResponseWriter, r *http.Request) {
	key, ok := cartKey(w, r)
	if !ok {
		return
	}
	items, err := s.carts.GetDel(r.Context(), key).Int64()
	if errors.Is(err, redis.Nil) || err == nil && items <= 0 {
		http.Error(w, "the cart is empty", http.StatusConflict)
		return
	}
	if err != nil {
		failed(w, "empty the cart", err)
		return
	}
	o := order{Items: items}
	err = s.orders.QueryRow(r.Context(), `INSERT INTO orders (items) VALUES ($1) RETURNING id, at`, items).Scan(&o.ID, &o.At)
	if err != nil {
		again := s.carts.IncrBy(context.WithoutCancel(r.Context()), key, items).Err()
		failed(w, "place the order", errors.Join(err, again))
		return
	}
	answer(w, http.StatusCreated, o)
}

func (s *shop) getOrders(w http.ResponseWriter, r *http.Request) {
	var total int64
	if err := s.orders.QueryRow(r.Context(), `SELECT count(*) FROM orders`).Scan(&total); err != nil {
		failed(w, "count the orders", err)
		return
	}
	rows, err := s.orders.Query(r.Context(), `SELECT id, items, at FROM orders ORDER BY id DESC LIMIT $1`, newestCount)
	if err != nil {
		failed(w, "read the orders", err)
		return
	}
	newest, err := pgx.CollectRows(rows, pgx.RowToStructByPos[order])
	if err != nil {
		failed(w, "read the orders", err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"total": total, "newest": newest})
}

var validCart = regexp.MustCompile(`^[0-9a-z]{1,64}$`)

// cartKey gives the key of the cart that a request names; without a name it is
// the one that all share.
func cartKey(w http.ResponseWriter, r *http.Request) (key string, ok bool) {
	name := r.URL.Query().Get("cart")
	if name == "" {
		name = "shared"
	}
	if !validCart.MatchString(name) {
		http.Error(w, "a cart's name is up to 64 letters and digits", http.StatusBadRequest)
		return "", false
	}
	return "cart:" + name, true
}

// forSite lets the shop's page use the service: the one at www. of the domain
// where the service is at api., and no other.
func forSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); isSite(origin, r.Host) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isSite(origin, host string) bool {
	from, err := url.Parse(origin)
	if err != nil {
		return false
	}
	site, isWww := strings.CutPrefix(from.Host, "www.")
	own, isAPI := strings.CutPrefix(host, "api.")
	return isWww && isAPI && site == own
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		slog.Warn("the client has gone", "error", err)
	}
}

// failed answers that the shop could not do its work; what went wrong is for
// its keepers.
func failed(w http.ResponseWriter, doing string, err error) {
	slog.Error(doing, "error", err)
	http.Error(w, "cannot "+doing, http.StatusInternalServerError)
}
