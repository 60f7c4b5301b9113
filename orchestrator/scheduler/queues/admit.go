package queues

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Want is a pod or gang that asks for quota.
type Want struct {
	Queue    string
	Name     string // as people know it, unique
	Amounts  Amounts
	Priority int32
	Since    time.Time // since when it waits
}

// holder is who is waited for.
type holder struct {
	queue, name string
	priority    int32
	want        Amounts
}

// Denial says why there is no quota.
type Denial struct {
	Queue string
	// Never says that the queue could not hold it even if it were empty.
	Never bool
	// Own says that what is missing is within the queue's own quota and is lent to others.
	Own     bool
	Message string
}

// Error is "queue team-a: 40 of 40 cpu used, 2 wanted, cohort all has none to lend".
func (d *Denial) Error() string { return "queue " + d.Queue + ": " + d.Message }

// Admit says whether there is quota for it now; a queue that isn't there limits nothing. It changes nothing.
func (b *Book) Admit(w Want, now time.Time) *Denial {
	d := b.room(w)
	if d != nil {
		return d
	}
	h := b.holders[b.key(w.Queue)]
	if h == nil || h.name == w.Name && h.queue == w.Queue {
		return nil
	}
	switch {
	case h.queue == w.Queue && w.Priority <= h.priority:
		return &Denial{Queue: w.Queue, Message: h.name + " has waited longer"}
	case h.queue != w.Queue && b.borrows(w) && b.meets(h, w):
		return &Denial{Queue: w.Queue, Message: fmt.Sprintf("%s of queue %s has waited longer for what cohort %s has to lend", h.name, h.queue, b.Cohort(w.Queue))}
	}
	return nil
}

// meets says whether they want the same resource.
func (b *Book) meets(h *holder, w Want) bool {
	for r := range b.queues[w.Queue].limited(w.Amounts) {
		if h.want[r] > 0 {
			return true
		}
	}
	return false
}

// Waits records that it was denied. Once it has waited for Patience it's waited for, unless another one is already.
func (b *Book) Waits(w Want, d *Denial, now time.Time) {
	if d == nil || d.Never || now.Sub(w.Since) < Patience || b.queues[w.Queue] == nil {
		return
	}
	key := b.key(w.Queue)
	if h := b.holders[key]; h == nil || h.name == w.Name && h.queue == w.Queue {
		b.holders[key] = &holder{w.Queue, w.Name, w.Priority, w.Amounts}
	}
}

// Done ends the wait for somebody: it has its nodes, or is gone.
func (b *Book) Done(queue, name string) {
	key := b.key(queue)
	if h := b.holders[key]; h != nil && h.name == name && h.queue == queue {
		delete(b.holders, key)
	}
}

// Holder is who is waited for where the queue gets its quota, "" nobody.
func (b *Book) Holder(queue string) string {
	if h := b.holders[b.key(queue)]; h != nil {
		return h.name
	}
	return ""
}

// key is under which the queue's holder stands.
func (b *Book) key(queue string) string {
	if c := b.Cohort(queue); c != "" {
		return "cohort/" + c
	}
	return "queue/" + queue
}

// Within says whether a queue stays within its own quota with it.
func (b *Book) Within(w Want) bool { return b.queues[w.Queue] != nil && !b.borrows(w) }

func (b *Book) borrows(w Want) bool {
	q := b.queues[w.Queue]
	for r, n := range q.Nominal {
		if want := w.Amounts[r]; want > 0 && q.used[r]+want > n {
			return true
		}
	}
	return false
}

// room looks at quotas alone.
func (b *Book) room(w Want) *Denial {
	q := b.queues[w.Queue]
	if q == nil {
		return nil
	}
	c := b.cohorts[q.Cohort]
	var never, short []string
	own := true
	for _, r := range slices.Sorted(maps.Keys(q.Nominal)) {
		want := w.Amounts[r]
		if want <= 0 {
			continue
		}
		most, borrowing := q.Nominal[r], ""
		if c != nil {
			most = c.nominal[r]
			if limit, ok := q.Limit[r]; ok && q.Nominal[r]+limit < most {
				most = q.Nominal[r] + limit
				borrowing = fmt.Sprintf(" (it may borrow %s)", show(r, limit))
			}
		}
		if want > most {
			never = append(never, fmt.Sprintf("%s %s wanted, it can have %s at most", show(r, want), r, show(r, most)))
			continue
		}
		text := fmt.Sprintf("%s of %s %s used%s, %s wanted", show(r, q.used[r]), show(r, q.Nominal[r]), r, borrowing, show(r, want))
		switch {
		case q.used[r]+want > most && (c == nil || borrowing != ""):
			short, own = append(short, text), false
		case c != nil && c.used[r]+want > c.nominal[r]:
			left := "none"
			if n := c.nominal[r] - c.used[r]; n > 0 {
				left = show(r, n)
			}
			short = append(short, fmt.Sprintf("%s, cohort %s has %s to lend", text, q.Cohort, left))
			own = own && q.used[r]+want <= q.Nominal[r]
		}
	}
	switch {
	case never != nil:
		return &Denial{Queue: q.Name, Never: true, Message: strings.Join(never, "; ")}
	case short != nil:
		return &Denial{Queue: q.Name, Own: own, Message: strings.Join(short, "; ")}
	}
	return nil
}

func show(r corev1.ResourceName, n int64) string {
	q := Quantity(r, n)
	return q.String()
}

// Quantity is an amount as the API has it.
func Quantity(r corev1.ResourceName, n int64) resource.Quantity {
	switch r {
	case corev1.ResourceCPU:
		return *resource.NewMilliQuantity(n, resource.DecimalSI)
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return *resource.NewQuantity(n, resource.BinarySI)
	}
	return *resource.NewQuantity(n, resource.DecimalSI)
}
