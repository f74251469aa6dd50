// Package outcome keeps what became of the requests of one service, in the
// order in which they arrived, for whoever judges a release by them. It knows
// arms and outcomes; it must not know how requests are served.
package outcome

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Kept is how many outcomes a stream keeps at most, those included that
	// are still open: at ten thousand requests a second the last 13 s.
	Kept = 1 << 17
	// tick is how long outcomes are gathered until they are told.
	tick = 25 * time.Millisecond

	firstRing = 256
	// resumed is how many outcomes that were told a stream goes on with in
	// another process, for readers who come late.
	resumed = 4096
)

// Outcome is what became of one request at one instance.
type Outcome struct {
	Arm     string        `json:"arm"`
	Weight  float64       `json:"weight"`  // the chance by which the coin gave this arm, from 0 to 1
	At      time.Time     `json:"at"`      // when the request arrived
	Latency time.Duration `json:"latency"` // until the answer was complete, or the deadline
	Status  int           `json:"status"`  // 0 where no answer began
	Bad     bool          `json:"bad,omitempty"`
}

// Class is the first digit of the status: 5 for 503; 0 where no answer began.
func (o Outcome) Class() int { return o.Status / 100 }

// Cursor is a place in a stream. The zero value is its end: what arrives from
// now on.
type Cursor struct {
	Stream string `json:"stream,omitempty"` // which one; a new one begins when all memory of it was lost
	Next   uint64 `json:"next"`             // number of the next outcome
}

// Batch is outcomes in order of arrival.
type Batch struct {
	Cursor Cursor `json:"cursor"` // behind them
	// Gap says that outcomes before these are lost; Lost is how many, 0 where
	// that is not known.
	Gap      bool      `json:"gap,omitempty"`
	Lost     uint64    `json:"lost,omitempty"`
	Outcomes []Outcome `json:"outcomes"`
	// Away is why none come now, "" if they do: who keeps them does not answer.
	// The next batch says that they do again.
	Away string `json:"-"`
}

// Share is an arm with the chance it has by one configuration.
type Share struct {
	Arm    string
	Weight float64
	Tally  *Tally
}

// Open is a request whose outcome is not fixed yet. The zero value counts nowhere.
type Open struct {
	stream  *Stream
	number  uint64
	share   *Share
	at      time.Time
	settled bool // the stream's lock is held

	answered atomic.Int32 // the status, once it is known
	client   atomic.Bool  // the client is waited for: the instance is not at fault
}

// slot is the place of one outcome.
type slot struct {
	share   *Share
	open    *Open // nil once it is fixed
	at      time.Time
	latency time.Duration
	status  int32
	bad     bool
}

// Stream is the outcomes of one service. It is safe for concurrent use.
type Stream struct {
	id       string
	deadline atomic.Int64

	mu sync.Mutex
	// ring holds the outcomes numbered from first up to next; those before
	// ready are fixed, and so told in order.
	ring               []slot // its length is a power of two
	first, ready, next uint64
	foreign            uint64 // those before it are told by another process
	left               bool   // another process goes on
	timer              *time.Timer
	ticking, closed    bool
	moved              chan struct{} // closed when ready has moved, or the stream was closed
}

// New makes a stream.
func New() *Stream {
	return &Stream{id: strconv.FormatUint(rand.Uint64(), 36), ring: make([]slot, firstRing), moved: make(chan struct{})}
}

// Continue makes a new stream go on where another process leaves it: that one
// tells those numbered from first on and before next, by Fill.
func (s *Stream) Continue(id string, first, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.first, s.ready, s.next, s.foreign = id, first, first, next, next
	for uint64(len(s.ring)) < next-first {
		s.ring = make([]slot, 2*len(s.ring))
	}
	for n := first; n < next; n++ {
		s.at(n).open = &Open{}
	}
}

// Fill tells an outcome that another process knows.
func (s *Stream) Fill(number uint64, o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number >= s.first && number < s.foreign {
		*s.at(number) = slot{share: &Share{Arm: o.Arm, Weight: o.Weight}, at: o.At, latency: o.Latency, status: int32(o.Status), bad: o.Bad}
		s.tick()
	}
}

// Abandon says that what was not filled by now is lost.
func (s *Stream) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := s.first; n < s.foreign; n++ {
		if s.at(n).open != nil { // readers are told of a gap up to here
			s.first = n + 1
		}
	}
	s.ready = max(s.ready, s.first)
	s.tick()
}

// Leave ends the numbering: requests that still arrive are counted nowhere,
// and readers are told when they have all there is. It gives what Continue needs.
func (s *Stream) Leave() (id string, first, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	s.tick()
	if first = s.first; s.ready-s.first > resumed {
		first = s.ready - resumed
	}
	return s.id, first, s.next
}

