package registry

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
)

// Bind gives a pod its node if it has none yet, and answers a Conflict otherwise. uid "" is any.
func (r *Registry) Bind(ctx context.Context, namespace, name string, uid types.UID, node string, opts CreateOptions) (*Entry, error) {
	return r.BindObject(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid},
		Target: corev1.ObjectReference{Kind: "Node", Name: node}}, opts)
}

// BindObject is Bind with a Binding, whose labels and annotations are added to the pod's.
func (r *Registry) BindObject(ctx context.Context, b *corev1.Binding, opts CreateOptions) (*Entry, error) {
	k, err := r.served(ctx, podsGVR())
	if err != nil {
		return nil, err
	}
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("target.kind: Unsupported value: %q: supported values: \"Node\"", b.Target.Kind))
	}
	if b.Target.Name == "" {
		return nil, apierrors.NewBadRequest("target.name: Required value")
	}
	b = b.DeepCopy()
	as := UpdateOptions{User: opts.User, Groups: opts.Groups, DryRun: opts.DryRun, Term: opts.Term}
	for attempt := 1; ; attempt++ {
		cur := k.cache.get(entryKey(b.Namespace, b.Name))
		if cur == nil {
			return nil, notFound(k.kind, b.Name)
		}
		pod := cur.obj.DeepCopyObject().(*corev1.Pod)
		if err := bindable(k.kind, pod, b.UID); err != nil {
			return nil, err
		}
		if err := r.admit(ctx, Request{Operation: OperationCreate, Kind: k.kind, As: k.kind, Subresource: "binding", Namespace: b.Namespace, Name: b.Name,
			User: opts.User, Groups: opts.Groups, Object: b, Old: cur.obj, DryRun: opts.DryRun}, opts.unquestioned); err != nil {
			return nil, err
		}
		pod.Spec.NodeName = b.Target.Name
		for key, value := range b.Annotations {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, value)
		}
		for key, value := range b.Labels {
			metav1.SetMetaDataLabel(&pod.ObjectMeta, key, value)
		}
		setScheduled(pod, r.now())
		if opts.Check != nil {
			if err := opts.Check(pod, cur.obj); err != nil {
				return nil, err
			}
		}
		e, ok, err := r.replace(ctx, k, pod, cur, as, nil, nil, nil)
		if err != nil {
			return nil, err
		}
		if ok {
			return e, nil
		}
		if attempt >= raceAttempts {
			return nil, conflict(k.kind, b.Name)
		}
	}
}

func bindable(kind *api.Kind, pod *corev1.Pod, uid types.UID) error {
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(groupResource(kind), pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case uid != "" && uid != pod.UID:
		return uidConflict(kind, pod.Name, uid, pod.UID)
	case pod.DeletionTimestamp != nil:
		return refuse("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return refuse("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return refuse("pod %s has non-empty .spec.schedulingGates", pod.Name)
	}
	return nil
}

func setScheduled(pod *corev1.Pod, now metav1.Time) {
	pod.Status.NominatedNodeName = "" // it has its place, there or elsewhere
	condition := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now}
	for n := range pod.Status.Conditions {
		if pod.Status.Conditions[n].Type == corev1.PodScheduled {
			pod.Status.Conditions[n] = condition
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}
