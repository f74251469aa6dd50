package release

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/rollout"
)

// hookName names the command of a phase and a step.
func (k *keeper) hookName(phase rollout.Phase, step int) string {
	return fmt.Sprintf("%s/%s, step %d, %s", k.c.environment, k.rec.State.Plan.New.Release, step+1, sideOf(phase))
}

// hook runs the command before or after the step's traffic. What a crash
// interrupted is run again, and that is told.
func (k *keeper) hook(ctx context.Context, c rollout.Command) {
	name := k.hookName(c.Phase, c.Step)
	if k.busy[name] || k.looked.Before(k.retries[name].at) {
		return
	}
	id, again := k.rec.State.Plan.New.Release, k.rec.Hook == name
	if again {
		k.tell(id, EventRollout, "makeitso was interrupted in the command of the rollout: it is run again")
	}
	k.rec.Hook = name
	k.saveOrBreak(ctx)
	env := k.hookEnv(c.Step)
	running, cancel := context.WithCancel(ctx)
	k.hooks[name] = cancel
	var failed error
	k.begin(ctx, name, func(ctx context.Context) error {
		defer cancel()
		r, err := k.c.release(ctx, k.name, id)
		if err != nil {
			return err
		}
		failed = k.runHook(running, r, Hook{ID: name, Command: hookOf(r, c.Phase), Folder: r.Service.Commands.Folder, Log: r.Service.Commands.Log, Env: env, Again: again})
		if canceled(ctx, failed) {
			return failed
		}
		return nil
	}, func(ctx context.Context) {
		k.rec.Hook = ""
		e := rollout.Event{Kind: rollout.HookPassed, Phase: c.Phase, Step: c.Step}
		if failed != nil {
			e.Kind, e.Reason = rollout.HookFailed, fmt.Sprintf("%s: %v", sideOf(c.Phase), failed)
		}
		k.apply(ctx, e)
	})
}

func hookOf(r Release, phase rollout.Phase) string {
	if phase == rollout.Checking {
		return r.Service.Commands.Before
	}
	return r.Service.Commands.After
}

func sideOf(phase rollout.Phase) string {
	if phase == rollout.Checking {
		return "before the traffic"
	}
	return "after the traffic"
}

func (k *keeper) runHook(ctx context.Context, r Release, h Hook) error {
	if k.c.o.Hooks == nil {
		return fault.New(fault.Unsupported, "commands of rollouts cannot be run here")
	}
	return k.c.o.Hooks.Hook(ctx, h)
}

// hookEnv is what a command is told of its rollout. MAKEITSO_CANARY_URL is the
// address of an instance of the new release itself, past the load balancer.
func (k *keeper) hookEnv(step int) []string {
	plan := k.rec.State.Plan
	var urls []string
	for _, p := range k.rec.State.Places {
		if slot := k.rec.slot(p.Member); slot != nil && slot.Started && p.Release == plan.New.Release && p.Status != rollout.Stopping {
			urls = append(urls, "http://"+slot.Instance.Address)
		}
	}
	env := []string{
		"MAKEITSO_ENVIRONMENT=" + k.c.environment, "MAKEITSO_SERVICE=" + k.name, "MAKEITSO_RELEASE=" + plan.New.Release,
		fmt.Sprintf("MAKEITSO_STEP=%d", step+1), fmt.Sprintf("MAKEITSO_STEPS=%d", len(plan.Steps)),
		"MAKEITSO_TRAFFIC=" + strconv.FormatFloat(math.Round(1e4*plan.Steps[step].Share)/100, 'f', -1, 64),
		"MAKEITSO_INSTANCE_URLS=" + strings.Join(urls, " "),
	}
	if len(urls) > 0 {
		env = append(env, "MAKEITSO_CANARY_URL="+urls[0])
	}
	return env
}

// endHooks ends the commands that nobody waits for any more.
func (k *keeper) endHooks() {
	wanted := ""
	for _, c := range rollout.Commands(k.rec.State) {
		if c.Kind == rollout.Hook {
			wanted = k.hookName(c.Phase, c.Step)
		}
	}
	for name, cancel := range k.hooks {
		if name != wanted {
			cancel()
			delete(k.hooks, name)
		}
	}
}
