package release

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// Alarms are the alarms of a platform. Platforms implement it.
type Alarms interface {
	// AwaitAlarm gives the state of an alarm, by its name or ARN, and the reason
	// for it, as soon as it is one that is wanted; fault.NotFound if there is no
	// such alarm.
	AwaitAlarm(ctx context.Context, name string, wanted func(state string) bool) (state, reason string, err error)
}

// alarmOn is the state of an alarm that turns a rollout round. One that has
// insufficient data says nothing.
const alarmOn = "ALARM"

// alarmRecord is an alarm that is watched while a release is rolled out.
type alarmRecord struct {
	Name string `json:"name"`
	// Before says that it was on when the rollout began, and has been since. That
	// is not the new version's doing, and may be what it mends: such an alarm
	// counts only when it has been off.
	Before bool `json:"before,omitempty"`
}

// alarms gives the alarms of a service as they are now; also those that do not
// exist, of which the error then tells.
func (c *Controller) alarms(ctx context.Context, s Service) (all []alarmRecord, err error) {
	if len(s.Alarms) > 0 && c.o.Alarms == nil {
		return nil, fault.New(fault.Unsupported, "service %s is to be watched by alarms, and environment %s has none", s.Name, c.environment)
	}
	for _, name := range s.Alarms {
		state, _, missing := c.o.Alarms.AwaitAlarm(ctx, name, func(string) bool { return true })
		switch {
		case fault.Is(missing, fault.NotFound):
			err = fmt.Errorf("service %s cannot be watched by its alarms: %w", s.Name, missing)
		case missing != nil:
			return nil, fmt.Errorf("read alarm %s: %w", name, missing)
		}
		all = append(all, alarmRecord{Name: name, Before: state == alarmOn})
	}
	return all, err
}

// heed watches the alarms while a rollout is on its way.
func (k *keeper) heed(ctx context.Context) {
	release := k.rec.State.Plan.New.Release
	if !k.rec.State.Phase.Forward() || len(k.rec.Alarms) == 0 {
		k.unheed()
		k.heeds = ""
		return
	}
	if k.heeds != release {
		k.unheed()
		k.heeds = release
		k.heeding, k.unheed = context.WithCancel(ctx)
	}
	heeding := k.heeding
	for _, a := range k.rec.Alarms {
		var state, reason string
		k.begin(ctx, fmt.Sprintf("watch alarm %s for %s", a.Name, release), func(context.Context) (err error) {
			state, reason, err = k.c.o.Alarms.AwaitAlarm(heeding, a.Name, func(state string) bool { return (state == alarmOn) != a.Before })
			switch {
			case heeding.Err() != nil:
				return nil // nobody wants to know
			case fault.Is(err, fault.NotFound):
				state, reason, err = alarmGone, err.Error(), nil
			}
			return err
		}, func(ctx context.Context) {
			if heeding.Err() == nil && k.heeds == release {
				k.alarmed(ctx, a, state, reason)
			}
		})
	}
}

// alarmGone stands for the state of an alarm that does not exist any more.
const alarmGone = "gone"

// alarmed acts on the change of an alarm.
func (k *keeper) alarmed(ctx context.Context, a alarmRecord, state, reason string) {
	release := k.rec.State.Plan.New.Release
	switch state {
	case alarmOn:
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: strings.TrimSuffix(fmt.Sprintf("alarm %s is in state ALARM: %s", a.Name, reason), ": ")})
	case alarmGone: // what was to watch over it cannot
		k.apply(ctx, rollout.Event{Kind: rollout.RollBack, Reason: "an alarm that it is watched by is gone: " + reason})
	default:
		i := slices.IndexFunc(k.rec.Alarms, func(other alarmRecord) bool { return other == a })
		k.rec.Alarms[i].Before = false
		before := k.rec.State
		k.commit(ctx, before)
		k.tell(release, EventRollout, fmt.Sprintf("alarm %s is in state %s, and counts from now on", a.Name, state))
	}
}

// alarmNote says which alarms do not count, "" if all do.
func (r *serviceRecord) alarmNote() string {
	var notes []string
	for _, a := range r.Alarms {
		if a.Before {
			notes = append(notes, fmt.Sprintf("alarm %s was in state ALARM before it began, and counts only when it has been off", a.Name))
		}
	}
	return strings.Join(notes, "; ")
}
