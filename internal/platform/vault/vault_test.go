package vault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/platform/vault"
	"makeitso/internal/seal"
)

func TestVersions(t *testing.T) {
	key, v := seal.Fresh(), &vault.Vault{}
	if _, err := v.Get(key, "db", "", ""); !fault.Is(err, fault.NotFound) || fault.HintOf(err) != "it has no value yet" {
		t.Errorf("of nothing: %v", err)
	}
	for i, text := range []string{"one", "two", "three"} {
		v.Put(key, "db", fmt.Sprint(i+1), text, time.Unix(int64(i), 0))
	}
	raw, err := json.Marshal(v)
	if err != nil || bytes.Contains(raw, []byte("three")) {
		t.Errorf("kept is %s (%v)", raw, err)
	}
	for _, test := range []struct{ stage, id, want string }{
		{"", "", "three"}, {vault.Current, "", "three"}, {vault.Previous, "", "two"}, {"", "1", "one"}, {vault.Previous, "2", "two"},
		{vault.Current, "2", ""}, {"", "4", ""}, {"AWSPENDING", "", ""},
	} {
		got, err := v.Get(key, "db", test.stage, test.id)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("stage %q, version %q: %q, %v; want %q", test.stage, test.id, got, err, test.want)
		}
		if err != nil && (!fault.Is(err, fault.NotFound) || fault.HintOf(err) != "its versions are 1, 2 AWSPREVIOUS, 3 AWSCURRENT") {
			t.Errorf("stage %q, version %q: %v, hint %s", test.stage, test.id, err, fault.HintOf(err))
		}
	}
	if _, err := v.Get(key, "other", "", ""); !fault.Is(err, fault.Denied) {
		t.Errorf("as another thing's it opened: %v", err)
	}
	if err := v.Reseal(seal.Fresh(), seal.Fresh(), "db"); !fault.Is(err, fault.Denied) {
		t.Errorf("from a wrong key it was sealed anew: %v", err)
	}
	other := seal.Fresh()
	if err := v.Reseal(key, other, "db"); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Get(other, "db", "", "1"); got != "one" {
		t.Errorf("with the new key: %q, %v", got, err)
	}
	if _, err := v.Get(key, "db", "", ""); !fault.Is(err, fault.Denied) {
		t.Errorf("with the old key it opens still: %v", err)
	}
	for i := range 200 {
		v.Put(other, "db", fmt.Sprint("more", i), "x", time.Unix(0, 0))
	}
	if len(v.Versions) != 100 || v.Versions[0].ID != "more100" {
		t.Errorf("%d versions are kept, the first %s", len(v.Versions), v.Versions[0].ID)
	}
}

func TestRecipe(t *testing.T) {
	type object = map[string]any
	const symbols = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	for _, test := range []struct {
		given  object
		length int
		none   string // letters that are not in it
		some   []string
	}{
		{object{}, 32, " ", []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", symbols}},
		{object{"PasswordLength": "5", "IncludeSpace": true}, 5, "", []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", symbols, " "}},
		{object{"PasswordLength": float64(200), "ExcludePunctuation": "true", "ExcludeCharacters": "aA0"}, 200, "aA0 " + symbols, []string{"bcdefghijklmnopqrstuvwxyz"}},
		{object{"PasswordLength": 3, "ExcludeLowercase": true, "ExcludeUppercase": true, "ExcludePunctuation": true, "ExcludeCharacters": "123456789"}, 3, "", []string{"0"}},
		{object{"PasswordLength": 1, "RequireEachIncludedType": false}, 1, " ", nil},
	} {
		r, err := vault.ParseRecipe(test.given)
		if err != nil {
			t.Errorf("%v: %v", test.given, err)
			continue
		}
		seen := map[string]bool{}
		for range 50 {
			got, err := r.Make()
			if err != nil || len(got) != test.length || test.none != "" && strings.ContainsAny(got, test.none) {
				t.Errorf("%v: %q, %v", test.given, got, err)
			}
			for _, letters := range test.some {
				if !strings.ContainsAny(got, letters) {
					t.Errorf("%v: %q has none of %s", test.given, got, letters)
				}
			}
			seen[got] = true
		}
		if test.length >= 32 && len(seen) != 50 {
			t.Errorf("%v: of 50, %d differ", test.given, len(seen))
		}
	}
	r, err := vault.ParseRecipe(object{"SecretStringTemplate": `{"username": "<shop>"}`, "GenerateStringKey": "password"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Make()
	var made map[string]string
	if err == nil {
		err = json.Unmarshal([]byte(text), &made)
	}
	if err != nil || made["username"] != "<shop>" || len(made["password"]) != 32 || len(made) != 2 || !strings.Contains(text, "<shop>") {
		t.Errorf("by a template: %s, %v", text, err)
	}
}

func TestRecipeMistakes(t *testing.T) {
	type object = map[string]any
	for want, given := range map[string]object{
		"PasswordLength is 0; allowed are 1 to 4096":                                 {"PasswordLength": 0},
		"PasswordLength is 4097; allowed are 1 to 4096":                              {"PasswordLength": 4097},
		`PasswordLength is "long"; allowed is a whole number`:                        {"PasswordLength": "long"},
		`ExcludeNumbers is "maybe"; allowed are true and false`:                      {"ExcludeNumbers": "maybe"},
		"excludes every letter":                                                      {"ExcludeLowercase": true, "ExcludeUppercase": true, "ExcludeNumbers": true, "ExcludePunctuation": true},
		"PasswordLength is 3, which has no room for a letter of each of the 4 kinds": {"PasswordLength": 3},
		"SecretStringTemplate and GenerateStringKey are given together":              {"GenerateStringKey": "password"},
		"SecretStringTemplate is no JSON object":                                     {"SecretStringTemplate": "[]", "GenerateStringKey": "password"},
		"ExcludeCharacters is no text":                                               {"ExcludeCharacters": 1},
	} {
		if _, err := vault.ParseRecipe(given); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", given, err, want)
		}
	}
}
