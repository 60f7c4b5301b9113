package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	bindings "github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
	"github.com/pintle/pintle/orchestrator/scheduler/volumes"
)

// A pod whose claims wait for it is bound in two steps. First a writer says in the claims, and in the volumes that a person
// made, what was decided; then the pod keeps its place, and waits for the binder and the node that makes its volumes. Once all
// its claims are bound it goes to a writer again, who binds it. No writer waits meanwhile.

var (
	volumesResource     = corev1.SchemeGroupVersion.WithResource("persistentvolumes")
	volumeClaimResource = corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims")
	storageClasses      = storagev1.SchemeGroupVersion.WithResource("storageclasses")
	csiDrivers          = storagev1.SchemeGroupVersion.WithResource("csidrivers")
	csiNodes            = storagev1.SchemeGroupVersion.WithResource("csinodes")
	csiCapacities       = storagev1.SchemeGroupVersion.WithResource("csistoragecapacities")
)

// volumePatience is how long a pod keeps its node while its volumes are made; kube-scheduler has the same.
const volumePatience = 10 * time.Minute

// volumeBindingOf is the plugin that a decider's profiles share, nil if none has it.
func volumeBindingOf(d *Decider) *plugins.VolumeBinding {
	found, _ := d.state.Keeper((*plugins.VolumeBinding)(nil).Name()).(*plugins.VolumeBinding)
	return found
}

// waitsForVolumes says whether another volume or claim may help a pod that these plugins refused.
func waitsForVolumes(refused map[string]bool) bool {
	return refused["VolumeBinding"] || refused["VolumeRestrictions"] || refused["VolumeZone"] || refused["NodeVolumeLimits"] || refused["Reserve"]
}

// volumeWrites are what is written of a pod's volumes before it is bound.
type volumeWrites struct {
	plan    *volumes.Plan
	written []api.Object
}

// waitingVolumes is a pod whose volumes aren't bound yet.
type waitingVolumes struct {
	binding binding
	plan    *volumes.Plan
	until   time.Time
}

// setVolumes records an object of storage, or that a pod is bound.
func (l *loop) setVolumes(o runtime.Object) {
	if l.volumes == nil {
		return
	}
	if pod, ok := o.(*corev1.Pod); ok {
		if pod.Spec.NodeName != "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			l.volumes.Done(pod.UID)
			delete(l.unbound, pod.UID)
		}
		return
	}
	if l.volumes.Set(o) {
		l.queue.wake(waitsForVolumes)
		l.lookAtVolumes()
	}
}

// forgetVolumes forgets one, or what was decided for a pod that is gone.
func (l *loop) forgetVolumes(resource, key string, uid types.UID) {
	if l.volumes == nil {
		return
	}
	if resource == podsResource.Resource {
		l.volumes.Done(uid)
		delete(l.unbound, uid)
		return
	}
	at := indexAfterSlash(key)
	l.volumes.Remove(resource, key[:max(0, at-1)], key[at:])
	if resource == volumeClaimResource.Resource {
		l.lookAtVolumes()
	}
}

// volumesToWrite says what is to be written before the pod is bound; nil: nothing.
func (l *loop) volumesToWrite(uid types.UID) (*volumeWrites, error) {
	if l.volumes == nil {
		return nil, nil
	}
	plan, ok := l.volumes.Plan(uid)
	switch {
	case !ok:
		return nil, errors.New("the volumes that were chosen for its claims are no longer free")
	case plan.Empty():
		return nil, nil
	}
	return &volumeWrites{plan: plan}, nil
}

// volumesWritten has a pod wait for its claims, whose half of the binding was just written.
func (l *loop) volumesWritten(b binding) {
	for _, o := range b.volumes.written {
		l.volumes.Book().Update(o)
	}
	if l.assumed[b.pod.UID] != b.pending {
		return // it is gone
	}
	l.unbound[b.pod.UID] = &waitingVolumes{binding: b, plan: b.volumes.plan, until: l.cfg.Clock.Now().Add(volumePatience)}
	l.lookAtVolumes()
}

