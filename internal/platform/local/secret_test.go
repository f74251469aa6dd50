package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/record"
	"makeitso/internal/stack"
)

const vaultTemplate = `
Resources:
  Key: {Type: "AWS::KMS::Key"}
  Named: {Type: "AWS::KMS::Alias", Properties: {AliasName: alias/shop, TargetKeyId: !Ref Key}}
  Login:
    Type: AWS::SecretsManager::Secret
    DependsOn: Named
    Properties:
      Name: shop/login
      KmsKeyId: alias/shop
      SECRET
  Size: {Type: "AWS::SSM::Parameter", Properties: {Name: /shop/size, Type: String, Value: "VALUE"}}
`

// vaulted is a platform and an engine on it, both on one store.
type vaulted struct {
	t      *testing.T
	p      *Platform
	engine *stack.Engine
}

func newVaulted(t *testing.T) vaulted {
	p := newPlatform(t, Options{})
	return vaulted{t, p, stack.New("local", p, record.NewMemory(), stack.Options{Holder: "test"})}
}

func (v vaulted) apply(name, template string) error {
	v.t.Helper()
	cs, err := v.engine.Plan(v.t.Context(), changeset.Change{Stack: name, File: name + ".yaml", Template: []byte(template)})
	if err != nil {
		return err
	}
	return v.engine.Apply(v.t.Context(), cs, nil)
}

func (v vaulted) vault(secret, value string) {
	v.t.Helper()
	if err := v.apply("vault", strings.NewReplacer("SECRET", secret, "VALUE", value).Replace(vaultTemplate)); err != nil {
		v.t.Fatal(err)
	}
}

func (v vaulted) secret(id, stage string) string {
	v.t.Helper()
	text, err := v.p.Secret(v.t.Context(), id, stage, "")
	if err != nil {
		v.t.Fatal(err)
	}
	return text
}

