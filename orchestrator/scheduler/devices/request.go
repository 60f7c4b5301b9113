package devices

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	helpers "k8s.io/component-helpers/resource"

	"github.com/pintle/pintle/gpu/topology"
)

// productLabel is the node label by which pods choose a model.
const productLabel = "nvidia.com/gpu.product"

// Counts says whether this package decides about a resource, so that nobody else needs to count it.
func Counts(name corev1.ResourceName) bool {
	switch name {
	case topology.GPUResource, topology.ShareResource, topology.MemoryResource:
		return true
	}
	return strings.HasPrefix(string(name), topology.MIGPrefix)
}

// Request is what a pod asks for of GPUs, by container. It doesn't change once made.
type Request struct {
	main []want // containers, and init containers that go on running
	init []want // init containers that end before main ones start; they may have the same devices
	soft bool
	bad  string // why no node can give it; "": one may

	// counted is what the pod takes of each resource where devices are counted only, by Kubernetes' rule.
	counted map[corev1.ResourceName]int64

	// Class is what the pod asks for as policies see it.
	Class topology.PodClass
}

// want is what one container asks for.
type want struct {
	container string
	when      phase
	whole     int
	mig       []mig
	part      topology.Share // of one GPU; Milli 0: by memory alone
}

type mig struct {
	profile string // as the resource has it: 1g.10gb, 1g.10gb.me
	n       int
}

func (w *want) nothing() bool { return w.whole == 0 && len(w.mig) == 0 && w.part == topology.Share{} }

// Empty says that the pod asks for no GPU of any kind.
func (r *Request) Empty() bool { return len(r.main)+len(r.init) == 0 && r.bad == "" }

// Asks says whether a pod asks for anything that Counts: a quick look, for the many that don't.
func Asks(pod *corev1.Pod) bool {
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			for name := range containers[i].Resources.Limits {
				if Counts(name) {
					return true
				}
			}
			for name := range containers[i].Resources.Requests {
				if Counts(name) {
					return true
				}
			}
		}
	}
	return false
}

// RequestOf reads a pod. A request that nothing can give (a share of one and a half GPUs) is one that fits nowhere.
func RequestOf(pod *corev1.Pod) *Request {
	r := &Request{soft: pod.Annotations[topology.SoftAnnotation] == "true"}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		w := r.wantOf(c)
		w.when = phaseOf(c, i)
		switch {
		case w.nothing():
		case w.when.sidecar:
			r.main = append(r.main, w)
		default:
			r.init = append(r.init, w)
		}
	}
	for i := range pod.Spec.Containers {
		if w := r.wantOf(&pod.Spec.Containers[i]); !w.nothing() {
			w.when = phase{at: len(pod.Spec.InitContainers)}
			r.main = append(r.main, w)
		}
	}
	requests := helpers.PodRequests(pod, helpers.PodResourcesOptions{})
	for name, q := range requests {
		if Counts(name) && !q.IsZero() {
			if r.counted == nil {
				r.counted = map[corev1.ResourceName]int64{}
			}
			r.counted[name] = q.Value()
		}
	}
	r.Class = topology.PodClass{CPUMilli: requests.Cpu().MilliValue(), Memory: requests.Memory().Value()}
	if !r.Empty() {
		r.Class.Models = modelsOf(pod)
		r.classify()
	}
	return r
}

func (r *Request) wantOf(c *corev1.Container) want {
	w := want{container: c.Name}
	for _, list := range []corev1.ResourceList{c.Resources.Limits, c.Resources.Requests} { // equal where both are, as for all extended resources
		for name, q := range list {
			n := q.Value()
			if n <= 0 {
				continue
			}
			switch {
			case name == topology.GPUResource:
				w.whole = int(min(n, 1<<20))
			case name == topology.ShareResource:
				w.part.Milli = int(min(n, 1<<30))
			case name == topology.MemoryResource:
				w.part.Memory = n
			case strings.HasPrefix(string(name), topology.MIGPrefix):
				profile := string(name)[len(topology.MIGPrefix):]
				if !slices.ContainsFunc(w.mig, func(m mig) bool { return m.profile == profile }) {
					w.mig = append(w.mig, mig{profile, int(min(n, 1<<20))})
				}
			}
		}
	}
	slices.SortFunc(w.mig, func(a, b mig) int { return strings.Compare(a.profile, b.profile) })
	switch share := w.part; {
	case share.Milli > topology.Whole && share.Check() != nil:
		r.bad = fmt.Sprintf("%s of %d: %v", topology.ShareResource, share.Milli, share.Check())
	case share.Milli >= topology.Whole && share.Memory == 0:
		w.whole += share.Milli / topology.Whole
		w.part = topology.Share{}
	case share.Milli > topology.Whole:
		r.bad = fmt.Sprintf("%s of more than one GPU goes without %s", topology.ShareResource, topology.MemoryResource)
	}
	return w
}

// classify says what the pod takes of GPUs as if it were one of the experiment's: whole ones, or a part of one.
func (r *Request) classify() {
	for i := range r.main {
		r.Class.GPUs += r.main[i].whole
	}
	for i := range r.init {
		r.Class.GPUs = max(r.Class.GPUs, r.init[i].whole)
	}
	if r.Class.GPUs > 0 {
		r.Class.GPUMilli = topology.Whole
		return
	}
	for _, ws := range [][]want{r.main, r.init} {
		for i := range ws {
			if ws[i].part.Milli > r.Class.GPUMilli {
				r.Class.GPUs, r.Class.GPUMilli = 1, ws[i].part.Milli
			}
		}
	}
}

// modelsOf are the models that the pod's node selector or required node affinity allows; none: any, or it is said in a way
// that only each node can answer.
func modelsOf(pod *corev1.Pod) []string {
	if model, ok := pod.Spec.NodeSelector[productLabel]; ok {
		return []string{model}
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return nil
	}
	required := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return nil
	}
	var models []string
	for _, term := range required.NodeSelectorTerms { // any of them is enough
		found := false
		for _, e := range term.MatchExpressions {
			if e.Key == productLabel && e.Operator == corev1.NodeSelectorOpIn {
				models = append(models, e.Values...)
				found = true
			}
		}
		if !found {
			return nil
		}
	}
	slices.Sort(models)
	return slices.Compact(models)
}
