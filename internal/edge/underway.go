package edge

import "sync/atomic"

// underWay counts what is under way, and can be waited for while more begins,
// which a sync.WaitGroup does not allow.
type underWay struct {
	n    atomic.Int64
	none chan struct{} // holds one word that nothing was under way
}

func newUnderWay() *underWay { return &underWay{none: make(chan struct{}, 1)} }

func (u *underWay) begin() { u.n.Add(1) }

func (u *underWay) end() {
	if u.n.Add(-1) > 0 {
		return
	}
	select {
	case u.none <- struct{}{}:
	default: // it was said already
	}
}

// wait returns at a moment when nothing is under way. One may wait at a time.
func (u *underWay) wait() {
	for u.n.Load() > 0 {
		<-u.none
	}
}
