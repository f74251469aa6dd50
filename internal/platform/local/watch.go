package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"makeitso/internal/edge"
	"makeitso/internal/fault"
	"makeitso/internal/metric"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/traffic"
	"makeitso/internal/platform/watch"
	"makeitso/internal/record"
	"makeitso/internal/template"
)

// Watch follows the environment's log groups, evaluates its alarms and writes
// its trails until ctx ends.
func (p *Platform) Watch(ctx context.Context) error { return watch.New(p.watching()).Run(ctx) }

func (p *Platform) watching() watch.Options {
	return watch.Options{
		Environment: p.Env, Records: p.o.Records, Region: p.o.Region, Account: p.o.Account, Announce: p.o.Announce,
		Declared: p.declared, Changed: p.Next, Said: p.said, Say: p.say, Measure: p.measure, Events: p.o.Events,
		Put: func(ctx context.Context, bucket, key string, gzipped []byte) error {
			b, err := p.Bucket(bucket)
			if err != nil {
				return err
			}
			return b.Write(ctx, key, bytes.NewReader(gzipped), map[string]string{"Content-Type": "application/json", "Content-Encoding": "gzip"})
		},
	}
}

// declared gives what is to be watched in the environment.
func (p *Platform) declared(ctx context.Context) (watch.Declared, error) {
	d := watch.Declared{Groups: map[string]watch.Group{}}
	all, err := p.Resources()
	if err != nil {
		return d, err
	}
	streams := map[string]map[string]bool{}
	for _, r := range all {
		if !r.Complete {
			continue
		}
		switch r.Type {
		case logGroupType:
			days, _ := machine.Number(r.Properties["RetentionInDays"])
			d.Groups[r.PhysicalID] = watch.Group{Sources: p.logSources(r.PhysicalID), Retention: time.Duration(days) * 24 * time.Hour}
		case "AWS::Logs::LogStream":
			group := r.Text("LogGroupName")
			if streams[group] == nil {
				streams[group] = map[string]bool{}
			}
			streams[group][streamFile(r.PhysicalID)] = true
		case "AWS::Logs::MetricFilter":
			f, err := metric.ReadFilter(r.Properties)
			if err != nil {
				return d, fmt.Errorf("read %s: %w", r.Name(), err)
			}
			d.Filters = append(d.Filters, watch.Filter{Token: r.Token, Filter: f})
		case "AWS::CloudTrail::Trail":
			d.Trails = append(d.Trails, watch.Trail{Token: r.Token, Name: r.PhysicalID, Bucket: r.Text("S3BucketName"), Prefix: r.Text("S3KeyPrefix")})
		}
	}
	for name, group := range d.Groups {
		group.Streams = streams[name]
		d.Groups[name] = group
	}
	alarms, err := p.alarms(ctx)
	for _, r := range alarms {
		d.Alarms = append(d.Alarms, watchedAlarm(r))
	}
	return d, err
}

// watchedAlarm is an alarm as it is evaluated. One whose properties say nothing
// that can be evaluated keeps the state that somebody says.
func watchedAlarm(r machine.Resource) watch.Alarm {
	arn, _ := r.Attributes["Arn"].(string)
	a := watch.Alarm{Token: r.Token, Name: r.PhysicalID, ARN: arn}
	var err error
	if r.Type == compositeType {
		var rule metric.Rule
		if rule, err = metric.ParseRule(r.Text("AlarmRule")); err == nil {
			a.Rule = &rule
		}
	} else {
		a.Metric, err = metric.ReadAlarm(r.Properties)
	}
	if err != nil {
		a.Metric.Unwatched = fault.Text(err)
	}
	a.Measured = slices.ContainsFunc(a.Metric.Series(), traffic.Gives)
	return a
}

// measure gives what the edge has seen of the environment's load balancers and
// services since it gave mark.
func (p *Platform) measure(ctx context.Context, mark json.RawMessage) (map[metric.Series]metric.Point, json.RawMessage, error) {
	if p.o.Edge == nil {
		return nil, nil, nil
	}
	parts, err := p.balancers(ctx)
	if err != nil {
		return nil, nil, err
	}
	names := traffic.Names{Environment: p.Env, Full: parts.FullNames()}
	_, names.Balancers = parts.Edge()
	report, err := p.o.Edge.Traffic(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := names.Own(report)
	before := now
	if mark != nil {
		before = edge.Traffic{}
		if err := json.Unmarshal(mark, &before); err != nil {
			return nil, nil, fmt.Errorf("decode what the edge had seen: %w", err)
		}
	}
	raw, err := json.Marshal(now)
	return names.Points(before, now), raw, err
}

// settled says whether all properties are known, as they are when a resource is
// made.
func settled(r *machine.Resource) bool { return allKnown(r.Properties) }

func allKnown(value any) bool {
	known := true
	template.Rewrite(value, func(leaf any) any {
		known = known && !model.Unknown(leaf)
		return leaf
	})
	return known
}

// mistake gives a mistake of what was read from a resource's properties.
func mistake(r *machine.Resource, err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Invalid, err, "%s (%s)", r.Name(), r.Type)
}

