package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"makeitso/internal/testneed"
)

// TestEverythingListensOnLoopback looks at every socket of the processes that an
// environment has.
func TestEverythingListensOnLoopback(t *testing.T) {
	t.Parallel()
	testneed.Program(t, "redis-server", "apt-get install redis-server")
	testneed.Postgres(t)
	d := newDrifting(t, `
Resources:
  Files: {Type: AWS::S3::Bucket}
  Zone: {Type: AWS::Route53::HostedZone, Properties: {Name: example.com}}
  Images: {Type: AWS::ECR::Repository}
  Signal: {Type: AWS::CloudFormation::WaitConditionHandle}
  Redis: {Type: AWS::ElastiCache::CacheCluster, Properties: {Engine: redis, CacheNodeType: cache.t3.micro, NumCacheNodes: 1}}
  Database: {Type: AWS::RDS::DBInstance, Properties: {Engine: postgres, DBInstanceClass: db.t3.micro, AllocatedStorage: "20", MasterUsername: shop, MasterUserPassword: open sesame}}
`)
	addresses := map[string]string{} // of listening sockets, by inode
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && (f[3] == "0A" || strings.HasPrefix(table, "udp") && f[3] == "07") {
				address, _, _ := strings.Cut(f[1], ":")
				addresses["socket:["+f[9]+"]"] = address
			}
		}
	}
	loopback := map[string]bool{"0100007F": true, "00000000000000000000000001000000": true}
	listening := 0
	for _, pid := range pidsOf(t, d.Platform.Dir) {
		descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%s/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, descriptor := range descriptors {
			socket, err := os.Readlink(descriptor)
			address := addresses[socket]
			if err != nil || address == "" {
				continue // it was closed, or does not listen
			}
			listening++
			if !loopback[address] {
				command, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				t.Errorf("%s listens at %s", strings.ReplaceAll(string(command), "\x00", " "), address)
			}
		}
	}
	if listening != 7 { // S3 and its websites, DNS by both protocols, images, Redis, PostgreSQL
		t.Errorf("%d sockets listen; want 7", listening)
	}
}

// pidsOf gives the processes that work in a folder, have it among their
// arguments, or see it in a place of their own.
func pidsOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, process := range all {
		arguments, err := os.ReadFile(process + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		folder, _ := os.Readlink(process + "/cwd")
		mounts, _ := os.ReadFile(process + "/mountinfo")
		if strings.Contains(string(arguments), dir) || strings.Contains(string(mounts), dir) || strings.HasPrefix(folder, dir) {
			pids = append(pids, filepath.Base(process))
		}
	}
	return pids
}
