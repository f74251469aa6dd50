package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The targets for rollouts, besides no lost request.
const (
	maxFirstBad = time.Second            // from the first bad answer to the rollback
	maxReturn   = 100 * time.Millisecond // until the traffic is back
	maxBack     = 3 * time.Second        // until all is as before
)

// What happens under load, at least.
const (
	weightChanges = 50
	killed        = 20
	serversKilled = 10
	upgrades      = 2
	steadyRate    = 200 // requests a second
	rolloutRate   = 100
	rolloutRounds = 5
	takes         = 20 * time.Millisecond // an answer, at most
)

// rolledService fails as often as its environment says, and takes its time, so
// that requests are under way whatever happens.
const rolledService = `package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	failing, err := strconv.ParseFloat(os.Getenv("FAILING"), 64)
	if err != nil {
		panic(err)
	}
	takes, err := time.ParseDuration(os.Getenv("TAKES"))
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", os.Getenv("VERSION"))
		if r.URL.Path != "/healthz" {
			time.Sleep(rand.N(takes))
			if rand.Float64() < failing {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
		fmt.Fprintln(w, "answered")
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
`

const rolledProject = `project: bench
environments: {local: {platform: local}}
artifacts: {api: {image: {base: empty, binary: out/api}}}
services:
  api:
    artifact: api
    port: 8080
    health: /healthz
    instances: 4
    env: {FAILING: "%g", VERSION: "%d", TAKES: %s}
    rollout: {canary: [%s], watch: %s}
pipelines:
  api: {stages: [{image: api}, {release: api}]}
`

// rolled is a project whose service is released again and again.
type rolled struct {
	b       *bench
	dir     string
	serving *server
	edge    string // its address
	version int    // of the newest release
}

// rolloutsServed measures rollouts of real processes under steady load.
func (b *bench) rolloutsServed(ctx context.Context) (err error) {
	p := &rolled{b: b, dir: filepath.Join(b.folder, "rolled")}
	if err := p.begin(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, p.serving.stop(), command(context.WithoutCancel(ctx), p.dir, b.program, "destroy", "--yes")())
	}()
	if err := p.undisturbed(ctx); err != nil {
		return err
	}
	for _, c := range []struct {
		what          string
		live, failing float64
		most          int
		first         time.Duration // from the first bad answer on; 0 has no target
	}{
		{"canary that always fails", 0, 1, maxBadDead, maxFirstBad},
		{"0.1 %, canary +20 points", 0.001, 0.201, maxBadTwenty, 0},
	} {
		if _, err := p.release(ctx, c.live, "50%", "1ms"); err != nil {
			return err
		}
		var all []wentBack
		for range rolloutRounds {
			back, err := p.goesBack(ctx, c.failing)
			if err != nil {
				return err
			}
			all = append(all, back)
		}
		p.add(c.what, all, c.most, c.first)
	}
	return nil
}

// begin serves the project with its first release.
func (p *rolled) begin(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Join(p.dir, "out"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.dir, "api.go"), []byte(rolledService), 0o644); err != nil {
		return err
	}
	if err := command(ctx, p.dir, "env", "CGO_ENABLED=0", "go", "build", "-o", "out/api", "api.go")(); err != nil {
		return err
	}
	if err := p.write(0, "50%", "1ms"); err != nil {
		return err
	}
	if p.serving, err = p.b.serve(ctx, p.dir); err != nil {
		return err
	}
	if _, err := p.run(ctx); err != nil {
		return errors.Join(err, p.serving.stop())
	}
	status, err := p.status(ctx)
	p.edge = status.Server.Edge
	return err
}

// write makes the next version what makeitso.yaml says.
func (p *rolled) write(failing float64, canary, watch string) error {
	p.version++
	text := fmt.Sprintf(rolledProject, failing, p.version, takes, canary, watch)
	return os.WriteFile(filepath.Join(p.dir, "makeitso.yaml"), []byte(text), 0o644)
}

// said is a line of makeitso and when it came.
type said struct {
	text string
	at   time.Time
}

