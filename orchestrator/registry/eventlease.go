package registry

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// leases let Events end by themselves. Events of the same span of time share a lease, so that there are
// few of them whatever the number of Events.
type leases struct {
	mu    sync.Mutex // guards what follows; held while a lease is granted
	id    int64
	until time.Time // when the next lease is due
}

// eventLeaseShare is the part of the time to live in which Events share a lease: they may live longer
// by that much.
const eventLeaseShare = 12

func (l *leases) current(ctx context.Context, r *Registry) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := r.clock.Now()
	if l.id != 0 && now.Before(l.until) {
		return l.id, nil
	}
	share := r.cfg.EventTTL / eventLeaseShare
	id, err := r.cfg.Store.Grant(ctx, r.cfg.EventTTL+share)
	if err != nil {
		return 0, err
	}
	l.id, l.until = id, now.Add(share)
	return id, nil
}

// forget has the next write grant a lease anew, after one that was gone before its time: the store's
// clock need not be ours.
func (l *leases) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = 0
}

func eventsGVR() schema.GroupVersionResource { return corev1.SchemeGroupVersion.WithResource("events") }
