package watch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// audited is a world with a trail and what was put into its bucket.
type audited struct {
	*world
	objects map[string][]byte
	fail    error // of the next put
	after   bool  // it is put, and that is not known
}

func newAudited(t *testing.T) *audited {
	a := &audited{world: newWorld(t), objects: map[string][]byte{}}
	a.d.Trails = []Trail{{Token: "t", Name: "audit", Bucket: "logs", Prefix: "all"}}
	a.world.put = func(bucket, key string, body []byte) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		fail := a.fail
		a.fail = nil
		if fail == nil || a.after {
			a.objects[bucket+"/"+key] = body
		}
		return fail
	}
	return a
}

func (a *audited) emit(at time.Time, environment, message string) {
	a.t.Helper()
	raw, err := json.Marshal(event{Time: at, Kind: "resource", Status: "CREATE_COMPLETE", Environment: environment, Message: message})
	if err == nil {
		_, err = a.store.Append(a.t.Context(), "events", raw)
	}
	a.do(err)
}

func (a *audited) log(on bool) {
	a.t.Helper()
	a.do(Log(a.t.Context(), a.store, "e", "t", "events", on))
}

// messages gives those in the bucket, in order of the keys, and the keys.
func (a *audited) messages() (all, keys []string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	keys = slices.Sorted(maps.Keys(a.objects))
	for _, key := range keys {
		unzip, err := gzip.NewReader(bytes.NewReader(a.objects[key]))
		a.do(err)
		var file struct{ Records []trailRecord }
		a.do(json.NewDecoder(unzip).Decode(&file))
		for _, r := range file.Records {
			all = append(all, fmt.Sprint(r.RequestParameters["message"]))
		}
	}
	return all, keys
}

func (a *audited) want(messages ...string) {
	a.t.Helper()
	if got, keys := a.messages(); !slices.Equal(got, messages) {
		a.t.Errorf("in the bucket are %q, want %q (%q)", got, messages, keys)
	}
}

func (a *audited) deliver(at time.Time) error {
	_, _, err := a.watcher().deliverAll(a.t.Context(), at)
	return err
}

func TestTrail(t *testing.T) {
	a := newAudited(t)
	a.emit(start, "e", "before")
	a.log(true)
	a.emit(start, "e", "one")
	a.emit(start.Add(time.Second), "other", "of another environment")
	a.emit(start.Add(2*time.Second), "", "two")
	a.do(a.deliver(start.Add(deliverAfter - 1)))
	a.want()
	a.do(a.deliver(start.Add(deliverAfter)))
	a.want("one", "two")
	_, keys := a.messages()
	if !strings.HasPrefix(keys[0], "logs/all/AWSLogs/123456789012/CloudTrail/eu-west-1/2026/01/02/123456789012_CloudTrail_eu-west-1_20260102T1200Z_") || !strings.HasSuffix(keys[0], ".json.gz") {
		t.Errorf("the key is %s", keys[0])
	}
	a.do(a.deliver(start.Add(time.Hour)))
	a.want("one", "two")

	unzip, err := gzip.NewReader(bytes.NewReader(a.objects[keys[0]]))
	a.do(err)
	var file map[string][]map[string]any
	a.do(json.NewDecoder(unzip).Decode(&file))
	first := file["Records"][0]
	for name, want := range map[string]any{
		"eventName": "ResourceCreateComplete", "eventTime": "2026-01-02T12:00:00Z", "awsRegion": "eu-west-1", "recipientAccountId": "123456789012",
		"eventVersion": "1.11", "eventSource": "makeitso", "eventType": "AwsServiceEvent",
	} {
		if first[name] != want {
			t.Errorf("%s is %v, want %v", name, first[name], want)
		}
	}
}

// TestTrailCrashes fails before and after an object is stored, and before and
// after that is noted: nothing is lost, and nothing is there twice.
func TestTrailCrashes(t *testing.T) {
	killed := errors.New("killed")
	for _, after := range []bool{false, true} {
		for _, where := range []string{"put", "note"} {
			a := newAudited(t)
			a.log(true)
			a.emit(start, "e", "one")
			if where == "put" {
				a.fail, a.after = killed, after
			} else {
				a.store.fail, a.store.after = killed, after
			}
			if err := a.deliver(start.Add(time.Hour)); !errors.Is(err, killed) {
				t.Errorf("answered %v", err)
			}
			a.emit(start.Add(time.Hour), "e", "two")
			a.do(a.deliver(start.Add(2*time.Hour)), a.deliver(start.Add(3*time.Hour)))
			all, _ := a.messages()
			if slices.Sort(all); !slices.Equal(all, []string{"one", "two"}) {
				t.Errorf("%s, after %v: in the bucket are %q", where, after, all)
			}
		}
	}
}

// TestTrailStops writes what came while it was logging, and nothing else.
func TestTrailStops(t *testing.T) {
	a := newAudited(t)
	a.log(false)
	a.emit(start, "e", "never begun")
	a.log(true)
	a.log(true)
	a.emit(start, "e", "one")
	a.log(false)
	a.log(false)
	a.emit(start, "e", "stopped")
	a.log(true)
	a.log(false) // with nothing between
	a.emit(start, "e", "stopped still")
	a.log(true)
	a.emit(start.Add(time.Minute), "e", "two")
	a.do(a.deliver(start))
	a.want("one") // at once: nothing can be added
	a.do(a.deliver(start.Add(time.Hour)))
	a.want("one", "two")
	for i := range maxEvents + 5 {
		a.emit(start.Add(2*time.Hour), "e", fmt.Sprint(i))
	}
	a.do(a.deliver(start.Add(2 * time.Hour)))
	if all, keys := a.messages(); len(all) != maxEvents+2 || len(keys) != 3 {
		t.Errorf("%d events in %d objects; want a full one at once", len(all), len(keys))
	}
}

// TestTrailsAreWritten runs the loop: events that come are written when the
// first has waited, what cannot be stored is told once and stored later.
func TestTrailsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAudited(t)
		a.log(true)
		ctx, stop := context.WithCancel(t.Context())
		by := a.watcher()
		ended := make(chan struct{})
		go func() { defer close(ended); by.runTrails(ctx) }()
		synctest.Wait()
		a.emit(time.Now(), "e", "one")
		time.Sleep(deliverAfter / 2) // virtual
		synctest.Wait()
		a.emit(time.Now(), "e", "two")
		time.Sleep(deliverAfter/2 - 1)
		synctest.Wait()
		a.want()
		a.mu.Lock()
		a.fail = errors.New("no bucket")
		a.mu.Unlock()
		time.Sleep(1)
		synctest.Wait()
		a.want()
		a.mu.Lock()
		told := a.told
		a.mu.Unlock()
		if len(told) != 1 || !strings.Contains(told[0], "trail audit cannot be written: no bucket") {
			t.Errorf("told %q", told)
		}
		time.Sleep(afterFailure)
		synctest.Wait()
		a.want("one", "two")
		stop()
		<-ended
	})
}