// release rolls the next version out.
func (p *rolled) release(ctx context.Context, failing float64, canary, watch string) ([]said, error) {
	if err := p.write(failing, canary, watch); err != nil {
		return nil, err
	}
	return p.run(ctx)
}

// run has makeitso roll out what makeitso.yaml says.
func (p *rolled) run(ctx context.Context) (lines []said, err error) {
	run := exec.CommandContext(ctx, p.b.program, "run", "api")
	run.Dir = p.dir
	out, err := run.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := run.Start(); err != nil {
		return nil, err
	}
	for in := bufio.NewScanner(out); in.Scan(); {
		lines = append(lines, said{in.Text(), time.Now()})
	}
	if err := run.Wait(); err != nil {
		var text strings.Builder
		for _, l := range lines {
			fmt.Fprintln(&text, l.text)
		}
		return lines, fmt.Errorf("makeitso run: %w\n%s", err, &text)
	}
	return lines, nil
}

// rolledStatus is what of makeitso status --json is needed here.
type rolledStatus struct {
	Server       struct{ Edge string }
	Environments []struct {
		Services []struct {
			Live      string
			Instances []struct {
				PID   int
				State string
			}
		}
	}
	Runs []struct{ ID string }
}

func (p *rolled) status(ctx context.Context) (s rolledStatus, err error) {
	get := exec.CommandContext(ctx, p.b.program, "status", "--json")
	get.Dir = p.dir
	out, err := get.Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// routed gives the processes that get requests.
func (s rolledStatus) routed() (pids []int) {
	for _, env := range s.Environments {
		for _, service := range env.Services {
			for _, i := range service.Instances {
				if i.State == "routed" {
					pids = append(pids, i.PID)
				}
			}
		}
	}
	return pids
}

// until waits for what status says of it only.
func (p *rolled) until(ctx context.Context, what string, is func(rolledStatus) bool) error {
	for deadline := time.Now().Add(2 * startTime); time.Now().Before(deadline); {
		s, err := p.status(ctx)
		if err != nil {
			return err
		}
		if is(s) {
			return nil
		}
	}
	return fmt.Errorf("it never came that %s", what)
}

// undisturbed counts what clients lose while everything is replaced under them.
func (p *rolled) undisturbed(ctx context.Context) error {
	any := []string{http.MethodGet, http.MethodPost}
	for _, c := range []struct {
		what    string
		least   int
		do      func(context.Context, int) (done int, err error)
		methods []string
	}{
		{"weights change", weightChanges, p.changeWeights, any},
		// What a killed instance did of a POST nobody knows: it is not repeated.
		{"instances are killed", killed, p.killInstances, any[:1]},
		{"makeitso is killed", serversKilled, p.killServers, any},
		{"the edge is upgraded", upgrades, p.upgradeEdges, any},
	} {
		load := p.demand(steadyRate, c.methods...)
		done, err := c.do(ctx, c.least)
		answers, took := load.end()
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		p.addLost(fmt.Sprintf("lost while %s %d times", c.what, done), answers, took, done >= c.least)
	}
	return nil
}

// addLost tells how many requests were lost, and of each kind of loss.
func (p *rolled) addLost(what string, answers []answer, took time.Duration, enough bool) {
	lost, again := 0, 0
	kinds := map[string]int{}
	for _, a := range answers {
		again += max(0, a.again)
		if why := a.lost(); why != "" {
			lost++
			kinds[why]++
		}
	}
	for why, n := range kinds {
		fmt.Fprintf(os.Stderr, "bench: %s: %d of %s\n", what, n, why)
	}
	rate := float64(len(answers)) / took.Seconds()
	p.b.add(row{
		what: "rollouts, " + what, figure: fmt.Sprintf("%d of %d requests, %.0f/s", lost, len(answers), rate),
		other:  fmt.Sprintf("%d sent again by the client", again),
		target: "0", met: lost == 0 && enough && rate > 0.99*steadyRate,
	})
}

// changeWeights rolls releases out until the weights were changed so often.
func (p *rolled) changeWeights(ctx context.Context, least int) (changes int, err error) {
	for changes < least {
		lines, err := p.release(ctx, 0, "5%, 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90%", "50ms")
		if err != nil {
			return changes, err
		}
		for _, l := range lines {
			if strings.Contains(l.text, "traffic: ") {
				changes++
			}
		}
	}
	return changes, nil
}

func (p *rolled) killInstances(ctx context.Context, times int) (done int, err error) {
	for ; done < times && err == nil; done++ {
		err = p.kill(ctx, done)
	}
	return done, err
}

// killServers kills makeitso, every other time in the midst of a rollout.
func (p *rolled) killServers(ctx context.Context, times int) (done int, err error) {
	for ; done < times && err == nil; done++ {
		err = p.killServer(ctx, done%2 == 1)
	}
	return done, err
}

func (p *rolled) upgradeEdges(ctx context.Context, times int) (done int, err error) {
	for ; done < times && err == nil; done++ {
		err = p.upgrade(ctx, done)
	}
	return done, err
}

// kill ends an instance, each time of another place, since what is lost again and
// again in one is started later each time, and waits for the next one there.
func (p *rolled) kill(ctx context.Context, n int) error {
	s, err := p.status(ctx)
	if err != nil {
		return err
	}
	before := s.routed()
	if len(before) == 0 {
		return errors.New("there is no instance to kill")
	}
	victim := before[n%len(before)]
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		return err
	}
	return p.until(ctx, "a killed instance is replaced", func(s rolledStatus) bool {
		now := s.routed()
		return len(now) == len(before) && !slices.Contains(now, victim)
	})
}