// metricFilter makes AWS::Logs::MetricFilter.
type metricFilter struct{ p *Platform }

func (h metricFilter) Named(r *machine.Resource) string { return partOfGroup(r, "FilterName") }

func (h metricFilter) Check(_ context.Context, r *machine.Resource) error {
	if !settled(r) {
		return nil
	}
	_, err := metric.ReadFilter(r.Properties)
	return mistake(r, err)
}

func (h metricFilter) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.Check(ctx, r); err != nil {
		return err
	}
	group, err := h.p.logGroup(r)
	if err != nil {
		return err
	}
	r.PhysicalID = r.DeclaredOr("FilterName", 512)
	r.Attributes = map[string]any{}
	return watch.Begin(ctx, h.p.o.Records, h.p.Env, r.Token, h.p.logSources(group))
}

func (h metricFilter) Read(context.Context, *machine.Resource) error { return nil }

func (h metricFilter) Remove(ctx context.Context, r *machine.Resource) error {
	return watch.Forget(ctx, h.p.o.Records, h.p.Env, r.Token)
}

// logStream makes AWS::Logs::LogStream: a file of its group.
type logStream struct{ p *Platform }

func (h logStream) Named(r *machine.Resource) string { return partOfGroup(r, "LogStreamName") }

// partOfGroup is the name of a part of a log group, "" if its template gives
// none, or it is not known yet.
func partOfGroup(r *machine.Resource, property string) string {
	group, name := r.Text("LogGroupName"), r.Text(property)
	if name == "" {
		return ""
	}
	return group + "|" + name
}

func (h logStream) Check(_ context.Context, r *machine.Resource) error {
	name := r.Text("LogStreamName")
	if !model.Unknown(name) && (len(name) > 255 || strings.ContainsAny(name, ":*\x00") || name == "." || name == "..") {
		return r.Invalid("LogStreamName", "%q is not up to 255 letters without ':' and '*', as the name of a file can be", name)
	}
	return nil
}

// streamFile is the name of a stream's file.
func streamFile(name string) string { return strings.ReplaceAll(name, "/", "~") }

func (h logStream) path(r *machine.Resource) string {
	return filepath.Join(logGroup(h).folder(r.Text("LogGroupName")), streamFile(r.PhysicalID))
}

func (h logStream) Make(_ context.Context, r *machine.Resource) error {
	if _, err := h.p.logGroup(r); err != nil {
		return err
	}
	r.PhysicalID = r.DeclaredOr("LogStreamName", 255)
	r.Attributes = map[string]any{}
	file, err := os.OpenFile(h.path(r), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the file of log stream %s: %w", r.PhysicalID, err)
	}
	return file.Close()
}

func (h logStream) Read(_ context.Context, r *machine.Resource) error {
	return standing(h.path(r), "the file of log stream %s is gone", r.PhysicalID)
}

func (h logStream) Remove(_ context.Context, r *machine.Resource) error {
	if r.PhysicalID == "" {
		return nil // never made
	}
	return os.RemoveAll(h.path(r))
}

// logGroup gives the name of the log group that a resource belongs to,
// fault.NotFound if there is none.
func (p *Platform) logGroup(r *machine.Resource) (string, error) {
	name := r.Text("LogGroupName")
	all, err := p.Complete(logGroupType)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(all, func(group *machine.Resource) bool { return group.PhysicalID == name }) {
		return "", fault.New(fault.NotFound, "The specified log group does not exist.").WithHint("%s names the log group %q: make that first, or refer to it with Ref", r.Name(), name)
	}
	return name, nil
}

// trail makes AWS::CloudTrail::Trail.
type trail struct{ p *Platform }

func (h trail) Named(r *machine.Resource) string { return r.Text("TrailName") }

func (h trail) Check(_ context.Context, r *machine.Resource) error {
	if v := r.Properties["IsLogging"]; !model.Unknown(v) && !slices.Contains([]string{"true", "false"}, fmt.Sprint(v)) {
		return r.Invalid("IsLogging", "is %v; allowed are true and false", v)
	}
	if h.p.o.Events == "" {
		return fault.New(fault.Unsupported, "%s (%s): there are no events to write down", r.Name(), r.Type)
	}
	return nil
}

