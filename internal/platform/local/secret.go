package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/pace"
	"makeitso/internal/platform/balance"
	"makeitso/internal/platform/beanstalk"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
	"makeitso/internal/platform/vault"
	"makeitso/internal/seal"
)

// The types that keep what others may not see, and what seals it.
const (
	secretType   = "AWS::SecretsManager::Secret"
	keyType      = "AWS::KMS::Key"
	keyAliasType = "AWS::KMS::Alias"
)

// kept gives the maker of a type for which no software runs and which is real
// all the same: what it keeps is what it is for.
func kept(m modelled, name string) (machine.Maker, bool) {
	switch name {
	case keyType:
		return encryptionKey{m}, true
	case keyAliasType:
		return keyAlias{m}, true
	case secretType:
		return secret{m}, true
	case alarmType:
		return evaluated{m, checkAlarm}, true
	case compositeType:
		return evaluated{m, checkRule}, true
	case parameterType:
		return parameter{m}, true
	case balance.LoadBalancerType, balance.TargetGroupType, balance.ListenerType, balance.RuleType:
		return balancing{m}, true
	case templateType:
		return launchTemplate{m}, true
	case configurationType:
		return launchConfiguration{m}, true
	case beanstalk.ApplicationType, beanstalk.TemplateType, "AWS::CloudFront::OriginAccessControl", "AWS::CloudFront::CloudFrontOriginAccessIdentity":
		return m, true // what they say counts where they are named
	case beanstalk.VersionType:
		return version{m}, true
	case beanstalk.EnvironmentType:
		return beanstalkEnvironment(m), true
	case pace.GroupType:
		return group(m), true
	}
	return nil, false
}

// ownKeys begins the aliases of the keys that every account has: here they all
// stand for the key of the state folder.
const ownKeys = "alias/aws/"

// encryptionKey makes AWS::KMS::Key.
type encryptionKey struct{ modelled }

func (h encryptionKey) Make(ctx context.Context, r *machine.Resource) error {
	if r.Key == "" {
		r.Key = seal.Generate()
	}
	return h.modelled.Make(ctx, r)
}

// Remove refuses to forget a key without which something cannot be opened.
func (h encryptionKey) Remove(ctx context.Context, r *machine.Resource) error {
	secrets, err := h.p.recordsOf(ctx, secretType)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if s.Vault.Key == r.PhysicalID {
			return fault.New(fault.Conflict, "key %s still seals secret %s", r.PhysicalID, s.Name()).
				WithHint("delete that secret first, or give it another KmsKeyId")
		}
	}
	return nil
}

// keyAlias makes AWS::KMS::Alias.
type keyAlias struct{ modelled }

func (h keyAlias) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil || model.Unknown(r.Properties["TargetKeyId"]) {
		return err
	}
	return h.target(ctx, r)
}

func (h keyAlias) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.target(ctx, r); err != nil {
		return err
	}
	return h.modelled.Make(ctx, r)
}

func (h keyAlias) target(ctx context.Context, r *machine.Resource) error {
	if strings.HasPrefix(r.Text("AliasName"), ownKeys) {
		return r.Invalid("AliasName", "%q begins with %s, which is the service's own", r.Text("AliasName"), ownKeys)
	}
	_, err := h.p.keyNamed(ctx, r.Text("TargetKeyId"))
	if fault.Is(err, fault.NotFound) {
		return r.Invalid("TargetKeyId", "%q is no key of this environment", r.Text("TargetKeyId"))
	}
	return err
}

