package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Devices are a node's devices, GPUs say. Whoever schedules chose them and recorded the choice with the binding: Claim
// checks it, Injection says what a container gets, and nothing here chooses. orchestrator/appliance/gpus makes one of a
// gpu.Manager. All methods are safe for concurrent use.
type Devices interface {
	// Run works until ctx ends. The agent calls it, once at a time.
	Run(ctx context.Context) error
	// Ready is closed once the devices were looked at, whether there are any or not.
	Ready() <-chan struct{}
	// State is what the node has now.
	State() DeviceState
	// Changed returns a channel that is closed with the next change of State or of Unhealthy. Take it before you ask
	// for the state, and take another one afterwards.
	Changed() <-chan struct{}

	// Manages says whether a resource of the node is these devices': the claim decides about it, not a sum.
	Manages(resource corev1.ResourceName) bool
	// Wants says whether the pod asks for such devices, or was given some.
	Wants(pod *corev1.Pod) bool
	// Claim gives the pod what was chosen for it: all, or nothing. The same again is no error. ErrDevicesTaken says
	// that another pod has some of it; with any error the pod must not run here.
	Claim(ctx context.Context, pod *corev1.Pod) error
	// Injection is what a container of the pod gets. It is an error that the pod wants devices and has none.
	Injection(pod *corev1.Pod, container string) (Injection, error)
	// LimitMemory keeps what runs in a cgroup, by its folder, to the memory that the container was given of a device.
	LimitMemory(pod types.UID, container, cgroup string) error
	// Unhealthy says why the pod's devices should not be used, and since when; "": they may.
	Unhealthy(pod types.UID) (why string, since time.Time)
	// Release takes back what the pod has. It is no error that it has nothing.
	Release(pod types.UID) error
	// Reconcile releases what pods have that aren't among those that run.
	Reconcile(running []types.UID) error
}

// ErrDevicesTaken is Claim's where another pod has a device.
var ErrDevicesTaken = errors.New("the device is taken")

// DeviceState is what a node says of its devices.
type DeviceState struct {
	Capacity, Allocatable corev1.ResourceList // what is unhealthy is in Capacity alone
	Labels, Annotations   map[string]string
	Unhealthy             map[string]string // device → why
	// OnUnhealthy is the policy for pods without OnUnhealthyAnnotation; "": evict.
	OnUnhealthy string
}

// Injection is what a container gets to use its devices.
type Injection struct {
	Devices []Device
	Mounts  []Mount
	Env     []string // NAME=value; it wins over the pod's own
	// Limited says that LimitMemory must be called before the container's program starts.
	Limited bool
	// NUMA are the nodes that the devices are near to, in order; none: unknown.
	NUMA []int
}

// OnUnhealthyAnnotation of a pod says what becomes of it when a device that it has is unhealthy:
//
//   - evict, the default where DeviceState.OnUnhealthy says nothing else: it fails, with the reason Evicted and the condition DisruptionTarget, so that its controller
//     makes another one elsewhere. A toleration of the key UnhealthyDeviceKey with the effect NoExecute postpones that
//     by its tolerationSeconds, or forever, as it does for a taint.
//   - finish: its containers run to their end, and where one would be started again the pod is evicted.
//   - tolerate: nothing.
const (
	OnUnhealthyAnnotation = "gpu.pintle.dev/on-unhealthy"
	UnhealthyDeviceKey    = "gpu.pintle.dev/unhealthy"
)

// publishedAnnotation of a Node lists the labels and annotations that come from devices, so that those can be removed
// that are gone, also by an agent that didn't write them.
const publishedAnnotation = "gpu.pintle.dev/published"

type published struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}

