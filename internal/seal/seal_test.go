package seal_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/record/recordtest"
	"makeitso/internal/seal"
)

func TestKey(t *testing.T) {
	k, plain := seal.Fresh(), []byte(`{"password": "correct horse"}`)
	one, two := k.Seal(plain, "a"), k.Seal(plain, "a")
	if bytes.Contains(one, []byte("horse")) || bytes.Equal(one, two) {
		t.Errorf("sealed twice: %q, %q", one, two)
	}
	if got, err := k.Open(one, "a"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opened: %q, %v", got, err)
	}
	if got, err := k.Open(plain, "a"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("what was never sealed: %q, %v", got, err)
	}
	changed := bytes.Clone(one)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"in another place": func() ([]byte, error) { return k.Open(one, "b") },
		"with another key": func() ([]byte, error) { return seal.Fresh().Open(one, "a") },
		"changed":          func() ([]byte, error) { return k.Open(changed, "a") },
		"cut off":          func() ([]byte, error) { return k.Open(one[:5], "a") },
	} {
		if got, err := open(); !fault.Is(err, fault.Denied) || got != nil {
			t.Errorf("%s it opened: %q, %v", name, got, err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "key")
	var loading sync.WaitGroup
	keys := make([]*seal.Key, 8) // that begin at once
	for i := range keys {
		loading.Go(func() {
			var err error
			if keys[i], err = seal.Load(path); err != nil {
				t.Error(err)
			}
		})
	}
	loading.Wait()
	if t.Failed() {
		return
	}
	sealed := keys[0].Seal([]byte("it"), "")
	for _, k := range keys {
		if _, err := k.Open(sealed, ""); err != nil {
			t.Errorf("two that loaded it have different keys: %v", err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v (%v)", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	for _, text := range []string{"", "not base64!", "c2hvcnQ="} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Load(path); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.HintOf(err), "base64") {
			t.Errorf("%q is taken for a key: %v", text, err)
		}
	}
	if _, err := seal.Load(filepath.Join(path, "beneath")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a place that cannot be: %v", err)
	}
}

func TestStore(t *testing.T) {
	base, k := record.NewMemory(), seal.Fresh()
	s, err := seal.Store(t.Context(), base, k)
	if err != nil {
		t.Fatal(err)
	}
	recordtest.Run(t, s)
	if err := record.Of[string](s, "word").Put(t.Context(), "it", "correct horse"); err != nil {
		t.Fatal(err)
	}
	if e, err := base.Get(t.Context(), "word", "it"); err != nil || bytes.Contains(e.Value, []byte("horse")) {
		t.Errorf("it is stored as %q (%v)", e.Value, err)
	}
	if _, err := seal.Store(t.Context(), base, seal.Fresh()); !fault.Is(err, fault.Denied) || fault.HintOf(err) == "" {
		t.Errorf("with another key it opened: %v", err)
	}
	again, err := seal.Store(context.Background(), base, k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := record.Of[string](again, "word").Get(t.Context(), "it"); got != "correct horse" {
		t.Errorf("opened again it is %q (%v)", got, err)
	}
	moved, err := base.Get(t.Context(), "word", "it")
	if err == nil {
		err = base.Write(t.Context(), record.Op{Kind: "word", Key: "other", Value: moved.Value})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := record.Of[string](again, "word").List(t.Context(), ""); !fault.Is(err, fault.Denied) {
		t.Errorf("put in another place it reads %q (%v)", got, err)
	}
}
