package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/watch"
	"makeitso/internal/record"
)

const (
	alarmType     = "AWS::CloudWatch::Alarm"
	compositeType = "AWS::CloudWatch::CompositeAlarm"
)

func isAlarm(typ string) bool { return typ == alarmType || typ == compositeType }

// alarms gives the alarms of the environment, composite ones among them.
func (p *Platform) alarms(ctx context.Context) ([]machine.Resource, error) {
	return p.recordsOf(ctx, alarmType, compositeType)
}

// alarm gives the alarm of a name or ARN, fault.NotFound if no stack has made it.
func (p *Platform) alarm(ctx context.Context, name string) (machine.Resource, error) {
	all, err := p.alarms(ctx)
	if err != nil {
		return machine.Resource{}, err
	}
	names := make([]string, len(all))
	for i, r := range all {
		if name == r.PhysicalID || name == r.Attributes["Arn"] {
			return r, nil
		}
		names[i] = r.PhysicalID
	}
	slices.Sort(names)
	none := fault.New(fault.NotFound, "environment %s has no alarm %s", p.Env, name)
	if len(names) > 0 {
		return machine.Resource{}, none.WithHint("its alarms are %s", strings.Join(names, ", "))
	}
	return machine.Resource{}, none.WithHint("make one first, with a resource of type %s", alarmType)
}

// alarmStates are kept by the alarms' tokens: one that is made again under its
// name begins anew.
func (p *Platform) alarmStates() record.Collection[watch.Said] {
	return record.Of[watch.Said](p.o.Records, "local-alarm")
}

// alarmStream gets an item for each change of an alarm of the environment.
func (p *Platform) alarmStream() string { return "alarms/" + p.Env }

// changeAlarm does what changes an alarm, and wakes who watches alarms.
func (p *Platform) changeAlarm(ctx context.Context, name string, ops ...record.Op) error {
	_, err := p.o.Records.AppendWith(ctx, p.alarmStream(), [][]byte{fmt.Appendf(nil, "%q", name)}, ops...)
	if err == nil {
		p.Notify() // composite alarms may ask about it
	}
	return err
}

// SetAlarm says in what state an alarm is, by its name or ARN. Who watches it
// learns of it at once. The state of one that is evaluated holds until the next
// evaluation.
func (p *Platform) SetAlarm(ctx context.Context, name, state, reason string) error {
	if states := metric.States(); !slices.Contains(states, metric.State(state)) {
		return fault.New(fault.Invalid, "%q is no state of an alarm; allowed are %s", state, strings.Trim(strings.ReplaceAll(fmt.Sprint(states), " ", ", "), "[]"))
	}
	r, err := p.alarm(ctx, name)
	if err != nil {
		return err
	}
	said := watch.Said{State: metric.State(state), Reason: reason, Time: time.Now().UTC()}
	op, err := p.alarmStates().PutOp(p.ModelKey(r.Token), said, record.Any)
	if err == nil {
		err = p.changeAlarm(ctx, r.PhysicalID, op)
	}
	if err == nil {
		p.tellAlarm(ctx, r, said)
	}
	return err
}

// HasAlarm implements stack.AlarmStore.
func (p *Platform) HasAlarm(ctx context.Context, arn string) error {
	_, err := p.alarm(ctx, arn)
	return err
}

// WaitAlarm implements stack.AlarmStore.
func (p *Platform) WaitAlarm(ctx context.Context, arn string) error {
	_, _, err := p.AwaitAlarm(ctx, arn, func(state string) bool { return metric.State(state) == metric.On })
	return err
}

// AwaitAlarm implements release.Alarms. An alarm that is deleted meanwhile is
// fault.NotFound from then on.
func (p *Platform) AwaitAlarm(ctx context.Context, name string, wanted func(state string) bool) (state, reason string, err error) {
	for {
		last, err := p.o.Records.Last(ctx, p.alarmStream())
		if err != nil {
			return "", "", err
		}
		r, err := p.alarm(ctx, name)
		if err != nil {
			return "", "", err
		}
		is, err := p.alarmStates().Get(ctx, p.ModelKey(r.Token))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return "", "", fmt.Errorf("read the state of alarm %s: %w", r.PhysicalID, err)
		}
		if is.State == "" { // nothing was said yet
			is.State = metric.Insufficient
		}
		if wanted(string(is.State)) {
			return string(is.State), is.Reason, nil
		}
		if err := p.o.Records.Wait(ctx, p.alarmStream(), last); err != nil {
			return "", "", err
		}
	}
}