// devicePatch is the merge patch that brings a node's labels and annotations up to date with its devices, beside
// labels that are fixed; nil: they are. It is pure.
func devicePatch(node *corev1.Node, want DeviceState, fixed map[string]string) map[string]any {
	labels, annotations := map[string]any{}, map[string]any{}
	var before, now published
	_ = json.Unmarshal([]byte(node.Annotations[publishedAnnotation]), &before) // damaged: what it listed stays
	diff := func(patch map[string]any, have, want map[string]string, old []string) (names []string) {
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if _, ok := fixed[k]; ok {
				continue
			}
			names = append(names, k)
			if v, ok := have[k]; !ok || v != want[k] {
				patch[k] = want[k]
			}
		}
		for _, k := range old {
			if _, ok := have[k]; ok && !slices.Contains(names, k) {
				if _, ok := fixed[k]; !ok {
					patch[k] = nil
				}
			}
		}
		return names
	}
	now.Labels = diff(labels, node.Labels, want.Labels, before.Labels)
	now.Annotations = diff(annotations, node.Annotations, want.Annotations, before.Annotations)
	switch list, had := node.Annotations[publishedAnnotation]; {
	case len(now.Labels)+len(now.Annotations) > 0:
		if b, err := json.Marshal(now); err == nil && string(b) != list {
			annotations[publishedAnnotation] = string(b)
		}
	case had:
		annotations[publishedAnnotation] = nil
	}
	meta := map[string]any{}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	if len(annotations) > 0 {
		meta["annotations"] = annotations
	}
	if len(meta) == 0 {
		return nil
	}
	return map[string]any{"metadata": meta}
}

// verdict is what becomes of a pod for the sake of its devices.
type verdict struct {
	evict  bool      // now
	at     time.Time // or then, if the devices aren't well before; zero: never
	onExit bool      // or where a container would be started
}

// onUnhealthy decides what becomes of a pod whose devices are unhealthy since a time; policy is the node's. What it
// doesn't know it takes for evict. It is pure.
func onUnhealthy(pod *corev1.Pod, policy string, since, now time.Time) verdict {
	if p := pod.Annotations[OnUnhealthyAnnotation]; p != "" {
		policy = p
	}
	switch policy {
	case "tolerate":
		return verdict{}
	case "finish":
		return verdict{onExit: true}
	}
	wait, tolerated := time.Duration(0), false
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if t.Effect != "" && t.Effect != corev1.TaintEffectNoExecute || t.Key != UnhealthyDeviceKey && (t.Key != "" || t.Operator != corev1.TolerationOpExists) ||
			t.Key != "" && t.Operator != corev1.TolerationOpExists && t.Value != "" {
			continue
		}
		if t.TolerationSeconds == nil {
			return verdict{}
		}
		d := time.Duration(max(0, *t.TolerationSeconds)) * time.Second
		if !tolerated || d < wait { // of several the shortest, as with taints
			wait, tolerated = d, true
		}
	}
	if at := since.Add(wait); now.Before(at) {
		return verdict{at: at}
	}
	return verdict{evict: true}
}

// starts says whether a plan would start a container.
func (p *plan) starts() bool {
	return slices.ContainsFunc(p.actions, func(a action) bool { return a.kind == actStart || a.kind == actRestart || a.kind == actBackOff })
}

// judgeDevices evicts a pod whose devices don't let it go on, and returns the plan then.
func (w *worker) judgeDevices(pod *corev1.Pod, s *snapshot, p plan) plan {
	d := w.a.cfg.Devices
	if d == nil || p.done || !w.holdsDevices() {
		return p
	}
	why, since := d.Unhealthy(w.uid)
	if why == "" {
		return p
	}
	v := onUnhealthy(pod, d.State().OnUnhealthy, since, s.now)
	if !v.evict && !(v.onExit && p.starts()) {
		if !v.at.IsZero() {
			p.wakeAt(v.at)
		}
		return p
	}
	w.refused = &refusal{reason: "Evicted", message: "The pod's device is unhealthy: " + why, disruption: true}
	w.event(pod, corev1.EventTypeWarning, "Evicted", w.refused.message)
	s.refused = w.refused
	return decide(s)
}

func (w *worker) holdsDevices() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices
}

func (w *worker) setDevices(on bool) {
	w.mu.Lock()
	w.devices = on
	w.mu.Unlock()
}

// claimDevices has the pod's devices given to it, once, and reports whether it may go on. If it must not, w.refused
// says so; otherwise it is to be tried again.
func (w *worker) claimDevices(ctx context.Context, pod *corev1.Pod) bool {
	d := w.a.cfg.Devices
	if d == nil || w.claimed || !d.Wants(pod) {
		return true
	}
	select {
	case <-w.a.reconciled():
	default:
		return false // the agent wakes everybody
	}
	refuse := func(err error) bool {
		if ctx.Err() != nil {
			return false
		}
		if w.sandbox != nil { // it runs since before this agent: nobody takes that from it
			w.claimed = true
			w.event(pod, corev1.EventTypeWarning, "DevicesLost", "The pod runs with devices that it can't be given: "+err.Error())
			return true
		}
		w.refused = &refusal{reason: "UnexpectedAdmissionError", message: "Pod was rejected: Allocate failed due to " + err.Error() + ", which is unexpected"}
		w.event(pod, corev1.EventTypeWarning, w.refused.reason, w.refused.message)
		return false
	}
	if w.engine.Name() == "wasm" {
		return refuse(errors.New("WASI containers can't use devices"))
	}
	err := d.Claim(ctx, pod)
	switch {
	case err == nil:
		w.claimed = true
		w.setDevices(true)
		return true
	case errors.Is(err, ErrDevicesTaken) && w.sandbox == nil && w.a.devicesEnding(w.uid):
		return false // whoever ends now may have them still
	}
	return refuse(err)
}

