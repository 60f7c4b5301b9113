package scheduler

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// Profile is how the pods of one schedulerName are placed.
type Profile struct {
	// Name is the schedulerName; "" means default-scheduler.
	Name string
	// Plugins decide. Nil means plugins.Default().
	Plugins []framework.Plugin
	// Weights replace the plugins' own weights, by plugin name; 0 turns a plugin's scores off.
	Weights map[string]int64

	keyers    []framework.Keyer
	reservers []framework.Reserver
}

// Decision is a pod's node, and what the binding says beside it.
type Decision struct {
	Node        string
	Annotations map[string]string // nil: none
}

// Decider is the scheduler's decision alone, without API, clock or goroutines: the same changes and the same pods
// give the same decisions. One goroutine may use it at a time. Objects that it is given must not be changed afterwards.
type Decider struct {
	profiles map[string]*Profile
	first    *Profile
	policies *policyView // nil: none
	state    *framework.State
	engine   *engine
}

// NewDecider makes one that knows no nodes. Without profiles it has kube-scheduler's. A pod whose schedulerName no
// profile has is placed by the first.
func NewDecider(profiles ...Profile) *Decider {
	if len(profiles) == 0 {
		profiles = []Profile{{}}
	}
	d := &Decider{profiles: map[string]*Profile{}, state: framework.NewState(), engine: newEngine()}
	for _, p := range profiles {
		if p.Name == "" {
			p.Name = corev1.DefaultSchedulerName
		}
		if p.Plugins == nil {
			p.Plugins = plugins.Default()
		}
		for _, plugin := range p.Plugins {
			if k, ok := plugin.(framework.Keeper); ok {
				d.state.Keep(k)
			}
			if k, ok := plugin.(framework.Keyer); ok {
				p.keyers = append(p.keyers, k)
			}
			if r, ok := plugin.(framework.Reserver); ok {
				p.reservers = append(p.reservers, r)
			}
		}
		if d.profiles[p.Name] = &p; d.first == nil {
			d.first = &p
		}
	}
	return d
}

// State is what the Decider knows, to be read between its calls.
func (d *Decider) State() *framework.State { return d.state }

// SetNode adds or replaces a node.
func (d *Decider) SetNode(node *corev1.Node) { d.state.SetNode(node) }

// RemoveNode forgets a node; pods that are still on it are kept in case it returns.
func (d *Decider) RemoveNode(name string) { d.state.RemoveNode(name) }

// SetPod records a pod where its spec.nodeName says, in place of what was assumed of it. One that has no node, or has
// ended, takes no room.
func (d *Decider) SetPod(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		d.state.RemovePod(pod.UID)
		return
	}
	d.state.SetPod(framework.NewPod(pod), pod.Spec.NodeName)
}

// RemovePod forgets a pod.
func (d *Decider) RemovePod(uid types.UID) { d.state.RemovePod(uid) }

// SetNamespace records a namespace's labels, for namespace selectors; RemoveNamespace forgets it.
func (d *Decider) SetNamespace(name string, l map[string]string) {
	d.state.SetNamespace(name, maps.Clone(labels.Set(l)))
}

// RemoveNamespace forgets a namespace.
func (d *Decider) RemoveNamespace(name string) { d.state.RemoveNamespace(name) }

// SetStorage records an object of storage: a PersistentVolume or a claim for one, a StorageClass, or what CSI drivers publish. Pods
// with claims find no node without them. The object isn't changed.
func (d *Decider) SetStorage(o runtime.Object) {
	if v := volumeBindingOf(d); v != nil {
		v.Set(o)
	}
}

// Decide chooses a pod's node, and has the profile's Reservers choose on it. It records nothing: Assume does. The error is
// a *FitError where no node would do.
func (d *Decider) Decide(ctx context.Context, pod *framework.Pod) (Decision, error) {
	return d.engine.decideAndReserve(ctx, question{profile: d.profile(pod.Spec.SchedulerName), policies: d.policies, pod: pod, s: d.state})
}

// SetPolicy has a policy decide beside the plugins; nil: none.
func (d *Decider) SetPolicy(p Policy) { d.policies = newPolicyView(p) }

// Preemption is a node that can be cleared for a pod, and the pods that must leave it, most important first.
type Preemption struct {
	Node    string
	Victims []*corev1.Pod
}

// Preempt chooses, for a pod that Decide found no node for, the node that is cleared with the least harm: see package
// documentation. It records nothing. Without such a node it returns nil, and why.
func (d *Decider) Preempt(ctx context.Context, pod *framework.Pod, budgets []*policyv1.PodDisruptionBudget) (chosen *Preemption, why string, err error) {
	if why := mayPreempt(pod, nil); why != "" {
		return nil, why, nil
	}
	parsed := make([]budget, len(budgets))
	for i, b := range budgets {
		parsed[i] = newBudget(b)
	}
	c, why, err := preempt(ctx, d.profile(pod.Spec.SchedulerName).Plugins, d.policies, pod, d.state, parsed)
	if c == nil || err != nil {
		return nil, why, err
	}
	chosen = &Preemption{Node: c.node.Name}
	for _, v := range c.victims {
		chosen.Victims = append(chosen.Victims, v.Pod)
	}
	return chosen, "", nil
}

// Assume records a pod where it was decided to go, with the decision's annotations, until SetPod says where it is or Forget
// takes it back. It returns the pod as it is recorded.
func (d *Decider) Assume(pod *framework.Pod, to Decision) *framework.Pod {
	pod = pod.WithAnnotations(to.Annotations)
	d.state.SetPod(pod, to.Node)
	return pod
}

// Forget takes an Assume back.
func (d *Decider) Forget(uid types.UID) { d.state.RemovePod(uid) }

// runners are the plugins that have work of their own, each name once.
func (d *Decider) runners() (out []framework.Runner) {
	names := map[string]bool{}
	for _, p := range d.profiles {
		for _, plugin := range p.Plugins {
			if r, ok := plugin.(framework.Runner); ok && !names[r.Name()] {
				names[r.Name()] = true
				out = append(out, r)
			}
		}
	}
	return out
}

func (d *Decider) profile(name string) *Profile {
	if p := d.profiles[name]; p != nil {
		return p
	}
	return d.first
}
