package runtime

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusPump writes one pod's status: the newest wins, in order, only when it changed, and not in the
// way of starting containers.
type statusPump struct {
	w      *worker
	notify chan struct{}

	mu    sync.Mutex
	next  *corev1.PodStatus
	sent  *corev1.PodStatus
	again bool
	idle  chan struct{} // closed while nothing is to be written
	busy  bool
}

func newStatusPump(w *worker) *statusPump {
	p := &statusPump{w: w, notify: make(chan struct{}, 1), idle: make(chan struct{})}
	close(p.idle)
	p.sent = w.desired.Status.DeepCopy()
	return p
}

func (p *statusPump) set(st *corev1.PodStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil && !p.again && equality.Semantic.DeepEqual(p.sent, st) {
		return
	}
	p.next = st
	p.poke()
}

// force writes the newest status although we wrote it before.
func (p *statusPump) force() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = true
	if p.next == nil {
		p.next = p.sent
	}
	p.poke()
}

func (p *statusPump) poke() {
	if !p.busy {
		p.busy = true
		p.idle = make(chan struct{})
	}
	select {
	case p.notify <- struct{}{}:
	default:
	}
}

// flush waits until the newest status is written, but no longer than limit.
func (p *statusPump) flush(ctx context.Context, limit time.Duration) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	case <-ctx.Done():
	}
}

func (p *statusPump) run(ctx context.Context) {
	pause := 100 * time.Millisecond
	for {
		p.mu.Lock()
		st := p.next
		if st == nil && p.busy {
			p.busy = false
			close(p.idle)
		}
		p.mu.Unlock()
		if st == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.notify:
			}
			continue
		}
		gone, err := p.write(ctx, st)
		p.mu.Lock()
		if gone || err == nil {
			p.sent, p.again = st, false
			if p.next == st {
				p.next = nil
			}
			pause = 100 * time.Millisecond
		}
		p.mu.Unlock()
		if err == nil || gone {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		p.w.log.Debug("write status", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-p.notify:
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// write updates the status, against the newest version when ours is stale.
func (p *statusPump) write(ctx context.Context, st *corev1.PodStatus) (gone bool, err error) {
	w := p.w
	pods := w.a.cfg.Client.CoreV1().Pods(w.namespace)
	w.mu.Lock()
	base, isGone := w.desired, w.gone
	w.mu.Unlock()
	if isGone {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for range 10 {
		obj := base.DeepCopy()
		obj.Status = mergeStatus(&base.Status, st)
		res, err := pods.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
		if err == nil {
			w.mu.Lock()
			w.writtenRV = res.ResourceVersion
			w.mu.Unlock()
			return false, nil
		}
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if !apierrors.IsConflict(err) {
			return false, err
		}
		if base, err = pods.Get(ctx, w.name, metav1.GetOptions{}); err != nil {
			return apierrors.IsNotFound(err), err
		}
		if base.UID != w.uid {
			return true, nil
		}
	}
	return false, context.DeadlineExceeded
}
