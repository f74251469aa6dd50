package repository

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Policy says which images of a repository expire, in the order in which its
// rules are applied.
type Policy []Rule

// Rule is a rule of a policy, as it is written.
type Rule struct {
	Priority    int       `json:"rulePriority"`
	Description string    `json:"description"`
	Selection   Selection `json:"selection"`
	Action      struct {
		Type string `json:"type"`
	} `json:"action"`
}

// Selection says which images a rule is about, and which of them expire.
type Selection struct {
	TagStatus   string   `json:"tagStatus"`
	Prefixes    []string `json:"tagPrefixList"`
	Patterns    []string `json:"tagPatternList"`
	CountType   string   `json:"countType"`
	CountUnit   string   `json:"countUnit"`
	CountNumber int      `json:"countNumber"`
}

// The words of a selection.
const (
	tagged, untagged, anyTag = "tagged", "untagged", "any"
	byCount, byAge           = "imageCountMoreThan", "sinceImagePushed"
)

// ParsePolicy reads a lifecycle policy. What is wrong is told with its place in
// the text.
func ParsePolicy(text string) (Policy, error) {
	var d struct {
		Rules Policy `json:"rules"`
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&d)
	if err == nil && decoder.More() {
		err = errors.New("there is more behind its end")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %v", placeOf(text, decoder.InputOffset(), err), err)
	}
	if len(d.Rules) == 0 {
		return nil, fault.New(fault.Invalid, "rules: is missing; at least one rule is needed")
	}
	last := slices.MaxFunc(d.Rules, byPriority).Priority
	first := map[int]int{}
	for i, r := range d.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if j, twice := first[r.Priority]; twice {
			return nil, fault.New(fault.Invalid, "%s.rulePriority: is %d, which rules[%d] has", at, r.Priority, j)
		}
		first[r.Priority] = i
		if r.Selection.TagStatus == anyTag && r.Priority != last {
			return nil, fault.New(fault.Invalid, "%s.rulePriority: is %d; the rule with tagStatus any must have the highest, and there is only one such rule", at, r.Priority)
		}
		if err := r.check(at); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(d.Rules, byPriority)
	return d.Rules, nil
}

func byPriority(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) }

// placeOf gives the line and column of where reading a text has failed.
func placeOf(text string, offset int64, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		offset = int64(len(text))
	}
	before := []byte(text)[:min(max(offset, 0), int64(len(text)))]
	return fmt.Sprintf("line %d, column %d", 1+bytes.Count(before, []byte("\n")), max(1, len(before)-1-bytes.LastIndexByte(before, '\n')))
}

// check checks one rule, which stands at a place.
func (r Rule) check(at string) error {
	s := r.Selection
	for _, c := range []struct {
		wrong bool
		place string
		text  string
	}{
		{r.Priority < 1, "rulePriority", fmt.Sprintf("is %d; allowed are whole numbers from 1", r.Priority)},
		{r.Action.Type != "expire", "action.type", fmt.Sprintf("is %q; allowed is expire", r.Action.Type)},
		{!slices.Contains([]string{tagged, untagged, anyTag}, s.TagStatus), "selection.tagStatus", fmt.Sprintf("is %q; allowed are tagged, untagged and any", s.TagStatus)},
		{s.TagStatus == tagged && (len(s.Prefixes) > 0) == (len(s.Patterns) > 0), "selection", "with tagStatus tagged needs either tagPrefixList or tagPatternList"},
		{s.TagStatus != tagged && len(s.Prefixes)+len(s.Patterns) > 0, "selection", "has tags; tagPrefixList and tagPatternList stand only beside tagStatus tagged"},
		{slices.ContainsFunc(s.Patterns, func(p string) bool { return !validPattern().MatchString(p) || strings.Count(p, "*") > 4 }), "selection.tagPatternList",
			"has a pattern that is none: allowed are up to 128 letters, digits, '.', '_', '-' and at most four '*'"},
		{slices.Contains(s.Prefixes, ""), "selection.tagPrefixList", "has an empty prefix"},
		{s.CountType != byCount && s.CountType != byAge, "selection.countType", fmt.Sprintf("is %q; allowed here are imageCountMoreThan and sinceImagePushed", s.CountType)},
		{s.CountType == byAge && s.CountUnit != "days", "selection.countUnit", fmt.Sprintf("is %q; sinceImagePushed wants days", s.CountUnit)},
		{s.CountType == byCount && s.CountUnit != "", "selection.countUnit", "stands only beside sinceImagePushed"},
		{s.CountNumber < 1, "selection.countNumber", fmt.Sprintf("is %d; allowed are whole numbers from 1", s.CountNumber)},
	} {
		if c.wrong {
			return fault.New(fault.Invalid, "%s.%s: %s", at, c.place, c.text)
		}
	}
	return nil
}

