package scheduler

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/policies/abi"
)

// longestWait is how long a pod may wait to be permitted, whatever the policy says; kube-scheduler has the same.
const longestWait = 15 * time.Minute

// waitingPod has a node, whose room it takes, and isn't bound until every policy that holds it back has let it go.
type waitingPod struct {
	pending *pending
	to      Decision
	since   time.Time
	until   time.Time
	holders map[string]bool
}

// permitError says which policy refused a pod that had a node.
type permitError struct{ policy, reason string }

func (e *permitError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("pod rejected by policy %s", e.policy)
	}
	return fmt.Sprintf("pod rejected by policy %s: %s", e.policy, e.reason)
}

// permit asks the policies whether a pod that has been given its node in the state may be bound now. held says that it
// waits. An error refuses it.
func (l *loop) permit(ctx context.Context, p *pending, to Decision) (held bool, err error) {
	pod := p.pod
	if !l.policies.has(pod.Pod, hookPermit) {
		return false, nil
	}
	now := l.cfg.Clock.Now()
	w := &waitingPod{pending: p, to: to, since: now, until: now.Add(longestWait), holders: map[string]bool{}}
	for _, policy := range l.policies.policy.Permitters(pod.Spec.SchedulerName) {
		req := &abi.PermitRequest{Pod: policyPod(pod), Node: to.Node, Waiting: l.waitingFor(policy)}
		resp, err := l.policies.policy.Permit(ctx, policy, req)
		if err != nil {
			return false, &permitError{policy, err.Error()}
		}
		for _, uid := range resp.Reject {
			l.expel(types.UID(uid), policy, resp.Reason)
		}
		for _, uid := range resp.Allow {
			if !l.letGo(ctx, types.UID(uid), policy) {
				return true, nil // ctx has ended
			}
		}
		switch resp.Decision {
		case abi.Allow:
		case abi.Wait:
			w.holders[policy] = true
			if wait := time.Duration(resp.TimeoutMs) * time.Millisecond; wait > 0 && wait < w.until.Sub(now) {
				w.until = now.Add(wait)
			}
		default:
			return false, &permitError{policy, resp.Reason}
		}
	}
	if len(w.holders) == 0 {
		return false, nil
	}
	l.waiting[pod.UID] = w
	return true, nil
}

// waitingFor are the pods that one policy holds back, in the order in which they came.
func (l *loop) waitingFor(policy string) (out []abi.Waiting) {
	for _, w := range l.waiting {
		if w.holders[policy] {
			out = append(out, abi.Waiting{Pod: policyPod(w.pending.pod), Node: w.to.Node, SinceUnixMs: w.since.UnixMilli()})
		}
	}
	slices.SortFunc(out, func(a, b abi.Waiting) int {
		if a.SinceUnixMs != b.SinceUnixMs {
			return int(max(-1, min(1, a.SinceUnixMs-b.SinceUnixMs)))
		}
		return strings.Compare(a.Pod.UID, b.Pod.UID)
	})
	return out
}

// letGo tells that a policy no longer holds a pod back: the last one has it bound. false: ctx has ended.
func (l *loop) letGo(ctx context.Context, uid types.UID, policy string) bool {
	w := l.waiting[uid]
	if w == nil || !w.holders[policy] {
		return true
	}
	if delete(w.holders, policy); len(w.holders) > 0 {
		return true
	}
	delete(l.waiting, uid)
	return l.bind(ctx, w.pending, w.to)
}

// expel refuses a pod that waits.
func (l *loop) expel(uid types.UID, policy, reason string) {
	if w := l.waiting[uid]; w != nil && w.holders[policy] {
		delete(l.waiting, uid)
		l.denied(w.pending, &permitError{policy, reason})
	}
}

// denied takes a pod from its node and parks it.
func (l *loop) denied(p *pending, err error) {
	delete(l.assumed, p.pod.UID)
	node := l.state.NodeOf(p.pod.UID)
	l.state.RemovePod(p.pod.UID)
	l.queue.park(p, l.cfg.Clock.Now(), map[string]bool{policyPlugin: true})
	l.left(p.pod, node) // its room is free
	p.woken = false
	l.send(report{pod: p.pod.Pod, err: err})
}

