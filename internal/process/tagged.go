package process

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"makeitso/internal/fault"
)

// killTime is how long KillTagged waits for killed processes to be gone. The
// kernel needs milliseconds; only one stuck in a device takes longer.
const killTime = 10 * time.Second

// KillTagged kills every process group of this machine in which a process has
// the variable env, exactly KEY=VALUE, in its environment, and returns when
// none is left. The group of the caller is spared. It gives the number of
// groups killed.
func KillTagged(env string) (killed int, err error) {
	deadline := time.Now().Add(killTime)
	groups := map[int]bool{}
	for {
		tagged, err := taggedGroups(env)
		if err != nil {
			return len(groups), fmt.Errorf("find processes with %s: %w", env, err)
		}
		if len(tagged) == 0 {
			return len(groups), nil
		}
		if time.Now().After(deadline) {
			return len(groups), fault.New(fault.Failed, "process groups %v do not end when killed", tagged)
		}
		for _, group := range tagged {
			groups[group] = true
			if err := signalGroup(group, syscall.SIGKILL); err != nil {
				return len(groups), err
			}
		}
		// A killed group may have begotten another before it died, and its
		// end is no event for a process that is not its parent: look again.
		time.Sleep(2 * time.Millisecond)
	}
}

// taggedGroups lists the groups with a running process that has env.
func taggedGroups(env string) ([]int, error) {
	all, err := running()
	if err != nil {
		return nil, err
	}
	own := syscall.Getpgrp()
	var groups []int
	for _, r := range all {
		if r.group == own || r.pid == os.Getpid() || slices.Contains(groups, r.group) {
			continue
		}
		if slices.Contains(environment(r.pid), env) {
			groups = append(groups, r.group)
		}
	}
	return groups, nil
}
