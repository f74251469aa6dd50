package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/record"
)

const alarmType = "AWS::CloudWatch::Alarm"

// States of an alarm, in the service's words.
const (
	AlarmOK           = "OK"
	AlarmOn           = "ALARM"
	AlarmInsufficient = "INSUFFICIENT_DATA"
)

// Alarm is the state of an alarm. Nothing measures for it here: its state is
// what was said last, as with the service's SetAlarmState.
type Alarm struct {
	Name   string    `json:"name"`
	ARN    string    `json:"arn"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time,omitzero"`
}

func (p *Platform) alarms() record.Collection[Alarm] {
	return record.Of[Alarm](p.o.Records, "local-alarm")
}

// alarmStream gets an item for each change of an alarm of the environment.
func (p *Platform) alarmStream() string { return "alarms/" + p.env }

// alarm gives the alarm of a name or ARN, fault.NotFound if no stack has made it.
func (p *Platform) alarm(ctx context.Context, name string) (Alarm, error) {
	all, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return Alarm{}, fmt.Errorf("list alarms: %w", err)
	}
	var names []string
	for _, r := range all {
		if r.Type != alarmType {
			continue
		}
		arn, _ := r.Attributes["Arn"].(string)
		if name != r.PhysicalID && name != arn {
			names = append(names, r.PhysicalID)
			continue
		}
		a, err := p.alarms().Get(ctx, p.alarmKey(Alarm{Name: r.PhysicalID}))
		if fault.Is(err, fault.NotFound) {
			a, err = Alarm{State: AlarmInsufficient}, nil
		}
		a.Name, a.ARN = r.PhysicalID, arn
		return a, err
	}
	slices.Sort(names)
	none := fault.New(fault.NotFound, "environment %s has no alarm %s", p.env, name)
	if len(names) > 0 {
		return Alarm{}, none.WithHint("its alarms are %s", strings.Join(names, ", "))
	}
	return Alarm{}, none.WithHint("make one with a resource of type %s", alarmType)
}

// SetAlarm says in what state an alarm is, by its name or ARN. Who watches it
// learns of it at once.
func (p *Platform) SetAlarm(ctx context.Context, name, state, reason string) (Alarm, error) {
	if states := []string{AlarmOK, AlarmOn, AlarmInsufficient}; !slices.Contains(states, state) {
		return Alarm{}, fault.New(fault.Invalid, "%q is no state of an alarm; allowed are %s", state, strings.Join(states, ", "))
	}
	a, err := p.alarm(ctx, name)
	if err != nil {
		return Alarm{}, err
	}
	a.State, a.Reason, a.Time = state, reason, time.Now().UTC()
	op, err := p.alarms().PutOp(p.alarmKey(a), a, record.Any)
	if err != nil {
		return Alarm{}, err
	}
	_, err = p.o.Records.AppendWith(ctx, p.alarmStream(), [][]byte{[]byte(`"` + a.Name + `"`)}, op)
	return a, err
}

// alarmKey is by name: an alarm that is made again under its name has the state
// that was said last.
func (p *Platform) alarmKey(a Alarm) string { return p.env + "/" + a.Name }

// WaitAlarm implements stack.AlarmStore.
func (p *Platform) WaitAlarm(ctx context.Context, arn string) error {
	for {
		last, err := p.o.Records.Last(ctx, p.alarmStream())
		if err != nil {
			return err
		}
		a, err := p.alarm(ctx, arn)
		if err != nil || a.State == AlarmOn {
			return err
		}
		if err := p.o.Records.Wait(ctx, p.alarmStream(), last); err != nil {
			return err
		}
	}
}
