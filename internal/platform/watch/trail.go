package watch

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// Trail is where the events of the project are written to.
type Trail struct {
	Token, Name    string
	Bucket, Prefix string
}

// delivery says which events of the stream a trail has still to write down:
// those within the spans, of which the last is open while the trail is logging.
type delivery struct {
	Spans []span `json:"spans"`
}

// span is the events after After, up to Until if that is not 0.
type span struct {
	After int64 `json:"after"`
	Until int64 `json:"until,omitempty"`
}

func trailsOf(records record.Store) record.Collection[delivery] {
	return record.Of[delivery](records, trailKind)
}

// Log says that a trail writes down events from now on, or no more. Those
// before are still delivered.
func Log(ctx context.Context, records record.Store, environment, token, stream string, on bool) error {
	for {
		last, err := records.Last(ctx, stream)
		if err != nil {
			return err
		}
		d, version, err := trailsOf(records).GetVersion(ctx, key(environment, token))
		if fault.Is(err, fault.NotFound) {
			version, err = record.Absent, nil
		}
		if err != nil {
			return err
		}
		open := len(d.Spans) > 0 && d.Spans[len(d.Spans)-1].Until == 0
		switch {
		case on && !open:
			d.Spans = append(d.Spans, span{After: last})
		case !on && open && last > d.Spans[len(d.Spans)-1].After:
			d.Spans[len(d.Spans)-1].Until = last
		case !on && open:
			d.Spans = d.Spans[:len(d.Spans)-1]
		case version != record.Absent:
			return nil
		}
		err = trailsOf(records).PutIf(ctx, key(environment, token), d, version)
		if !fault.Is(err, fault.Conflict) { // else events were delivered meanwhile
			return err
		}
	}
}

const (
	// deliverAfter is how long the first event of an object waits for others.
	deliverAfter = time.Minute
	// maxEvents is how many events are read at a time, and make an object.
	maxEvents = 1000
)

// runTrails writes trails until ctx ends.
func (w *Watcher) runTrails(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		changed, now := w.o.Changed(), w.o.Now()
		last, next, err := w.deliverAll(ctx, now)
		if told = w.tell(ctx, told, err); err != nil {
			next = earlier(next, now.Add(afterFailure))
		}
		w.waitEvents(ctx, changed, last, next)
	}
}

// waitEvents waits for an event after last (not if that is negative), for a
// change, or until something is due.
func (w *Watcher) waitEvents(ctx context.Context, changed <-chan struct{}, last int64, next time.Time) {
	waiting, stop := context.WithCancel(ctx)
	came := make(chan struct{})
	if last >= 0 {
		go func() {
			defer close(came)
			if w.o.Records.Wait(waiting, w.o.Events, last) != nil { // a failure is found when they are read
				<-waiting.Done()
			}
		}()
		defer func() { <-came }()
	}
	defer stop()
	due := time.NewTimer(next.Sub(w.o.Now()))
	defer due.Stop()
	select {
	case <-came:
	case <-changed:
	case <-due.C:
	case <-ctx.Done():
	}
}

// deliverAll writes what is due of all trails. It gives the number of the last
// event that it has seen, -1 if no trail asks for more.
func (w *Watcher) deliverAll(ctx context.Context, now time.Time) (last int64, next time.Time, err error) {
	next = now.Add(atLeastEvery)
	d, err := w.o.Declared(ctx)
	if err != nil || len(d.Trails) == 0 {
		return -1, next, err
	}
	// Asked before they are read: one that comes meanwhile ends the waiting.
	if last, err = w.o.Records.Last(ctx, w.o.Events); err != nil {
		return -1, next, fmt.Errorf("read the events for trails: %w", err)
	}
	var failures []error
	for _, t := range d.Trails {
		due, err := w.deliver(ctx, t, now)
		if err != nil {
			failures = append(failures, fmt.Errorf("trail %s cannot be written: %w", t.Name, err))
		}
		next = earlier(next, due)
	}
	return last, next, errors.Join(failures...)
}

// deliver writes what is due of one trail, and says when more is. An object is
// stored before it is noted that it is: after a crash it is written again, under
// the same key, with the same events and those that came since.
func (w *Watcher) deliver(ctx context.Context, t Trail, now time.Time) (next time.Time, err error) {
	for ctx.Err() == nil {
		d, version, err := trailsOf(w.o.Records).GetVersion(ctx, key(w.o.Environment, t.Token))
		if fault.Is(err, fault.NotFound) || err == nil && len(d.Spans) == 0 {
			return next, nil
		}
		if err != nil {
			return next, err
		}
		s := &d.Spans[0]
		events, read, err := w.events(ctx, *s)
		if err != nil {
			return next, err
		}
		whole := s.Until > 0 || read-s.After >= maxEvents
		switch {
		case len(events) == 0 && !whole:
			return next, nil
		case len(events) > 0:
			if due := events[0].Time.Add(deliverAfter); !whole && due.After(now) {
				return due, nil
			}
			object, err := w.object(t, events)
			if err != nil {
				return next, err
			}
			if err := w.o.Put(ctx, t.Bucket, w.objectKey(t, *s, events[0].Time), object); err != nil {
				return next, err
			}
		}
		if s.After = read; s.Until > 0 && read >= s.Until {
			d.Spans = d.Spans[1:]
		}
		err = trailsOf(w.o.Records).PutIf(ctx, key(w.o.Environment, t.Token), d, version)
		if err != nil && !fault.Is(err, fault.Conflict) { // switched on or off meanwhile: look again
			return next, fmt.Errorf("note what was written: %w", err)
		}
	}
	return next, ctx.Err()
}

