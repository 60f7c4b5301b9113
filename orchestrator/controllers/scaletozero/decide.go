package scaletozero

import (
	"fmt"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
)

// The annotations and labels that this controller reads; netproxy/services and netproxy/standby name some of them, too.
const (
	AnnotationAfter  = "pintle.dev/scale-to-zero-after"  // of a Service: "5m"
	AnnotationTarget = "pintle.dev/scale-target"         // of a Service: "deployment/web"
	AnnotationBefore = "pintle.dev/replicas-before-zero" // of a workload
	labelService     = "pintle.dev/standby-service"      // of a Lease
	annotationHeld   = "pintle.dev/held"                 // of a Lease
	heldFor          = 90 * time.Second                  // a Lease that says that something waits is renewed more often
	lookAgain        = 30 * time.Second
)

// parseAfter is the time of AnnotationAfter; 0: there is none.
func parseAfter(annotations map[string]string) (time.Duration, error) {
	text, ok := annotations[AnnotationAfter]
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("annotation %s: %q is no duration, such as 5m", AnnotationAfter, text)
	}
	if d < time.Second {
		return 0, fmt.Errorf("annotation %s: %s is less than a second", AnnotationAfter, d)
	}
	return d, nil
}

// use is what the Leases of a Service say together.
type use struct {
	last time.Time // when it was last used; zero: never
	held int       // how many wait
	node string    // one where some do
}

func useOf(leases []*coordinationv1.Lease, now time.Time) (u use) {
	for _, l := range leases {
		if l.Spec.RenewTime == nil {
			continue
		}
		at := l.Spec.RenewTime.Time
		if at.After(u.last) {
			u.last = at
		}
		held, err := strconv.Atoi(l.Annotations[annotationHeld])
		if err != nil || held <= 0 || now.Sub(at) > heldFor { // its node has gone
			continue
		}
		u.held += held
		if l.Spec.HolderIdentity != nil {
			u.node = *l.Spec.HolderIdentity
		}
	}
	return u
}

// front is one Service before the workload.
type front struct {
	service *corev1.Service
	after   time.Duration
	use     use
}

// slack is how much later than it happens a node may tell of use: netproxy/standby tells a quarter of the time.
func (f *front) slack() time.Duration {
	return min(max(f.after/4, time.Second), lookAgain) + time.Second
}

// verdict is the number of replicas to set, why, and when to look again.
type verdict struct {
	change   bool
	replicas int32
	reason   string
	message  string
	again    time.Duration
}

// decide says how many replicas a workload is to have that has some now, and had before when it was scaled to zero (0:
// nobody knows), for all Services before it that may be scaled to zero. since is from when on this controller has seen
// the workload with pods, and the Services as they are: use of before may not have been told.
func decide(target string, replicas, before int32, fronts []front, since, now time.Time) verdict {
	if replicas == 0 {
		for i := range fronts {
			if u := &fronts[i].use; u.held > 0 {
				n := max(before, 1)
				return verdict{change: true, replicas: n, reason: "ScaledFromZero", again: lookAgain,
					message: fmt.Sprintf("Scaled up %s from 0 to %d: %d wait on node %s for a pod", target, n, u.held, u.node)}
			}
		}
		return verdict{}
	}
	left := time.Duration(0)
	for i := range fronts {
		f := &fronts[i]
		last := since
		if f.use.last.After(last) {
			last = f.use.last
		}
		left = max(left, f.after+f.slack()-now.Sub(last))
		if f.use.held > 0 { // pods are on their way
			left = max(left, f.after)
		}
	}
	if left > 0 {
		return verdict{again: min(left, lookAgain)}
	}
	return verdict{change: true, reason: "ScaledToZero", message: fmt.Sprintf("Scaled down %s from %d to 0: no connection or request for %s", target, replicas, fronts[0].after)}
}
