package server

import (
	"os"
	"strings"
	"testing"
)

// TestHolder names the holder of leases: on a database that machines share, a
// state folder of the same path on another machine is another holder.
func TestHolder(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for database, names := range map[string]bool{"": false, "postgres://db/makeitso": true} {
		s := &Server{o: Options{State: "state", Database: database}}
		if name, err := s.holder(); err != nil || !strings.HasPrefix(name, "makeitso of state") || strings.HasSuffix(name, " on "+host) != names {
			t.Errorf("with database %q, the holder is %q (%v)", database, name, err)
		}
	}
}
