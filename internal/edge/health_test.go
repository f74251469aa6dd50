package edge

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestEjectionGrowsAndIsForgotten(t *testing.T) {
	var h health
	now := time.Now()
	bad := func(n int) {
		for range n {
			h.saw(true, 3, now)
		}
	}
	bad(2)
	h.saw(false, 3, now)
	bad(2)
	if h.ejected(now) {
		t.Error("ejected though three were not bad in a row")
	}
	for i, want := range []time.Duration{ejectTime, 2 * ejectTime, 3 * ejectTime} {
		bad(3)
		if !h.ejected(now.Add(want-1)) || h.ejected(now.Add(want)) {
			t.Errorf("the %d. time is not %s", i+1, want)
		}
		now = now.Add(want)
	}
	now = now.Add(wellTime)
	bad(3)
	if h.ejected(now.Add(ejectTime)) || h.ejections.Load() != 4 {
		t.Errorf("after it was well for long; %d ejections", h.ejections.Load())
	}
	h.saw(true, -1, now)
}

func TestAtLeastHalfStay(t *testing.T) {
	a := &arm{}
	for i := range 4 {
		a.instances = append(a.instances, &instance{Instance: Instance{ID: fmt.Sprint(i)}})
	}
	picked := func() map[string]int {
		found := map[string]int{}
		for range 400 {
			found[a.pick(nil).ID]++
		}
		return found
	}
	later := time.Now().Add(time.Hour).UnixNano()
	for i, want := range []int{3, 2, 4, 4} { // with three of four ejected, all are asked
		a.instances[i].health.until.Store(later)
		if got := picked(); len(got) != want {
			t.Errorf("%d ejected: %v", i+1, got)
		}
	}
}

func TestSlowStart(t *testing.T) {
	a := &arm{slow: time.Hour}
	for i := range 2 {
		a.instances = append(a.instances, &instance{Instance: Instance{ID: fmt.Sprint(i)}})
	}
	a.instances[1].health.since.Store(time.Now().UnixNano())
	const n = 4000
	fresh := 0
	for range n {
		if a.pick(nil).ID == "1" {
			fresh++
		}
	}
	checkBinomial(t, "the new one", n, fresh, leastPart/2) // in a tenth of the draws, one of two
	if p := a.instances[1].health.part(time.Hour, time.Now().Add(30*time.Minute)); p < 0.49 || p > 0.51 {
		t.Errorf("half way its part is %v", p)
	}
}

func TestInstanceWithBadAnswersIsEjected(t *testing.T) {
	e := start(t, Options{})
	var asked atomic.Int64
	bad := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	})
	c := service1(1, backend(t, says("fine")), bad)
	c.Services[0].EjectAfter = 2
	e.configure(t, c)
	for range 60 {
		e.get(t, apiHost, "/")
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("it was asked %d times", n)
	}
	if reason := e.stats(t).Unhealthy["v1-1"]; !strings.Contains(reason, "its answers were bad; it is asked again at ") {
		t.Errorf("the reason is %q", reason)
	}
}
