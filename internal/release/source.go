package release

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/source"
)

// reads says whether outcomes are read that the edge does not tell.
func (k *keeper) reads() bool {
	e := k.evidence()
	return e != nil && !e.Source.Edge() && k.judged() && !k.judgement().Ended()
}

func (k *keeper) readEvery() time.Duration {
	if k.c.o.Read > 0 {
		return k.c.o.Read
	}
	return k.evidence().Source.Every()
}

// arms are the two versions of the rollout, the old one first.
func (k *keeper) arms() []source.Arm {
	plan := k.rec.State.Plan
	arms := []source.Arm{{Release: plan.Old.Release}, {Release: plan.New.Release}}
	for _, slot := range k.rec.Slots {
		for i := range arms {
			if slot.Release == arms[i].Release && slot.Started {
				arms[i].Instances = append(arms[i].Instances, source.Instance{Address: slot.Instance.Address, Log: slot.Instance.Log})
			}
		}
	}
	return arms
}

// readSource has the source read when it is time to, and once more when the watch
// of a step is over.
func (k *keeper) readSource(ctx context.Context) {
	e, due := k.evidence(), k.rec.State.Due()
	name := "read the outcomes for " + e.New
	over := k.watched() && !due.IsZero() && !k.looked.Before(due) && k.read.Before(due)
	if !k.reads() || k.busy[name] || !over && k.looked.Before(k.read.Add(k.readEvery())) {
		return
	}
	release, from, at, arms, first := e.New, e.Place, k.now(), k.arms(), k.read.IsZero()
	var got source.Reading
	var unread error
	k.begin(ctx, name, func(ctx context.Context) error {
		got, unread = k.readOnce(ctx, e.Source, arms, from, first)
		return ctx.Err()
	}, func(ctx context.Context) {
		k.read = at
		k.count(ctx, release, got, unread)
	})
}

// readOnce reads a source from a position on. A command that an earlier life began
// is ended first.
func (k *keeper) readOnce(ctx context.Context, s source.Source, arms []source.Arm, from source.Position, again bool) (source.Reading, error) {
	var of Release
	for i := range arms {
		r, err := k.c.release(ctx, k.name, arms[i].Release)
		if err != nil {
			return source.Reading{}, err
		}
		arms[i].Commit, of = r.Artifact.Commit, r // the last is the new one
	}
	reader := source.Reader{Source: s, Run: func(ctx context.Context, env []string, out io.Writer) error {
		if k.c.o.Hooks == nil {
			return fault.New(fault.Unsupported, "commands cannot be run here")
		}
		env = append(env, "MAKEITSO_ENVIRONMENT="+k.c.environment, "MAKEITSO_SERVICE="+k.name)
		err := k.c.o.Hooks.Hook(ctx, Hook{
			ID: fmt.Sprintf("%s/%s, outcomes", k.c.environment, of.ID), Command: s.Command.Run,
			Folder: of.Service.Commands.Folder, Log: of.Service.Commands.Log, Env: env, Again: again, Output: out,
		})
		again = false
		return err
	}}
	got, err := reader.Read(ctx, arms, from, k.now())
	if got.Sample != "" {
		got.Sample = masked([]string{got.Sample}, of.Config)[0]
	}
	return got, err
}

// count learns from what was read, and acts on what it says. What came while one
// version had all requests is no comparison.
func (k *keeper) count(ctx context.Context, release string, got source.Reading, unread error) {
	e := k.evidence()
	if e == nil || e.New != release || !k.judged() {
		return
	}
	k.unreadable(unread)
	weight, coin := k.rec.State.Coin()
	if unread == nil {
		e.Place = got.Position
		if !coin {
			got.Tally = source.Tally{Trouble: got.Trouble}
		}
		e.Tally.Add(got.Tally)
	}
	if unread == nil && coin {
		test := k.judgement()
		k.beginCoin(k.read)
		test.SetWeight(math.Round(weight*1e9) / 1e9)
		canary, old := got.Arms[release], got.Arms[k.rec.State.Plan.Old.Release]
		test.ObserveCounts(canary.OK, canary.Bad, old.OK, old.Bad)
		test.Tick(k.read)
	}
	if k.conclude(ctx); k.broken == nil && k.watched() {
		k.endWatch(ctx)
	}
}

// unreadable notes why the source cannot be read, nil if it can, and tells of it
// once.
func (k *keeper) unreadable(err error) {
	e := k.rec.Evidence
	if err == nil {
		e.Tally.Trouble = ""
		return
	}
	why := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		why += " (" + hint + ")"
	}
	if e.Tally.Trouble != why {
		e.Tally.Trouble = why
		k.tell(e.New, EventTrouble, fmt.Sprintf("the outcomes of %s cannot be read: %s; trying again", k.name, why))
	}
}

// missing says why a source gave less than it should have, "" if that is not known.
func (e *evidenceRecord) missing() string {
	switch t := e.Tally; {
	case t.Trouble != "":
		return fmt.Sprintf("of %s: %s", e.Source, t.Trouble)
	case t.Counted == 0 && t.Ignored > 0:
		return fmt.Sprintf("of %s: none of %d lines tells a status, at last %q", e.Source, t.Ignored, t.Sample)
	}
	return ""
}
