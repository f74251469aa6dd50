package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	log := func(file string, entries ...entry) {
		var lines []byte
		for _, e := range entries {
			lines = e.append(lines)
		}
		if err := os.WriteFile(file, append([]byte(`"cut":"off"}`+"\n"), lines...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Failures(path, "local/api", "api-2", at, 3); err != nil || len(got) != 0 {
		t.Errorf("without a log: %v, %v", got, err)
	}
	bad := func(second int, path string) entry {
		return entry{Time: at.Add(time.Duration(second) * time.Second), ID: fmt.Sprint(second), Method: "GET", Path: path, Status: 500, Service: "local/api", Arm: "api-2", Instance: "i"}
	}
	other, good, early := bad(9, "/"), bad(8, "/"), bad(-1, "/")
	other.Arm, good.Status = "api-1", 200
	log(path+".1", early, bad(1, "/rare"), bad(2, "/often"))
	log(path, bad(3, "/often"), bad(4, "/often"), other, good)
	got, err := Failures(path, "local/api", "api-2", at, 3)
	var ids string
	for _, f := range got {
		ids += f.ID + f.Path + " "
	}
	if err != nil || ids != "1/rare 3/often 4/often " {
		t.Errorf("got %s, %v", ids, err)
	}
}
