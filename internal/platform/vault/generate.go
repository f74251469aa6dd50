package vault

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"makeitso/internal/fault"
)

// The letters of generated secrets, as Secrets Manager has them.
const (
	lowercase   = "abcdefghijklmnopqrstuvwxyz"
	uppercase   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits      = "0123456789"
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

// maxPassword is how long a generated secret can be.
const maxPassword = 4096

// Recipe says how a random value is made, in the words of the property
// GenerateSecretString.
type Recipe struct {
	length      int
	classes     []string // of letters, without the excluded ones
	each        bool     // a letter of each class is in it
	key         string   // of the template, under which the value stands; "" for the value alone
	template    map[string]any
	description string
}

// ParseRecipe reads the property GenerateSecretString.
func ParseRecipe(given map[string]any) (*Recipe, error) {
	p := reading{given: given}
	r := &Recipe{length: p.number("PasswordLength", 32), each: p.flag("RequireEachIncludedType", true), key: p.text("GenerateStringKey")}
	excluded := p.text("ExcludeCharacters")
	for _, class := range []struct{ without, letters string }{
		{"ExcludeLowercase", lowercase}, {"ExcludeUppercase", uppercase}, {"ExcludeNumbers", digits}, {"ExcludePunctuation", punctuation},
	} {
		if !p.flag(class.without, false) {
			r.add(class.letters, excluded)
		}
	}
	if p.flag("IncludeSpace", false) {
		r.add(" ", excluded)
	}
	if text, has := given["SecretStringTemplate"]; has {
		if err := json.Unmarshal([]byte(fmt.Sprint(text)), &r.template); err != nil || r.template == nil {
			p.wrong("SecretStringTemplate", "is no JSON object")
		}
	}
	switch {
	case p.mistake != nil:
	case (r.template == nil) != (r.key == ""):
		p.wrong("SecretStringTemplate", "and GenerateStringKey are given together or not at all")
	case len(r.classes) == 0:
		p.wrong("", "excludes every letter")
	case r.length < 1 || r.length > maxPassword:
		p.wrong("PasswordLength", "is %d; allowed are 1 to %d", r.length, maxPassword)
	case r.each && r.length < len(r.classes):
		p.wrong("PasswordLength", "is %d, which has no room for a letter of each of the %d kinds; allowed is more, or RequireEachIncludedType: false", r.length, len(r.classes))
	}
	if p.mistake != nil {
		return nil, p.mistake
	}
	source, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	r.description = string(source)
	return r, nil
}

func (r *Recipe) add(letters, excluded string) {
	letters = strings.Map(func(letter rune) rune {
		if strings.ContainsRune(excluded, letter) {
			return -1
		}
		return letter
	}, letters)
	if letters != "" {
		r.classes = append(r.classes, letters)
	}
}

// String is the same for the same recipe, and another one for another.
func (r *Recipe) String() string { return r.description }

// Make makes a value that nobody can guess.
func (r *Recipe) Make() (string, error) {
	all := strings.Join(r.classes, "")
	password := make([]byte, 0, r.length)
	if r.each {
		for _, class := range r.classes {
			password = append(password, class[below(len(class))])
		}
	}
	for len(password) < r.length {
		password = append(password, all[below(len(all))])
	}
	for i := len(password) - 1; i > 0; i-- { // those of each kind stand anywhere
		j := below(i + 1)
		password[i], password[j] = password[j], password[i]
	}
	if r.key == "" {
		return string(password), nil
	}
	filled := map[string]any{r.key: string(password)}
	for name, value := range r.template {
		if name != r.key {
			filled[name] = value
		}
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(filled)
	return strings.TrimSpace(b.String()), err
}

// below gives a random number from 0 to n-1.
func below(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return int(i.Int64())
}

// reading reads properties and keeps the first mistake.
type reading struct {
	given   map[string]any
	mistake error
}

func (p *reading) wrong(property, format string, args ...any) {
	if p.mistake == nil {
		p.mistake = fault.New(fault.Invalid, "%s", strings.TrimSpace(property+" "+fmt.Sprintf(format, args...)))
	}
}

func (p *reading) text(property string) string {
	value, has := p.given[property]
	text, is := value.(string)
	if has && !is {
		p.wrong(property, "is no text")
	}
	return text
}

func (p *reading) number(property string, preset int) int {
	value, has := p.given[property]
	if !has {
		return preset
	}
	n, err := strconv.Atoi(fmt.Sprint(value))
	if err != nil {
		p.wrong(property, "is %q; allowed is a whole number", fmt.Sprint(value))
	}
	return n
}

func (p *reading) flag(property string, preset bool) bool {
	value, has := p.given[property]
	if !has {
		return preset
	}
	text := strings.ToLower(fmt.Sprint(value))
	if !slices.Contains([]string{"true", "false"}, text) {
		p.wrong(property, "is %q; allowed are true and false", text)
	}
	return text == "true"
}
