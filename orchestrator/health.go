package orchestrator

import (
	"fmt"
	"sync"

	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

// leadingParts are the parts that a member runs while it leads, for /readyz: by name, with the channel that is closed
// once the part is ready.
type leadingParts struct {
	mu    sync.Mutex // guards the others
	ready map[string]<-chan struct{}
	sched *scheduler.Scheduler
}

func (l *leadingParts) set(ready map[string]<-chan struct{}, sched *scheduler.Scheduler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready, l.sched = ready, sched
}

// scheduler is the one that runs; nil while this member doesn't lead.
func (l *leadingParts) scheduler() *scheduler.Scheduler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sched
}

func (l *leadingParts) get(part string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready[part]
}

// health is what /readyz says of this member's parts: the store, and, while it leads, what only the leader runs.
func (p *parts) health() []apiserver.HealthCheck {
	store := apiserver.HealthCheck{Name: "store"}
	leader, _ := p.store.Leader()
	select {
	case <-p.store.Ready():
		if err := p.store.Err(); err != nil {
			store.Problem = err.Error()
		} else if p.store.LeaderID() == "" {
			store.Problem = "no leader is known: a majority of the members must reach each other"
		}
	default:
		store.Problem = "not ready: it has not found the other members or still reads its data"
	}
	checks := []apiserver.HealthCheck{store}
	if !leader.Leading {
		return checks
	}
	for _, part := range []string{"scheduler", "controllers"} {
		check := apiserver.HealthCheck{Name: part}
		ready := p.leading.get(part)
		select {
		case <-ready: // nil while they are not there yet
		default:
			check.Problem = fmt.Sprintf("not ready: this member leads since term %d and they are starting", leader.Term)
		}
		checks = append(checks, check)
	}
	return checks
}
