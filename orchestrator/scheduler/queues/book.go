package queues

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Patience is how long somebody waits for quota until others wait for it.
const Patience = 30 * time.Second

// Amounts are quantities by resource: cpu in thousandths, all others in units.
type Amounts map[corev1.ResourceName]int64

// AmountsOf converts.
func AmountsOf(r *framework.Resource) Amounts {
	a := Amounts{corev1.ResourceCPU: r.MilliCPU, corev1.ResourceMemory: r.Memory, corev1.ResourceEphemeralStorage: r.EphemeralStorage, corev1.ResourcePods: r.Pods}
	for name, n := range r.Scalar {
		a[name] = n
	}
	maps.DeleteFunc(a, func(_ corev1.ResourceName, n int64) bool { return n == 0 })
	return a
}

// AmountsOfList converts. Resources of which there are none are kept: a quota of 0 is a quota.
func AmountsOfList(list corev1.ResourceList) Amounts {
	a := Amounts{}
	for name, q := range list {
		if a[name] = q.Value(); name == corev1.ResourceCPU {
			a[name] = q.MilliValue()
		}
	}
	return a
}

// Add adds b times sign (1 or -1).
func (a Amounts) Add(b Amounts, sign int64) {
	for name, n := range b {
		a[name] += sign * n
	}
}

// Sum of what the pods request.
func Sum(pods []*framework.Pod) Amounts {
	a := Amounts{}
	for _, p := range pods {
		a.Add(AmountsOf(&p.Request), 1)
	}
	return a
}

// Spec is a queue.
type Spec struct {
	Name   string
	Cohort string // "": it lends and borrows nothing
	Weight int64  // of its share, at least 1
	// Nominal is its quota. A resource that it doesn't name isn't limited, lent or borrowed.
	Nominal Amounts
	// Limit is how much may be borrowed, where it's limited.
	Limit Amounts
}

// Book is who may use what, and does.
type Book struct {
	queues  map[string]*account
	cohorts map[string]*cohort
	holders map[string]*holder // by cohort, or by queue where it has none
}

type account struct {
	Spec
	used Amounts
}

// cohort is the sums of its queues.
type cohort struct {
	nominal, used Amounts
	queues        int
}

// NewBook returns an empty one.
func NewBook() *Book {
	return &Book{queues: map[string]*account{}, cohorts: map[string]*cohort{}, holders: map[string]*holder{}}
}

// Set adds or replaces a queue; what it uses stays.
func (b *Book) Set(s Spec) {
	used := Amounts{}
	if q := b.queues[s.Name]; q != nil {
		used = q.used
		b.Remove(s.Name)
	}
	s.Weight = max(1, s.Weight)
	q := &account{Spec: s, used: used}
	b.queues[s.Name] = q
	if s.Cohort == "" {
		return
	}
	c := b.cohorts[s.Cohort]
	if c == nil {
		c = &cohort{nominal: Amounts{}, used: Amounts{}}
		b.cohorts[s.Cohort] = c
	}
	c.queues++
	c.nominal.Add(s.Nominal, 1)
	c.used.Add(q.limited(used), 1)
}

// Remove forgets a queue.
func (b *Book) Remove(name string) {
	q := b.queues[name]
	if q == nil {
		return
	}
	delete(b.queues, name)
	for key, h := range b.holders {
		if h.queue == name {
			delete(b.holders, key)
		}
	}
	if c := b.cohorts[q.Cohort]; c != nil {
		c.nominal.Add(q.Nominal, -1)
		c.used.Add(q.limited(q.used), -1)
		if c.queues--; c.queues == 0 {
			delete(b.cohorts, q.Cohort)
		}
	}
}

// Has says whether there is a queue of that name.
func (b *Book) Has(name string) bool { return b.queues[name] != nil }

// Use records that a queue's pods use so much more (sign 1) or less (-1). Of a queue that isn't there nothing is recorded.
func (b *Book) Use(name string, a Amounts, sign int64) {
	q := b.queues[name]
	if q == nil {
		return
	}
	q.used.Add(a, sign)
	if c := b.cohorts[q.Cohort]; c != nil {
		c.used.Add(q.limited(a), sign)
	}
}

// Used is what a queue's pods use of the resources that it limits, and Borrowed what of it is above the quota.
func (b *Book) Used(name string) Amounts {
	if q := b.queues[name]; q != nil {
		return q.limited(q.used)
	}
	return nil
}

// Borrowed is how much of what is used is above the quota, of the resources where that is so.
func (b *Book) Borrowed(name string) Amounts {
	out := Amounts{}
	if q := b.queues[name]; q != nil {
		for r, n := range q.Nominal {
			if q.used[r] > n {
				out[r] = q.used[r] - n
			}
		}
	}
	return out
}

// limited is the part of a that the queue's quota is about.
func (q *account) limited(a Amounts) Amounts {
	out := Amounts{}
	for r := range q.Nominal {
		if n := a[r]; n != 0 {
			out[r] = n
		}
	}
	return out
}

// Share is the queue's dominant share: the largest part of any resource of its cohort's (or its own) quota that it uses, by its
// weight.
func (b *Book) Share(name string) (share float64) {
	q := b.queues[name]
	if q == nil {
		return 0
	}
	whole := q.Nominal
	if c := b.cohorts[q.Cohort]; c != nil {
		whole = c.nominal
	}
	for r := range q.Nominal {
		if used := q.used[r]; used > 0 {
			share = max(share, float64(used)/float64(max(1, whole[r])))
		}
	}
	return share / float64(q.Weight)
}

// Cohort is the cohort of a queue.
func (b *Book) Cohort(name string) string {
	if q := b.queues[name]; q != nil {
		return q.Cohort
	}
	return ""
}

// Next is whose turn it is: the queue of the least share; of equals the first by name.
func (b *Book) Next(names []string) (next string) {
	var least float64
	for _, name := range names {
		if share := b.Share(name); next == "" || share < least || share == least && name < next {
			next, least = name, share
		}
	}
	return next
}
