package fleet

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/model"
)

// Launch is what a launch template or configuration says of new instances.
type Launch struct {
	Name string // of its version, such as lt-0a1b:2
	Data map[string]any
}

// Read reads the properties of a group, of what its instances are launched
// from, and of the target groups that they are registered with.
func Read(r model.Resource, l Launch, targets []model.Resource) (Spec, error) {
	s := Spec{
		Name: r.Token, Title: r.Stack + "-" + r.LogicalID, From: l.Name, Most: number(r, "MaxSize", 0), Size: number(r, "DesiredCapacity", number(r, "MinSize", 0)),
		Grace: time.Duration(number(r, "HealthCheckGracePeriod", 0)) * time.Second, Env: map[string]string{},
	}
	id, _ := l.Data["ImageId"].(string)
	var err error
	if s.Image, err = Image(id); err != nil {
		return s, fmt.Errorf("%s is launched from %s: %w", r.Name(), l.Name, err)
	}
	if s.Image == "" { // then nothing can be waited for either
		s.Size = 0
	}
	if data, given := l.Data["UserData"].(string); given {
		text, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return s, fault.Wrap(fault.Invalid, err, "%s is launched from %s, whose UserData is not base64", r.Name(), l.Name).
				WithHint("write it as Fn::Base64: …")
		}
		s.Env["USER_DATA"] = string(text)
	}
	for _, t := range targets {
		s.Checks = append(s.Checks, balance.Check(t))
		s.Drain = max(s.Drain, balance.Drain(t))
		if interval := balance.Interval(t); s.Interval == 0 || interval < s.Interval {
			s.Interval = interval
		}
		if strings.Contains(r.Text("HealthCheckType"), "ELB") {
			s.Failures = max(s.Failures, balance.Failures(t))
		}
	}
	return s, nil
}

// Image gives the digest of the image that an ImageId names, "" for one of the
// service's own machines, which cannot run here.
func Image(id string) (digest string, err error) {
	if at := strings.LastIndex(id, "sha256:"); at >= 0 {
		return id[at:], nil
	}
	if id == "" || strings.HasPrefix(id, "ami-") || strings.HasPrefix(id, "resolve:ssm:") {
		return "", nil
	}
	return "", fault.New(fault.Invalid, "ImageId is %q; allowed are the digest of an image, sha256:…, alone or behind its name, REPOSITORY_URI:TAG of an AWS::ECR::Repository, and an ami-… of which nothing is started", id).
		WithHint("what a run has built is ${artifacts.NAME.digest} in the parameters of its stack")
}

func number(r model.Resource, property string, fallback int) int {
	n, err := strconv.Atoi(r.Text(property))
	if err != nil {
		return fallback
	}
	return n
}
