package registry

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	defaultAccount = "default"
	// accountPatience is how long a pod waits for its namespace's account "default", which a controller
	// makes moments after the namespace.
	accountPatience = time.Second
)

// admitBuiltIn is the admission of new objects that every cluster has. Done again, it changes nothing.
func (r *Registry) admitBuiltIn(ctx context.Context, k *kindRef, obj api.Object) error {
	if err := r.admitPod(ctx, k, obj); err != nil {
		return err
	}
	r.admitClaim(obj)
	if group, ok := obj.(*schedulingv1beta1.PodGroup); ok {
		if err := api.AdmitGroupPriority(group, r.priorityClasses()); err != nil {
			return apierrors.NewForbidden(groupResource(k.kind), group.Name, err)
		}
	}
	return r.admitPriorityClass(k, obj)
}

// admitPod is the admission of new pods that a Kubernetes cluster always has: service account, priority,
// runtime class and default tolerations. What is decided is in package api; here is what it is decided from.
func (r *Registry) admitPod(ctx context.Context, k *kindRef, obj api.Object) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	err := r.admitAccount(ctx, pod)
	if err == nil {
		err = r.admitPriority(pod)
	}
	if err == nil {
		err = r.admitRuntimeClass(pod)
	}
	if err != nil {
		return apierrors.NewForbidden(groupResource(k.kind), pod.Name, err)
	}
	api.AdmitTolerations(pod)
	api.AdmitLimitDefaults(pod, r.limitRanges(pod.Namespace))
	pod.Status.QOSClass = api.PodQOS(pod) // of what it asks for now
	return nil
}

func (r *Registry) admitAccount(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = pod.Spec.DeprecatedServiceAccount
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	c := r.resources[corev1.SchemeGroupVersion.WithResource("serviceaccounts")]
	if c == nil {
		return nil
	}
	sa, err := findAccount(ctx, c, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	api.AdmitServiceAccount(pod, sa, rand.String(randomSuffix))
	return nil
}

func findAccount(ctx context.Context, c *resource, namespace, name string) (*corev1.ServiceAccount, error) {
	patience := time.NewTimer(accountPatience)
	defer patience.Stop()
	missing := fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", namespace, name, name)
	for {
		e, changed := c.wait(entryKey(namespace, name))
		if e != nil {
			return e.obj.(*corev1.ServiceAccount), nil
		}
		if name != defaultAccount {
			return nil, missing
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil, missing
		case <-ctx.Done():
			return nil, missing
		}
	}
}

func (r *Registry) admitPriority(pod *corev1.Pod) error {
	return api.AdmitPriority(pod, r.priorityClasses())
}

func (r *Registry) priorityClasses() (classes []*schedulingv1.PriorityClass) {
	if c := r.resources[schedulingv1.SchemeGroupVersion.WithResource("priorityclasses")]; c != nil {
		entries, _, _ := c.snapshot("")
		for _, e := range entries {
			classes = append(classes, e.obj.(*schedulingv1.PriorityClass))
		}
	}
	return classes
}

// admitPriorityClass refuses a second default for the cluster. Two that are written at the same moment may
// both pass, as in Kubernetes; AdmitPriority then takes the lower.
func (r *Registry) admitPriorityClass(k *kindRef, obj api.Object) error {
	class, ok := obj.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	for _, c := range r.priorityClasses() {
		if c.GlobalDefault && c.Name != class.Name {
			return apierrors.NewForbidden(groupResource(k.kind), class.Name, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", c.Name))
		}
	}
	return nil
}

func (r *Registry) admitRuntimeClass(pod *corev1.Pod) error {
	var class *nodev1.RuntimeClass
	if c := r.resources[nodev1.SchemeGroupVersion.WithResource("runtimeclasses")]; c != nil && pod.Spec.RuntimeClassName != nil {
		if e := c.get(*pod.Spec.RuntimeClassName); e != nil {
			class = e.obj.(*nodev1.RuntimeClass)
		}
	}
	return api.AdmitRuntimeClass(pod, class)
}