// keyNamed finds a key by its id, its ARN, or the name or ARN of an alias.
func (p *Platform) keyNamed(ctx context.Context, name string) (machine.Resource, error) {
	keys, err := p.recordsOf(ctx, keyType)
	if err != nil {
		return machine.Resource{}, err
	}
	if _, alias, is := strings.Cut(name, "alias/"); is {
		aliases, err := p.recordsOf(ctx, keyAliasType)
		if err != nil {
			return machine.Resource{}, err
		}
		for _, a := range aliases {
			if a.PhysicalID == "alias/"+alias {
				name = a.Text("TargetKeyId")
			}
		}
	}
	for _, k := range keys {
		if name == k.PhysicalID || name == k.Attributes["Arn"] {
			return k, nil
		}
	}
	return machine.Resource{}, fault.New(fault.NotFound, "Invalid keyId '%s'", name).
		WithHint("make it first, with a resource of type %s", keyType)
}

// sealer gives the key of a name, and the id by which it is found again: "" is
// the one of the state folder.
func (p *Platform) sealer(ctx context.Context, name string) (k *seal.Key, id string, err error) {
	if name == "" || strings.Contains(name, ownKeys) {
		return p.o.Key, "", nil
	}
	r, err := p.keyNamed(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if enabled := strings.ToLower(fmt.Sprint(r.Properties["Enabled"])); enabled == "false" {
		return nil, "", fault.New(fault.Conflict, "%s is disabled", r.Attributes["Arn"]).WithHint("enable %s again: Enabled: true", r.Name())
	}
	k, err = seal.Parse(r.Key)
	return k, r.PhysicalID, err
}

// secret makes AWS::SecretsManager::Secret: its versions are sealed by the key
// that it names.
type secret struct{ modelled }

func (h secret) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil {
		return err
	}
	if given, has := r.Properties["GenerateSecretString"].(map[string]any); has {
		if _, err := vault.ParseRecipe(given); err != nil {
			return r.Invalid("GenerateSecretString", "%s", err)
		}
	}
	name := r.Text("KmsKeyId")
	if model.Unknown(name) || strings.Contains(name, "alias/") { // the same stack may make the alias
		return nil
	}
	_, _, err := h.p.sealer(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return r.Invalid("KmsKeyId", "%q is no key of this environment", name)
	}
	return err
}

func (h secret) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Make(ctx, r); err != nil {
		return err
	}
	key, id, err := h.p.sealer(ctx, r.Text("KmsKeyId"))
	if err == nil && r.Vault.Key != id {
		err = h.reseal(ctx, r, key, id)
	}
	if err == nil {
		err = h.renew(r, key)
	}
	if err != nil {
		return fmt.Errorf("seal %s: %w", r.Name(), err)
	}
	// It is in the vault; what the registry calls write-only nobody reads here.
	r.Properties = maps.Clone(r.Properties)
	delete(r.Properties, "SecretString")
	return nil
}

// reseal gives a secret another key.
func (h secret) reseal(ctx context.Context, r *machine.Resource, key *seal.Key, id string) error {
	if len(r.Vault.Versions) > 0 {
		from, _, err := h.p.sealer(ctx, r.Vault.Key)
		if err != nil {
			return err
		}
		if err := r.Vault.Reseal(from, key, r.Token); err != nil {
			return err
		}
	}
	r.Vault.Key = id
	return nil
}

// renew puts a new version in the vault, if what it is to be has changed.
func (h secret) renew(r *machine.Resource, key *seal.Key) error {
	text, given := r.Properties["SecretString"].(string)
	source := ""
	if recipe, generated := r.Properties["GenerateSecretString"].(map[string]any); generated {
		made, err := vault.ParseRecipe(recipe)
		if err != nil {
			return err
		}
		source = made.String()
		if len(r.Vault.Versions) > 0 && r.Vault.Source == source {
			return nil
		}
		if text, err = made.Make(); err != nil {
			return err
		}
	} else if !given {
		return nil // it is filled later, or stays as it is
	}
	is, err := r.Vault.Get(key, r.Token, "", "")
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err != nil || is != text {
		r.Vault.Put(key, r.Token, strings.ToLower(rand.Text()), text, time.Now().UTC())
	}
	r.Vault.Source = source
	return nil
}

