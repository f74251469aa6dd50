// Package vault keeps values that have versions, each sealed by a key, and makes
// random ones. It must not know where they are kept, nor resources and stacks.
package vault

import (
	"slices"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/seal"
)

// Stages of versions, in the words of Secrets Manager.
const (
	Current  = "AWSCURRENT"
	Previous = "AWSPREVIOUS"
)

// maxVersions is how many versions are kept: those with stages, and as many of
// the newest others as there is room for, as Secrets Manager does.
const maxVersions = 100

// Vault is the versions of one value, the oldest first.
type Vault struct {
	// Key names what seals the versions.
	Key      string    `json:"key,omitempty"`
	Versions []Version `json:"versions,omitempty"`
	// Source is what the newest version was made from, so that it is made anew
	// only when that changes.
	Source string `json:"source,omitempty"`
}

// Version is one value that there was.
type Version struct {
	ID      string    `json:"id"`
	Stages  []string  `json:"stages,omitempty"`
	Sealed  []byte    `json:"sealed"`
	Created time.Time `json:"created"`
}

// Put makes text the current version; the one that was becomes the previous one.
// about binds it to what the vault belongs to.
func (v *Vault) Put(key *seal.Key, about, id, text string, now time.Time) {
	v.Versions = slices.Clone(v.Versions) // others may have them
	for i := range v.Versions {
		old := &v.Versions[i]
		switch {
		case slices.Contains(old.Stages, Current):
			old.Stages = []string{Previous}
		case slices.Contains(old.Stages, Previous):
			old.Stages = nil
		}
	}
	v.Versions = append(v.Versions, Version{
		ID: id, Stages: []string{Current}, Created: now, Sealed: key.Seal([]byte(text), about+" "+id),
	})
	for i := 0; len(v.Versions) > maxVersions; {
		if len(v.Versions[i].Stages) > 0 {
			i++
			continue
		}
		v.Versions = slices.Delete(v.Versions, i, i+1)
	}
}

// Get gives the text of a version by its stage or its id, or both; "" is the
// current one. fault.NotFound if there is none.
func (v *Vault) Get(key *seal.Key, about, stage, id string) (string, error) {
	if stage == "" && id == "" {
		stage = Current
	}
	for _, version := range v.Versions {
		if id != "" && version.ID != id || stage != "" && !slices.Contains(version.Stages, stage) {
			continue
		}
		text, err := key.Open(version.Sealed, about+" "+version.ID)
		return string(text), err
	}
	var there []string
	for _, version := range v.Versions {
		there = append(there, strings.TrimSpace(version.ID+" "+strings.Join(version.Stages, " ")))
	}
	none := fault.New(fault.NotFound, "Secrets Manager can't find the specified secret value for %s", strings.TrimSpace(named("staging label: ", stage)+" "+named("VersionId: ", id)))
	if len(there) == 0 {
		return "", none.WithHint("it has no value yet")
	}
	return "", none.WithHint("its versions are %s", strings.Join(there, ", "))
}

func named(what, value string) string {
	if value == "" {
		return ""
	}
	return what + value
}

// Reseal seals all versions with another key.
func (v *Vault) Reseal(from, to *seal.Key, about string) error {
	sealed := slices.Clone(v.Versions)
	for i, version := range sealed {
		text, err := from.Open(version.Sealed, about+" "+version.ID)
		if err != nil {
			return err
		}
		sealed[i].Sealed = to.Seal(text, about+" "+version.ID)
	}
	v.Versions = sealed
	return nil
}