// aged is what a policy must know of an image.
type aged struct {
	digest string
	pushed time.Time
	tags   []string
}

// about says whether a rule is about an image: every prefix or pattern needs a
// tag of it.
func (s Selection) about(i aged) bool {
	if s.TagStatus != tagged {
		return s.TagStatus == anyTag || len(i.tags) == 0
	}
	has := func(fits func(tag string) bool) bool { return slices.ContainsFunc(i.tags, fits) }
	for _, prefix := range s.Prefixes {
		if !has(func(tag string) bool { return strings.HasPrefix(tag, prefix) }) {
			return false
		}
	}
	for _, pattern := range s.Patterns {
		if !has(func(tag string) bool { return matches(pattern, tag) }) {
			return false
		}
	}
	return true
}

// expired gives the digests of those images that a policy lets expire. An image
// that a rule is about is not expired by a later one, though that counts it.
func (p Policy) expired(images []aged, now time.Time) (digests []string) {
	newest := slices.SortedFunc(slices.Values(images), func(a, b aged) int {
		return cmp.Or(b.pushed.Compare(a.pushed), cmp.Compare(a.digest, b.digest))
	})
	settled := map[string]bool{}
	for _, r := range p {
		var about []string
		for _, i := range newest {
			if !r.Selection.about(i) {
				continue
			}
			about = append(about, i.digest)
			old := now.Sub(i.pushed) > time.Duration(r.Selection.CountNumber)*24*time.Hour
			if r.Selection.CountType == byCount {
				old = len(about) > r.Selection.CountNumber
			}
			if old && !settled[i.digest] {
				digests = append(digests, i.digest)
			}
		}
		for _, digest := range about {
			settled[digest] = true
		}
	}
	return digests
}

// Expire removes what the policies of all repositories let expire.
func (s *Store) Expire(now time.Time) error {
	return s.locked(func() error {
		names, err := s.names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := s.expire(name, now); err != nil {
				return fmt.Errorf("run the lifecycle policy of repository %s: %w", name, err)
			}
		}
		return nil
	})
}

// expire runs the policy of a repository. The lock is held.
func (s *Store) expire(name string, now time.Time) error {
	d, _, err := s.read(name)
	if err != nil || d.Lifecycle == "" {
		return err
	}
	policy, err := ParsePolicy(d.Lifecycle)
	if err != nil {
		return err
	}
	images, err := s.images(name)
	if err != nil {
		return err
	}
	all, err := s.judged(name, d, images, now)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, digest := range policy.expired(all, now) {
		gone[digest] = true
	}
	for digest, m := range images { // what is about an image goes with it
		if m.Subject != nil && gone[m.Subject.Digest] && len(tagsOf(d, digest)) == 0 {
			gone[digest] = true
		}
	}
	return s.discard(name, d, images, gone)
}

// judged gives the images that a policy is about: not those that are part of a
// list, which stay while that does, nor those about another image, which go with
// it, and not what a push that may be under way has brought without a tag.
func (s *Store) judged(name string, d document, images map[string]manifest, now time.Time) (all []aged, err error) {
	parts := map[string]bool{}
	for _, m := range images {
		for _, part := range m.Manifests {
			parts[part.Digest] = true
		}
	}
	for digest, m := range images {
		_, about := images[digestOfSubject(m)]
		tags := tagsOf(d, digest)
		if parts[digest] || about && len(tags) == 0 {
			continue
		}
		i, err := s.image(name, digest)
		if err != nil {
			return nil, err
		}
		if i.Pushed.IsZero() { // by an older makeitso: it is not to be lost for that
			i.Pushed = now
		}
		if i.Untagged && len(tags) == 0 && now.Sub(i.Pushed) < underWay {
			continue
		}
		all = append(all, aged{digest, i.Pushed, tags})
	}
	return all, nil
}

// underWay is how long a push may take from its first image to its tag.
const underWay = time.Hour

func digestOfSubject(m manifest) string {
	if m.Subject == nil {
		return ""
	}
	return m.Subject.Digest
}

// tagsOf gives the tags that an image has.
func tagsOf(d document, digest string) (tags []string) {
	for _, tag := range slices.Sorted(maps.Keys(d.Tags)) {
		if d.Tags[tag] == digest {
			tags = append(tags, tag)
		}
	}
	return tags
}
