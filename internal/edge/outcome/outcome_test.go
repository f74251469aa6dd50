package outcome

import (
	"testing"
	"time"
)

func begin(s *Stream, share *Share, n int) []*Open {
	all := make([]*Open, n)
	for i := range all {
		all[i] = &Open{}
		s.Begin(all[i], share, time.Now())
	}
	return all
}

// drain reads what there is, from a place on.
func drain(t *testing.T, s *Stream, at Cursor, n int) (all []Outcome, end Cursor) {
	t.Helper()
	for len(all) < n {
		b, moved, ok := s.Read(at, 100)
		if b.Gap {
			t.Fatalf("a gap before %v", b.Cursor)
		}
		all, at = append(all, b.Outcomes...), b.Cursor
		if len(all) < n && len(b.Outcomes) == 0 {
			select {
			case <-moved:
			case <-time.After(10 * time.Second):
				t.Fatalf("%d of %d outcomes, open: %v", len(all), n, ok)
			}
		}
	}
	return all, at
}

func TestOrderIsThatOfArrival(t *testing.T) {
	s, share := New(), &Share{Arm: "a", Weight: 0.5, Tally: &Tally{}}
	defer s.Close()
	from := s.End()
	open := begin(s, share, 1000) // more than the first ring has
	for i := len(open) - 1; i > 0; i-- {
		open[i].Answered(200 + i%100)
		open[i].Settle(false)
	}
	s.tell()
	if b, _, _ := s.Read(from, 10); len(b.Outcomes) != 0 {
		t.Errorf("%d are told before the first is fixed", len(b.Outcomes))
	}
	open[0].Settle(true)
	open[0].Settle(false) // the first time counts
	all, end := drain(t, s, from, len(open))
	for i, o := range all {
		if i > 0 && o.Status != 200+i%100 || o.Bad != (i == 0) || o.Arm != "a" || o.Weight != 0.5 {
			t.Fatalf("outcome %d is %+v", i, o)
		}
	}
	if end != s.End() || share.Tally.Requests.Load() != 1000 || share.Tally.Bad.Load() != 1 {
		t.Errorf("end %v, %d counted, %d bad", end, share.Tally.Requests.Load(), share.Tally.Bad.Load())
	}
}

func TestDeadlineFixesWhatIsOpen(t *testing.T) {
	s, share := New(), &Share{Arm: "a", Weight: 1, Tally: &Tally{}}
	defer s.Close()
	s.SetDeadline(time.Millisecond)
	from := s.End()
	open := begin(s, share, 4)
	open[1].Answered(200) // goes on
	open[2].Waiting(true) // the client has not sent all
	open[3].Answered(503)
	all, _ := drain(t, s, from, 4)
	for i, bad := range []bool{true, false, false, true} {
		if all[i].Bad != bad {
			t.Errorf("outcome %d is %+v", i, all[i])
		}
	}
	open[1].Settle(true) // too late
	if n := share.Tally.Bad.Load(); n != 2 {
		t.Errorf("%d are counted bad", n)
	}
}

func TestLossIsToldAsAGap(t *testing.T) {
	s, share := New(), &Share{Arm: "a", Weight: 1, Tally: &Tally{}}
	defer s.Close()
	from := s.End()
	open := begin(s, share, Kept+7) // the oldest are dropped though they are open
	for _, o := range open {
		o.Settle(false)
	}
	s.tell()
	b, _, _ := s.Read(from, 10)
	if !b.Gap || b.Lost != 7 || len(b.Outcomes) != 10 || b.Cursor.Next != 17 {
		t.Errorf("gap %t of %d, then %d up to %d", b.Gap, b.Lost, len(b.Outcomes), b.Cursor.Next)
	}
	if len(s.ring) != Kept || share.Tally.Requests.Load() != Kept+7 {
		t.Errorf("the ring has %d, %d are counted", len(s.ring), share.Tally.Requests.Load())
	}
	if b, _, _ := s.Read(Cursor{Stream: "another", Next: 3}, 1); !b.Gap || b.Lost != 0 || b.Cursor.Next != 8 {
		t.Errorf("of another stream: gap %t of %d, up to %d", b.Gap, b.Lost, b.Cursor.Next)
	}
}

func TestStreamGoesOnInAnotherProcess(t *testing.T) {
	old, share := New(), &Share{Arm: "a", Weight: 1, Tally: &Tally{}}
	defer old.Close()
	from := old.End()
	open := begin(old, share, 3)
	open[0].Settle(false)
	id, first, next := old.Leave()
	begin(old, share, 1) // it is counted nowhere
	young := New()
	young.Continue(id, first, next)
	defer young.Close()
	begin(young, share, 1)[0].Settle(true)
	young.tell()
	if b, _, ok := young.Read(from, 10); b.Gap || len(b.Outcomes) != 0 || !ok {
		t.Errorf("before the old one has told: %+v", b)
	}
	open[1].Settle(false)
	open[2].Settle(true)
	told, end := drain(t, old, from, 3)
	if _, _, ok := old.Read(end, 10); ok {
		t.Error("the old one has told all and goes on")
	}
	for i, o := range told {
		young.Fill(uint64(i), o)
	}
	all, _ := drain(t, young, from, 4)
	if len(all) != 4 || all[1].Bad || !all[2].Bad || !all[3].Bad {
		t.Errorf("got %+v", all)
	}
	lost := New()
	lost.Continue(id, first, next)
	defer lost.Close()
	lost.Fill(2, told[2])
	lost.Abandon()
	lost.tell()
	if b, _, _ := lost.Read(from, 10); !b.Gap || b.Lost != 2 || len(b.Outcomes) != 1 {
		t.Errorf("of a process that died: %+v", b)
	}
}

func TestClosedStreamWakesItsReaders(t *testing.T) {
	s := New()
	_, moved, _ := s.Read(Cursor{}, 1)
	s.Close()
	<-moved
	if _, _, ok := s.Read(s.End(), 1); ok {
		t.Error("a closed stream is open")
	}
}

func TestTally(t *testing.T) {
	var tally Tally
	for _, ms := range []int{0, 1, 2, 30, 20000} {
		tally.add(200, false, time.Duration(ms)*time.Millisecond)
	}
	tally.add(0, true, time.Second)
	upTo, all, together := tally.Latencies()
	if upTo[0] != 2 || upTo[1] != 3 || upTo[12] != 5 || all != 6 || together != 21033*time.Millisecond {
		t.Errorf("%v, %d, %s", upTo, all, together)
	}
	if c := tally.Classes(); c[2] != 5 || c[0] != 1 {
		t.Errorf("classes %v", c)
	}
}
