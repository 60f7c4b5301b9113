package scheduler

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/queues"
)

// queuePlugin is the name under which a queue counts among what refused a pod.
const queuePlugin = "Queue"

// quotas is what the loop knows of Queues. Of what their pods use the state tells it, as it tells a plugin's ledger: also
// while victims and gangs are being tried. It belongs to the loop.
type quotas struct {
	book   *queues.Book
	queues map[string]*api.Queue
	of     map[string]string // the queue of each namespace
	known  map[string]labels.Set
	levels map[string]map[int32]int // of each queue how many pods of each priority have nodes
}

func newQuotas() *quotas {
	return &quotas{book: queues.NewBook(), queues: map[string]*api.Queue{}, of: map[string]string{}, known: map[string]labels.Set{},
		levels: map[string]map[int32]int{}}
}

// Name implements framework.Keeper.
func (q *quotas) Name() string { return queuePlugin }

// Prepare implements framework.Keeper: quotas are asked for before nodes are.
func (q *quotas) Prepare(*framework.Pod, *framework.State) framework.Prepared {
	return framework.Prepared{}
}

// NewLedger implements framework.Keeper.
func (q *quotas) NewLedger(string) framework.Ledger { return quotaLedger{q} }

type quotaLedger struct{ q *quotas }

func (quotaLedger) SetNode(*corev1.Node)           {}
func (l quotaLedger) AddPod(pod *framework.Pod)    { l.q.use(pod, 1) }
func (l quotaLedger) RemovePod(pod *framework.Pod) { l.q.use(pod, -1) }

func (q *quotas) use(pod *framework.Pod, sign int64) {
	if queue := q.of[pod.Namespace]; queue != "" {
		q.book.Use(queue, queues.AmountsOf(&pod.Request), sign)
		if q.levels[queue] == nil {
			q.levels[queue] = map[int32]int{}
		}
		if q.levels[queue][priority(pod)] += int(sign); q.levels[queue][priority(pod)] == 0 {
			delete(q.levels[queue], priority(pod))
		}
	}
}

// below says whether pods of the queue that are less important have nodes.
func (q *quotas) below(queue string, priority int32) bool {
	for level := range q.levels[queue] {
		if level < priority {
			return true
		}
	}
	return false
}

// owner is the queue of a namespace: one that names it, else one that selects it, else the one of its name; of several the first
// by name.
func (q *quotas) owner(namespace string, l labels.Set) (owner string) {
	best := 3
	for _, name := range slices.Sorted(maps.Keys(q.queues)) {
		s := &q.queues[name].Spec
		rank := 3
		switch {
		case slices.Contains(s.Namespaces, namespace):
			rank = 0
		case s.NamespaceSelector != nil:
			if selector, err := metav1.LabelSelectorAsSelector(s.NamespaceSelector); err == nil && selector.Matches(l) {
				rank = 1
			}
		case len(s.Namespaces) == 0 && name == namespace:
			rank = 2
		}
		if rank < best {
			best, owner = rank, name
		}
	}
	return owner
}

// assign finds the queue of every namespace anew, and counts what is used again where that has changed.
func (l *loop) assignQueues() {
	q := l.quotas
	of := map[string]string{}
	for namespace, set := range q.known {
		if owner := q.owner(namespace, set); owner != "" {
			of[namespace] = owner
		}
	}
	if maps.Equal(of, q.of) {
		return
	}
	book := queues.NewBook()
	for _, queue := range q.queues {
		book.Set(specOf(queue))
	}
	q.of, q.book, q.levels = of, book, map[string]map[int32]int{}
	l.state.EachPod(func(p *framework.Pod) { q.use(p, 1) })
}

func specOf(q *api.Queue) queues.Spec {
	return queues.Spec{Name: q.Name, Cohort: q.Spec.Cohort, Weight: int64(q.Spec.Weight),
		Nominal: queues.AmountsOfList(q.Spec.NominalQuota), Limit: queues.AmountsOfList(q.Spec.BorrowingLimit)}
}

// sawQueue and goneQueue tell of a Queue, sawNamespace and goneNamespace of a namespace.
func (l *loop) sawQueue(queue *api.Queue) {
	before := l.quotas.queues[queue.Name]
	l.quotas.queues[queue.Name] = queue
	if before != nil && apiequality.Semantic.DeepEqual(before.Spec, queue.Spec) {
		return // a status that we wrote
	}
	l.quotas.book.Set(specOf(queue))
	l.assignQueues()
	l.queue.wake(waitsForQuota)
}

func (l *loop) goneQueue(name string) {
	delete(l.quotas.queues, name)
	l.quotas.book.Remove(name)
	l.assignQueues()
	l.queue.wake(waitsForQuota)
}

func (l *loop) sawNamespace(name string, set labels.Set) {
	l.quotas.known[name] = set
	if len(l.quotas.queues) > 0 {
		l.assignQueues()
		l.queue.wake(waitsForQuota)
	}
}

