package pace

import (
	"encoding/json"

	"makeitso/internal/fault"
)

// Statuses of a Signal, in the service's words.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
)

// Signal is what somebody tells of a resource that is waited for, as the
// document that is put to the address of a wait condition's handle.
type Signal struct {
	Status   string `json:"Status"` // SUCCESS, FAILURE
	UniqueID string `json:"UniqueId"`
	Data     string `json:"Data,omitempty"`
	Reason   string `json:"Reason,omitempty"`
}

// Check says what is wrong with a signal.
func (s Signal) Check() error {
	switch {
	case s.Status != Success && s.Status != Failure:
		return fault.New(fault.Invalid, "the Status of a signal is %q; allowed are %s and %s", s.Status, Success, Failure)
	case s.UniqueID == "":
		return fault.New(fault.Invalid, "a signal needs a UniqueId, which tells it from others about the same resource")
	case len(s.Data) > maxData:
		return fault.New(fault.Invalid, "the Data of a signal has %d bytes; allowed are %d", len(s.Data), maxData)
	}
	return nil
}

// maxData is the service's limit.
const maxData = 4096

// Tally is the signals that have come: the first of each UniqueId.
type Tally struct {
	Good   map[string]Signal
	Failed []Signal
}

// Add counts a signal, unless its UniqueId was heard before.
func (t *Tally) Add(s Signal) bool {
	_, known := t.Good[s.UniqueID]
	for _, f := range t.Failed {
		known = known || f.UniqueID == s.UniqueID
	}
	switch {
	case known:
		return false
	case s.Status == Failure:
		t.Failed = append(t.Failed, s)
	case t.Good == nil:
		t.Good = map[string]Signal{s.UniqueID: s}
	default:
		t.Good[s.UniqueID] = s
	}
	return true
}

// Count is how many have come.
func (t *Tally) Count() int { return len(t.Good) + len(t.Failed) }

// Data gives what the good signals brought, as the attribute Data has it.
func (t *Tally) Data() (string, error) {
	data := map[string]string{}
	for id, s := range t.Good {
		data[id] = s.Data
	}
	raw, err := json.Marshal(data)
	return string(raw), err
}

// share is a percentage of n, rounded up.
func share(n, percent int) int { return (n*percent + 99) / 100 }

// Decided says whether no further signal can change the outcome.
func (c Creation) Decided(t *Tally) bool {
	needed := share(c.Count, c.Percent)
	return len(t.Good) >= needed || len(t.Failed) > c.Count-needed
}

// Judge says in the service's words why the signals that came do not suffice.
func (c Creation) Judge(t *Tally) error {
	switch {
	case len(t.Good) >= share(c.Count, c.Percent):
		return nil
	case c.OfGroup:
		return unsatisfied(len(t.Good), c.Count, c.Percent)
	case c.Handle && len(t.Failed) > 0:
		return fault.New(fault.Failed, "WaitCondition received failed message: '%s' for uniqueId: %s", t.Failed[0].Reason, t.Failed[0].UniqueID)
	case len(t.Failed) > 0:
		return fault.New(fault.Failed, "Received %s signal with UniqueId %s", Failure, t.Failed[0].UniqueID)
	case c.Handle:
		return fault.New(fault.Failed, "WaitCondition timed out. Received %d conditions when expecting %d", len(t.Good), c.Count)
	}
	return fault.New(fault.Failed, "Failed to receive %d resource signal(s) within the specified duration", c.Count-len(t.Good))
}

func unsatisfied(good, of, percent int) error {
	return fault.New(fault.Failed, "Received %d %s signal(s) out of %d.  Unable to satisfy %d%% MinSuccessfulInstancesPercent requirement", good, Success, of, percent)
}