// devicesEnding reports that a pod which is over still has devices.
func (a *Agent) devicesEnding(except types.UID) bool {
	for _, w := range a.allWorkers() {
		if w.uid == except {
			continue
		}
		w.mu.Lock()
		over := w.gone || w.killing || w.desired.DeletionTimestamp != nil || w.status != nil && (w.status.Phase == corev1.PodFailed || w.status.Phase == corev1.PodSucceeded)
		ending := w.devices && over
		w.mu.Unlock()
		if ending {
			return true
		}
	}
	return false
}

// reconciled is closed once the devices agree with what runs: nothing is claimed before.
func (a *Agent) reconciled() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.claims
}

// runDevices runs the devices, releases once what nobody has any more, and wakes pods with every change.
func (a *Agent) runDevices(ctx context.Context) {
	d := a.cfg.Devices
	for _, ready := range []<-chan struct{}{d.Ready(), a.podsKnown()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
	for {
		err := a.reconcileDevices(ctx)
		if err == nil {
			break
		}
		a.log.Warn("compare devices with the pods that run", "error", err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
	a.mu.Lock()
	close(a.claims)
	a.mu.Unlock()
	for ctx.Err() == nil {
		changed := d.Changed()
		a.wakeAll()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// reconcileDevices keeps what any pod of the API or any sandbox on this machine may have, and releases the rest.
func (a *Agent) reconcileDevices(ctx context.Context) error {
	var running []types.UID
	for _, w := range a.allWorkers() {
		running = append(running, w.uid)
	}
	for _, e := range a.cfg.Engines {
		boxes, err := e.Sandboxes(ctx)
		if err != nil {
			return fmt.Errorf("list sandboxes of %s: %w", e.Name(), err)
		}
		for _, s := range boxes {
			running = append(running, types.UID(s.ID))
		}
	}
	if err := a.cfg.Devices.Reconcile(running); err != nil {
		a.log.Warn("release devices of pods that are gone", "error", err) // their claims stay until they can be
	}
	return nil
}

// deviceEvents are the events of a node between two states of its devices. It is pure.
func deviceEvents(before, after map[string]string) (events [][3]string) {
	for _, d := range slices.Sorted(maps.Keys(after)) {
		if why := after[d]; before[d] != why {
			events = append(events, [3]string{corev1.EventTypeWarning, "DeviceUnhealthy", fmt.Sprintf("Device %s is unhealthy: %s", d, why)})
		}
	}
	for _, d := range slices.Sorted(maps.Keys(before)) {
		if _, sick := after[d]; !sick {
			events = append(events, [3]string{corev1.EventTypeNormal, "DeviceHealthy", fmt.Sprintf("Device %s is healthy again", d)})
		}
	}
	return events
}

// deviceState is what the devices say; false while they were not looked at.
func (a *Agent) deviceState() (DeviceState, bool) {
	if a.cfg.Devices == nil {
		return DeviceState{}, true
	}
	select {
	case <-a.cfg.Devices.Ready():
		return a.cfg.Devices.State(), true
	default:
		return DeviceState{}, false
	}
}

// writeDevices brings the node's labels and annotations up to date and says in events what became unhealthy or well.
func (a *Agent) writeDevices(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	state, known := a.deviceState()
	if !known {
		return node, nil
	}
	for _, e := range deviceEvents(a.sick, state.Unhealthy) { // runNode's goroutine alone
		a.events.send(corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}, e[0], e[1], e[2])
	}
	a.sick = state.Unhealthy
	patch := devicePatch(node, state, a.cfg.Labels)
	if patch == nil {
		return node, nil
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return node, fmt.Errorf("encode the node's devices: %w", err)
	}
	written, err := a.cfg.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, raw, metav1.PatchOptions{})
	if err != nil {
		return node, fmt.Errorf("write the node's devices: %w", err)
	}
	return written, nil
}
