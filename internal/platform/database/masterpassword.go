package database

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/model"
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

// masterOf is the name of the database's first user.
func masterOf(r *machine.Resource) string {
	if r.Master != "" {
		return r.Master
	}
	return r.Text("MasterUsername")
}

// masterPasswordOf is what the password of the first user shall be.
func masterPasswordOf(r *machine.Resource) string {
	if declared := r.Text("MasterUserPassword"); declared != "" {
		return declared
	}
	return r.Generated
}

// inherit sets what a template leaves to others: user and password of the
// snapshot that the database comes from, or else a random password.
func (h postgres) inherit(r *machine.Resource) error {
	if !r.Complete && r.Master == "" {
		_, folder, err := h.d.seed(r)
		if err == nil && folder != "" {
			err = h.inheritLogin(r, filepath.Join(folder, loginFile))
		}
		if err != nil {
			return err
		}
	}
	if masterPasswordOf(r) == "" {
		r.Generated = rand.Text()
	}
	return h.d.Save(r)
}

func (h postgres) inheritLogin(r *machine.Resource, file string) error {
	var login masterSecret
	if err := h.d.Options.Key.ReadFile(file, loginFile, &login); err != nil {
		return fmt.Errorf("read who logs in to the snapshot that %s starts from: %w", r.Name(), err)
	}
	r.Master, r.Password = login.Username, login.Password
	if r.Text("ManageMasterUserPassword") != "true" {
		r.Generated = login.Password
	}
	return nil
}

func (d *Databases) masterSecretFile(r *machine.Resource) string {
	return filepath.Join(d.Folder(r), "master-user-secret.json")
}

// keepMasterSecret keeps a password that was made where a user finds it.
func (d *Databases) keepMasterSecret(r *machine.Resource) error {
	file := d.masterSecretFile(r)
	if r.Text("MasterUserPassword") != "" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the former password of %s: %w", r.Name(), err)
		}
		return nil
	}
	id := model.Digits(r.Token, "secret", 38)
	r.Attributes["MasterUserSecret.SecretArn"] = fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:rds!db-%s-%s-%s-%s-%s-%s",
		d.Options.Region, d.Options.Account, id[:8], id[8:12], id[12:16], id[16:20], id[20:32], id[32:])
	if _, err := os.Stat(file); err != nil {
		d.Options.Announce(fmt.Sprintf("%s: its password was not given and is a random one, to be read in %s", r.Name(), file))
	}
	return statefile.Write(file, masterSecret{masterOf(r), masterPasswordOf(r)})
}

// Secret gives the secret of a database's first user by its ARN,
// fault.NotFound if there is none.
func (d *Databases) Secret(id, stage, version string) (string, error) {
	databases, err := d.Complete(databaseType)
	if err != nil {
		return "", err
	}
	for _, r := range databases {
		if r.Attributes["MasterUserSecret.SecretArn"] != id {
			continue
		}
		if version != "" || stage != "" && stage != "AWSCURRENT" {
			return "", fault.New(fault.Unsupported, "of the secret of %s there is its current version alone", r.Name()).
				WithHint("leave stage and version out")
		}
		text, err := json.Marshal(masterSecret{masterOf(r), masterPasswordOf(r)})
		return string(text), err
	}
	return "", fault.New(fault.NotFound, "no database has the secret %s", id)
}
