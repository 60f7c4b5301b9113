package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// worker is one pod's state machine: its goroutine observes, decides and acts until the pod is gone.
// Fields below mu are shared with hooks, probes, kills and the handler; the others belong to the goroutine.
type worker struct {
	a               *Agent
	uid             types.UID
	namespace, name string
	log             *slog.Logger
	notify          chan struct{}

	engine    Engine
	sandbox   *Sandbox
	looked    bool // the engine was asked for an earlier sandbox
	admitted  bool
	adopted   bool // containers ran before this agent
	volumes   *volumes
	provided  persistentVolumes
	refreshAt time.Time
	claimed   bool // Claim was asked and said yes
	backoff   map[string]backoff
	retry     map[string]time.Time
	pause     map[string]time.Duration
	waiting   map[string]corev1.ContainerStateWaiting
	images    map[string]string
	limited   map[string]bool // containers to start, by ID, whose devices' memory is limited
	messages  map[string]string
	refused   *refusal
	started   time.Time
	settled   bool // the final status was computed: nothing changes it any more
	said      map[string]time.Time
	reported  bool // ready once, for the start-up histogram
	panics    int
	size      sizing
	endTurn   func() // ends this pod's turn to start; nil: it has none

	mu        sync.Mutex
	desired   *corev1.Pod
	gone      bool
	abandoned bool
	probers   map[string]*prober // by container name
	stopping  map[string]bool    // container ID
	postStart map[string]bool    // container ID
	killing   bool
	killed    bool
	waiters   chan struct{} // closed at the next wake
	live      map[string]Container
	status    *corev1.PodStatus // last computed
	writtenRV string
	box       *Sandbox // as sandbox, for others than the worker's goroutine
	sandboxed bool     // the pod was admitted and counts against the node
	devices   bool     // it has devices

	pump *statusPump
	wg   sync.WaitGroup
}

func newWorker(a *Agent, pod *corev1.Pod) *worker {
	w := &worker{a: a, uid: pod.UID, namespace: pod.Namespace, name: pod.Name, desired: pod,
		log:    a.log.With("pod", pod.Namespace+"/"+pod.Name, "uid", string(pod.UID)),
		notify: make(chan struct{}, 1), backoff: map[string]backoff{}, retry: map[string]time.Time{},
		pause: map[string]time.Duration{}, waiting: map[string]corev1.ContainerStateWaiting{}, images: map[string]string{},
		limited: map[string]bool{}, messages: map[string]string{}, said: map[string]time.Time{}, started: a.cfg.Clock(), probers: map[string]*prober{},
		stopping: map[string]bool{}, postStart: map[string]bool{},
		size: sizing{real: map[string]corev1.ResourceRequirements{}, stopped: map[string]bool{}}, waiters: make(chan struct{}), live: map[string]Container{},
		devices: a.cfg.Devices != nil} // until it is over, for an agent of before may have claimed some
	w.pump = newStatusPump(w)
	w.provided.w = w
	return w
}

// orphanWorker ends a sandbox whose pod vanished while no agent ran.
func orphanWorker(a *Agent, e Engine, s Sandbox) *worker {
	grace, err := strconv.ParseInt(s.Labels[labelGrace], 10, 64)
	if err != nil {
		grace = 30
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(s.ID), Name: s.Name, Namespace: s.Namespace},
		Spec: corev1.PodSpec{NodeName: a.cfg.NodeName, TerminationGracePeriodSeconds: &grace}}
	w := newWorker(a, pod)
	w.engine, w.sandbox, w.looked, w.gone = e, &s, true, true
	return w
}

func (w *worker) wake() {
	w.mu.Lock()
	close(w.waiters)
	w.waiters = make(chan struct{})
	w.mu.Unlock()
	select {
	case w.notify <- struct{}{}:
	default:
	}
}

// changed returns a channel that closes at the next wake.
func (w *worker) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiters
}

func (w *worker) setDesired(pod *corev1.Pod) {
	w.mu.Lock()
	w.desired = pod
	// Somebody else wrote our status (node lifecycle marks pods unready): ours is written again.
	if w.status != nil && newer(pod.ResourceVersion, w.writtenRV) && ready(&pod.Status) != ready(w.status) {
		w.pump.force()
	}
	w.mu.Unlock()
	w.wake()
}

func newer(a, b string) bool {
	x, err1 := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err1 == nil && err2 == nil && x > y
}

