package recommender

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	window     = time.Hour // of which the largest memory counts
	leastCPU   = 0.005     // of a CPU
	leastBytes = 4 << 20
	moved      = 0.1         // a suggestion that moves by less isn't written
	checkpoint = time.Hour   // what was gathered is written as often, though nothing moves
	period     = time.Minute // between two looks
)

// gathered is what is known of one container.
type gathered struct {
	CPU      histogram            `json:"cpu"`
	Memory   histogram            `json:"memory"`
	Peaks    map[string]peak      `json:"peaks,omitempty"` // pod → of the window under way
	Killed   map[string]time.Time `json:"killed,omitempty"`
	Samples  int64                `json:"samples"`
	OOMKills int32                `json:"oomKills,omitempty"`
	Since    time.Time            `json:"since"`
}

type peak struct {
	Bytes float64   `json:"bytes"`
	From  time.Time `json:"from"`
}

// state is what is known of a workload, by its containers' names.
type state map[string]*gathered

// sample is what one container of one pod uses now.
type sample struct {
	pod, container string
	cpu, bytes     float64
}

// oomKill is one that was killed for want of memory.
type oomKill struct {
	pod, container string
	at             time.Time
	had            float64 // its limit, else its request, in bytes; 0: none
}

func (s state) of(container string, now time.Time) *gathered {
	g := s[container]
	if g == nil {
		g = &gathered{CPU: newHistogram(leastCPU, now), Memory: newHistogram(leastBytes, now), Peaks: map[string]peak{}, Killed: map[string]time.Time{}, Since: now.UTC().Truncate(time.Second)}
		s[container] = g
	}
	return g
}

// observe takes in what is used now, and who was killed.
func (s state) observe(samples []sample, kills []oomKill, now time.Time) {
	for _, x := range samples {
		g := s.of(x.container, now)
		g.Samples++
		g.CPU.add(x.cpu, now, 1)
		g.raise(x.pod, x.bytes, now)
	}
	for _, k := range kills {
		g := s.of(k.container, now)
		if last, ok := g.Killed[k.pod]; ok && !k.at.After(last) {
			continue
		}
		g.Killed[k.pod] = k.at.UTC()
		g.OOMKills++
		used := max(k.had, g.Peaks[k.pod].Bytes)
		g.raise(k.pod, max(used*1.2, used+100<<20), now)
	}
	for _, g := range s {
		for pod, p := range g.Peaks {
			if now.Sub(p.From) >= 2*window { // it has gone
				delete(g.Peaks, pod)
			}
		}
		for pod, at := range g.Killed {
			if now.Sub(at) >= 7*halfLife {
				delete(g.Killed, pod)
			}
		}
	}
}

// raise makes the peak of a pod's window at least that.
func (g *gathered) raise(pod string, bytes float64, now time.Time) {
	p, ok := g.Peaks[pod]
	switch {
	case !ok || now.Sub(p.From) >= window:
		p = peak{bytes, now.UTC().Truncate(time.Second)}
	case bytes <= p.Bytes:
		return
	default:
		g.Memory.add(p.Bytes, p.From, -1)
		p.Bytes = bytes
	}
	g.Memory.add(p.Bytes, p.From, 1)
	g.Peaks[pod] = p
}

// suggest says what the containers of a pod like that should request, in their order.
func (s state) suggest(pod *corev1.PodSpec) (out []api.ContainerRecommendation) {
	each := func(c *corev1.Container) {
		r := api.ContainerRecommendation{Name: c.Name}
		for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := c.Resources.Requests[n]; ok {
				if r.Now == nil {
					r.Now = corev1.ResourceList{}
				}
				r.Now[n] = q
			}
		}
		if g := s[c.Name]; g != nil && g.Samples+int64(g.OOMKills) > 0 {
			r.Samples, r.OOMKills, r.Since = g.Samples, g.OOMKills, metav1.NewTime(g.Since)
			r.Suggested = corev1.ResourceList{}
			if v := g.CPU.percentile(quantile); v > 0 {
				r.Suggested[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(math.Ceil(v*margin*1000)), resource.DecimalSI)
			}
			if v := g.Memory.percentile(quantile); v > 0 {
				mib := int64(math.Ceil(v * margin / (1 << 20)))
				r.Suggested[corev1.ResourceMemory] = *resource.NewQuantity(mib<<20, resource.BinarySI)
			}
		}
		out = append(out, r)
	}
	for i := range pod.InitContainers {
		if api.Sidecar(&pod.InitContainers[i]) {
			each(&pod.InitContainers[i])
		}
	}
	for i := range pod.Containers {
		each(&pod.Containers[i])
	}
	return out
}

// worth says whether what is suggested now is to be written over what was.
func worth(was, now []api.ContainerRecommendation) bool {
	if len(was) != len(now) {
		return true
	}
	for i := range now {
		a, b := &was[i], &now[i]
		if a.Name != b.Name || a.OOMKills != b.OOMKills || !same(a.Now, b.Now, 0) || !same(a.Suggested, b.Suggested, moved) {
			return true
		}
	}
	return false
}

// same says whether two lists differ by no more than a share.
func same(a, b corev1.ResourceList, share float64) bool {
	if len(a) != len(b) {
		return false
	}
	for n, x := range a {
		y, ok := b[n]
		if !ok || math.Abs(y.AsApproximateFloat64()-x.AsApproximateFloat64()) > share*x.AsApproximateFloat64() {
			return false
		}
	}
	return true
}

// save and load are the checkpoint. One that can't be read is as good as none.
func (s state) save() string {
	raw, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(raw)
}

func load(text string) state {
	s := state{}
	if json.Unmarshal([]byte(text), &s) != nil {
		return state{}
	}
	for name, g := range s {
		if g == nil || g.CPU.Least != leastCPU || g.Memory.Least != leastBytes {
			delete(s, name)
			continue
		}
		for _, h := range []*histogram{&g.CPU, &g.Memory} {
			if h.Weights == nil {
				h.Weights = map[int]float64{}
			}
		}
		if g.Peaks == nil {
			g.Peaks = map[string]peak{}
		}
		if g.Killed == nil {
			g.Killed = map[string]time.Time{}
		}
	}
	return s
}

// kills are those that the statuses of pods tell of.
func kills(pods []*corev1.Pod) (out []oomKill) {
	for _, p := range pods {
		for _, st := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			for _, t := range []*corev1.ContainerStateTerminated{st.State.Terminated, st.LastTerminationState.Terminated} {
				if t == nil || t.Reason != "OOMKilled" {
					continue
				}
				k := oomKill{pod: string(p.UID), container: st.Name, at: t.FinishedAt.Time}
				for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
					if c.Name == st.Name {
						q, ok := c.Resources.Limits[corev1.ResourceMemory]
						if !ok {
							q = c.Resources.Requests[corev1.ResourceMemory]
						}
						k.had = q.AsApproximateFloat64()
					}
				}
				out = append(out, k)
			}
		}
	}
	return out
}
