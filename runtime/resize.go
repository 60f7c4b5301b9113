package runtime

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sizing is how large a pod's containers are on the node. What the pod's spec asks for is given when the node has room
// (reviewResizes), and then made so, container by container (actuate). The given sizes are in the pod's status, from
// which the next agent takes them.
type sizing struct {
	given      sizes // guarded by worker.mu; nil: the pod isn't admitted, and will get what its spec says
	generation int64 // guarded by worker.mu: of the spec that was given last
	since      time.Time
	verdict    resizeVerdict // guarded by worker.mu: why the spec's aren't given

	// The worker's goroutine alone uses the rest.
	real    map[string]corev1.ResourceRequirements // container ID → what it runs with
	box     Resources                              // what the sandbox has
	stopped map[string]bool                        // container IDs that were stopped to be started with another size
	said    string                                 // the verdict that an event told
	active  bool                                   // a resize has started and isn't complete
	problem string                                 // what keeps it from being complete
}

// give gives the pod sizes, and its sandbox box, when it is admitted or found again.
func (w *worker) give(s sizes, box Resources) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size.given, w.size.box = s, box
}

// sized is the pod as the node has given it its sizes, once it has tried to give it those of its spec.
func (w *worker) sized(pod *corev1.Pod) *corev1.Pod {
	w.mu.Lock()
	given := w.size.given
	w.mu.Unlock()
	if given == nil {
		return pod
	}
	over := pod.DeletionTimestamp != nil || final(&pod.Status)
	if given.same(pod) || over {
		w.mu.Lock()
		w.size.verdict, w.size.since = resizeVerdict{}, time.Time{}
		w.mu.Unlock()
		w.size.said = ""
		return given.on(pod)
	}
	w.mu.Lock()
	if w.size.since.IsZero() {
		w.size.since = w.a.cfg.Clock()
	}
	w.mu.Unlock()
	w.a.reviewResizes()
	w.mu.Lock()
	given, v := w.size.given, w.size.verdict
	w.mu.Unlock()
	if key := fmt.Sprint(pod.Generation, v.reason); v.reason != "" && w.size.said != key {
		w.size.said = key
		w.event(pod, corev1.EventTypeWarning, "Resize"+v.reason, resizeNote(v.reason, pod, v.message))
	}
	return given.on(pod)
}

// asGiven is the pod as it counts against the node.
func (w *worker) asGiven() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size.given == nil {
		return w.desired
	}
	return w.size.given.on(w.desired)
}

// reviewResizes decides on the resizes of all pods, in their order, again whenever one that is granted gives something
// back. Workers whose resize was granted are woken.
func (a *Agent) reviewResizes() {
	a.resizing.Lock() // one review at a time: what is granted is counted in the next
	defer a.resizing.Unlock()
	a.mu.Lock()
	alloc := a.alloc
	a.mu.Unlock()
	used := corev1.ResourceList{}
	waiting := map[*resizeRequest]*worker{}
	var order []*resizeRequest
	for _, w := range a.allWorkers() {
		has := w.asGiven()
		w.mu.Lock()
		pod, since, engine, admitted := w.desired, w.size.since, w.engine, w.sandboxed
		over := final(&pod.Status) || w.status != nil && final(w.status)
		w.mu.Unlock()
		if !admitted || over {
			continue
		}
		count(used, podRequests(has), 1)
		if since.IsZero() || pod.DeletionTimestamp != nil {
			continue
		}
		r := &resizeRequest{pod: pod, has: has, since: since}
		if _, can := engine.(Resizer); !can && engine != nil {
			r.fixed = engine.Name()
		}
		waiting[r], order = w, append(order, r)
	}
	slices.SortFunc(order, resizeOrder)
	for again := true; again; {
		again = false
		for _, r := range order {
			w := waiting[r]
			if w == nil {
				continue
			}
			others := used.DeepCopy()
			count(others, podRequests(r.has), -1)
			v := judgeResize(r, alloc, others, a.pins != nil)
			w.mu.Lock()
			w.size.verdict = v
			if v.reason == "" {
				w.size.given, w.size.generation, w.size.since = sizesOf(r.pod), r.pod.Generation, time.Time{}
			}
			w.mu.Unlock()
			if v.reason == "" {
				again = true
				waiting[r] = nil
				used = others
				count(used, podRequests(r.pod), 1)
				w.wake()
			}
		}
	}
}

// retryResizes reviews them where some wait: something was given back.
func (a *Agent) retryResizes() {
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		waits := !w.size.since.IsZero()
		w.mu.Unlock()
		if waits {
			a.reviewResizes()
			return
		}
	}
}

func final(st *corev1.PodStatus) bool {
	return st.Phase == corev1.PodFailed || st.Phase == corev1.PodSucceeded
}

func count(to, l corev1.ResourceList, sign int) {
	for n, q := range l {
		sum := to[n]
		if sign > 0 {
			sum.Add(q)
		} else {
			sum.Sub(q)
		}
		to[n] = sum
	}
}

