package edge

import (
	"sync"
	"testing"
)

// TestUnderWay waits while others begin and end.
func TestUnderWay(t *testing.T) {
	t.Parallel()
	u := newUnderWay()
	u.wait() // for nothing
	last := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				u.begin()
				u.end()
			}
		})
	}
	u.begin()
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		u.wait()
		select {
		case <-last:
		default:
			t.Error("it did not wait for what was under way")
		}
	}()
	all.Wait()
	close(last)
	u.end()
	<-waited
}