// killServer kills makeitso and begins it again, in a rollout or without one:
// then the edge and all instances must be those before.
func (p *rolled) killServer(ctx context.Context, rolling bool) (err error) {
	var run sync.WaitGroup
	defer run.Wait()
	edge, err := p.edgeProcess(ctx)
	if err != nil {
		return err
	}
	before, err := p.status(ctx)
	if err != nil {
		return err
	}
	if rolling {
		if err := p.write(0, "20%, 50%", "300ms"); err != nil {
			return err
		}
		run.Go(func() { _, _ = p.run(ctx) }) // its server goes: the next one does the rest
		if err := p.until(ctx, "a rollout has begun", func(s rolledStatus) bool { return len(s.Runs) > 0 }); err != nil {
			return err
		}
	}
	if err := p.serving.process.Process.Kill(); err != nil {
		return err
	}
	<-p.serving.ended
	if p.serving, err = p.b.serve(ctx, p.dir); err != nil {
		return err
	}
	if err := p.until(ctx, "the rollout has ended", func(s rolledStatus) bool { return len(s.Runs) == 0 && len(s.routed()) == 4 }); err != nil {
		return err
	}
	after, err := p.status(ctx)
	if err != nil {
		return err
	}
	now, err := p.edgeProcess(ctx)
	if err != nil {
		return err
	}
	if now != edge || !rolling && !slices.Equal(after.routed(), before.routed()) {
		return fmt.Errorf("killed makeitso had the edge %d and the instances %v; the next one has %d and %v", edge, before.routed(), now, after.routed())
	}
	return nil
}

// upgrade has makeitso be another program, whose edge takes over.
func (p *rolled) upgrade(ctx context.Context, n int) (err error) {
	before, err := p.edgeProcess(ctx)
	if err != nil {
		return err
	}
	next := p.b.program + "-next"
	if err := command(ctx, ".", "go", "build", "-ldflags", "-X main.built="+strconv.Itoa(n), "-buildvcs=false", "-o", next, source)(); err != nil {
		return err
	}
	if err := p.serving.stop(); err != nil {
		return err
	}
	if err := os.Rename(next, p.b.program); err != nil {
		return err
	}
	if p.serving, err = p.b.serve(ctx, p.dir); err != nil {
		return err
	}
	return p.until(ctx, "another edge has taken over", func(rolledStatus) bool {
		now, err := p.edgeProcess(ctx)
		return err == nil && now != before
	})
}

