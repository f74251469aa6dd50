package release

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// mortal is a store whose process dies: after so many writes nothing is stored
// any more, and nothing that was being done goes on.
type mortal struct {
	record.Store
	mu   sync.Mutex
	left int
	died chan struct{}
}

var errDead = errors.New("the process has died")

func (m *mortal) Write(ctx context.Context, ops ...record.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		select {
		case <-m.died:
		default:
			close(m.died)
		}
		return errDead
	}
	m.left--
	return m.Store.Write(ctx, ops...)
}

// A controller that dies after any of its writes, and is replaced by another on
// the same store, comes to the same end, and no request is lost.
func TestCrashAnywhere(t *testing.T) {
	for _, c := range []struct {
		name, digest string
		service      Service
		live         string // the artifact that runs in the end
		bad          bool   // whether the canary itself answers badly
	}{
		{"rolling", "two", api, "two", false},
		{"canary", "two", canary(20 * time.Millisecond), "two", false},
		{"bad canary", "broken", canary(time.Minute), "one", true},
		{"never healthy", "sick", canary(time.Minute), "one", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for writes := 0; ; writes++ {
				if survived := crashAfter(t, writes, c.service, c.digest, c.live, c.bad); survived {
					if writes < 5 {
						t.Errorf("the rollout had only %d writes to crash after", writes)
					}
					t.Logf("%d writes", writes)
					return
				}
			}
		})
	}
}

// crashAfter lets a controller die after so many writes of a rollout; it says
// whether it came to its end before.
func crashAfter(t *testing.T, writes int, s Service, digest, live string, bad bool) (survived bool) {
	w := newWorld(t)
	o := quick(w)
	first := w.live(w.store, o)
	first.mustRelease(s, "one", "before")
	first.stop()
	end := w.load(500 * time.Microsecond)

	if digest == "sick" {
		o.Limits.Start = 60 * time.Millisecond
	}
	store := &mortal{Store: w.store, left: writes, died: make(chan struct{})}
	second := w.live(store, o)
	ended := make(chan error, 1)
	go func() {
		_, err := second.Release(within(t), s, Artifact{Digest: digest}, nil, "key")
		ended <- err
	}()
	var err error
	select {
	case err = <-ended:
		survived = !errors.Is(err, errDead)
	case <-store.died:
	}
	second.stop()

	third := w.live(w.store, o)
	r, err := third.Release(within(t), s, Artifact{Digest: digest}, nil, "key")
	if (live == digest) != (err == nil) || err != nil && !fault.Is(err, fault.Failed) {
		t.Fatalf("crash after %d writes: ended with %v", writes, err)
	}
	if r.ID != "api-2" {
		t.Fatalf("crash after %d writes: ended with %s, not with the release begun before", writes, r.ID)
	}
	eventually(t, fmt.Sprintf("crash after %d writes: %s twice and nothing else, running %s", writes, live, w.instances.running()), func() bool {
		return w.instances.running() == live+" "+live
	})
	good, lost := end()
	if good == 0 || !bad && lost > 0 {
		t.Fatalf("crash after %d writes: %d good and %d bad answers", writes, good, lost)
	}
	if status, body := w.get(); status != 200 || body[:3] != live {
		t.Fatalf("crash after %d writes: %d %q", writes, status, body)
	}
	third.stop()
	return survived
}