// Secret implements stack.SecretStore.
func (p *Platform) Secret(ctx context.Context, id, stage, version string) (string, error) {
	all, err := p.recordsOf(ctx, secretType)
	if err != nil {
		return "", err
	}
	for _, r := range all {
		// The ARN ends with the name and six letters more, which may be left out.
		_, name, _ := strings.Cut(r.PhysicalID, ":secret:")
		if id != r.PhysicalID && id != r.PhysicalID[:len(r.PhysicalID)-7] && id != name[:len(name)-7] {
			continue
		}
		key, _, err := p.sealer(ctx, r.Vault.Key)
		if err != nil {
			return "", err
		}
		text, err := r.Vault.Get(key, r.Token, stage, version)
		if fault.Is(err, fault.NotFound) { // the secret is there
			return "", fault.Wrap(fault.Invalid, err, "secret %s", r.Name())
		}
		return text, err
	}
	if text, err := p.databases.Secret(id, stage, version); !fault.Is(err, fault.NotFound) {
		return text, err
	}
	return "", fault.New(fault.NotFound, "Secrets Manager can't find the specified secret: %s", id).
		WithHint("make it first, with a resource of type %s", secretType)
}

const parameterType = "AWS::SSM::Parameter"

// Sizes of parameters, by their tier.
const (
	standardValue = 4 << 10
	advancedValue = 8 << 10
)

// parameter makes AWS::SSM::Parameter; every change of it is a new version.
type parameter struct{ modelled }

func (h parameter) Check(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Check(ctx, r); err != nil {
		return err
	}
	if name := strings.TrimPrefix(strings.ToLower(r.Text("Name")), "/"); strings.HasPrefix(name, "aws") || strings.HasPrefix(name, "ssm") {
		return r.Invalid("Name", "%q begins with aws or ssm, which is the service's own", r.Text("Name"))
	}
	value, most := r.Text("Value"), standardValue
	if r.Text("Tier") == "Advanced" || r.Text("Tier") == "Intelligent-Tiering" {
		most = advancedValue
	}
	if len(value) > most {
		return r.Invalid("Value", "has %d bytes; allowed are %d in this tier", len(value), most)
	}
	pattern := r.Text("AllowedPattern")
	if pattern == "" || model.Unknown(value) || model.Unknown(pattern) {
		return nil
	}
	allowed, err := regexp.Compile(pattern)
	if err != nil {
		return r.Invalid("AllowedPattern", "%q is no pattern: %v", pattern, err)
	}
	if !allowed.MatchString(value) {
		return r.Invalid("Value", "%q does not match AllowedPattern %s", value, pattern)
	}
	return nil
}

func (h parameter) Make(ctx context.Context, r *machine.Resource) error {
	if err := h.modelled.Make(ctx, r); err != nil {
		return err
	}
	version := strconv.Itoa(r.Changes + 1)
	if n := len(r.Vault.Versions); n == 0 || r.Vault.Versions[n-1].ID != version {
		r.Vault.Put(h.p.o.Key, r.Token, version, r.Text("Value"), time.Now().UTC())
	}
	return nil
}

// Parameter implements stack.ParameterStore.
func (p *Platform) Parameter(ctx context.Context, name string) (string, error) {
	name, version, _ := strings.Cut(name, ":")
	all, err := p.recordsOf(ctx, parameterType)
	if err != nil {
		return "", err
	}
	for _, r := range all {
		if r.PhysicalID != name {
			continue
		}
		value, err := r.Vault.Get(p.o.Key, r.Token, "", version)
		if fault.Is(err, fault.NotFound) { // the parameter is there
			return "", fault.New(fault.Invalid, "Systems Manager could not find version %s of %s", version, name).
				WithHint("its newest version is %d", r.Changes+1)
		}
		return value, err
	}
	return "", fault.New(fault.NotFound, "there is no parameter %s", name).WithHint("make it with a resource of type %s", parameterType)
}