// actuate brings what runs to the sizes that the pod, which is as given, has: the sandbox first where it grows, and
// last where it shrinks. Containers that need a restart are named in s, and start with their new size.
func (w *worker) actuate(ctx context.Context, pod *corev1.Pod, s *snapshot) {
	if w.sandbox == nil || !w.admitted || pod.DeletionTimestamp != nil {
		return
	}
	can, _ := w.engine.(Resizer)
	now := sizesOf(pod) // as they are
	type change struct {
		c    *corev1.Container
		id   string
		from corev1.ResourceRequirements
	}
	var changes []change
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			c := &l[i]
			last := s.containers[c.Name].last
			if last == nil || last.State != Running {
				if last != nil && last.State == Exited && w.size.stopped[last.ID] {
					s.resized[c.Name] = true
				}
				continue
			}
			from, ok := w.size.real[last.ID]
			if !ok { // an agent of before started it
				from = statusSizes(pod)[c.Name]
				w.size.real[last.ID] = from
			}
			if len(resized(from, c.Resources)) == 0 {
				continue
			}
			now[c.Name] = from
			if restartsFor(c, from) {
				s.resized[c.Name] = true
				w.size.stopped[last.ID] = true
				continue
			}
			changes = append(changes, change{c, last.ID, from})
		}
	}
	target := podResources(pod)
	pending := len(changes) > 0 || len(s.resized) > 0
	if !pending && reflect.DeepEqual(w.size.box, target) {
		w.resizeDone(pod)
		return
	}
	if pending && !w.size.active {
		w.size.active = true
		w.event(pod, corev1.EventTypeNormal, "ResizeStarted", resizeNote("started", pod, ""))
	}
	var errs []error
	boxed := func(r Resources) {
		if can == nil || reflect.DeepEqual(w.size.box, r) {
			w.size.box = r
			return
		}
		if err := can.ResizeSandbox(ctx, string(w.uid), r); err != nil {
			errs = append(errs, err)
			return
		}
		w.size.box = r
	}
	boxed(wider(podResources(now.on(pod)), target))
	for _, x := range changes {
		if len(errs) > 0 {
			break
		}
		if err := w.fits(ctx, x.c, x.id, x.from); err != nil {
			errs = append(errs, err)
			continue
		}
		if can != nil {
			if err := can.ResizeContainer(ctx, x.id, containerResources(pod, x.c, w.a.memory())); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		w.size.real[x.id] = x.c.Resources
	}
	if len(errs) == 0 && len(s.resized) == 0 {
		boxed(target)
	}
	if err := errors.Join(errs...); err != nil {
		if ctx.Err() == nil && w.size.problem != err.Error() {
			w.size.problem = err.Error()
			w.event(pod, corev1.EventTypeWarning, "ResizeError", resizeNote("error", pod, w.size.problem))
		}
		return
	}
	w.size.problem = ""
	if len(s.resized) == 0 {
		w.resizeDone(pod)
	}
}

func (w *worker) resizeDone(pod *corev1.Pod) {
	w.size.problem = ""
	if w.size.active {
		w.size.active = false
		w.event(pod, corev1.EventTypeNormal, "ResizeCompleted", resizeNote("completed", pod, ""))
		w.a.retryResizes()
	}
}

// fits refuses a memory limit below what a container uses now: the kernel would kill it.
func (w *worker) fits(ctx context.Context, c *corev1.Container, id string, from corev1.ResourceRequirements) error {
	limit, had := c.Resources.Limits[corev1.ResourceMemory], from.Limits[corev1.ResourceMemory]
	if limit.IsZero() || !had.IsZero() && limit.Cmp(had) >= 0 {
		return nil
	}
	st, err := w.engine.Stats(ctx, id)
	if err != nil {
		return fmt.Errorf("read what container %s uses: %w", c.Name, err)
	}
	if st.MemoryBytes > uint64(limit.Value()) {
		return fmt.Errorf("attempting to set container %q memory limit (%d) below its current usage (%d)", c.Name, limit.Value(), st.MemoryBytes)
	}
	return nil
}

// resizeStatus is what a pod's status says of its resizes.
type resizeStatus struct {
	verdict    resizeVerdict
	active     bool
	problem    string
	generation int64                                  // of the spec that is being made so
	real       map[string]corev1.ResourceRequirements // container ID → what it runs with
}

func (w *worker) resizeStatus() resizeStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return resizeStatus{w.size.verdict, w.size.active, w.size.problem, w.size.generation, w.size.real}
}

// resizeConditions says in the status what waits and what is under way.
func resizeConditions(in *statusInput, st *corev1.PodStatus) {
	set := func(t corev1.PodConditionType, is bool, reason, message string, generation int64) {
		i := slices.IndexFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
		if !is {
			if i >= 0 {
				st.Conditions = slices.Delete(st.Conditions, i, i+1)
			}
			return
		}
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
			LastTransitionTime: metav1.NewTime(in.now).Rfc3339Copy()}
		if i < 0 {
			st.Conditions = append(st.Conditions, c)
			return
		}
		if o := st.Conditions[i]; o.Status == c.Status && o.Reason == c.Reason {
			c.LastTransitionTime, c.LastProbeTime = o.LastTransitionTime, o.LastProbeTime
		}
		st.Conditions[i] = c
	}
	r, over := &in.resize, in.plan.done
	set(corev1.PodResizePending, !over && r.verdict.reason != "", r.verdict.reason, r.verdict.message, in.pod.Generation)
	reason := ""
	if r.problem != "" {
		reason = corev1.PodReasonError
	}
	set(corev1.PodResizeInProgress, !over && r.active, reason, r.problem, r.generation)
}