// expire refuses the pods that have waited too long, and says when the next will have; 0: none waits.
func (l *loop) expire(now time.Time) (next time.Duration) {
	for uid, w := range l.waiting {
		left := w.until.Sub(now)
		if left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		names := make([]string, 0, len(w.holders))
		for name := range w.holders {
			names = append(names, name)
		}
		slices.Sort(names)
		delete(l.waiting, uid)
		l.denied(w.pending, &permitError{strings.Join(names, ","), fmt.Sprintf("it waited %v to be permitted", w.until.Sub(w.since))})
	}
	return next
}

// takes says whether pods of a profile are placed here.
func (l *loop) takes(profile string) bool {
	return l.decider.profiles[profile] != nil || l.policies != nil && l.policies.policy.Has(profile, "")
}

// queueKey is a pod's place in the queue, before its priority.
func (l *loop) queueKey(ctx context.Context, pod *framework.Pod) int64 {
	if !l.policies.has(pod.Pod, hookQueueSort) {
		return 0
	}
	return l.policies.policy.QueueKey(ctx, policyPod(pod))
}

// policyChanges is closed when the policies are others than they were; nil without any.
func (l *loop) policyChanges() <-chan struct{} {
	if l.policies == nil {
		return nil
	}
	if l.changed == nil {
		l.changed = l.policies.policy.Changed()
	}
	return l.changed
}

// policiesChanged looks again at everything that policies decide. false: ctx has ended.
func (l *loop) policiesChanged(ctx context.Context) bool {
	l.changed = l.policies.policy.Changed()
	l.queue.wake(func(refused map[string]bool) bool { return refused[policyPlugin] })
	for uid, w := range l.waiting {
		permitters := l.policies.policy.Permitters(w.pending.pod.Spec.SchedulerName)
		for policy := range w.holders {
			if !slices.Contains(permitters, policy) && !l.letGo(ctx, uid, policy) {
				return false
			}
		}
	}
	for _, p := range l.queue.pods {
		p.key = l.queueKey(ctx, p.pod)
	}
	heap.Init(&l.queue.active)
	for uid, pod := range l.foreign {
		if l.takes(pod.Spec.SchedulerName) {
			delete(l.foreign, uid)
			l.setPod(ctx, pod)
		}
	}
	for uid, p := range l.queue.pods {
		if !l.takes(p.pod.Spec.SchedulerName) && l.assumed[uid] == nil {
			l.queue.remove(uid)
			l.foreign[uid] = p.pod.Pod
		}
	}
	return true
}

// postFilter tells the policies that a pod fits nowhere; what they say to that goes into the pod's event. nominate is
// the node that it shall wait for, if it is one.
func (l *loop) postFilter(ctx context.Context, pod *framework.Pod, fit *FitError) (nominate string) {
	if !l.policies.has(pod.Pod, hookPostFilter) {
		return ""
	}
	req := &abi.PostFilterRequest{Pod: policyPod(pod)}
	for _, reason := range fit.byCount() {
		req.Reasons = append(req.Reasons, abi.Count{Reason: reason, Nodes: uint32(fit.Reasons[reason])})
	}
	resp := l.policies.policy.PostFilter(ctx, req)
	fit.Policy = resp.Message
	if n := l.state.Node(resp.Nominate); resp.Nominate == "" || n == nil || n.Node == nil {
		return ""
	}
	return resp.Nominate
}

// arrived has pods that a policy refused tried again when another one comes, for which it may have waited.
func (l *loop) arrived(pod *corev1.Pod) {
	if l.policies.has(pod, hookPermit) && l.queue.pods[pod.UID] == nil {
		l.queue.wake(func(refused map[string]bool) bool { return refused[policyPlugin] })
	}
}

// forgotten drops what is kept of a pod that has its node, has ended or is gone.
func (l *loop) forgotten(uid types.UID) {
	delete(l.waiting, uid)
	delete(l.foreign, uid)
}

// foreignPod keeps a pod of a profile that nobody serves here, in case a policy comes to name it.
func (l *loop) foreignPod(pod *corev1.Pod) {
	if l.policies != nil && !l.takes(pod.Spec.SchedulerName) && pod.DeletionTimestamp == nil {
		l.foreign[pod.UID] = pod
	}
}