func (h trail) Make(ctx context.Context, r *machine.Resource) error {
	bucket := r.Text("S3BucketName")
	if _, err := h.p.Bucket(bucket); err != nil {
		return fault.Wrap(fault.CodeOf(err), err, "S3 bucket %s does not exist!", bucket)
	}
	r.PhysicalID = r.DeclaredOr("TrailName", 128)
	r.Attributes = map[string]any{"Arn": fmt.Sprintf("arn:aws:cloudtrail:%s:%s:trail/%s", h.p.o.Region, h.p.o.Account, r.PhysicalID)}
	if topic := r.Text("SnsTopicName"); topic != "" {
		topic = topic[strings.LastIndexByte(topic, ':')+1:]
		r.Attributes["SnsTopicArn"] = fmt.Sprintf("arn:aws:sns:%s:%s:%s", h.p.o.Region, h.p.o.Account, topic)
	}
	on := fmt.Sprint(r.Properties["IsLogging"]) == "true"
	return watch.Log(ctx, h.p.o.Records, h.p.Env, r.Token, h.p.o.Events, on)
}

func (h trail) Read(context.Context, *machine.Resource) error { return nil }

func (h trail) Remove(ctx context.Context, r *machine.Resource) error {
	return watch.Forget(ctx, h.p.o.Records, h.p.Env, r.Token)
}

// evaluated makes alarms. They are kept as records, so that an alarm and its state
// are written and removed together.
type evaluated struct {
	modelled
	more func(r *machine.Resource) error // judges what the table does not
}

func (h evaluated) Check(ctx context.Context, r *machine.Resource) error {
	if allKnown(withoutDimensions(r.Properties)) {
		if err := h.more(r); err != nil {
			return err
		}
	}
	return h.modelled.Check(ctx, r)
}

// withoutDimensions gives properties without those that say which load balancer,
// queue or other thing an alarm is about: it is judged before that exists.
func withoutDimensions(value any) any {
	switch value := value.(type) {
	case map[string]any:
		rest := map[string]any{}
		for name, v := range value {
			if name != "Dimensions" {
				rest[name] = withoutDimensions(v)
			}
		}
		return rest
	case []any:
		rest := make([]any, len(value))
		for i, v := range value {
			rest[i] = withoutDimensions(v)
		}
		return rest
	}
	return value
}

func (h evaluated) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.more(r); err != nil {
		return err
	}
	return h.modelled.Make(ctx, r)
}

// checkAlarm judges what a metric alarm says of its evaluation.
func checkAlarm(r *machine.Resource) error {
	_, err := metric.ReadAlarm(r.Properties)
	return mistake(r, err)
}

// checkRule judges the rule of a composite alarm.
func checkRule(r *machine.Resource) error {
	_, err := metric.ParseRule(r.Text("AlarmRule"))
	return mistake(r, err)
}

// said gives the state of an alarm, as the watcher asks for it.
func (p *Platform) said(ctx context.Context, a watch.Alarm) (watch.Said, int64, error) {
	is, version, err := p.alarmStates().GetVersion(ctx, p.ModelKey(a.Token))
	if fault.Is(err, fault.NotFound) {
		return watch.Said{State: metric.Insufficient}, record.Absent, nil
	}
	return is, version, err
}

// say sets the state of an alarm, as the watcher says it, while the alarm is
// there.
func (p *Platform) say(ctx context.Context, a watch.Alarm, s watch.Said, version int64) error {
	r, is, err := p.Models.GetVersion(ctx, p.ModelKey(a.Token))
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Conflict, err, "alarm %s is gone", a.Name)
	}
	if err != nil {
		return err
	}
	op, err := p.alarmStates().PutOp(p.ModelKey(a.Token), s, version)
	if err != nil {
		return err
	}
	there := record.Op{Kind: modelKind, Key: p.ModelKey(a.Token), If: is, Keep: true}
	if err := p.changeAlarm(ctx, a.Name, op, there); err != nil {
		return err
	}
	p.tellAlarm(ctx, r, s)
	return nil
}

// tellAlarm tells of a state, and which actions are not taken.
func (p *Platform) tellAlarm(ctx context.Context, r machine.Resource, s watch.Said) {
	if p.o.AlarmChanged == nil {
		return
	}
	property := map[metric.State]string{metric.On: "AlarmActions", metric.OK: "OKActions", metric.Insufficient: "InsufficientDataActions"}[s.State]
	actions, _ := r.Properties[property].([]any)
	text := s.Reason
	if len(actions) > 0 && fmt.Sprint(r.Properties["ActionsEnabled"]) != "false" {
		text = strings.TrimSpace(fmt.Sprintf("%s (%s are not taken on this machine: %s)", text, property, strings.Trim(fmt.Sprint(actions), "[]")))
	}
	p.o.AlarmChanged(ctx, r.PhysicalID, string(s.State), text)
}