// edgeProcess asks the edge's socket who serves.
func (p *rolled) edgeProcess(ctx context.Context) (int, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(p.dir, ".makeitso", "edge", "edge.sock"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edge/stats", nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var s struct{ PID int }
	return s.PID, json.NewDecoder(res.Body).Decode(&s)
}

// wentBack is a rollout that did.
type wentBack struct {
	before   int           // bad answers of the canary until then
	all      int           // and until it got no more requests
	after    time.Duration // since the first
	returned time.Duration // from the verdict until the traffic was, and the canary's last answer
	done     time.Duration // from the verdict until all was as before
}

// verdict asks makeitso when the newest release turned round: the line that says
// it comes later.
func (p *rolled) verdict(ctx context.Context) (time.Time, error) {
	ask := exec.CommandContext(ctx, p.b.program, "why", "api", "--json")
	ask.Dir = p.dir
	out, err := ask.Output()
	if err != nil {
		return time.Time{}, err
	}
	var why struct{ Reports []struct{ Time time.Time } }
	if err := json.Unmarshal(out, &why); err != nil {
		return time.Time{}, err
	}
	if len(why.Reports) != 1 {
		return time.Time{}, fmt.Errorf("makeitso why gives %d reports", len(why.Reports))
	}
	return why.Reports[0].Time, nil
}

// goesBack releases a canary at 10 % that is to go back.
func (p *rolled) goesBack(ctx context.Context, failing float64) (w wentBack, err error) {
	load := p.demand(rolloutRate, http.MethodGet)
	lines, failed := p.release(ctx, failing, "10%", "60s")
	answers, _ := load.end()
	var shifted, done time.Time // the last ones
	for _, l := range lines {
		switch {
		case strings.Contains(l.text, "traffic: "):
			shifted = l.at
		case strings.Contains(l.text, "was rolled back") && done.IsZero():
			done = l.at
		}
	}
	if failed == nil || done.IsZero() {
		return w, errors.Join(fmt.Errorf("a canary of which %g fail was not rolled back", failing), failed)
	}
	verdict, err := p.verdict(ctx)
	if err != nil {
		return w, err
	}
	if verdict.Before(load.began) {
		return w, fmt.Errorf("makeitso why tells of what went back at %s, before the canary began", verdict)
	}
	slices.SortFunc(answers, func(a, b answer) int { return a.at.Compare(b.at) })
	var first time.Time
	w.returned = shifted.Sub(verdict)
	for _, a := range answers {
		if a.version != strconv.Itoa(p.version) {
			continue
		}
		w.returned = max(w.returned, a.at.Sub(verdict))
		if a.status < 500 {
			continue
		}
		if first.IsZero() {
			first = a.at
		}
		if w.all++; a.at.Before(verdict) {
			w.before++
		}
	}
	w.after, w.done = verdict.Sub(first), done.Sub(verdict)
	return w, nil
}

// add tells of rollouts that went back.
func (p *rolled) add(what string, all []wentBack, most int, first time.Duration) {
	var before, served []int
	var after, returned, done []time.Duration
	for _, w := range all {
		before, served = append(before, w.before), append(served, w.all)
		after, returned, done = append(after, w.after), append(returned, w.returned), append(done, w.done)
	}
	p.b.add(row{
		what: "rollouts, " + what, figure: fmt.Sprintf("median %d bad until it goes back, %d in all %v", median(before), median(served), served),
		target: fmt.Sprintf("≤ %d bad", most), met: median(before) <= most,
	})
	late := row{what: "  from the first bad answer until then", figure: fmt.Sprintf("median %s, at most %s", show(median(after)), show(slices.Max(after)))}
	if first > 0 {
		late.target, late.met = "≤ "+show(first), slices.Max(after) <= first
	}
	p.b.add(late)
	p.b.add(row{
		what: "  from then on, the traffic is back", figure: fmt.Sprintf("median %s, at most %s", show(median(returned)), show(slices.Max(returned))),
		target: "< " + show(maxReturn), met: slices.Max(returned) < maxReturn,
	})
	p.b.add(row{
		what: "  from then on, all is as before", figure: fmt.Sprintf("median %s, at most %s", show(median(done)), show(slices.Max(done))),
		target: "< " + show(maxBack), met: slices.Max(done) < maxBack,
	})
}
