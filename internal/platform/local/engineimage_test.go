package local

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"makeitso/internal/testneed"
)

// root is the root file system of an image, made of this machine's files.
type root struct {
	t       *testing.T
	archive *tar.Writer
	content bytes.Buffer
	changes []string // what else belongs to the image, as in a Dockerfile
	has     map[string]bool
}

// needImage sees to it that the engine has an image. One that it lacks is made
// of this machine's programs, called the same, and removed after the test.
func needImage(t *testing.T, c *client.Client, image string, fill func(*root)) {
	t.Helper()
	if _, err := c.ImageInspect(t.Context(), image); err == nil {
		return
	}
	r := &root{t: t, has: map[string]bool{}}
	r.archive = tar.NewWriter(&r.content)
	r.folder("tmp", 0o1777)
	// Anybody may write it: a user who is not in there adds itself.
	r.text("etc/passwd", 0o666, "root:x:0:0::/:/bin/sh\npostgres:x:70:70::/:/bin/sh\nredis:x:999:999::/:/bin/sh\n")
	r.text("etc/group", 0o644, "root:x:0:\npostgres:x:70:\nredis:x:999:\n")
	for _, name := range []string{"id", "chmod", "chown", "mkdir", "setpriv"} {
		r.program(testneed.Program(t, name, "apt-get install coreutils util-linux"))
	}
	r.programAt("/bin/sh", testneed.Program(t, "sh", "apt-get install dash"))
	fill(r)
	if err := r.archive.Close(); err != nil {
		t.Fatal(err)
	}
	source := client.ImageImportSource{Source: &r.content, SourceName: "-"}
	done, err := c.ImageImport(t.Context(), source, image, client.ImageImportOptions{Changes: r.changes})
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	if answer, err := io.ReadAll(done); err != nil || bytes.Contains(answer, []byte(`"error"`)) {
		t.Fatalf("import %s: %s %v", image, answer, err)
	}
	t.Cleanup(func() {
		if _, err := c.ImageRemove(context.Background(), image, client.ImageRemoveOptions{}); err != nil {
			t.Errorf("remove %s: %v", image, err)
		}
	})
}

// redisRoot behaves as the image "redis" does: root gives the data to redis
// and becomes it, and other machines may ask without a password.
func redisRoot(r *root) {
	r.program(testneed.Program(r.t, "redis-server", "apt-get install redis-server"))
	r.folder("data", 0o777)
	r.text("entrypoint", 0o755, `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
	chown -R redis .
	exec setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
exec "$@" --protected-mode no
`)
	r.changes = []string{"WORKDIR /data", "VOLUME /data", "EXPOSE 6379", `ENTRYPOINT ["/entrypoint"]`, `CMD ["redis-server"]`}
}

// postgresRoot behaves as the image "postgres" does: root gives the data to
// postgres and becomes it; an empty data folder gets the user, the password
// and the database of the environment, by a server that no network reaches;
// then clients from elsewhere need the password.
func postgresRoot(r *root) {
	bin := testneed.Postgres(r.t)
	home := filepath.Dir(bin)
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "psql"} {
		if real, err := filepath.EvalSymlinks(filepath.Join(bin, name)); err != nil {
			r.t.Fatal(err)
		} else {
			r.programAt(filepath.Join(bin, name), real)
		}
	}
	for _, name := range []string{"plpgsql.so", "dict_snowball.so"} {
		r.program(filepath.Join(home, "lib", name))
	}
	r.folder("var/run/postgresql", 0o1777)
	r.folder("var/lib/postgresql/data", 0o1777)
	share := filepath.Join("/usr/share/postgresql", filepath.Base(home)) // Debian's
	if _, err := os.Stat(share); err != nil {
		share = filepath.Join(home, "share")
	}
	r.tree(share)
	r.text("entrypoint", 0o755, `#!/bin/sh
set -e
chmod 700 "$PGDATA"
if [ "$(id -u)" = 0 ]; then
	chown -R postgres "$PGDATA"
	exec setpriv --reuid postgres --regid postgres --clear-groups "$0" "$@"
fi
if ! [ -s "$PGDATA/PG_VERSION" ]; then
	id -un >/dev/null 2>&1 || echo "user:x:$(id -u):$(id -g)::/:/bin/sh" >>/etc/passwd
	: "${POSTGRES_USER:=postgres}" "${POSTGRES_PASSWORD:?is not set}"
	echo "$POSTGRES_PASSWORD" >/tmp/password
	eval "initdb -U \"\$POSTGRES_USER\" --pwfile /tmp/password $POSTGRES_INITDB_ARGS"
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	pg_ctl -w -o "-c listen_addresses=" start
	db=${POSTGRES_DB:-$POSTGRES_USER}
	if [ -z "$(psql -U "$POSTGRES_USER" -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = '$db'")" ]; then
		psql -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE \"$db\""
	fi
	pg_ctl -w -m fast stop
fi
exec "$@"
`)
	r.changes = []string{"ENV PGDATA=/var/lib/postgresql/data PATH=" + bin + ":/usr/sbin:/usr/bin:/bin", "VOLUME /var/lib/postgresql/data",
		"EXPOSE 5432", `ENTRYPOINT ["/entrypoint"]`, `CMD ["postgres"]`}
}

func (r *root) add(h tar.Header, content []byte) {
	r.t.Helper()
	h.Name = strings.TrimPrefix(h.Name, "/")
	if r.has[h.Name] {
		return
	}
	r.has[h.Name], h.Size = true, int64(len(content))
	err := r.archive.WriteHeader(&h)
	if err == nil {
		_, err = r.archive.Write(content)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *root) folder(path string, mode int64) {
	r.add(tar.Header{Name: path, Typeflag: tar.TypeDir, Mode: mode}, nil)
}

func (r *root) text(path string, mode int64, content string) {
	r.add(tar.Header{Name: path, Mode: mode}, []byte(content))
}

// file adds the file of this machine called source.
func (r *root) file(path, source string, mode int64) {
	r.t.Helper()
	content, err := os.ReadFile(source)
	if err != nil {
		r.t.Fatal(err)
	}
	r.add(tar.Header{Name: path, Mode: mode}, content)
}

func (r *root) tree(folder string) {
	r.t.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			r.file(path, path, 0o644)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// library is a line of ldd's answer.
var library = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(`)

func (r *root) program(path string) { r.programAt(path, path) }

// programAt adds the program or library called source with all that it loads.
func (r *root) programAt(path, source string) {
	r.t.Helper()
	r.file(path, source, 0o755)
	out, err := exec.Command(testneed.Program(r.t, "ldd", "apt-get install libc-bin"), source).Output()
	if err != nil {
		r.t.Fatalf("ldd %s: %v", source, err)
	}
	for _, found := range library.FindAllSubmatch(out, -1) {
		r.file(string(found[1]), string(found[1]), 0o755)
	}
}
