package testneed

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// PostgresServer starts a PostgreSQL of the test's own, which ends with it,
// and gives the URL of its database. PostgreSQL refuses to run as root, so
// root runs it as an unprivileged user.
func PostgresServer(t testing.TB) string {
	t.Helper()
	bin := Postgres(t)
	dir, err := os.MkdirTemp("", "postgres-") // t.TempDir lies in a folder that only root may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attributes := unprivileged(t, dir)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "socket")
	port := freePort(t)
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "test", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C")
	initdb.Dir, initdb.SysProcAttr = dir, attributes
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if err := os.Mkdir(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o777); err != nil { // the umask may have narrowed it
		t.Fatal(err)
	}
	var output bytes.Buffer
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", socket, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-c", "fsync=off")
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = dir, attributes, &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once: nothing is to be kept
		_ = server.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		ready := exec.Command(filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "1")
		if ready.Run() == nil {
			return fmt.Sprintf("postgres://test@127.0.0.1:%d/postgres", port)
		}
		if time.Now().After(deadline) {
			t.Fatalf("postgres did not come up:\n%s", output.String())
		}
		time.Sleep(20 * time.Millisecond) // it tells nobody that it is ready
	}
}

// unprivileged gives how to run a program in dir as somebody who is not root.
func unprivileged(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		if who, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func freePort(t testing.TB) int {
	t.Helper()
	syscall.ForkLock.RLock() // a child would have the port too, until its program runs
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