// Stay takes Leave back.
func (s *Stream) Stay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = false
}

// SetDeadline says when an outcome is fixed at the latest.
func (s *Stream) SetDeadline(d time.Duration) { s.deadline.Store(int64(d)) }

// End is the place behind all requests that have arrived.
func (s *Stream) End() Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Cursor{s.id, s.next}
}

// Close ends the stream; those who read it are told.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.moved)
	s.moved = make(chan struct{})
}

// Begin takes the number of a request that arrives now.
func (s *Stream) Begin(o *Open, share *Share, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return
	}
	if s.next-s.first == uint64(len(s.ring)) {
		s.grow()
	}
	o.stream, o.number, o.share, o.at = s, s.next, share, now
	*s.at(s.next) = slot{share: share, open: o, at: now}
	s.next++
	s.tick()
}

// tick has those who read told in a moment; the lock is held.
func (s *Stream) tick() {
	if s.ticking || s.closed {
		return
	}
	s.ticking = true
	if s.timer == nil {
		s.timer = time.AfterFunc(tick, s.tell)
	} else {
		s.timer.Reset(tick)
	}
}

func (s *Stream) at(number uint64) *slot { return &s.ring[number&uint64(len(s.ring)-1)] }

// grow makes room for one more: a larger ring, or one less of the oldest.
func (s *Stream) grow() {
	if len(s.ring) == Kept {
		s.first++
		s.ready = max(s.ready, s.first)
		return
	}
	old := s.ring
	s.ring = make([]slot, 2*len(old))
	for n := s.first; n < s.next; n++ {
		*s.at(n) = old[n&uint64(len(old)-1)]
	}
}

// Answered says that the header of an answer came.
func (o *Open) Answered(status int) { o.answered.Store(int32(status)) }

// Waiting says that the client is waited for, or no longer.
func (o *Open) Waiting(is bool) { o.client.Store(is) }

// Settle fixes the outcome, the first time. It is bad too if the status says so.
func (o *Open) Settle(bad bool) {
	if o.stream == nil {
		return
	}
	now := time.Now()
	o.stream.mu.Lock()
	defer o.stream.mu.Unlock()
	o.settle(bad, now)
}

func (o *Open) settle(bad bool, now time.Time) {
	if o.settled {
		return
	}
	o.settled = true
	bad = bad || o.answered.Load() >= 500
	status, latency := o.answered.Load(), now.Sub(o.at)
	o.share.Tally.add(int(status), bad, latency)
	if o.number < o.stream.first {
		return // it was the oldest of too many
	}
	to := o.stream.at(o.number)
	to.open, to.latency, to.status, to.bad = nil, latency, status, bad
}

// tell fixes what is past the deadline and wakes those who read.
func (s *Stream) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, before, limit := time.Now(), s.ready, time.Duration(s.deadline.Load())
	for s.ready < s.next {
		at := s.at(s.ready)
		if at.open != nil && (s.ready < s.foreign || limit == 0 || now.Sub(at.at) < limit) {
			break
		}
		if o := at.open; o != nil { // an answer that goes on is good, and so is a client that has not sent all
			o.settle(o.answered.Load() == 0 && !o.client.Load(), now)
		}
		s.ready++
	}
	if s.ready > before || s.left && s.ready == s.next {
		close(s.moved)
		s.moved = make(chan struct{})
	}
	if s.ticking = s.ready < s.next && s.ready >= s.foreign && !s.closed; s.ticking { // what is foreign is filled
		s.timer.Reset(tick)
	}
}

// Read gives at most so many outcomes from a place on, and the place behind
// them. Where there are none yet, moved is closed when there may be some. Not
// ok says that the stream was closed.
func (s *Stream) Read(from Cursor, most int) (b Batch, moved <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Cursor = Cursor{s.id, from.Next}
	switch {
	case from == Cursor{}:
		b.Cursor.Next = s.next
	case from.Stream != s.id || from.Next > s.next:
		b.Gap, b.Cursor.Next = true, s.first
	case from.Next < s.first:
		b.Gap, b.Lost, b.Cursor.Next = true, s.first-from.Next, s.first
	}
	for ; b.Cursor.Next < s.ready && len(b.Outcomes) < most; b.Cursor.Next++ {
		at := s.at(b.Cursor.Next)
		b.Outcomes = append(b.Outcomes, Outcome{
			Arm: at.share.Arm, Weight: at.share.Weight, At: at.at, Latency: at.latency, Status: int(at.status), Bad: at.bad,
		})
	}
	over := s.closed || s.left && b.Cursor.Next == s.next
	return b, s.moved, !over || len(b.Outcomes) > 0
}
