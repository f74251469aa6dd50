// Package pace is how a stack goes ahead where it has to wait: what
// CreationPolicy and UpdatePolicy say, what the signals that came amount to, and
// the steps of a rolling update. It knows values that are resolved and where
// signals are kept; it must not know stacks or platforms.
package pace

import (
	"math"
	"reflect"
	"slices"
	"time"

	"makeitso/internal/diag"
)

// Types that policies speak of.
const (
	GroupType     = "AWS::AutoScaling::AutoScalingGroup"
	ConditionType = "AWS::CloudFormation::WaitCondition"
	HandleType    = "AWS::CloudFormation::WaitConditionHandle"
)

// SignalTypes are the types that a CreationPolicy makes wait for signals.
var SignalTypes = []string{"AWS::AppStream::Fleet", GroupType, "AWS::EC2::Instance", ConditionType}

// LaunchProperties are those of a group that say what its instances are made
// from and where.
var LaunchProperties = []string{"LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy", "VPCZoneIdentifier"}

// The service's limits.
const (
	maxSignals = 12 * time.Hour
	maxPause   = time.Hour
)

// Creation is what a new resource waits for.
type Creation struct {
	Count   int // of signals
	Timeout time.Duration
	Percent int  // of Count that must succeed
	OfGroup bool // the signals are those of a group's instances
	Handle  bool // the signals come through a wait condition's handle
}

// Condition reads the properties of a wait condition that has a handle.
func Condition(r *Reader) (*Creation, diag.List) {
	c := &Creation{Count: r.number("Count", 1, 1, math.MaxInt32), Percent: 100, Handle: true,
		Timeout: time.Duration(r.number("Timeout", required, 0, int(maxSignals/time.Second))) * time.Second}
	return c, r.diags
}

// ReadCreation reads the CreationPolicy of a resource, nil for one that waits for
// nothing.
func ReadCreation(typ string, r *Reader) (*Creation, diag.List) {
	if !slices.Contains(SignalTypes, typ) {
		return nil, nil
	}
	signal, group := r.under("ResourceSignal"), r.under("AutoScalingCreationPolicy")
	c := &Creation{Count: signal.number("Count", 1, 0, math.MaxInt32), Timeout: signal.duration("Timeout", 5*time.Minute, maxSignals),
		Percent: group.number("MinSuccessfulInstancesPercent", 100, 0, 100), OfGroup: typ == GroupType}
	if signal.Given == nil || c.Count == 0 {
		c = nil
	}
	return c, slices.Concat(signal.diags, group.diags)
}

// Update is what an UpdatePolicy says of a group.
type Update struct {
	Rolling     *Rolling
	Replace     bool // by another group
	IgnoreSizes bool // where the template does not change them
}

// Rolling is how the instances of a group are replaced, batch by batch.
type Rolling struct {
	Batch, InService, Percent int
	Pause                     time.Duration
	Suspend                   []string
	Signals                   bool // the pause is the time for signals
}

// ReadUpdate reads the UpdatePolicy of a group.
func ReadUpdate(r *Reader) (Update, diag.List) {
	replacing, scheduled, roll := r.under("AutoScalingReplacingUpdate"), r.under("AutoScalingScheduledAction"), r.under("AutoScalingRollingUpdate")
	u := Update{Replace: replacing.truth("WillReplace"), IgnoreSizes: scheduled.truth("IgnoreUnmodifiedGroupSizeProperties")}
	if roll.Given != nil {
		u.Rolling = &Rolling{Batch: roll.number("MaxBatchSize", 1, 1, 100), InService: roll.number("MinInstancesInService", 0, 0, math.MaxInt32),
			Percent: roll.number("MinSuccessfulInstancesPercent", 100, 0, 100), Signals: roll.truth("WaitOnResourceSignals"), Suspend: roll.texts("SuspendProcesses")}
		pause := time.Duration(0)
		if u.Rolling.Signals {
			pause = 5 * time.Minute
		}
		u.Rolling.Pause = roll.duration("PauseTime", pause, maxPause)
	}
	return u, slices.Concat(replacing.diags, scheduled.diags, roll.diags)
}

// Replaces says whether a change of properties replaces the group.
func (u Update) Replaces(before, after map[string]any) bool {
	return u.Replace && slices.ContainsFunc(LaunchProperties, func(name string) bool { return !reflect.DeepEqual(before[name], after[name]) })
}

// Sizes gives properties with the real sizes of the group in place of those
// that the template has left as they were, if the policy says so.
func (u Update) Sizes(properties, before, real map[string]any) map[string]any {
	sized := map[string]any{}
	for name, value := range properties {
		sized[name] = value
		is, has := real[name]
		if has && slices.Contains([]string{"DesiredCapacity", "MaxSize", "MinSize"}, name) && reflect.DeepEqual(before[name], value) {
			sized[name] = is
		}
	}
	return sized
}