func (l *loop) goneNamespace(name string) {
	delete(l.quotas.known, name)
	if l.quotas.of[name] != "" {
		l.assignQueues()
	}
}

func waitsForQuota(refused map[string]bool) bool { return refused[queuePlugin] }

// next is the pod whose turn it is: the queue's first, or, where that one belongs to a queue of a cohort, the first of the
// queue of that cohort that has the least share.
func (l *loop) next() *pending {
	p := l.queue.pop()
	if p == nil || len(l.quotas.of) == 0 {
		return p
	}
	cohort := l.quotas.book.Cohort(l.quotas.of[p.pod.Namespace])
	if cohort == "" {
		return p
	}
	heads := map[string]*pending{l.quotas.of[p.pod.Namespace]: p}
	order := activeHeap{nil, nil}
	for _, other := range l.queue.active {
		queue := l.quotas.of[other.pod.Namespace]
		if queue == "" || l.quotas.book.Cohort(queue) != cohort {
			continue
		}
		if order[0], order[1] = other, heads[queue]; order[1] == nil || order.Less(0, 1) {
			heads[queue] = other
		}
	}
	turn := heads[l.quotas.book.Next(slices.Collect(maps.Keys(heads)))]
	if turn != p {
		l.queue.take(turn)
		l.queue.giveBack(p)
	}
	return turn
}

// queueStatuses writes what the queues' pods use and wait for, where it has changed. It is called every second.
func (l *loop) queueStatuses() {
	if len(l.quotas.queues) == 0 {
		return
	}
	type count struct {
		admitted, pending int32
		wanted            queues.Amounts
	}
	counts := map[string]*count{}
	for name := range l.quotas.queues {
		counts[name] = &count{wanted: queues.Amounts{}}
	}
	for _, n := range l.state.Nodes() {
		for _, p := range n.Pods {
			if c := counts[l.quotas.of[p.Namespace]]; c != nil {
				c.admitted++
			}
		}
	}
	for uid, p := range l.queue.pods {
		if c := counts[l.quotas.of[p.pod.Namespace]]; c != nil && l.assumed[uid] == nil && l.state.NodeOf(uid) == "" {
			c.pending++
			c.wanted.Add(queues.AmountsOf(&p.pod.Request), 1)
		}
	}
	for name, queue := range l.quotas.queues {
		c := counts[name]
		maps.DeleteFunc(c.wanted, func(r corev1.ResourceName, _ int64) bool { _, limited := queue.Spec.NominalQuota[r]; return !limited })
		status := api.QueueStatus{ObservedGeneration: queue.Generation, AdmittedPods: c.admitted, PendingPods: c.pending,
			Admitted: listOf(l.quotas.book.Used(name)), Pending: listOf(c.wanted), Borrowed: listOf(l.quotas.book.Borrowed(name))}
		if apiequality.Semantic.DeepEqual(queue.Status, status) {
			continue
		}
		l.outbox.add(func(ctx context.Context) { l.writeQueueStatus(ctx, name, status) })
	}
}

func listOf(a queues.Amounts) corev1.ResourceList {
	var out corev1.ResourceList
	for r, n := range a {
		if n == 0 {
			continue
		}
		if out == nil {
			out = corev1.ResourceList{}
		}
		out[r] = queues.Quantity(r, n)
	}
	return out
}

func (l *loop) writeQueueStatus(ctx context.Context, name string, status api.QueueStatus) {
	current, err := l.cfg.Client.Get(ctx, queuesResource(), "", name)
	if err == nil {
		queue := current.DeepCopyObject().(*api.Queue)
		if apiequality.Semantic.DeepEqual(queue.Status, status) {
			return
		}
		queue.Status = status
		_, err = l.cfg.Client.Update(ctx, queuesResource(), "status", queue)
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		l.cfg.Logger.Warn("status was not written", "queue", name, "error", err)
	}
}

// everySecond does what is due without anything having happened.
func (l *loop) everySecond(now time.Time) {
	l.timedOut(now)
	l.queueStatuses()
}

// doneWaiting ends the wait for a single pod that is gone.
func (l *loop) doneWaiting(key string) {
	if queue := l.quotas.of[namespaceOf(key)]; queue != "" {
		l.quotaDone(queue, "pod "+key)
	}
}

// quotaDone ends the wait for somebody; those that waited for it are tried again.
func (l *loop) quotaDone(queue, name string) {
	if before := l.quotas.book.Holder(queue); before == "" {
		return
	}
	if l.quotas.book.Done(queue, name); l.quotas.book.Holder(queue) == "" {
		l.queue.wake(waitsForQuota)
	}
}

// quotaFreed has those tried again that may use what a pod of the namespace leaves.
func (l *loop) quotaFreed(namespace string) {
	if l.quotas.of[namespace] != "" {
		l.queue.wake(waitsForQuota)
	}
}
