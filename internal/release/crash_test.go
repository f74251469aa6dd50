package release

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/rollout"
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

// crash is something that is done to a service with two instances of one, and
// how that must end wherever it is interrupted.
type crash struct {
	name    string
	act     func(*life) (Release, error) // what is asked for, again in the next life
	id      string                       // the release that it ends with
	running string                       // what runs in the end
	bad     bool                         // whether the canary itself answers badly
	fails   bool                         // whether act ends with fault.Failed
	writes  int                          // how many writes there are at least
}

func release(s Service, digest string) func(*life) (Release, error) {
	return func(l *life) (Release, error) {
		return l.Release(within(l.t), s, Artifact{Digest: digest}, map[string]string{"A": "one"}, "key")
	}
}

// replaced begins a release and then a newer one.
func replaced(l *life) (Release, error) {
	first := l.releasing(canary(time.Minute), "two", "key-2")
	for begun := false; !begun; {
		changed := l.change()
		select {
		case <-first:
			begun = true
		default:
			rec, err := l.known(within(l.t), "api")
			if err != nil {
				return Release{}, err
			}
			if begun = rec.State.Phase == rollout.Watching || rec.Next != ""; !begun {
				select {
				case <-changed:
				case <-first:
					begun = true
				}
			}
		}
	}
	return release(api, "three")(l)
}

// A controller that dies after any of its writes, and is replaced by another on
// the same store, comes to the same end, and no request is lost.
func TestCrashAnywhere(t *testing.T) {
	more := api
	more.Instances = 3
	blueGreen := by(rollout.Strategy{Kind: rollout.BlueGreen, Soak: 10 * time.Millisecond, Keep: 20 * time.Millisecond})
	within := by(rollout.Strategy{Kind: rollout.Rolling, Unavailable: rollout.Amount{Count: 1}})
	for _, c := range []crash{
		{"rolling", release(api, "two"), "api-2", "two two", false, false, 5},
		{"rolling within", release(within, "two"), "api-2", "two two", false, false, 5},
		{"all at once", release(by(rollout.Strategy{Kind: rollout.AtOnce}), "two"), "api-2", "two two", false, false, 5},
		{"blue/green", release(blueGreen, "two"), "api-2", "two two", false, false, 5},
		{"canary", release(canary(20*time.Millisecond), "two"), "api-2", "two two", false, false, 5},
		{"commands", release(withCommands("ask", "look"), "two"), "api-2", "two two", false, false, 10},
		{"command that fails", release(withCommands("", "fail"), "two"), "api-2", "one one", false, true, 5},
		{"bad canary", release(canary(time.Minute), "broken"), "api-2", "one one", true, true, 5},
		{"never healthy", release(canary(time.Minute), "sick"), "api-2", "one one", false, true, 5},
		{"replaced", replaced, "api-3", "three three", false, false, 8},
		{"scaled", release(more, "one"), "api-1", "one one one", false, false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for writes := 0; ; writes++ {
				if survived := c.after(t, writes); survived {
					if writes < c.writes {
						t.Errorf("there were only %d writes to crash after", writes)
					}
					t.Logf("%d writes", writes)
					return
				}
			}
		})
	}
}

// after lets a controller die after so many writes; it says whether it came to
// its end before.
func (c crash) after(t *testing.T, writes int) (survived bool) {
	w := newWorld(t)
	o := quick(w)
	o.Hooks = &fakeHooks{}
	first := w.live(w.store, o)
	if _, err := first.Release(within(t), api, Artifact{Digest: "one"}, map[string]string{"A": "one"}, "before"); err != nil {
		t.Fatal(err)
	}
	first.stop()
	end := w.load(500 * time.Microsecond)
	eventually(t, "the first answers", func() bool { return w.edge.seen("api-1").Requests > 1 })

	if c.name == "never healthy" {
		o.Limits.Start = 60 * time.Millisecond
	}
	store := &mortal{Store: w.store, left: writes, died: make(chan struct{})}
	second := w.live(store, o)
	ended := make(chan error, 1)
	go func() {
		_, err := c.act(second)
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
	r, err := c.act(third)
	if c.fails != (err != nil) || err != nil && !fault.Is(err, fault.Failed) {
		t.Fatalf("crash after %d writes: ended with %v", writes, err)
	}
	if r.ID != c.id {
		t.Fatalf("crash after %d writes: ended with %s, not with the release begun before", writes, r.ID)
	}
	eventually(t, fmt.Sprintf("crash after %d writes: %s and nothing else, running %s", writes, c.running, w.instances.running()), func() bool {
		return w.instances.running() == c.running
	})
	if c.fails {
		eventually(t, fmt.Sprintf("crash after %d writes: a report", writes), func() bool {
			report, err := third.Report(within(t), "api", c.id)
			return err == nil && report.Cause != "" && report.Back.Digest == "one" && (report.Judgement != nil || !c.bad)
		})
	}
	good, lost := end()
	if good == 0 || !c.bad && lost > 0 {
		t.Fatalf("crash after %d writes: %d good and %d bad answers", writes, good, lost)
	}
	live, _, _ := strings.Cut(c.running, " ")
	if status, body := w.get(); status != 200 || !strings.HasPrefix(body, live) {
		t.Fatalf("crash after %d writes: %d %q", writes, status, body)
	}
	third.stop()
	return survived
}
