package podautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// sample is one pod's value of a metric, in thousandths.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// tolerances is how far from its target a metric may be without a change, as a share of 1.
type tolerances struct{ up, down float64 }

func (t tolerances) within(ratio float64) bool { return ratio >= 1-t.down && ratio <= 1+t.up }

// ripening is how long new pods' CPU use counts for nothing: they start up.
type ripening struct {
	cpuInitialization time.Duration // for so long after its start a pod that isn't ready is left out
	initialReadiness  time.Duration // a pod that turned unready this soon after its start has never been ready
}

// grouped are the pods of a target by what their metric is good for.
type grouped struct {
	counted map[string]sample // ready, with a sample
	unready map[string]bool
	missing map[string]bool // no sample
}

// group sorts pods. Those that end or have failed count nowhere.
func group(pods []*corev1.Pod, samples map[string]sample, resource corev1.ResourceName, r ripening, now time.Time) grouped {
	g := grouped{counted: map[string]sample{}, unready: map[string]bool{}, missing: map[string]bool{}}
	for _, p := range pods {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		s, there := samples[p.Name]
		switch {
		case p.Status.Phase == corev1.PodPending:
			g.unready[p.Name] = true
		case !there:
			g.missing[p.Name] = true
		case resource == corev1.ResourceCPU && unripe(p, s, r, now):
			g.unready[p.Name] = true
		default:
			g.counted[p.Name] = s
		}
	}
	return g
}

// unripe says whether a pod's CPU is that of its start: it isn't ready yet, or the sample is of a time when it wasn't.
func unripe(p *corev1.Pod, s sample, r ripening, now time.Time) bool {
	ready, since := reconcile.PodReady(p)
	if since.IsZero() || p.Status.StartTime == nil {
		return true
	}
	started := p.Status.StartTime.Time
	if now.Before(started.Add(r.cpuInitialization)) {
		return !ready || s.at.Before(since.Add(s.window))
	}
	return !ready && since.Before(started.Add(r.initialReadiness))
}

// A proposal is the size that one metric asks for, and what it read.
type proposal struct {
	replicas    int32
	utilization *int32 // percent of what is asked for
	average     *int64 // thousandths, per pod
	value       *int64 // thousandths
}

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")
)

// podTarget is what the pods of a target shall come to, in thousandths per pod, or, where requests are given, in percent of them.
type podTarget struct {
	resource corev1.ResourceName // "": a metric that isn't a resource's
	target   int64
	requests map[string]int64 // by pod, in thousandths; nil: target is a value
}

// ofPods proposes by a metric that each pod has.
func ofPods(pods []*corev1.Pod, samples map[string]sample, t podTarget, current int32, tol tolerances, r ripening, now time.Time) (proposal, error) {
	if len(pods) == 0 {
		return proposal{}, errNoPods
	}
	g := group(pods, samples, t.resource, r, now)
	if len(g.counted) == 0 {
		return proposal{}, errNoMetrics
	}
	values := make(map[string]int64, len(g.counted)+len(g.missing))
	for name, s := range g.counted {
		values[name] = s.value
	}
	out := proposal{replicas: current}
	ratio, average, utilization, err := t.ratio(values)
	if err != nil {
		return proposal{}, err
	}
	out.average, out.utilization = &average, utilization
	scalesUp := ratio > 1
	if len(g.missing) == 0 && (len(g.unready) == 0 || !scalesUp) {
		if !tol.within(ratio) {
			out.replicas = ceil(ratio * float64(len(values)))
		}
		return out, nil
	}
	// Be careful about pods of which nothing is known: they use nothing where there would be more of them, and just
	// what they should where there would be fewer. Those that start up count only against more.
	for name := range g.missing {
		switch {
		case scalesUp:
			values[name] = 0
		case t.requests == nil:
			values[name] = t.target
		default:
			values[name] = int64(float64(t.requests[name]) * float64(t.target) / 100)
		}
	}
	if scalesUp {
		for name := range g.unready {
			values[name] = 0
		}
	}
	careful, _, _, err := t.ratio(values)
	if err != nil {
		return proposal{}, err
	}
	if tol.within(careful) || scalesUp != (careful > 1) {
		return out, nil
	}
	n := ceil(careful * float64(len(values)))
	if scalesUp && n < current || !scalesUp && n > current {
		return out, nil
	}
	out.replicas = n
	return out, nil
}

// ratio is how far the mean of values is from the target.
func (t podTarget) ratio(values map[string]int64) (ratio float64, average int64, utilization *int32, err error) {
	var total, requested int64
	for name, v := range values {
		total += v
		requested += t.requests[name]
	}
	average = total / int64(len(values))
	if t.requests == nil {
		return float64(average) / float64(t.target), average, nil, nil
	}
	if requested == 0 {
		return 0, average, nil, errors.New("no metrics returned matched known pods")
	}
	percent := int32(min(float64(total)/float64(requested)*100+1e-9, math.MaxInt32))
	return float64(percent) / float64(t.target), average, &percent, nil
}

// ofValue proposes by a value that should come to target: an object's, or the sum of an external metric's.
func ofValue(value, target int64, ready int, current int32, tol tolerances) proposal {
	out := proposal{replicas: current, value: &value}
	ratio := float64(value) / float64(target)
	switch {
	case current == 0:
		out.replicas = ceil(ratio)
	case !tol.within(ratio):
		out.replicas = ceil(ratio * float64(ready))
	}
	return out
}

// ofShare proposes by a value that should come to target for each replica. running is how many there are.
func ofShare(value, target int64, running, current int32, tol tolerances) proposal {
	out := proposal{replicas: current}
	each := value
	if running > 0 {
		each = int64(math.Ceil(float64(value) / float64(running)))
	}
	out.average = &each
	if running == 0 || !tol.within(float64(value)/(float64(target)*float64(running))) {
		out.replicas = ceil(float64(value) / float64(target))
	}
	return out
}

// readyPods counts those that run and are ready.
func readyPods(pods []*corev1.Pod) (n int) {
	for _, p := range pods {
		if ready, _ := reconcile.PodReady(p); ready && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

// ceil rounds up what isn't whole; a billionth is the noise of the arithmetic.
func ceil(x float64) int32 {
	return int32(min(max(math.Ceil(x-1e-9), 0), math.MaxInt32))
}

// requestsOf are what each pod asks for of a resource, in thousandths: all its containers, or the one named.
func requestsOf(pods []*corev1.Pod, resource corev1.ResourceName, container string) (map[string]int64, error) {
	out := make(map[string]int64, len(pods))
	for _, p := range pods {
		containers := p.Spec.Containers
		for _, c := range p.Spec.InitContainers { // sidecars run beside the others
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				containers = append(containers[:len(containers):len(containers)], c)
			}
		}
		found := false
		for _, c := range containers {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[resource]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, p.Name)
			}
			out[p.Name] += q.MilliValue()
			found = true
		}
		if !found {
			return nil, fmt.Errorf("container %s not present in the spec of Pod %s", container, p.Name)
		}
	}
	return out, nil
}
