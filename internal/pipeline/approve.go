package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"makeitso/internal/changeset"
	"makeitso/internal/fault"
)

// Subjects name what an approval covers.
func stackSubject(name string) string { return "stack " + name }
func siteSubject(name string) string  { return "site " + name }

// approve waits until enough different people have approved the digest of
// exactly what will be done in the stage's environment. It waits in the store,
// so a restart loses nothing. If anything moves meanwhile, the approvals are
// void and it asks again.
func (w *stageWork) approve(ctx context.Context) (Result, error) {
	for {
		subjects, joint, err := w.subjects(ctx)
		if err != nil {
			return Result{}, err
		}
		digest := digestOfSubjects(subjects)
		if err := w.ask(ctx, digest, subjects); err != nil {
			return Result{}, err
		}
		by, err := w.answers(ctx, digest)
		if err != nil {
			return Result{}, err
		}
		now, _, err := w.subjects(ctx)
		if err != nil {
			return Result{}, err
		}
		if digestOfSubjects(now) == digest {
			return Result{Summary: "approved by " + by, Digest: digest, Approved: subjects, Joint: joint}, nil
		}
		if err := w.log.Printf("what would be done has changed since it was approved: the approvals are void"); err != nil {
			return Result{}, err
		}
	}
}

// needed gives how many different people must say yes: an approve stage of the
// file asks one.
func (w *stageWork) needed() int { return max(1, w.step.Approvals) }

// ask says in the stage's record and log what is to be approved.
func (w *stageWork) ask(ctx context.Context, digest string, subjects map[string]string) error {
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		if err := w.log.Printf("  %-24s %s", subject, short(subjects[subject])); err != nil {
			return err
		}
	}
	question := w.step.Stage.Approve
	if question == "" {
		question = "change environment " + w.step.Environment
	}
	w.run.Result.Digest = digest
	return w.write(ctx, Waiting, fmt.Sprintf("for %d yes to: %s (digest %s); answer with: makeitso approve %s", w.needed(), question, short(digest), w.run.Run))
}

// answers waits until enough people have said yes to digest, and gives them.
func (w *stageWork) answers(ctx context.Context, digest string) (string, error) {
	stream := approvalStream(w.run.Run)
	for {
		last, err := w.engine.o.Store.Last(ctx, stream)
		if err != nil {
			return "", err
		}
		answers, err := w.engine.runs.approvalsOf(ctx, w.run.Run, w.run.ID)
		if err != nil {
			return "", err
		}
		var yes []string
		for _, a := range answers {
			if !a.Yes && a.Attempt == w.run.Attempt {
				return "", fault.New(fault.Denied, "rejected by %s", a.By).WithHint("change what is to be done and push again, or ask again with: makeitso retry %s", w.run.Run)
			}
			if a.Yes && a.Digest == digest {
				yes = append(yes, a.By)
			}
		}
		if len(yes) >= w.needed() {
			return fmt.Sprint(yes), nil
		}
		if err := w.engine.o.Store.Wait(ctx, stream, last); err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", err
		}
	}
}

func approvalStream(run string) string { return "approvals/" + run }

// Answer is a person's yes or no to a run that waits for approval.
type Answer struct {
	Run   string
	Stage string // "" means the one that waits
	// Digest, if not "", is what the person has seen; an answer to something
	// else is refused.
	Digest string
	By     string
	Yes    bool
}

// Approve gives an answer and returns the stage it was given to.
func (e *Engine) Approve(ctx context.Context, answer Answer) (StageRun, error) {
	s, err := e.waitingFor(ctx, answer)
	if err != nil {
		return StageRun{}, err
	}
	a := Approval{Run: s.Run, Stage: s.ID, By: answer.By, Yes: answer.Yes, Digest: s.Result.Digest, Attempt: s.Attempt, Time: e.o.Now().UTC()}
	if err := e.runs.putApproval(ctx, a); err != nil {
		return StageRun{}, err
	}
	word := map[bool]string{true: "APPROVED", false: "REJECTED"}[a.Yes]
	if err := e.emit(ctx, Event{Kind: "approval", Run: s.Run, Stage: s.ID, Environment: s.Environment, Subject: a.By, Status: word, Message: short(a.Digest)}); err != nil {
		return StageRun{}, err
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return StageRun{}, fmt.Errorf("encode approval: %w", err)
	}
	_, err = e.o.Store.Append(ctx, approvalStream(s.Run), raw)
	return s, err
}

// waitingFor gives the stage that waits for the answer.
func (e *Engine) waitingFor(ctx context.Context, answer Answer) (StageRun, error) {
	run, stages, err := e.Run(ctx, answer.Run)
	if err != nil {
		return StageRun{}, err
	}
	i := slices.IndexFunc(stages, func(s StageRun) bool {
		return (s.ID == answer.Stage || answer.Stage == "") && s.Status == Waiting && s.Result.Digest != ""
	})
	if i < 0 {
		return StageRun{}, fault.New(fault.Conflict, "run %s does not wait for an approval (it is %s)", run.ID, run.Status).WithHint("see: makeitso runs %s", run.ID)
	}
	s := stages[i]
	if answer.Digest != "" && answer.Digest != s.Result.Digest && answer.Digest != short(s.Result.Digest) {
		return StageRun{}, fault.New(fault.Conflict, "what would be done has changed: the digest is %s now, not %s", short(s.Result.Digest), answer.Digest).
			WithHint("look at it again (makeitso logs %s %s), then approve the new digest", run.ID, s.ID)
	}
	return s, nil
}

