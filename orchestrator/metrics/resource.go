package metrics

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// NodeMetrics is the use of the nodes that selector matches (nil: all), as far as it is known. It waits for a first
// rate where nobody has asked for long; the error is then ctx's.
func (s *Service) NodeMetrics(ctx context.Context, selector labels.Selector) ([]metricsv1beta1.NodeMetrics, error) {
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	list, err := s.cfg.Nodes(ctx, selector)
	if err != nil {
		return nil, err
	}
	out := make([]metricsv1beta1.NodeMetrics, 0, len(list))
	for _, n := range list {
		u, ok := s.of(n.Name).node()
		if !ok {
			continue
		}
		out = append(out, metricsv1beta1.NodeMetrics{
			TypeMeta:   metav1.TypeMeta{Kind: "NodeMetrics", APIVersion: metricsv1beta1.SchemeGroupVersion.String()},
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, CreationTimestamp: metav1.NewTime(s.cfg.Clock.Now())},
			Timestamp:  metav1.NewTime(u.at), Window: metav1.Duration{Duration: u.window}, Usage: u.list(),
		})
	}
	return out, nil
}

// PodMetrics is the use of each container of the running pods of a namespace ("": all) that selector matches (nil:
// all). A pod whose containers have no rate yet is absent. It waits as NodeMetrics does.
func (s *Service) PodMetrics(ctx context.Context, namespace string, selector labels.Selector) ([]metricsv1beta1.PodMetrics, error) {
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	pods, err := s.cfg.Pods(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	return s.metricsOf(pods), nil
}

// MetricsOf is PodMetrics of pods that the caller has.
func (s *Service) MetricsOf(ctx context.Context, pods []*corev1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	return s.metricsOf(pods), nil
}

func (s *Service) metricsOf(pods []*corev1.Pod) []metricsv1beta1.PodMetrics {
	histories := map[string]history{}
	out := make([]metricsv1beta1.PodMetrics, 0, len(pods))
	for _, p := range pods {
		if p.Spec.NodeName == "" || p.Status.Phase != corev1.PodRunning {
			continue
		}
		h, seen := histories[p.Spec.NodeName]
		if !seen {
			h = s.of(p.Spec.NodeName)
			histories[p.Spec.NodeName] = h
		}
		used, ok := h.pod(p.UID)
		if !ok {
			continue
		}
		out = append(out, s.podMetrics(p, used))
	}
	return out
}

// podMetrics says of when the pod's figures are by its earliest container, as metrics-server does.
func (s *Service) podMetrics(p *corev1.Pod, used map[string]use) metricsv1beta1.PodMetrics {
	m := metricsv1beta1.PodMetrics{
		TypeMeta:   metav1.TypeMeta{Kind: "PodMetrics", APIVersion: metricsv1beta1.SchemeGroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, Labels: p.Labels, CreationTimestamp: metav1.NewTime(s.cfg.Clock.Now())},
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		u := used[name]
		if m.Timestamp.IsZero() || u.at.Before(m.Timestamp.Time) {
			m.Timestamp, m.Window = metav1.NewTime(u.at), metav1.Duration{Duration: u.window}
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: name, Usage: u.list()})
	}
	m.Window.Duration = m.Window.Duration.Round(time.Millisecond)
	return m
}

func (u use) list() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(math.Round(u.cpu*1e9)), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(u.memory, resource.BinarySI),
	}
}
