package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// Delete deletes an object, or marks it as being deleted while finalizers, a pod's grace period or a
// namespace's content hold it back; deletedNow says which. Preconditions that do not hold are a Conflict.
func (r *Registry) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions, user string, groups ...string) (result *Entry, deletedNow bool, err error) {
	return r.DeleteAs(ctx, gvr, namespace, name, opts, UpdateOptions{User: user, Groups: groups})
}

// DeleteAs is Delete with the options of every write. A dry run is asked for by either options.
func (r *Registry) DeleteAs(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions, as UpdateOptions) (result *Entry, deletedNow bool, err error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, false, err
	}
	if err := checkDeleteOptions(opts); err != nil {
		return nil, false, err
	}
	as.DryRun = as.DryRun || slices.Contains(opts.DryRun, metav1.DryRunAll)
	for attempt := 1; ; attempt++ {
		cur := k.cache.get(entryKey(namespace, name))
		if cur == nil {
			return nil, false, notFound(k.kind, name)
		}
		if err := checkPreconditions(k.kind, cur.obj, opts.Preconditions); err != nil {
			return nil, false, err
		}
		if err := protected(k.kind, name); err != nil {
			return nil, false, err
		}
		if err := r.admit(ctx, Request{Operation: OperationDelete, Kind: k.cache.kind, As: k.kind, Namespace: namespace, Name: name, User: as.User, Groups: as.Groups,
			Old: cur.obj, DryRun: as.DryRun}, as.unquestioned); err != nil {
			return nil, false, err
		}
		obj := cur.obj.DeepCopyObject().(api.Object)
		changed := markDeleted(obj, opts, r.now())
		var ok bool
		switch {
		case mayGo(obj):
			deletedNow = true
			result, ok, err = r.remove(ctx, k, obj, cur, as)
		case !changed:
			result, ok = cur, true
		default:
			result, ok, err = r.replace(ctx, k, obj, cur, as, nil, nil, nil)
		}
		if err != nil {
			return nil, false, err
		}
		if ok {
			result, err = result.as(k.kind)
			return result, deletedNow, err
		}
		if attempt >= raceAttempts {
			return nil, false, conflict(k.kind, name)
		}
		deletedNow = false
	}
}

// protected are the namespaces without which a cluster is none.
func protected(kind *api.Kind, name string) error {
	if kind.GVR() == namespacesGVR() && slices.Contains([]string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}, name) {
		return apierrors.NewForbidden(groupResource(kind), name, fmt.Errorf("this namespace may not be deleted"))
	}
	return nil
}

func checkDeleteOptions(opts metav1.DeleteOptions) error {
	if opts.PropagationPolicy != nil {
		if opts.OrphanDependents != nil { //nolint:staticcheck // still in the API
			return apierrors.NewBadRequest("orphanDependents and propagationPolicy cannot be both set")
		}
		switch *opts.PropagationPolicy {
		case metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan:
		default:
			return apierrors.NewBadRequest(fmt.Sprintf("invalid propagationPolicy %q: use Orphan, Background or Foreground", *opts.PropagationPolicy))
		}
	}
	for _, v := range opts.DryRun {
		if v != metav1.DryRunAll {
			return apierrors.NewBadRequest(fmt.Sprintf("invalid dryRun %q: use All", v))
		}
	}
	return nil
}

func checkPreconditions(kind *api.Kind, obj api.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(groupResource(kind), obj.GetName(), fmt.Errorf(format, args...))
	}
	if p.UID != nil && *p.UID != obj.GetUID() {
		return refuse("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, obj.GetUID())
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return refuse("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, obj.GetResourceVersion())
	}
	return nil
}

// markDeleted sets what a deletion sets, and reports whether that changes anything.
func markDeleted(obj api.Object, opts metav1.DeleteOptions, now metav1.Time) (changed bool) {
	changed = propagate(obj, opts)
	grace := graceOf(obj, opts)
	if had := obj.GetDeletionTimestamp(); had == nil {
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
		if obj.GetGeneration() > 0 {
			obj.SetGeneration(obj.GetGeneration() + 1)
		}
		changed = true
	} else if before := obj.GetDeletionGracePeriodSeconds(); before != nil && grace < *before && (opts.GracePeriodSeconds != nil || grace == 0) {
		// A second deletion can only hasten the first.
		at := metav1.NewTime(had.Add(time.Duration(grace-*before) * time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
		changed = true
	}
	if ns, ok := obj.(*corev1.Namespace); ok && ns.Status.Phase != corev1.NamespaceTerminating {
		ns.Status.Phase = corev1.NamespaceTerminating
		changed = true
	}
	return changed
}

// graceOf is how many seconds a deletion waits: only a pod that a node has taken needs any.
func graceOf(obj api.Object, opts metav1.DeleteOptions) int64 {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return 0
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	switch {
	case opts.GracePeriodSeconds != nil:
		grace = *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if grace < 0 {
		return 1 // as Kubernetes reads it: at once, but by the node
	}
	return grace
}

// propagate turns the propagation policy into the finalizer that the garbage collector works off.
func propagate(obj api.Object, opts metav1.DeleteOptions) (changed bool) {
	policy := opts.PropagationPolicy
	if policy == nil && opts.OrphanDependents != nil { //nolint:staticcheck // still in the API
		p := metav1.DeletePropagationBackground
		if *opts.OrphanDependents { //nolint:staticcheck // still in the API
			p = metav1.DeletePropagationOrphan
		}
		policy = &p
	}
	if policy == nil {
		return false
	}
	want := ""
	switch *policy {
	case metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	case metav1.DeletePropagationOrphan:
		want = metav1.FinalizerOrphanDependents
	}
	before := obj.GetFinalizers()
	after := slices.DeleteFunc(slices.Clone(before), func(f string) bool {
		return f != want && (f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents)
	})
	if want != "" && !slices.Contains(after, want) {
		after = append(after, want)
	}
	obj.SetFinalizers(after)
	return !slices.Equal(before, after)
}