// subjects gives the digest of each thing that this environment's stages of
// the run will change, and what its stacks were planned with.
func (w *stageWork) subjects(ctx context.Context) (map[string]string, map[string]changeset.Joint, error) {
	subjects := map[string]string{}
	var stacks []string
	for _, step := range w.flow.run.Steps {
		if step.Environment != w.step.Environment {
			continue
		}
		for _, name := range step.Stage.Apply {
			if !slices.Contains(stacks, name) {
				stacks = append(stacks, name)
			}
		}
		if name := step.Stage.Release; name != "" {
			env, err := w.environment(ctx)
			if err != nil {
				return nil, nil, err
			}
			artifact, err := w.imageOf(ctx, env, name)
			if err != nil {
				return nil, nil, err
			}
			subject, digest := w.serviceDigest(name, artifact)
			subjects[subject] = digest
		}
		if name := step.Stage.Publish; name != "" {
			digest, err := folderDigest(filepath.Join(w.folder, w.project.Sites[name].From))
			if err != nil {
				return nil, nil, err
			}
			subjects[siteSubject(name)] = digest
		}
	}
	joint, err := w.stackSubjects(ctx, stacks, subjects)
	return subjects, joint, err
}

// stackSubjects adds the digests of the stacks' change sets, planned together,
// and writes the sets to the log, so that who approves can read them.
func (w *stageWork) stackSubjects(ctx context.Context, stacks []string, subjects map[string]string) (map[string]changeset.Joint, error) {
	if len(stacks) == 0 {
		return nil, nil
	}
	env, err := w.environment(ctx)
	if err != nil {
		return nil, err
	}
	sets, err := env.Stacks.PlanAll(ctx, stacks, w.wantedStacks(ctx, env))
	if err != nil {
		return nil, err
	}
	joint := map[string]changeset.Joint{}
	for _, cs := range sets {
		subjects[stackSubject(cs.Stack)], joint[cs.Stack] = cs.Digest, cs.Change.Joint
		if err := cs.WriteText(w.log); err != nil {
			return nil, err
		}
	}
	return joint, nil
}

// checkApprovedStack refuses a change set that is not what was approved. One
// that changes nothing needs no yes: it was applied before a restart.
func (w *stageWork) checkApprovedStack(cs *changeset.Set) error {
	if cs.Empty() {
		return nil
	}
	return w.checkApproved(stackSubject(cs.Stack), cs.Digest)
}

// serviceDigest gives the digest of a release as it is written: artifact and
// configuration before references are replaced, since the stacks they refer to
// are covered by their own digests.
func (w *stageWork) serviceDigest(name, artifact string) (subject, digest string) {
	raw, err := json.Marshal(struct {
		Artifact string
		Service  any
	}{artifact, w.project.Services[name]})
	if err != nil { // plain values of our own: it cannot fail
		panic(err)
	}
	sum := sha256.Sum256(raw)
	return "service " + name, hex.EncodeToString(sum[:])
}

// folderDigest gives the digest of a folder's files and their names.
func folderDigest(folder string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		// A link is followed, as publishing does.
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return errors.Join(err, fmt.Errorf("%s is not a regular file", path))
		}
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		content := sha256.New()
		_, err = io.Copy(content, file)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		fmt.Fprintf(h, "%x %q\n", content.Sum(nil), filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the files of the site: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digestOfSubjects(subjects map[string]string) string {
	h := sha256.New()
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		fmt.Fprintf(h, "%s %s\n", subject, subjects[subject])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// approvedResult gives the result of the approval for the stage's environment
// in this run, the zero Result if nothing had to be approved.
func (w *stageWork) approvedResult() Result {
	for _, i := range w.before(w.place) {
		if r := w.results[i]; r.Environment == w.step.Environment && r.Result.Approved != nil {
			return r.Result
		}
	}
	return Result{}
}

func (w *stageWork) approved() map[string]string { return w.approvedResult().Approved }

func (w *stageWork) approvedHere() bool { return w.approved() != nil }

// checkApproved refuses to change subject if its digest is not what was
// approved.
func (w *stageWork) checkApproved(subject, digest string) error {
	approved := w.approved()
	if approved == nil || approved[subject] == digest {
		return nil
	}
	return fault.New(fault.Conflict, "%s has moved since it was approved (%s then, %s now)", subject, short(approved[subject]), short(digest)).
		WithHint("start the pipeline again (makeitso run %s), so that the new state is shown and approved", w.flow.run.Pipeline)
}
