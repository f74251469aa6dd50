package pace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"makeitso/internal/record"
)

// Box keeps the signals of an environment, each under the address it was for.
type Box struct {
	Store       record.Store
	Environment string
	// Broken marks an error of the store.
	Broken func(error) error
	// Idle is called when a wait begins, because not enough has come yet; nil
	// for nobody.
	Idle func()
}

func (b Box) stream(address string) string { return "signal/" + b.Environment + "/" + address }

// Put keeps a signal for ever.
func (b Box) Put(ctx context.Context, address string, s Signal) error {
	raw, err := json.Marshal(s)
	if err == nil {
		_, err = b.Store.Append(ctx, b.stream(address), raw)
	}
	if err != nil {
		return fmt.Errorf("store a signal: %w", err)
	}
	return nil
}

// Last gives the number of the newest signal for an address.
func (b Box) Last(ctx context.Context, address string) (int64, error) {
	last, err := b.Store.Last(ctx, b.stream(address))
	if err != nil {
		return 0, b.Broken(fmt.Errorf("read signals: %w", err))
	}
	return last, nil
}

// Heard is the signals for one address, as far as they were read.
type Heard struct {
	Tally
	Address string
	Last    int64
}

// atOnce bounds what one Read of the store brings into memory.
const atOnce = 1000

// Read adds what has come since, and gives the signals that are new.
func (b Box) Read(ctx context.Context, h *Heard) (news []Signal, err error) {
	for {
		items, err := b.Store.Read(context.WithoutCancel(ctx), b.stream(h.Address), h.Last, atOnce)
		if err != nil {
			return nil, b.Broken(fmt.Errorf("read signals: %w", err))
		}
		for _, item := range items {
			var s Signal
			if err := json.Unmarshal(item.Value, &s); err != nil {
				return nil, b.Broken(fmt.Errorf("decode signal %d: %w", item.Number, err))
			}
			if h.Last = item.Number; h.Add(s) {
				news = append(news, s)
			}
		}
		if len(items) < atOnce {
			return news, nil
		}
	}
}

// errLate is why a wait ends at its deadline.
var errLate = errors.New("the time is over")

// Hear waits until enough signals have come, or until a time, which late then
// says. Each signal is told as it comes. When ctx ends, it answers its cause.
func (b Box) Hear(ctx context.Context, h *Heard, until time.Time, tell func(context.Context, string) error, enough func() bool) (late bool, err error) {
	limited, cancel := context.WithDeadlineCause(ctx, until, errLate)
	defer cancel()
	for {
		news, err := b.Read(ctx, h)
		if err != nil {
			return false, err
		}
		for _, s := range news {
			if err := tell(ctx, fmt.Sprintf("Received %s signal with UniqueId %s", s.Status, s.UniqueID)); err != nil {
				return false, err
			}
		}
		if enough() {
			return false, nil
		}
		if b.Idle != nil {
			b.Idle()
		}
		err = b.Store.Wait(limited, b.stream(h.Address), h.Last)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case context.Cause(limited) == errLate:
			return true, nil
		default:
			return false, b.Broken(fmt.Errorf("wait for signals: %w", err))
		}
	}
}

// Waiting is how far a step has come in waiting for signals. It is stored
// before the wait, so that a crash takes none of its time away.
type Waiting struct {
	After int64     `json:"after,omitempty"` // signals up to that number were for an earlier step
	Until time.Time `json:"until,omitzero"`
	// Kept and Late are those of State: new instances of which no signal is
	// awaited, and those whose time was over.
	Kept int `json:"kept,omitempty"`
	Late int `json:"late,omitempty"`
	// Back says that a rolling update is one of a roll back.
	Back bool `json:"back,omitempty"`
}
