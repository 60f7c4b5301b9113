package kubescheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Codes of a framework.Status.
const (
	success = iota
	failure
	unschedulable
	unresolvable // unschedulable, and preemption won't help
	wait
	skip
	pending
)

func refuses(code int32) bool {
	return code == unschedulable || code == unresolvable || code == pending
}

// single is how many nodes are asked about in one cycle, just as the guest's own runtime does. Where there are more,
// the guest's cycle begins anew after each chunk of them: the SDK looks a node up by walking a list of all that the
// cycle has named before, and keeps them all, so that one cycle over n nodes costs n². A chunk is also one call, as
// limits count them.
const (
	single = 100
	chunk  = 32
)

// evaluator is one policy. It is safe for concurrent use.
type evaluator struct {
	adapter *Adapter
	policy  string
	config  []byte
	has     map[string]bool
	pool    *guest.Pool
	single  int  // see the constant
	later   bool // the module takes part in what comes after Place

	mu     sync.Mutex
	recent map[string]*known // by the pod's uid
	order  []string          // oldest first
	nodes  map[string][]byte // that guests asked for in Place, for the hooks after it
}

// known is what later hooks of a pod are told of its placing.
type known struct {
	pod      []byte // as protobuf
	statuses []byte // JSON: node name to status code
	first    string // candidate
}

const maxRecent = 256

func (e *evaluator) remember(uid string, k *known) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recent == nil {
		e.recent = map[string]*known{}
	}
	if _, ok := e.recent[uid]; !ok {
		if e.order = append(e.order, uid); len(e.order) > maxRecent {
			delete(e.recent, e.order[0])
			e.order = e.order[1:]
		}
	}
	e.recent[uid] = k
}

func (e *evaluator) recall(pod *abi.Pod) *known {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := e.recent[pod.UID]; k != nil {
		return k
	}
	return &known{pod: encodePod(pod)}
}

// keepNode keeps a node for the hooks that come after Place, if the module has any.
func (e *evaluator) keepNode(name string, node []byte, all int) {
	if !e.later {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.nodes == nil || len(e.nodes) > 2*all+1000 { // nodes that are gone
		e.nodes = map[string][]byte{}
	}
	e.nodes[name] = node
}

func (e *evaluator) keptNode(name string) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.nodes[name]
}

// Close ends the policy once its calls have ended, or ctx has.
func (e *evaluator) Close(ctx context.Context) error { return e.pool.Close(ctx) }

// Hooks are those that the module has extension points for.
func (e *evaluator) Hooks() []string {
	var hooks []string
	for _, h := range []struct {
		name   string
		points []string
	}{
		{"Place", []string{"prefilter", "filter", "prescore", "score"}},
		{"Permit", []string{"reserve", "permit", "prebind", "bind", "postbind"}},
		{"PostFilter", []string{"postfilter"}},
	} {
		if slices.ContainsFunc(h.points, func(p string) bool { return e.has[p] }) {
			hooks = append(hooks, h.name)
		}
	}
	return hooks
}

// placing is one Place over all its cycles. Cycles read it; Place alone writes.
type placing struct {
	*abi.Placement
	known    *known
	list     []byte // all nodes as a NodeList, once asked for
	filtered []byte // the names of those that passed, as JSON
	images   map[string]image
	events   map[Event]bool
	codes    []int32 // by candidate, of filter
	ended    int     // where the last cycle's piece ended
}

// Place runs prefilter and filter over the candidates, and prescore, score and normalizescore over those that pass.
func (e *evaluator) Place(ctx context.Context, p *abi.Placement) (spent abi.Spent, err error) {
	p.Reset()
	k := &known{}
	if p.PodObject != nil {
		if k.pod, err = p.PodObject(); err != nil {
			return spent, err
		}
	} else {
		k.pod = encodePod(p.Pod)
	}
	run := &placing{Placement: p, known: k, events: map[Event]bool{}, codes: make([]int32, len(p.Rows))}
	if len(p.Rows) <= e.single {
		err = e.do(ctx, run, &spent, e.all)
	} else if err = e.filterAll(ctx, run, &spent); err == nil {
		err = e.scoreAll(ctx, run, &spent)
	}
	if err != nil {
		return spent, err
	}
	if e.has["postfilter"] {
		k.statuses = run.statusMap()
	}
	if len(p.Rows) > 0 {
		k.first = p.Nodes.Name(p.Rows[0])
	}
	if e.later {
		e.remember(p.Pod.UID, k)
	}
	return spent, nil
}

// do runs one cycle, or a part of one, on an instance.
func (e *evaluator) do(ctx context.Context, run *placing, spent *abi.Spent, fn func(ctx context.Context, in *guest.Instance, c *cycle) error) error {
	used, err := e.pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		c := in.State.(*cycle)
		c.begin(run, run.known)
		defer c.begin(nil, nil)
		return fn(ctx, in, c)
	})
	add(spent, used)
	return err
}

