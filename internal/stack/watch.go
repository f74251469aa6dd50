package stack

import (
	"context"
	"time"
)

// How long Watch waits before it goes on with what was left, since mostly the
// store has failed: at first, and at most, after it has failed again and again.
const (
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// Watch goes on, until ctx ends, with every change that is left half done: by
// this process, which its store failed, or by another, which died with the
// lease. failed is told what keeps it from doing so, once for each reason in a
// row that one stack has; it tries again, more and more seldom.
func (e *Engine) Watch(ctx context.Context, failed func(error)) {
	w := watch{e: e, failed: failed, tries: map[string]*try{}, ended: make(chan ending), look: time.Now()}
	var beat <-chan time.Time // that another process died is seen with a beat of the leases
	if e.o.Beat > 0 {
		ticker := time.NewTicker(e.o.Beat)
		defer ticker.Stop()
		beat = ticker.C
	}
	for ctx.Err() == nil {
		w.begin(ctx)
		w.await(ctx, beat)
	}
	for w.busy > 0 {
		w.end(ctx, <-w.ended)
	}
}

// watch is one Watch. Its goroutines tell it their end and touch nothing of it.
type watch struct {
	e      *Engine
	failed func(error)
	tries  map[string]*try // by stack, and those of all
	look   time.Time       // when to look for what was left; zero for not before something says so
	ended  chan ending
	busy   int // goroutines
}

// What Watch does besides going on with the changes of stacks, none of which
// has such a name.
const (
	lookingFor = " look" // for leases that were left
	lettingGo  = " go"   // of what was kept for stacks that have moved
)

// try is something that is gone on with, or will be.
type try struct {
	due   time.Time
	pause time.Duration // after the last failure
	told  string        // what that was
	busy  bool
}

// ending is how a try ended.
type ending struct {
	name string
	err  error
}

// await waits until something may be due, or ctx ends.
func (w *watch) await(ctx context.Context, beat <-chan time.Time) {
	due, stop := w.due()
	defer stop()
	select {
	case <-ctx.Done():
	case <-w.e.left:
		w.lookAt(time.Now().Add(firstPause))
	case <-beat:
		w.lookAt(time.Now())
	case end := <-w.ended:
		w.end(ctx, end)
	case <-due:
	}
}

// lookAt plans a look, unless one is planned: it may have to wait until the
// store has come back.
func (w *watch) lookAt(at time.Time) {
	if w.look.IsZero() {
		w.look = at
	}
}

// due gives a channel that receives when the next thing is to be done.
func (w *watch) due() (<-chan time.Time, func() bool) {
	next := w.look
	for _, t := range w.tries {
		if !t.busy && (next.IsZero() || t.due.Before(next)) {
			next = t.due
		}
	}
	if next.IsZero() {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(time.Until(next))
	return timer.C, timer.Stop
}

// begin begins everything that is due.
func (w *watch) begin(ctx context.Context) {
	if !w.look.IsZero() && !time.Now().Before(w.look) {
		w.look = time.Time{}
		w.plan(lookingFor)
	}
	for name, t := range w.tries {
		if t.busy || time.Now().Before(t.due) {
			continue
		}
		t.busy = true
		if name == lookingFor {
			w.findLeft(ctx)
			continue
		}
		w.busy++
		go func() {
			if name == lettingGo {
				w.ended <- ending{name, w.e.letAllGo(ctx, nil)}
			} else {
				w.ended <- ending{name, w.e.resume(ctx, name, nil, nil)}
			}
		}()
	}
}

// plan has something done at once, unless it is being tried already.
func (w *watch) plan(name string) {
	if w.tries[name] == nil {
		w.tries[name] = &try{due: time.Now()}
	}
}

// findLeft plans to go on with all that was left.
func (w *watch) findLeft(ctx context.Context) {
	names, err := w.e.leases.Left(ctx)
	w.end(ctx, ending{lookingFor, err})
	if err == nil {
		for _, name := range append(names, lettingGo) {
			w.plan(name)
		}
	}
}

// end notes how a try ended: one that failed is made again later.
func (w *watch) end(ctx context.Context, end ending) {
	t := w.tries[end.name]
	if end.name != lookingFor {
		w.busy--
	}
	if ctx.Err() != nil {
		return
	}
	if end.err == nil {
		delete(w.tries, end.name)
		if end.name != lookingFor && end.name != lettingGo {
			w.plan(lettingGo)
		}
		return
	}
	t.busy = false
	t.pause = min(max(2*t.pause, firstPause), lastPause)
	t.due = time.Now().Add(t.pause)
	if text := end.err.Error(); text != t.told {
		t.told = text
		w.failed(end.err)
	}
}