func ready(st *corev1.PodStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (w *worker) setGone() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.wake()
}

func (w *worker) isGone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

func (w *worker) abandon() {
	w.mu.Lock()
	w.abandoned = true
	w.mu.Unlock()
	w.wake()
}

func (w *worker) pod() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.desired
}

func (w *worker) run(parent context.Context) {
	ctx, cancel := context.WithCancel(parent)
	defer w.wg.Wait()
	defer cancel()
	defer w.pass()
	w.wg.Go(func() { w.pump.run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		done, next := w.safeStep(ctx)
		if done || ctx.Err() != nil {
			return
		}
		if next == 0 {
			continue
		}
		w.pass()
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-w.notify:
		case <-timer.C:
		}
	}
}

func (w *worker) safeStep(ctx context.Context) (done bool, next time.Duration) {
	defer func() {
		if r := recover(); r != nil {
			w.panics++
			w.log.Error("panic in pod worker", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			done, next = false, min(time.Second<<min(w.panics, 6), time.Minute)
		}
	}()
	return w.step(ctx)
}

// idle is the longest that a pod goes unobserved; exits are events, so this is only a safety net.
const idle = 15 * time.Second

// step moves the pod one step on. It returns whether the worker is finished, and else when to look again.
func (w *worker) step(ctx context.Context) (bool, time.Duration) {
	w.mu.Lock()
	pod, gone, abandoned := w.desired, w.gone, w.abandoned
	if w.status != nil {
		pod = pod.DeepCopy()
		pod.Status = mergeStatus(&pod.Status, w.status)
	}
	w.mu.Unlock()
	if abandoned {
		return true, 0
	}
	if gone && pod.DeletionTimestamp == nil {
		pod = pod.DeepCopy()
		now := metav1.NewTime(w.a.cfg.Clock())
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, pod.Spec.TerminationGracePeriodSeconds
	}
	if err := w.attachEngine(ctx, pod); err != nil {
		if pod.DeletionTimestamp != nil {
			return w.finish(ctx, pod)
		}
		w.event(pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
		return false, w.fail("", time.Second)
	}
	pod = w.sized(pod)
	containers, err := w.observe(ctx)
	if err != nil {
		w.log.Debug("observe", "error", err)
		return false, 500 * time.Millisecond
	}
	s := w.snapshot(pod, containers)
	w.actuate(ctx, pod, s)
	w.syncProbers(ctx, s)
	p := decide(s)
	if !p.done && !w.claimDevices(ctx, pod) {
		if w.refused == nil {
			return false, 200 * time.Millisecond
		}
		s.refused = w.refused
		p = decide(s)
	}
	p = w.judgeDevices(pod, s, p)
	if final := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded; !w.settled && !(final && w.sandbox == nil) {
		w.report(s, p)
	}
	if s.killed || p.done && !anyAlive(s) && w.sandbox == nil {
		if p.done {
			return w.finish(ctx, pod)
		}
	}
	again := false
	for _, act := range p.actions {
		if ctx.Err() != nil {
			return false, time.Second
		}
		again = w.act(ctx, pod, s, act) || again
	}
	if again {
		return false, 0
	}
	if d := w.refresh(ctx, pod, p); d > 0 {
		p.wakeAt(s.now.Add(d))
	}
	next := idle
	if !p.wake.IsZero() {
		next = min(next, max(p.wake.Sub(w.a.cfg.Clock()), 10*time.Millisecond))
	}
	return false, next
}

// fail postpones the next try for a container ("" for the pod) and returns the pause.
func (w *worker) fail(name string, first time.Duration) time.Duration {
	d := w.pause[name]
	if d == 0 {
		d = first
	} else {
		d = min(2*d, 15*time.Second)
	}
	w.pause[name] = d
	w.retry[name] = w.a.cfg.Clock().Add(d)
	return d
}

func (w *worker) succeed(name string) {
	delete(w.pause, name)
	delete(w.retry, name)
	delete(w.waiting, name)
}

// act does one thing and reports whether to observe and decide again at once.
func (w *worker) act(ctx context.Context, pod *corev1.Pod, s *snapshot, act action) bool {
	w.log.Debug("act", "action", act.kind.String(), "container", act.id, "message", act.message)
	switch act.kind {
	case actCreateSandbox:
		return w.turn(ctx) && w.createSandbox(ctx, pod)
	case actRemoveSandbox:
		w.event(pod, corev1.EventTypeNormal, "SandboxChanged", act.message)
		if err := w.engine.RemoveSandbox(ctx, string(w.uid)); err != nil {
			w.log.Warn("remove sandbox", "error", err)
			w.fail("", time.Second)
			return false
		}
		w.sandbox = nil
		return true
	case actStart, actRestart:
		if act.kind == actRestart {
			b := nextBackoff(w.backoff[act.container.Name], s.now)
			if !w.startContainer(ctx, pod, act) {
				return false
			}
			w.backoff[act.container.Name] = b
			w.a.metrics.restarted()
			return true
		}
		return w.turn(ctx) && w.startContainer(ctx, pod, act)
	case actStop:
		c := s.containers[act.container.Name].last
		w.mu.Lock()
		w.stopping[c.ID] = true
		w.mu.Unlock()
		w.eventFor(pod, act.container.Name, corev1.EventTypeNormal, "Killing", act.message)
		grace := w.grace(pod)
		if pr := w.prober(act.container.Name); pr != nil {
			if g := pr.grace(); g != nil {
				grace = time.Duration(*g) * time.Second
			}
		}
		ctr := *c
		spec := act.container
		w.wg.Go(func() {
			end := time.Now().Add(grace)
			w.killContainer(ctx, pod, spec, ctr, func() time.Time { return end })
			w.wake()
		})
		return false
	case actKillPod:
		w.startKill(ctx, pod, s)
		return false
	case actBackOff:
		key := "backoff/" + act.container.Name
		if t := w.said[key]; s.now.Sub(t) > 10*time.Second {
			w.said[key] = s.now
			w.eventFor(pod, act.container.Name, corev1.EventTypeWarning, "BackOff",
				fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", act.container.Name, pod.Name, pod.Namespace, pod.UID))
		}
	}
	return false
}

// turn waits until this pod may start, and reports whether it still is to. It ends when the worker waits for anything.
func (w *worker) turn(ctx context.Context) bool {
	if w.endTurn == nil {
		w.endTurn = w.a.turns.take(ctx, w.changed, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.gone || w.abandoned || w.desired.DeletionTimestamp != nil
		})
	}
	return w.endTurn != nil
}

func (w *worker) pass() {
	if w.endTurn != nil {
		w.endTurn()
		w.endTurn = nil
	}
}

func (w *worker) event(pod *corev1.Pod, kind, reason, message string) {
	w.a.events.emit(pod, "", kind, reason, message)
}

func (w *worker) eventFor(pod *corev1.Pod, container, kind, reason, message string) {
	path := "spec.containers{" + container + "}"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			path = "spec.initContainers{" + container + "}"
		}
	}
	w.a.events.emit(pod, path, kind, reason, message)
}

