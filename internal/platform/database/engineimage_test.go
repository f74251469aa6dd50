package database

import (
	"os"
	"path/filepath"

	"makeitso/internal/platform/machine/machinetest"
	"makeitso/internal/testneed"
)

// redisRoot behaves as the image "redis" does: root gives the data to redis
// and becomes it, and other machines may ask without a password.
func redisRoot(r *machinetest.Root) {
	r.Program(testneed.Program(r.T, "redis-server", "apt-get install redis-server"))
	r.Folder("data", 0o777)
	r.Text("entrypoint", 0o755, `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
	chown -R redis .
	exec setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
exec "$@" --protected-mode no
`)
	r.Changes = []string{"WORKDIR /data", "VOLUME /data", "EXPOSE 6379", `ENTRYPOINT ["/entrypoint"]`, `CMD ["redis-server"]`}
}

// postgresRoot behaves as the image "postgres" does: root gives the data to
// postgres and becomes it; an empty data folder gets the user, the password
// and the database of the environment, by a server that no network reaches;
// then clients from elsewhere need the password.
func postgresRoot(r *machinetest.Root) {
	bin := testneed.Postgres(r.T)
	home := filepath.Dir(bin)
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "psql"} {
		if real, err := filepath.EvalSymlinks(filepath.Join(bin, name)); err != nil {
			r.T.Fatal(err)
		} else {
			r.ProgramAt(filepath.Join(bin, name), real)
		}
	}
	for _, name := range []string{"plpgsql.so", "dict_snowball.so"} {
		r.Program(filepath.Join(home, "lib", name))
	}
	r.Folder("var/run/postgresql", 0o1777)
	r.Folder("var/lib/postgresql/data", 0o1777)
	share := filepath.Join("/usr/share/postgresql", filepath.Base(home)) // Debian's
	if _, err := os.Stat(share); err != nil {
		share = filepath.Join(home, "share")
	}
	r.Tree(share)
	r.Text("entrypoint", 0o755, `#!/bin/sh
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
	r.Changes = []string{"ENV PGDATA=/var/lib/postgresql/data PATH=" + bin + ":/usr/sbin:/usr/bin:/bin", "VOLUME /var/lib/postgresql/data",
		"EXPOSE 5432", `ENTRYPOINT ["/entrypoint"]`, `CMD ["postgres"]`}
}
