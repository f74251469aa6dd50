package stack

import (
	"slices"
	"sync"
	"testing"
)

// TestTellerKeepsTheOrderOfTheStream answers writes in another order than that
// of their numbers, one of which belongs to somebody else.
func TestTellerKeepsTheOrderOfTheStream(t *testing.T) {
	var heard []int64
	told := teller{listen: func(e Event) { heard = append(heard, e.Number) }}
	write := func(last int64, events int, begun chan<- struct{}, answer <-chan struct{}) {
		err := told.write(make([]Event, events), func() (int64, error) {
			begun <- struct{}{}
			<-answer
			return last, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	// Event 4 is nobody's of these.
	writes := []struct {
		last   int64
		events int
		heard  []int64 // after it was answered
	}{
		{last: 3, events: 1},
		{last: 6, events: 2},
		{last: 1, events: 1, heard: []int64{1}},
		{last: 2, events: 1, heard: []int64{1, 2, 3}},
		{last: 7, events: 1, heard: []int64{1, 2, 3, 5, 6, 7}},
	}
	begun := make(chan struct{})
	answers, done := make([]chan struct{}, len(writes)), make([]sync.WaitGroup, len(writes))
	for i, w := range writes {
		answers[i] = make(chan struct{})
		done[i].Go(func() { write(w.last, w.events, begun, answers[i]) })
		<-begun
	}
	for i, w := range writes {
		close(answers[i])
		done[i].Wait()
		if !slices.Equal(heard, w.heard) {
			t.Errorf("after write %d was answered, %v were heard; want %v", i, heard, w.heard)
		}
	}
}