// lookAtVolumes finds the pods that wait no longer. They are bound, or refused, by the loop.
func (l *loop) lookAtVolumes() {
	for uid, w := range l.unbound {
		state, why := l.volumes.Book().Progress(w.plan)
		switch n := l.state.Node(w.plan.Node); {
		case n == nil || n.Node == nil:
			state, why = volumes.Failed, fmt.Sprintf("node %q not found", w.plan.Node)
		case state == volumes.Ready && !l.volumes.Book().Fits(w.plan, n.Node):
			state, why = volumes.Failed, "pod's volumes were bound elsewhere meanwhile"
		}
		switch state {
		case volumes.Waiting:
			continue
		case volumes.Ready:
			w.binding.volumes = nil
		case volumes.Failed:
			w.binding.err = fmt.Errorf("running PreBind plugin %q: binding volumes: %s", "VolumeBinding", why)
		}
		delete(l.unbound, uid)
		l.prebound = append(l.prebound, w.binding)
	}
}

// endWaits binds the pods whose volumes are there, and refuses those whose aren't to be. It returns false when ctx has ended.
func (l *loop) endWaits(ctx context.Context) bool {
	for len(l.prebound) > 0 {
		b := l.prebound[0]
		l.prebound = l.prebound[1:]
		switch {
		case l.assumed[b.pod.UID] != b.pending: // gone meanwhile
		case b.err != nil:
			l.settle(b)
		case !l.write(ctx, b):
			return false
		}
	}
	return true
}

// expireVolumes refuses the pods that have waited too long, and says when the next will have; 0: none waits.
func (l *loop) expireVolumes(now time.Time) (next time.Duration) {
	for uid, w := range l.unbound {
		if left := w.until.Sub(now); left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		delete(l.unbound, uid)
		w.binding.err = fmt.Errorf("running PreBind plugin %q: binding volumes: %w", "VolumeBinding", context.DeadlineExceeded)
		l.prebound = append(l.prebound, w.binding)
	}
	return next
}

// writeVolumes says in volumes and claims what was decided.
func (cfg *Config) writeVolumes(ctx context.Context, w *volumeWrites) error {
	for _, m := range w.plan.Bind {
		o, err := cfg.retry(func() (api.Object, error) {
			now, err := cfg.Client.Get(ctx, volumesResource, "", m.Volume.Name)
			if err != nil {
				return nil, err
			}
			v, ok := now.(*corev1.PersistentVolume)
			if !ok || v.UID != m.Volume.UID || v.Spec.ClaimRef != nil && !bindings.BoundTo(v, m.Claim) {
				return nil, errors.New("it was given to another claim meanwhile")
			}
			if changed := bindings.BindVolume(v, m.Claim); changed != nil {
				return cfg.Client.Update(ctx, volumesResource, "", changed)
			}
			return v, nil
		})
		if err != nil {
			return fmt.Errorf("bind PersistentVolume %s: %v", m.Volume.Name, err) // not %w: that the volume is gone doesn't say it of the pod
		}
		w.written = append(w.written, o)
	}
	for _, c := range w.plan.Provision {
		o, err := cfg.retry(func() (api.Object, error) {
			now, err := cfg.Client.Get(ctx, volumeClaimResource, c.Namespace, c.Name)
			if err != nil {
				return nil, err
			}
			stored, ok := now.(*corev1.PersistentVolumeClaim)
			if !ok || stored.UID != c.UID {
				return nil, errors.New("it is another one now")
			}
			if stored.Spec.VolumeName != "" || stored.Annotations[bindings.SelectedNode] == w.plan.Node {
				return stored, nil
			}
			changed := stored.DeepCopy()
			metav1.SetMetaDataAnnotation(&changed.ObjectMeta, bindings.SelectedNode, w.plan.Node)
			return cfg.Client.Update(ctx, volumeClaimResource, "", changed)
		})
		if err != nil {
			return fmt.Errorf("select a node for PersistentVolumeClaim %s: %v", c.Name, err)
		}
		w.written = append(w.written, o)
	}
	return nil
}

// retry tries again what others write at the same time.
func (cfg *Config) retry(f func() (api.Object, error)) (o api.Object, err error) {
	for range attempts {
		if o, err = f(); !apierrors.IsConflict(err) {
			break
		}
	}
	return o, err
}
