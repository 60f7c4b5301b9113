package scaletozero

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// target is a workload with its kind.
type target struct {
	kind *api.Kind
	obj  api.Object
}

func (t target) String() string {
	return strings.ToLower(t.kind.GroupVersionKind.Kind) + "/" + t.obj.GetName()
}

// problem is why a Service has no workload, as an event says it.
type problem struct{ reason, message string }

// find returns the workload of a Service: the one that its annotation names, else the only one whose pods it selects.
func (c *shell) find(ctx context.Context, svc *corev1.Service) (target, *problem, error) {
	if named, ok := svc.Annotations[AnnotationTarget]; ok {
		return c.named(ctx, svc, named)
	}
	if len(svc.Spec.Selector) == 0 {
		return target{}, &problem{"NoScaleTarget", "The Service selects no pods: name its workload in the annotation " + AnnotationTarget}, nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var found []target
	for _, k := range c.kinds {
		all, err := c.env.Client.List(ctx, k.GVR(), svc.Namespace, nil)
		if err != nil {
			return target{}, nil, fmt.Errorf("list %s: %w", k.Resource, err)
		}
		for _, o := range all {
			if metav1.GetControllerOfNoCopy(o) == nil && o.GetDeletionTimestamp() == nil && podLabels(o) != nil && selector.Matches(labels.Set(podLabels(o))) {
				found = append(found, target{k, o})
			}
		}
	}
	switch len(found) {
	case 0:
		return target{}, &problem{"NoScaleTarget", "No workload makes the pods that the Service selects: name one in the annotation " + AnnotationTarget}, nil
	case 1:
		return found[0], nil, nil
	}
	return target{}, &problem{"AmbiguousScaleTarget", fmt.Sprintf("The Service selects pods of %s and of %s: name one in the annotation %s", found[0], found[1], AnnotationTarget)}, nil
}

func (c *shell) named(ctx context.Context, svc *corev1.Service, text string) (target, *problem, error) {
	kind, name, ok := strings.Cut(text, "/")
	kind, group, grouped := strings.Cut(strings.ToLower(kind), ".")
	if !ok || name == "" {
		return target{}, &problem{"NoScaleTarget", fmt.Sprintf("Annotation %s: %q is not KIND/NAME, such as deployment/web", AnnotationTarget, text)}, nil
	}
	for _, k := range c.kinds {
		if kind != k.Resource && kind != k.Singular && kind != strings.ToLower(k.GroupVersionKind.Kind) || grouped && group != k.GroupVersionKind.Group {
			continue
		}
		o, err := reconcile.Get[api.Object](ctx, c.env.Client, k.GVR(), svc.Namespace, name)
		if err != nil {
			return target{}, nil, err
		}
		if o == nil {
			return target{}, &problem{"NoScaleTarget", fmt.Sprintf("Annotation %s: there is no %s", AnnotationTarget, text)}, nil
		}
		return target{k, o}, nil, nil
	}
	return target{}, &problem{"NoScaleTarget", fmt.Sprintf("Annotation %s: %q is nothing that can be scaled", AnnotationTarget, text)}, nil
}

// podLabels are the labels of the pods that a workload makes; nil for what isn't known to make pods.
func podLabels(o api.Object) map[string]string {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return o.Spec.Template.Labels
	case *appsv1.StatefulSet:
		return o.Spec.Template.Labels
	case *appsv1.ReplicaSet:
		return o.Spec.Template.Labels
	}
	return nil
}