// TestSecret makes a secret, changes it, and gives it another key: it is never
// stored in clear, keeps its value where nothing of it changes, and what refers
// to it is told what it is.
func TestSecret(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	v.vault("GenerateSecretString: {SecretStringTemplate: '{\"user\": \"ann\"}', GenerateStringKey: password}", "1")
	generated := v.secret("shop/login", "")
	var login map[string]string
	if err := json.Unmarshal([]byte(generated), &login); err != nil || login["user"] != "ann" || len(login["password"]) != 32 {
		t.Fatalf("generated was %s (%v)", generated, err)
	}
	v.vault("GenerateSecretString: {SecretStringTemplate: '{\"user\": \"ann\"}', GenerateStringKey: password}\n      Description: of ann", "1")
	if again := v.secret("shop/login", ""); again != generated {
		t.Errorf("a new description made the secret anew: %s, was %s", again, generated)
	}
	resources, err := v.engine.Resources(t.Context(), "vault")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources {
		if r.LogicalID == "Login" {
			if v.secret(r.PhysicalID, "") != generated || v.secret(r.PhysicalID[:len(r.PhysicalID)-7], "") != generated {
				t.Error("by its ARN it is another secret")
			}
		}
	}
	v.vault("SecretString: open sesame", "1")
	if is, was := v.secret("shop/login", "AWSCURRENT"), v.secret("shop/login", "AWSPREVIOUS"); is != "open sesame" || was != generated {
		t.Errorf("after a change it is %q, was %q", is, was)
	}
	every, err := v.p.o.Records.List(t.Context(), "local-model", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range every {
		if bytes.Contains(e.Value, []byte("sesame")) || bytes.Contains(e.Value, []byte(login["password"])) {
			t.Errorf("a record shows it: %s", e.Value)
		}
	}
	if err := v.apply("app", `{Resources: {Of: {Type: "AWS::SSM::Parameter", Properties: {Type: String, Value: "{{resolve:secretsmanager:shop/login}}"}}}}`); err != nil {
		t.Fatal(err)
	}
	sealedBy := func() string {
		all, err := v.p.recordsOf(t.Context(), secretType)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Vault.Key
	}
	if err := v.engine.Delete(t.Context(), "app", nil); err != nil {
		t.Fatal(err)
	}
	first := sealedBy()
	if err := v.apply("vault", strings.NewReplacer("SECRET", "SecretString: open sesame", "VALUE", "1", "KmsKeyId: alias/shop", "KmsKeyId: !Ref Other",
		"Resources:\n", "Resources:\n  Other: {Type: 'AWS::KMS::Key'}\n").Replace(vaultTemplate)); err != nil {
		t.Fatal(err)
	}
	if now := sealedBy(); now == first || now == "" || v.secret("shop/login", "") != "open sesame" || v.secret("shop/login", "AWSPREVIOUS") != generated {
		t.Errorf("with another key, it is sealed by %q, was by %q", now, first)
	}
	if err := v.engine.Delete(t.Context(), "vault", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.p.Secret(t.Context(), "shop/login", "", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("after its stack was deleted: %v", err)
	}
}

// TestKeyInUse keeps a key for as long as it seals something that was left.
func TestKeyInUse(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	v.vault("SecretString: open sesame", "1")
	template := strings.NewReplacer("SECRET", "SecretString: open sesame", "VALUE", "1", "DependsOn: Named", "DependsOn: Named\n    DeletionPolicy: Retain").Replace(vaultTemplate)
	if err := v.apply("vault", template); err != nil {
		t.Fatal(err)
	}
	err := v.engine.Delete(t.Context(), "vault", nil)
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "Key") {
		t.Errorf("the stack with a key that is needed: %v", err)
	}
	if v.secret("shop/login", "") != "open sesame" {
		t.Error("what was left cannot be opened")
	}
}

func TestParameter(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	for _, value := range []string{"1", "2", "2", "3"} {
		v.vault("SecretString: x", value)
	}
	for version, want := range map[string]string{"": "3", ":1": "1", ":2": "2", ":3": "3"} {
		if got, err := v.p.Parameter(t.Context(), "/shop/size"+version); got != want {
			t.Errorf("/shop/size%s is %q, want %q (%v)", version, got, want, err)
		}
	}
	if _, err := v.p.Parameter(t.Context(), "/shop/size:9"); !fault.Is(err, fault.Invalid) || fault.HintOf(err) != "its newest version is 3" {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := v.p.Parameter(t.Context(), "/shop/sizes"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a parameter that is not there: %v", err)
	}
}

// TestVaultMistakes has what is wrong with secrets and parameters said in the plan.
func TestVaultMistakes(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	for properties, want := range map[string]string{
		`AWS::SecretsManager::Secret {KmsKeyId: none}`:                                                          `KmsKeyId "none" is no key of this environment`,
		`AWS::SecretsManager::Secret {GenerateSecretString: {PasswordLength: 9999}}`:                            "GenerateSecretString PasswordLength is 9999; allowed are 1 to 4096",
		`AWS::KMS::Alias {AliasName: alias/aws/s3, TargetKeyId: x}`:                                             "which is the service's own",
		`AWS::KMS::Alias {AliasName: alias/x, TargetKeyId: x}`:                                                  `TargetKeyId "x" is no key of this environment`,
		`AWS::SSM::Parameter {Name: /aws/x, Type: String, Value: x}`:                                            "which is the service's own",
		`AWS::SSM::Parameter {Type: String, Value: x, AllowedPattern: "^[0-9]+$"}`:                              `Value "x" does not match AllowedPattern ^[0-9]+$`,
		`AWS::SSM::Parameter {Type: String, Value: x, AllowedPattern: "("}`:                                     `AllowedPattern "(" is no pattern`,
		fmt.Sprintf(`AWS::SSM::Parameter {Type: String, Value: %s}`, strings.Repeat("x", 4097)):                 "Value has 4097 bytes; allowed are 4096 in this tier",
		fmt.Sprintf(`AWS::SSM::Parameter {Type: String, Tier: Advanced, Value: %s}`, strings.Repeat("x", 8193)): "Value has 8193 bytes; allowed are 8192",
	} {
		typ, properties, _ := strings.Cut(properties, " ")
		err := v.apply("wrong", fmt.Sprintf("Resources:\n  R:\n    Type: %s\n    Properties: %s\n", typ, properties))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %.60s: %v, want %s", typ, properties, err, want)
		}
	}
}
