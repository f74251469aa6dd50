package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/rollout"
	"makeitso/internal/span"
)

// adopt finds the instances again that were started in an earlier life, and
// puts the route in force again.
func (k *keeper) adopt(ctx context.Context) {
	k.reassert(ctx)
	for _, slot := range k.rec.Slots {
		place, ok := k.rec.State.Place(slot.Member)
		if !slot.Started || !ok || place.Status == rollout.Stopping {
			continue
		}
		id := slot.Instance.ID
		var found Instance
		var gone error
		k.begin(ctx, "find "+id, func(ctx context.Context) error {
			var err error
			found, err = k.c.instances.Find(ctx, id)
			if fault.Is(err, fault.NotFound) {
				gone = err
				return nil
			}
			return err
		}, func(ctx context.Context) {
			if gone != nil {
				k.lost(ctx, slot.Member, id, gone.Error())
				return
			}
			k.watch(ctx, slot.Member, found, place.Status != rollout.Begun)
		})
	}
}

// start has the instance in a place started, once its delay is over.
func (k *keeper) start(ctx context.Context, m rollout.Member) {
	slot := k.rec.slot(m)
	if slot == nil || slot.Started || k.looked.Before(slot.NotUntil) {
		return
	}
	id := slot.Instance.ID
	var begun Instance
	var failed error
	k.begin(ctx, "start "+id, func(ctx context.Context) error {
		r, err := k.c.release(ctx, k.name, m.Release)
		if err != nil {
			return err
		}
		begun, err = k.c.instances.Start(ctx, InstanceSpec{
			ID: id, Service: edgeName(k.c.environment, k.name), Artifact: r.Artifact.Digest, Env: r.Config})
		if canceled(ctx, err) {
			return err
		}
		failed = err
		return nil
	}, func(ctx context.Context) {
		slot := k.rec.slot(m)
		switch {
		case slot == nil || slot.Instance.ID != id: // not wanted any more; doomed meanwhile
		case failed != nil:
			k.lost(ctx, m, id, "it cannot be started: "+failed.Error())
		default:
			slot.Instance, slot.Started = begun, true
			k.saveOrBreak(ctx)
			k.watch(ctx, m, begun, false)
		}
	})
}

// stop ends the instance in a place for good.
func (k *keeper) stop(ctx context.Context, m rollout.Member) {
	stopped := func(ctx context.Context) {
		if slot := k.rec.slot(m); slot != nil {
			slot.Instance = Instance{}
		}
		k.apply(ctx, rollout.Event{Kind: rollout.Stopped, Member: m})
	}
	if k.reporting(m.Release) {
		return // what it printed is asked for first
	}
	slot := k.rec.slot(m)
	if slot == nil || slot.Instance.ID == "" {
		stopped(ctx)
		return
	}
	k.destroy(ctx, slot.Instance.ID, stopped)
}

// destroy ends an instance and removes what it left.
func (k *keeper) destroy(ctx context.Context, id string, done func(context.Context)) {
	if k.busy["start "+id] || k.busy["find "+id] {
		return // its end is awaited first
	}
	k.unwatch(id)
	k.begin(ctx, "stop "+id, func(ctx context.Context) error {
		if err := k.c.instances.Stop(ctx, id, k.c.o.StopGrace); err != nil {
			return fmt.Errorf("stop instance %s: %w", id, err)
		}
		return nil
	}, done)
}

// lost deals with an instance that has ended or must be destroyed.
func (k *keeper) lost(ctx context.Context, m rollout.Member, id, reason string) {
	slot := k.rec.slot(m)
	place, stands := k.rec.State.Place(m)
	if slot == nil || slot.Instance.ID != id || !stands || place.Status == rollout.Stopping {
		return // it is on its way out already
	}
	k.unwatch(id)
	before := k.rec.State
	k.rec.State = rollout.Next(before, rollout.Event{Kind: rollout.Lost, At: k.now(), Member: m, Reason: reason})
	if after, _ := k.rec.State.Place(m); after.Status == rollout.Begun { // a replacement comes
		k.rec.doom(id)
		slot.vacate(k.now(), reason, k.c.o)
	}
	k.commit(ctx, before)
}