func add(to *abi.Spent, s abi.Spent) {
	to.Time += s.Time
	to.Fuel += s.Fuel
	to.Memory = max(to.Memory, s.Memory)
}

// maxReasons bounds the reasons of one placing: a guest may have one of its own for each node.
const maxReasons = 50

// reason finds or adds a reason, and returns the verdict for it; otherwise is for a guest that gives none.
func (run *placing) reason(text, otherwise string) uint32 {
	i := slices.Index(run.Reasons, text)
	if text == "" || i < 0 && len(run.Reasons) >= maxReasons {
		text = otherwise
		i = slices.Index(run.Reasons, text)
	}
	if i < 0 {
		i = len(run.Reasons)
		run.Reasons = append(run.Reasons, text)
	}
	return uint32(i + 1)
}

// cycles runs fn over pieces of n nodes, each in a cycle of its own; fn says where its piece ended.
func (e *evaluator) cycles(ctx context.Context, run *placing, spent *abi.Spent, n int, fn func(ctx context.Context, in *guest.Instance, c *cycle, from int) (to int, err error)) error {
	for from := 0; from < n; {
		err := e.do(ctx, run, spent, func(ctx context.Context, in *guest.Instance, c *cycle) error {
			to, err := fn(ctx, in, c, from)
			if err == nil {
				run.ended = to
			}
			return err
		})
		if err != nil {
			return err
		}
		from = run.ended
	}
	return nil
}

// filterAll runs prefilter and filter over all candidates, in cycles of their own.
func (e *evaluator) filterAll(ctx context.Context, run *placing, spent *abi.Spent) error {
	if !e.has["prefilter"] && !e.has["filter"] {
		return nil
	}
	return e.cycles(ctx, run, spent, len(run.Rows), func(ctx context.Context, in *guest.Instance, c *cycle, from int) (int, error) {
		more, err := c.prefilter(ctx, in)
		if err != nil || !more {
			return len(run.Rows), err
		}
		to := min(from+chunk, len(run.Rows))
		return to, c.filter(ctx, in, from, to)
	})
}

func statusError(point string, code int32, reason string) error {
	if reason == "" {
		return fmt.Errorf("%s answers with status %d", point, code)
	}
	return fmt.Errorf("%s answers with status %d: %s", point, code, reason)
}

// passed are the candidates that no verdict stands against.
func (run *placing) passed() []int {
	passed := []int{}
	for i, v := range run.Verdicts {
		if v == 0 {
			passed = append(passed, i)
		}
	}
	return passed
}

// scoreAll runs prescore, score and normalizescore over those that passed, in cycles of their own. Filter is asked
// again about the nodes of a cycle, for what it keeps for score; its answer is known.
func (e *evaluator) scoreAll(ctx context.Context, run *placing, spent *abi.Spent) error {
	passed := run.passed()
	if !e.has["score"] || len(passed) == 0 {
		return nil
	}
	scores := make([]int32, len(passed))
	err := e.cycles(ctx, run, spent, len(passed), func(ctx context.Context, in *guest.Instance, c *cycle, from int) (int, error) {
		c.passed, c.scores = passed, scores
		to := min(from+chunk, len(passed))
		more, err := c.prefilter(ctx, in)
		if err != nil {
			return 0, err
		}
		for _, at := range passed[from:to] {
			if !more {
				break
			}
			if _, err := c.ask(ctx, in, "filter", at); err != nil {
				return 0, err
			}
		}
		if more, err = c.prescore(ctx, in); err != nil || !more {
			return len(passed), err
		}
		if c.readFiltered { // then a cycle costs n² at its very beginning: no other one
			to = len(passed)
		}
		if err := c.score(ctx, in, from, to); err != nil || to < len(passed) {
			return to, err
		}
		return to, c.normalize(ctx, in)
	})
	if err == nil {
		run.setScores(passed, scores)
	}
	return err
}

func (run *placing) setScores(passed []int, scores []int32) {
	for i, at := range passed {
		run.Scores[at] = min(max(scores[i], 0), 100)
	}
}

// all runs a whole scheduling cycle.
func (e *evaluator) all(ctx context.Context, in *guest.Instance, c *cycle) error {
	run := c.run
	more, err := c.prefilter(ctx, in)
	if err != nil {
		return err
	}
	if more {
		if err := c.filter(ctx, in, 0, len(run.Rows)); err != nil {
			return err
		}
	}
	c.passed = run.passed()
	if !e.has["score"] || len(c.passed) == 0 {
		return nil
	}
	c.scores = make([]int32, len(c.passed))
	if more, err := c.prescore(ctx, in); err != nil || !more {
		return err
	}
	if err := c.score(ctx, in, 0, len(c.passed)); err != nil {
		return err
	}
	if err := c.normalize(ctx, in); err != nil {
		return err
	}
	run.setScores(c.passed, c.scores)
	return nil
}