// event is what is known of an event of the project.
type event struct {
	Number      int64     `json:"number"`
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"`
	Run         string    `json:"run"`
	Stage       string    `json:"stage"`
	Environment string    `json:"environment"`
	Subject     string    `json:"subject"`
	Status      string    `json:"status"`
	Message     string    `json:"message"`
}

// events gives the first events of a span that belong to the environment or to
// none, and up to which number they were looked for.
func (w *Watcher) events(ctx context.Context, s span) (events []event, read int64, err error) {
	items, err := w.o.Records.Read(ctx, w.o.Events, s.After, maxEvents)
	if err != nil {
		return nil, 0, err
	}
	read = s.After
	if len(items) == 0 {
		read = max(read, s.Until)
	}
	for _, item := range items {
		if s.Until > 0 && item.Number > s.Until {
			read = s.Until
			break
		}
		var e event
		if err := json.Unmarshal(item.Value, &e); err != nil {
			return nil, 0, fmt.Errorf("decode event %d: %w", item.Number, err)
		}
		e.Number, read = item.Number, item.Number
		if e.Environment == "" || e.Environment == w.o.Environment {
			events = append(events, e)
		}
	}
	return events, read, nil
}

// objectKey is where the events of a span lie, as with the service.
func (w *Watcher) objectKey(t Trail, s span, first time.Time) string {
	first = first.UTC()
	name := fmt.Sprintf("%s_CloudTrail_%s_%s_%s.json.gz", w.o.Account, w.o.Region, first.Format("20060102T1504Z"), digits(fmt.Sprint(t.Token, s.After))[:16])
	parts := []string{"AWSLogs", w.o.Account, "CloudTrail", w.o.Region, first.Format("2006/01/02"), name}
	if t.Prefix != "" {
		parts = append([]string{strings.Trim(t.Prefix, "/")}, parts...)
	}
	return strings.Join(parts, "/")
}

func digits(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// trailRecord is an event as CloudTrail writes it down.
type trailRecord struct {
	EventVersion       string         `json:"eventVersion"`
	UserIdentity       map[string]any `json:"userIdentity"`
	EventTime          string         `json:"eventTime"`
	EventSource        string         `json:"eventSource"`
	EventName          string         `json:"eventName"`
	AWSRegion          string         `json:"awsRegion"`
	SourceIPAddress    string         `json:"sourceIPAddress"`
	UserAgent          string         `json:"userAgent"`
	RequestParameters  map[string]any `json:"requestParameters"`
	ResponseElements   map[string]any `json:"responseElements"`
	EventID            string         `json:"eventID"`
	ReadOnly           bool           `json:"readOnly"`
	EventType          string         `json:"eventType"`
	ManagementEvent    bool           `json:"managementEvent"`
	RecipientAccountID string         `json:"recipientAccountId"`
	EventCategory      string         `json:"eventCategory"`
}

// eventVersion is that of CloudTrail's records which ours have the form of.
const eventVersion = "1.11"

// object gives a file of records.
func (w *Watcher) object(t Trail, events []event) ([]byte, error) {
	records := make([]trailRecord, len(events))
	for i, e := range events {
		id := digits(fmt.Sprint(t.Token, e.Number))
		parameters := map[string]any{}
		for name, value := range map[string]string{"run": e.Run, "stage": e.Stage, "environment": e.Environment, "subject": e.Subject, "status": e.Status, "message": e.Message} {
			if value != "" {
				parameters[name] = value
			}
		}
		records[i] = trailRecord{
			EventVersion: eventVersion, EventTime: e.Time.UTC().Format(time.RFC3339), EventSource: "makeitso", EventName: eventName(e.Kind, e.Status),
			UserIdentity: map[string]any{"type": "AWSService", "invokedBy": "makeitso"}, AWSRegion: w.o.Region, SourceIPAddress: "makeitso", UserAgent: "makeitso",
			RequestParameters: parameters, EventID: id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32],
			EventType: "AwsServiceEvent", ManagementEvent: true, RecipientAccountID: w.o.Account, EventCategory: "Management",
		}
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if err := json.NewEncoder(zip).Encode(map[string]any{"Records": records}); err != nil {
		return nil, fmt.Errorf("encode events: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("encode events: %w", err)
	}
	return b.Bytes(), nil
}

// eventName joins words as CloudTrail writes names: ResourceCreateComplete.
func eventName(words ...string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(strings.ToLower(strings.Join(words, " ")), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		letters := []rune(word)
		b.WriteString(strings.ToUpper(string(letters[:1])) + string(letters[1:]))
	}
	return b.String()
}
