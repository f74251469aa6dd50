// Package recordtest is the suite that every record.Store passes.
package recordtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

type thing struct{ Name string }

// Run checks the store that open gives; it is empty at first.
func Run(t *testing.T, store record.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	t.Run("records", func(t *testing.T) { records(ctx, t, store) })
	t.Run("conditions", func(t *testing.T) { conditions(ctx, t, store) })
	t.Run("all or none", func(t *testing.T) { allOrNone(ctx, t, store) })
	t.Run("concurrent counter", func(t *testing.T) { counter(ctx, t, store) })
	t.Run("many writers", func(t *testing.T) { manyWriters(ctx, t, store) })
	t.Run("streams", func(t *testing.T) { streams(ctx, t, store) })
	t.Run("trim", func(t *testing.T) { trim(ctx, t, store) })
	t.Run("wait", func(t *testing.T) { wait(ctx, t, store) })
}

func records(ctx context.Context, t *testing.T, store record.Store) {
	things := record.Of[thing](store, "thing")
	if _, err := things.Get(ctx, "a"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("get of nothing: %v, want not_found", err)
	}
	for _, key := range []string{"a/2", "b/1", "a/1", "a/10", "a"} {
		if err := things.Put(ctx, key, thing{key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := record.Of[thing](store, "other").Put(ctx, "a/3", thing{"other"}); err != nil {
		t.Fatal(err)
	}
	got, err := things.List(ctx, "a/")
	if err != nil {
		t.Fatal(err)
	}
	if want := "[{a/1} {a/10} {a/2}]"; fmt.Sprint(got) != want {
		t.Errorf("list a/: %v, want %s", got, want)
	}
	all, err := things.List(ctx, "")
	if err != nil || len(all) != 5 {
		t.Errorf("list all: %v, %v, want 5 things", all, err)
	}
	for range 2 { // the second finds nothing, which is fine
		if err := things.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := things.Get(ctx, "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("get after delete: %v, want not_found", err)
	}
}

func conditions(ctx context.Context, t *testing.T, store record.Store) {
	things := record.Of[thing](store, "conditional")
	if err := things.PutIf(ctx, "k", thing{"1"}, record.Absent); err != nil {
		t.Fatal(err)
	}
	if err := things.PutIf(ctx, "k", thing{"2"}, record.Absent); !fault.Is(err, fault.Conflict) {
		t.Errorf("put if absent over something: %v, want conflict", err)
	}
	if err := things.PutIf(ctx, "k", thing{"2"}, 1); err != nil {
		t.Fatal(err)
	}
	if err := things.PutIf(ctx, "k", thing{"3"}, 1); !fault.Is(err, fault.Conflict) {
		t.Errorf("put with an old version: %v, want conflict", err)
	}
	value, version, err := things.GetVersion(ctx, "k")
	if err != nil || value.Name != "2" || version != 2 {
		t.Errorf("got %v version %d, %v; want 2 version 2", value, version, err)
	}
	stale := things.DeleteOp("k")
	stale.If = 1
	if err := store.Write(ctx, stale); !fault.Is(err, fault.Conflict) {
		t.Errorf("delete with an old version: %v, want conflict", err)
	}
	for at, allowed := range map[int64]bool{1: false, 2: true} {
		beside, err := things.PutOp(fmt.Sprint("beside ", at), thing{"1"}, record.Any)
		if err != nil {
			t.Fatal(err)
		}
		err = store.Write(ctx, record.Op{Kind: "conditional", Key: "k", Keep: true, If: at}, beside)
		if allowed != (err == nil) || !allowed && !fault.Is(err, fault.Conflict) {
			t.Errorf("write while another record has version %d, which has 2: %v", at, err)
		}
	}
	if value, version, err := things.GetVersion(ctx, "k"); err != nil || value.Name != "2" || version != 2 {
		t.Errorf("after it was a condition alone: %v version %d, %v; want 2 version 2", value, version, err)
	}
}

func allOrNone(ctx context.Context, t *testing.T, store record.Store) {
	things := record.Of[thing](store, "batch")
	good, err := things.PutOp("new", thing{"new"}, record.Absent)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := things.PutOp("missing", thing{"x"}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Write(ctx, good, bad); !fault.Is(err, fault.Conflict) {
		t.Fatalf("write with a failing condition: %v, want conflict", err)
	}
	if _, err := store.AppendWith(ctx, "beside", [][]byte{[]byte("1")}, good, bad); !fault.Is(err, fault.Conflict) {
		t.Fatalf("append with a failing condition: %v, want conflict", err)
	}
	if _, err := things.Get(ctx, "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the first op of a refused write is there: %v", err)
	}
	if n, err := store.Last(ctx, "beside"); err != nil || n != 0 {
		t.Errorf("the value of a refused append is there: %d %v", n, err)
	}
	if n, err := store.AppendWith(ctx, "beside", [][]byte{[]byte("2"), []byte("3")}, good); err != nil || n != 2 {
		t.Errorf("append two with an op: %d, %v; want 2", n, err)
	}
	if v, err := things.Get(ctx, "new"); err != nil || v.Name != "new" {
		t.Errorf("the op of an append: %v %v", v, err)
	}
}

func counter(ctx context.Context, t *testing.T, store record.Store) {
	counts := record.Of[int](store, "counter")
	if err := counts.Put(ctx, "n", 0); err != nil {
		t.Fatal(err)
	}
	const workers, each = 4, 25
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				n, version, err := counts.GetVersion(ctx, "n")
				if err == nil {
					err = counts.PutIf(ctx, "n", n+1, version)
				}
				switch {
				case err == nil:
					done++
				case !fault.Is(err, fault.Conflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, err := counts.Get(ctx, "n"); err != nil || n != workers*each {
		t.Errorf("counted to %d, %v; want %d", n, err, workers*each)
	}
}

// manyWriters lets many write at a time, every second of them against a
// condition that does not hold: each has its own answer, and all or nothing of
// what it wrote is there.
func manyWriters(ctx context.Context, t *testing.T, store record.Store) {
	things := record.Of[thing](store, "many")
	if err := things.Put(ctx, "taken", thing{"first"}); err != nil {
		t.Fatal(err)
	}
	const writers = 40
	numbers := make([]int64, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			key := fmt.Sprintf("new/%02d", i)
			own, err := things.PutOp(key, thing{key}, record.Absent)
			if err != nil {
				t.Error(err)
				return
			}
			ops := []record.Op{own}
			if i%2 == 1 {
				taken, err := things.PutOp("taken", thing{key}, record.Absent)
				if err != nil {
					t.Error(err)
					return
				}
				ops = append(ops, taken)
			}
			numbers[i], err = store.AppendWith(ctx, "many", [][]byte{[]byte(key), []byte(key)}, ops...)
			if fault.Is(err, fault.Conflict) != (i%2 == 1) || err != nil && i%2 == 0 {
				t.Errorf("writer %d was answered %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, number := range numbers {
		key := fmt.Sprintf("new/%02d", i)
		_, err := things.Get(ctx, key)
		if i%2 == 1 {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("what refused writer %d wrote: %v, want not_found", i, err)
			}
			continue
		}
		if items, readErr := store.Read(ctx, "many", number-2, 2); err != nil || readErr != nil || len(items) != 2 || string(items[0].Value) != key || string(items[1].Value) != key {
			t.Errorf("writer %d was told number %d, where there is %v; %v %v", i, number, items, err, readErr)
		}
	}
	if n, err := store.Last(ctx, "many"); err != nil || n != writers {
		t.Errorf("the stream ends at %d, %v; want %d", n, err, writers)
	}
	if v, err := things.Get(ctx, "taken"); err != nil || v.Name != "first" {
		t.Errorf("the refused have written %v, %v", v, err)
	}
}

func streams(ctx context.Context, t *testing.T, store record.Store) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := store.Append(ctx, "s", []byte("x"), []byte("y")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	items, err := store.Read(ctx, "s", 0, 1000)
	if err != nil || len(items) != 80 {
		t.Fatalf("%d items, %v; want 80", len(items), err)
	}
	for i, item := range items {
		if item.Number != int64(i+1) || string(item.Value) != []string{"x", "y"}[i%2] {
			t.Fatalf("item %d is %d %q", i, item.Number, item.Value)
		}
	}
	if items, err := store.Read(ctx, "s", 78, 1); err != nil || len(items) != 1 || items[0].Number != 79 {
		t.Errorf("read after 78, one: %v, %v", items, err)
	}
	if n, err := store.Last(ctx, "s"); err != nil || n != 80 {
		t.Errorf("the last is %d, %v; want 80", n, err)
	}
	if n, err := store.Last(ctx, "empty"); err != nil || n != 0 {
		t.Errorf("the last of nothing is %d, %v; want 0", n, err)
	}
	if n, err := store.Append(ctx, "other", []byte("z")); err != nil || n != 1 {
		t.Errorf("a second stream begins at %d, %v; want 1", n, err)
	}
}

func trim(ctx context.Context, t *testing.T, store record.Store) {
	for _, stream := range []string{"t", "kept"} {
		if _, err := store.Append(ctx, stream, []byte("1"), []byte("2"), []byte("3")); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what, stream string, numbers ...int64) {
		t.Helper()
		items, err := store.Read(ctx, stream, 0, 10)
		got := []int64{}
		for _, item := range items {
			got = append(got, item.Number)
		}
		if err != nil || !slices.Equal(got, numbers) {
			t.Errorf("%s: %s has %v, %v; want %v", what, stream, got, err, numbers)
		}
	}
	for _, step := range []struct {
		through int64
		left    []int64
	}{{0, []int64{1, 2, 3}}, {1, []int64{2, 3}}, {1, []int64{2, 3}}, {9, []int64{3}}} {
		if err := store.Trim(ctx, "t", step.through); err != nil {
			t.Error(err)
		}
		want(fmt.Sprint("trimmed through ", step.through), "t", step.left...)
	}
	if err := store.Trim(ctx, "none", 5); err != nil {
		t.Errorf("trimming what is not there: %v", err)
	}
	if n, err := store.Append(ctx, "t", []byte("4")); err != nil || n != 4 {
		t.Errorf("the next is %d, %v; want 4", n, err)
	}
	if items, err := store.Read(ctx, "t", 3, 10); err != nil || len(items) != 1 || string(items[0].Value) != "4" {
		t.Errorf("after 3 there is %v, %v", items, err)
	}
	if err := store.Wait(ctx, "t", 3); err != nil {
		t.Error(err)
	}
	want("of another", "kept", 1, 2, 3)
}

func wait(ctx context.Context, t *testing.T, store record.Store) {
	woken := make(chan error, 1)
	go func() { woken <- store.Wait(ctx, "w", 1) }()
	if _, err := store.Append(ctx, "w", []byte("1")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-woken:
		t.Fatalf("woken too early: %v", err)
	case <-time.After(30 * time.Millisecond): // nothing must happen: only time can show that
	}
	if _, err := store.Append(ctx, "w", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	go func() { woken <- store.Wait(canceled, "w", 99) }()
	cancel()
	if err := <-woken; !errors.Is(err, context.Canceled) {
		t.Errorf("wait ended with %v, want canceled", err)
	}
}