func (k *keeper) unwatch(id string) {
	if cancel, ok := k.watchers[id]; ok {
		cancel()
		delete(k.watchers, id)
	}
}

// watch follows an instance's health and its end.
func (k *keeper) watch(ctx context.Context, m rollout.Member, i Instance, healthy bool) {
	r, err := k.c.release(ctx, k.name, m.Release)
	if err != nil {
		k.broken = err
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	k.watchers[i.ID] = cancel
	w := &watcher{k: k, member: m, instance: i, service: r.Service, healthy: healthy}
	k.effects.Go(func() { w.run(ctx) })
}

// watcher follows one instance until it is lost.
type watcher struct {
	k        *keeper
	member   rollout.Member
	instance Instance
	service  Service
	healthy  bool
	failures int    // checks failed in a row
	note     string // the last thing told of an instance that starts
}

func (w *watcher) run(ctx context.Context) {
	o := w.k.c.o
	exited := w.k.c.instances.Exited(w.instance.ID)
	until := o.Clock.Now().Add(o.Limits.Start)
	for {
		reason := w.check(ctx)
		if reason == "" && !w.healthy && !o.Clock.Now().Before(until) {
			reason = fmt.Sprintf("it did not become healthy within %s: %s", span.Text(o.Limits.Start), w.note)
		}
		if ctx.Err() != nil {
			return
		}
		interval := o.HealthInterval
		if !w.healthy {
			interval = o.StartInterval
		}
		if reason == "" {
			select {
			case <-ctx.Done():
				return
			case <-o.Clock.After(interval):
				continue
			case <-exited:
				reason = w.exitReason(ctx)
			}
		}
		w.k.post(ctx, func(ctx context.Context) { w.k.lost(ctx, w.member, w.instance.ID, reason) })
		return
	}
}

// check asks for the health once and gives a reason to destroy the instance, or "".
func (w *watcher) check(ctx context.Context) string {
	err := w.k.c.probe(ctx, w.instance.Address, w.service)
	switch {
	case ctx.Err() != nil:
	case err == nil && w.healthy:
		w.failures = 0
	case err == nil:
		w.healthy = true
		w.say(ctx, rollout.Event{Kind: rollout.Healthy, Member: w.member})
	case w.healthy:
		w.failures++
		if w.failures >= w.k.c.o.HealthFailures {
			return fmt.Sprintf("its health check failed %d times: %v", w.failures, err)
		}
	case err.Error() != w.note:
		w.note = err.Error()
		w.say(ctx, rollout.Event{Kind: rollout.Unwell, Member: w.member, Reason: w.note})
	}
	return ""
}

// say brings an event of the instance to the loop, unless another instance has
// taken its place.
func (w *watcher) say(ctx context.Context, e rollout.Event) {
	w.k.post(ctx, func(ctx context.Context) {
		slot := w.k.rec.slot(w.member)
		if slot == nil || slot.Instance.ID != w.instance.ID {
			return
		}
		if e.Kind == rollout.Healthy {
			slot.Healthy = w.k.now()
		}
		w.k.apply(ctx, e)
	})
}

func (w *watcher) exitReason(ctx context.Context) string {
	if _, err := w.k.c.instances.Find(ctx, w.instance.ID); err != nil {
		return err.Error()
	}
	return "its process ended"
}

// probeTimeout is how long an instance may take to say whether it is well.
const probeTimeout = 2 * time.Second

// probe asks an instance of a service whether it is well: a GET of its path of
// health answered 2xx, or a connection accepted where it has none.
func (c *Controller) probe(ctx context.Context, address string, s Service) error {
	path := s.Health
	if path == "" {
		conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", address)
		if err != nil {
			return deaf(err, address)
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return fmt.Errorf("make health check of %s: %w", address, err)
	}
	answer, err := edge.Asker(s.Protocol, probeTimeout).Do(req)
	if err != nil {
		return deaf(err, address)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("GET %s answers %s", path, answer.Status)
	}
	return nil
}

// deaf says what is to be done where nothing listens.
func deaf(err error, address string) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on %s, the port that the program was given as PORT: %w", address, err)
	}
	return err
}
