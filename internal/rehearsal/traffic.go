package rehearsal

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Traffic is what the service is asked, and how it answers, while nothing is
// wrong. Without Recorded it is made: regular requests whose latencies lie around
// Latency as those of most services do, by a log-normal distribution.
type Traffic struct {
	// Rate is how many requests come each second; 0 is as many as recorded.
	Rate    float64
	Errors  float64       // share of them that fail
	Latency time.Duration // the median

	Recorded *Recording // replayed in their order, from a random place on
}

// spread is the standard deviation of the logarithm of made latencies: p99 is
// about three times the median.
const spread = 0.5

// request is one request without a fault.
type request struct {
	at      time.Duration // within its second, or since the recording's begin
	bad     bool
	latency time.Duration // 0 if it is not known
}

func (t Traffic) rate() float64 {
	if t.Rate == 0 && t.Recorded != nil {
		return t.Recorded.Rate
	}
	return t.Rate
}

func (t Traffic) errors() float64 {
	if t.Recorded == nil {
		return t.Errors
	}
	bad := 0
	for _, r := range t.Recorded.requests {
		if r.bad {
			bad++
		}
	}
	return float64(bad) / float64(len(t.Recorded.requests))
}

// timed says whether latencies are known.
func (t Traffic) timed() bool { return len(t.latencies()) > 0 }

// latencies gives the latencies of good answers, rising: those recorded, or
// a thousand that stand for what is made.
func (t Traffic) latencies() []time.Duration {
	var all []time.Duration
	if t.Recorded == nil {
		for i := range 1000 {
			if t.Latency > 0 {
				z := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/1000-1)
				all = append(all, time.Duration(float64(t.Latency)*math.Exp(spread*z)))
			}
		}
		return all
	}
	for _, r := range t.Recorded.requests {
		if !r.bad && r.latency > 0 {
			all = append(all, r.latency)
		}
	}
	slices.Sort(all)
	return all
}

// stream gives traffic second by second.
type stream struct {
	Traffic
	rng    *rand.Rand
	second []request
	copies float64       // of each recorded request
	at     int           // the next recorded request
	turned time.Duration // when the recording's present turn began; before 0 at first
	now    time.Duration
}

func (t Traffic) begin(rng *rand.Rand) *stream {
	s := &stream{Traffic: t, rng: rng}
	if r := t.Recorded; r != nil {
		s.at = rng.IntN(len(r.requests))
		s.turned = -r.requests[s.at].at
		s.copies = t.rate() * r.period.Seconds() / float64(len(r.requests))
	}
	return s
}

// some is a whole number with the mean x.
func (s *stream) some(x float64) int {
	whole := int(x)
	if s.rng.Float64() < x-float64(whole) {
		whole++
	}
	return whole
}

// next gives the requests of the next second; they are valid until the call
// after.
func (s *stream) next() []request {
	s.second = s.second[:0]
	if s.Recorded == nil {
		n := s.some(s.Rate)
		for i := range n {
			r := request{at: time.Second * time.Duration(i) / time.Duration(n), bad: s.rng.Float64() < s.Errors}
			if s.Latency > 0 {
				r.latency = time.Duration(float64(s.Latency) * math.Exp(spread*s.rng.NormFloat64()))
			}
			s.second = append(s.second, r)
		}
		return s.second
	}
	requests := s.Recorded.requests
	for s.turned+requests[s.at].at < s.now+time.Second {
		r := requests[s.at]
		r.at = max(0, s.turned+r.at-s.now)
		for range s.some(s.copies) {
			s.second = append(s.second, r)
		}
		if s.at++; s.at == len(requests) {
			s.at, s.turned = 0, s.turned+s.Recorded.period
		}
	}
	s.now += time.Second
	return s.second
}
