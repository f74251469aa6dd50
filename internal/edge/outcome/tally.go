package outcome

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of the buckets of latencies.
func Bounds() [buckets - 1]time.Duration {
	return [...]time.Duration{
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	}
}

const (
	buckets = 14 // those of Bounds and one for all above
	classes = 6  // by the first digit of the status; 0 where no answer began
)

// Tally counts outcomes of one arm. Requests is raised before Bad and is to be
// read after it, so that a report never shows more bad ones than requests.
type Tally struct {
	Requests, Bad atomic.Int64

	byClass  [classes]atomic.Int64
	byBucket [buckets]atomic.Int64
	latency  atomic.Int64 // all together
}

func (t *Tally) add(status int, bad bool, latency time.Duration) {
	t.Requests.Add(1)
	if bad {
		t.Bad.Add(1)
	}
	t.byClass[min(status/100, classes-1)].Add(1)
	t.latency.Add(int64(latency))
	t.byBucket[bucketOf(latency)].Add(1)
}

func bucketOf(latency time.Duration) int {
	bounds := Bounds()
	for i := range bounds {
		if latency <= bounds[i] {
			return i
		}
	}
	return len(bounds)
}

// Classes gives how many outcomes there are of each class.
func (t *Tally) Classes() (all [classes]int64) {
	for i := range all {
		all[i] = t.byClass[i].Load()
	}
	return all
}

// Latencies gives how many outcomes took at most as long as each of Bounds,
// how many there are, and how long they took together.
func (t *Tally) Latencies() (upTo [buckets - 1]int64, all int64, together time.Duration) {
	for i := range upTo {
		all += t.byBucket[i].Load()
		upTo[i] = all
	}
	return upTo, all + t.byBucket[buckets-1].Load(), time.Duration(t.latency.Load())
}
