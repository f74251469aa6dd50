package analysis

import "time"

// Reorder turns the ends of requests into the order of their arrival, in which
// a Test must fold them: each waits for those that came before it, for at most
// the patience. One that has not ended by then is bad, for both arms alike, so
// that a version that hangs and one that refuses count the same. It holds a
// fixed number of requests. It is not safe for concurrent use.
type Reorder struct {
	patience time.Duration
	ring     []waiting
	first    Ticket // of the oldest that waits
	next     Ticket // of the next to come
	skipped  int64
}

// Ticket names a request that arrived.
type Ticket uint64

// Arrival is a request with what its coin was drawn by.
type Arrival struct {
	Request
	Weight float64
	At     time.Time
}

type waiting struct {
	Arrival
	ended bool
}

// NewReorder makes the order for at most capacity requests at once. What comes
// within the patience, ten seconds for example, should fit.
func NewReorder(patience time.Duration, capacity int) *Reorder {
	return &Reorder{patience: patience, ring: make([]waiting, max(1, capacity))}
}

// Arrive notes a request, with the arm that its coin drew and the weight in
// force. Where there is no room it says no, and the request must not be judged:
// that is fair, since whether there is room does not depend on its coin.
func (r *Reorder) Arrive(now time.Time, canary bool, weight float64) (Ticket, bool) {
	if r.Waiting() == len(r.ring) {
		r.skipped++
		return 0, false
	}
	t := r.next
	r.next++
	*r.at(t) = waiting{Arrival: Arrival{Request: Request{Canary: canary}, Weight: weight, At: now}}
	return t, true
}

// End notes how a request ended. One that took too long counts as bad already,
// or will.
func (r *Reorder) End(t Ticket, now time.Time, bad bool) {
	if t < r.first || t >= r.next {
		return
	}
	if w := r.at(t); !w.ended {
		w.ended = true
		w.Latency = now.Sub(w.At)
		w.Bad = bad || w.Latency >= r.patience
	}
}

// Next gives the next request in the order of arrival, if it has ended or its
// time is over.
func (r *Reorder) Next(now time.Time) (Arrival, bool) {
	if r.Waiting() == 0 {
		return Arrival{}, false
	}
	w := r.at(r.first)
	if !w.ended {
		if now.Sub(w.At) < r.patience {
			return Arrival{}, false
		}
		w.Bad, w.Latency = true, r.patience
	}
	r.first++
	return w.Arrival, true
}

// Waiting is how many requests wait for their turn.
func (r *Reorder) Waiting() int { return int(r.next - r.first) }

// Skipped is how many requests found no room.
func (r *Reorder) Skipped() int64 { return r.skipped }

func (r *Reorder) at(t Ticket) *waiting { return &r.ring[t%Ticket(len(r.ring))] }
