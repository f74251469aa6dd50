package local

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// masterSecret is the secret of a database whose password no template gives, in
// the form in which the service keeps it. It lies with the resource, readable by
// its owner alone, and is what {{resolve:secretsmanager:…}} gives for the ARN in
// the attribute MasterUserSecret.SecretArn.
type masterSecret struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// master is the name of the database's first user.
func (r *resource) master() string {
	if r.Master != "" {
		return r.Master
	}
	return r.text("MasterUsername")
}

// masterPassword is what the password of the first user shall be.
func (r *resource) masterPassword() string {
	if declared := r.text("MasterUserPassword"); declared != "" {
		return declared
	}
	return r.Generated
}

// inherit sets what a template leaves to others: user and password of the
// snapshot that the database comes from, or else a random password.
func (h postgres) inherit(r *resource) error {
	if !r.Complete && r.Master == "" {
		_, folder, err := h.p.seed(r)
		if err == nil && folder != "" {
			err = h.inheritLogin(r, filepath.Join(folder, loginFile))
		}
		if err != nil {
			return err
		}
	}
	if r.masterPassword() == "" {
		r.Generated = rand.Text()
	}
	return h.p.save(r)
}

func (h postgres) inheritLogin(r *resource, file string) error {
	var login masterSecret
	if err := h.p.o.Key.ReadFile(file, loginFile, &login); err != nil {
		return fmt.Errorf("read who logs in to the snapshot that %s starts from: %w", r.name(), err)
	}
	r.Master, r.Password = login.Username, login.Password
	if r.text("ManageMasterUserPassword") != "true" {
		r.Generated = login.Password
	}
	return nil
}

func (p *Platform) masterSecretFile(r *resource) string {
	return filepath.Join(p.folder(r), "master-user-secret.json")
}

// keepMasterSecret keeps a password that was made where a user finds it.
func (p *Platform) keepMasterSecret(r *resource) error {
	file := p.masterSecretFile(r)
	if r.text("MasterUserPassword") != "" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the former password of %s: %w", r.name(), err)
		}
		return nil
	}
	d := digits(r.Token, "secret", 38)
	r.Attributes["MasterUserSecret.SecretArn"] = fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:rds!db-%s-%s-%s-%s-%s-%s",
		p.o.Region, p.o.Account, d[:8], d[8:12], d[12:16], d[16:20], d[20:32], d[32:])
	if _, err := os.Stat(file); err != nil {
		p.o.Announce(fmt.Sprintf("%s: its password was not given and is a random one, to be read in %s", r.name(), file))
	}
	return statefile.Write(file, masterSecret{r.master(), r.masterPassword()})
}

// databaseSecret gives the secret of a database's first user by its ARN,
// fault.NotFound if there is none.
func (p *Platform) databaseSecret(id, stage, version string) (string, error) {
	databases, err := p.complete(databaseType)
	if err != nil {
		return "", err
	}
	for _, r := range databases {
		if r.Attributes["MasterUserSecret.SecretArn"] != id {
			continue
		}
		if version != "" || stage != "" && stage != "AWSCURRENT" {
			return "", fault.New(fault.Unsupported, "of the secret of %s there is its current version alone", r.name()).
				WithHint("leave stage and version out")
		}
		text, err := json.Marshal(masterSecret{r.master(), r.masterPassword()})
		return string(text), err
	}
	return "", fault.New(fault.NotFound, "no database has the secret %s", id)
}
