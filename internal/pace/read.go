package pace

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/diag"
	"makeitso/internal/span"
)

// Reader reads the values of a policy, and notes what is wrong with them.
type Reader struct {
	At      string // what the values belong to, such as Resources/Group/UpdatePolicy
	Pos     diag.Pos
	Given   map[string]any // nil if there is no such policy
	Unknown func(any) bool // says of a value that it is not known yet; such a one is not judged

	diags diag.List
}

// under gives the values below a key.
func (r *Reader) under(name string) *Reader {
	given, _ := r.Given[name].(map[string]any)
	return &Reader{At: r.At + "/" + name, Pos: r.Pos, Given: given, Unknown: r.Unknown}
}

func (r *Reader) wrong(name, allowed string) {
	r.diags.Errorf(r.Pos, "[/%s/%s] is %v", r.At, name, r.Given[name]).Allowed = allowed
}

// text gives a value, false if there is none that can be judged.
func (r *Reader) text(name string) (string, bool) {
	value, has := r.Given[name]
	if !has || r.Unknown(value) {
		return "", false
	}
	text, ok := value.(string)
	if !ok {
		r.wrong(name, "a text or number")
	}
	return text, ok
}

// texts gives a list of texts.
func (r *Reader) texts(name string) []string {
	var all []string
	list, _ := r.Given[name].([]any)
	for _, item := range list {
		all = append(all, fmt.Sprint(item))
	}
	return all
}

// required is the fallback of a number that has none.
const required = -1

func (r *Reader) number(name string, fallback, least, most int) int {
	if _, has := r.Given[name]; !has && fallback == required {
		r.diags.Errorf(r.Pos, "[/%s/%s] is required and missing", r.At, name)
	}
	text, ok := r.text(name)
	if !ok {
		return max(fallback, least)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		r.wrong(name, fmt.Sprintf("%d to %d", least, most))
	}
	return n
}

func (r *Reader) truth(name string) bool {
	text, ok := r.text(name)
	if ok && text != "true" && text != "false" {
		r.wrong(name, "true, false")
	}
	return text == "true"
}

var isoDuration = regexp.MustCompile(`^PT(\d+H)?(\d+M)?(\d+S)?$`)

// duration gives a time as ISO 8601 writes it.
func (r *Reader) duration(name string, fallback, most time.Duration) time.Duration {
	text, ok := r.text(name)
	if !ok {
		return fallback
	}
	d, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(text, "PT")))
	if err != nil || !isoDuration.MatchString(text) || d > most {
		r.wrong(name, "a time such as PT15M or PT1H30M, at most "+ISO(most))
	}
	return d
}

// ISO writes a time as ISO 8601 does, such as PT1H30M.
func ISO(d time.Duration) string { return "PT" + strings.ToUpper(span.Text(d)) }
