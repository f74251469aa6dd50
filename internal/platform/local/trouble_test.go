package local

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/stack"
)

const troubledBucket = `
Resources:
  Files: {Type: AWS::S3::Bucket, Properties: {BucketName: shop-files}}
`

// TestBucketStacksGoOnAfterTrouble deletes a bucket that is not empty, makes a
// second one of its name, and changes one whose server's port somebody took:
// each failure says what to do, and after that the stack goes on.
func TestBucketStacksGoOnAfterTrouble(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, troubledBucket)
	apply := func(stack, template string) error {
		cs, err := d.Engine.Plan(t.Context(), changeset.Change{Stack: stack, Template: []byte(template)})
		if err == nil {
			err = d.Engine.Apply(t.Context(), cs, nil)
		}
		return err
	}
	if err := apply("second", troubledBucket); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Text(err), "already exists") || !strings.Contains(fault.Text(err), "another name") {
		t.Errorf("a second bucket of the name: %s", fault.Text(err))
	}
	if err := apply("second", strings.Replace(troubledBucket, "shop-files", "more-files", 1)); err != nil {
		t.Errorf("under another name: %s", fault.Text(err))
	}
	put(t, contentOf(t, d.Platform, "shop-files"), "x", "kept", nil)

	machinetest.Kill(t, d.Platform.Machine, storeProcess)
	c, err := d.Platform.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	thief, err := net.Listen("tcp", machine.Loopback(c.Port))
	if err != nil {
		t.Fatal(err)
	}
	site := strings.Replace(troubledBucket, "shop-files", "shop-files, WebsiteConfiguration: {IndexDocument: x}", 1)
	if err := apply("app", site); err == nil || !strings.Contains(err.Error(), "another program has port") || !strings.Contains(fault.Text(err), "ss -ltnp") {
		t.Errorf("with its port taken: %s", fault.Text(err))
	}
	thief.Close()
	if err := d.Engine.ContinueRollback(t.Context(), "app", nil, nil); err != nil {
		t.Error(fault.Text(err))
	}
	d.Apply(site)

	if err := d.Engine.Delete(t.Context(), "app", nil); err == nil || !strings.Contains(fault.Text(err), "bucket shop-files of app/Files is not empty") || !strings.Contains(fault.Text(err), "empty it first") {
		t.Errorf("not empty: %s", fault.Text(err))
	}
	if s, err := d.Engine.Stack(t.Context(), "app"); err != nil || s.Status != stack.DeleteFailed {
		t.Errorf("the stack is %s (%v)", s.Status, err)
	}
	if err := contentOf(t, d.Platform, "shop-files").Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := d.Engine.Delete(t.Context(), "app", nil); err != nil {
		t.Errorf("emptied: %s", fault.Text(err))
	}
}

// TestFoldersAreOfTheirOwnerAlone looks at what an environment with data lets
// others of the machine see: no folder and no file, and no secret in any.
func TestFoldersAreOfTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	d := newDrifting(t, troubledBucket+`
  Key: {Type: AWS::SecretsManager::Secret, Properties: {Name: key, SecretString: open sesame}}
  Zone: {Type: AWS::Route53::HostedZone, Properties: {Name: example.com}}
  Logs: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: all}}
`)
	for _, root := range []string{d.Platform.Dir, d.Platform.Logs} {
		err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			// What lies in a folder that only its owner enters is seen by nobody.
			if e.IsDir() && filepath.Dir(path) == root || path == root {
				if info.Mode().Perm() != 0o700 {
					t.Errorf("%s has mode %v", path, info.Mode())
				}
			}
			if e.Type().IsRegular() {
				text, err := os.ReadFile(path)
				if err != nil || strings.Contains(string(text), "open sesame") {
					t.Errorf("%s holds a secret (%v)", path, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