func (w *worker) grace(pod *corev1.Pod) time.Duration {
	g := int64(30)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		g = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		g = *pod.DeletionGracePeriodSeconds
	}
	return time.Duration(max(g, 1)) * time.Second
}

// refresh brings volumes up to date with their objects, and returns when to do so again.
func (w *worker) refresh(ctx context.Context, pod *corev1.Pod, p plan) time.Duration {
	now := w.a.cfg.Clock()
	if w.volumes == nil && w.adopted && !p.done && w.sandbox != nil && provided(pod) {
		// The pod runs; its drivers are to know again of what they have published.
		if !w.mount(ctx, pod) {
			delete(w.retry, "")
			return w.a.cfg.RefreshInterval
		}
	}
	if w.volumes == nil || p.done || !w.volumes.changeable() && !limitsStorage(pod) && !w.provided.renewed() {
		return 0
	}
	if w.refreshAt.IsZero() {
		w.refreshAt = now.Add(w.a.cfg.RefreshInterval)
	}
	if !now.Before(w.refreshAt) {
		w.provided.renew(ctx, pod)
		if err := w.volumes.setUp(ctx, pod); err != nil {
			w.event(pod, corev1.EventTypeWarning, "FailedMount", err.Error())
		}
		r := w.volumes.overLimit(pod)
		if r == nil {
			r = w.overStorage(ctx, pod)
		}
		if r != nil {
			w.refused = r
			w.event(pod, corev1.EventTypeWarning, "Evicted", r.message)
			w.wake()
		}
		i := w.a.cfg.RefreshInterval
		w.refreshAt = now.Add(i + time.Duration(rand.Int64N(int64(i)/5+1)))
	}
	return w.refreshAt.Sub(now)
}
