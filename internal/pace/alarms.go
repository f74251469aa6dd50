package pace

import (
	"regexp"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/span"
)

// Alarms is a RollbackConfiguration: what rolls a change back when it goes off
// while the change is made, or in the time after that in which it is watched.
type Alarms struct {
	ARNs    []string      `json:"alarms,omitempty"`
	Monitor time.Duration `json:"monitor,omitzero"`
}

// The service's limits.
const (
	maxTriggers = 5
	maxMonitor  = 180 * time.Minute
)

var alarmARN = regexp.MustCompile(`^arn:[^:]+:([^:]+):[^:]*:[^:]*:(.*)$`)

// Check says what is wrong with a configuration; able is whether there are
// alarms at all.
func (a Alarms) Check(able bool) error {
	if a.Monitor < 0 || a.Monitor > maxMonitor || len(a.ARNs) > maxTriggers {
		return fault.New(fault.Invalid, "%d alarms are to be watched for %v; allowed are %d alarms and %v", len(a.ARNs), span.Text(a.Monitor), maxTriggers, span.Text(maxMonitor))
	}
	for _, arn := range a.ARNs {
		parts := alarmARN.FindStringSubmatch(arn)
		switch {
		case parts == nil || parts[1] != "cloudwatch" || !able:
			return fault.New(fault.Invalid, "Rollback Trigger Type not supported: %s", arn).
				WithHint("alarms of CloudWatch can be watched, on platforms that have them")
		case !strings.HasPrefix(parts[2], "alarm:") || parts[2] == "alarm:":
			return fault.New(fault.Invalid, "RelativeId of a Rollback Trigger's ARN is incorrect: %s", arn)
		}
	}
	return nil
}
