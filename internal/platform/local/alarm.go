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
	alarmOK           = "OK"
	alarmOn           = "ALARM"
	alarmInsufficient = "INSUFFICIENT_DATA"
)

// alarmState is what was said of an alarm last, as with the service's
// SetAlarmState: nothing measures for it here.
type alarmState struct {
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
}

// alarms gives the alarms of the environment.
func (p *Platform) alarms(ctx context.Context) ([]resource, error) {
	all, err := p.models.List(ctx, p.modelKey(""))
	if err != nil {
		return nil, fmt.Errorf("list alarms: %w", err)
	}
	return slices.DeleteFunc(all, func(r resource) bool { return r.Type != alarmType }), nil
}

// alarm gives the alarm of a name or ARN, fault.NotFound if no stack has made it.
func (p *Platform) alarm(ctx context.Context, name string) (resource, error) {
	all, err := p.alarms(ctx)
	if err != nil {
		return resource{}, err
	}
	names := make([]string, len(all))
	for i, r := range all {
		if name == r.PhysicalID || name == r.Attributes["Arn"] {
			return r, nil
		}
		names[i] = r.PhysicalID
	}
	slices.Sort(names)
	none := fault.New(fault.NotFound, "environment %s has no alarm %s", p.env, name)
	if len(names) > 0 {
		return resource{}, none.WithHint("its alarms are %s", strings.Join(names, ", "))
	}
	return resource{}, none.WithHint("make one first, with a resource of type %s", alarmType)
}

// alarmStates are kept by the alarms' tokens: one that is made again under its
// name begins anew.
func (p *Platform) alarmStates() record.Collection[alarmState] {
	return record.Of[alarmState](p.o.Records, "local-alarm")
}

// alarmStream gets an item for each change of an alarm of the environment.
func (p *Platform) alarmStream() string { return "alarms/" + p.env }

// changeAlarm does what changes an alarm, and wakes who watches alarms.
func (p *Platform) changeAlarm(ctx context.Context, name string, ops ...record.Op) error {
	_, err := p.o.Records.AppendWith(ctx, p.alarmStream(), [][]byte{fmt.Appendf(nil, "%q", name)}, ops...)
	return err
}

// SetAlarm says in what state an alarm is, by its name or ARN. Who watches it
// learns of it at once.
func (p *Platform) SetAlarm(ctx context.Context, name, state, reason string) error {
	if states := []string{alarmOK, alarmOn, alarmInsufficient}; !slices.Contains(states, state) {
		return fault.New(fault.Invalid, "%q is no state of an alarm; allowed are %s", state, strings.Join(states, ", "))
	}
	r, err := p.alarm(ctx, name)
	if err != nil {
		return err
	}
	op, err := p.alarmStates().PutOp(p.modelKey(r.Token), alarmState{State: state, Reason: reason, Time: time.Now().UTC()}, record.Any)
	if err != nil {
		return err
	}
	return p.changeAlarm(ctx, r.PhysicalID, op)
}

// HasAlarm implements stack.AlarmStore.
func (p *Platform) HasAlarm(ctx context.Context, arn string) error {
	_, err := p.alarm(ctx, arn)
	return err
}

// WaitAlarm implements stack.AlarmStore. An alarm that is deleted meanwhile is
// fault.NotFound from then on.
func (p *Platform) WaitAlarm(ctx context.Context, arn string) error {
	for {
		last, err := p.o.Records.Last(ctx, p.alarmStream())
		if err != nil {
			return err
		}
		r, err := p.alarm(ctx, arn)
		if err != nil {
			return err
		}
		is, err := p.alarmStates().Get(ctx, p.modelKey(r.Token))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("read the state of alarm %s: %w", r.PhysicalID, err)
		}
		if is.State == alarmOn { // with nothing said yet, it has insufficient data
			return nil
		}
		if err := p.o.Records.Wait(ctx, p.alarmStream(), last); err != nil {
			return err
		}
	}
}
