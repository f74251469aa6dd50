package lease

import (
	"context"
	"fmt"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

// Verdicts say of pieces of work, by key, whether they are to go back or have
// come to their end: whatever is written first holds.
type Verdicts struct {
	kind  string
	store record.Store
	all   record.Collection[verdict]
}

type verdict struct {
	Cancelled bool `json:"cancelled"`
}

// NewVerdicts gives the verdicts of one kind in a store.
func NewVerdicts(store record.Store, kind string) Verdicts {
	return Verdicts{kind: kind, store: store, all: record.Of[verdict](store, kind+"-verdict")}
}

func (v Verdicts) stream(key string) string { return v.kind + "-cancel/" + key }

// Cancel has a piece of work go back; false says that it is too late. To ask
// again for the same is fine.
func (v Verdicts) Cancel(ctx context.Context, key string) (bool, error) {
	op, err := v.all.PutOp(key, verdict{Cancelled: true}, record.Absent)
	if err != nil {
		return false, err
	}
	if _, err = v.store.AppendWith(ctx, v.stream(key), [][]byte{op.Value}, op); fault.Is(err, fault.Conflict) {
		return v.Cancelled(ctx, key)
	}
	return err == nil, err
}

// EndOp writes, together with what the work's end writes, that it can no more
// be cancelled. It conflicts if it was.
func (v Verdicts) EndOp(key string) (record.Op, error) {
	return v.all.PutOp(key, verdict{}, record.Absent)
}

// ForgetOp removes a verdict.
func (v Verdicts) ForgetOp(key string) record.Op { return v.all.DeleteOp(key) }

// Withdraw removes a verdict that nobody has heeded; false says that somebody
// has, and removed it.
func (v Verdicts) Withdraw(ctx context.Context, key string) (bool, error) {
	_, version, err := v.all.GetVersion(ctx, key)
	if err == nil {
		op := v.ForgetOp(key)
		op.If = version
		err = v.store.Write(ctx, op)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// Cancelled says whether a piece of work is to go back.
func (v Verdicts) Cancelled(ctx context.Context, key string) (bool, error) {
	found, err := v.all.Get(ctx, key)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return found.Cancelled, err
}

// Await returns nil when a piece of work is cancelled, or ctx's error.
func (v Verdicts) Await(ctx context.Context, key string) error {
	for {
		last, err := v.store.Last(ctx, v.stream(key))
		if err != nil {
			return fmt.Errorf("wait for a cancel: %w", err)
		}
		if was, err := v.Cancelled(ctx, key); was || err != nil {
			return err
		}
		if err := v.store.Wait(ctx, v.stream(key), last); err != nil {
			return err
		}
	}
}
