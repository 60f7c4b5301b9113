package orchestrator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/metrics"
)

// newUsage makes what knows what pods and nodes use: it asks the nodes, over the connections that carry logs.
func newUsage(p *parts) (*metrics.Service, error) {
	client := p.registry.Client("system:pintle")
	cfg := metrics.Config{
		Nodes: func(ctx context.Context, selector labels.Selector) ([]*corev1.Node, error) {
			objs, err := client.List(ctx, corev1.SchemeGroupVersion.WithResource("nodes"), "", selector)
			out := make([]*corev1.Node, len(objs))
			for i, o := range objs {
				out[i] = o.(*corev1.Node)
			}
			return out, err
		},
		Pods: func(ctx context.Context, namespace string, selector labels.Selector) ([]*corev1.Pod, error) {
			objs, err := client.List(ctx, corev1.SchemeGroupVersion.WithResource("pods"), namespace, selector)
			out := make([]*corev1.Pod, len(objs))
			for i, o := range objs {
				out[i] = o.(*corev1.Pod)
			}
			return out, err
		},
		Dial: p.dialNode, Custom: p.cfg.CustomMetrics, External: p.cfg.ExternalMetrics,
		Logger: p.cfg.Logger.With("part", "metrics"), Clock: p.cfg.Clock,
	}
	if p.cfg.HPASync > 0 && p.cfg.HPASync < metrics.DefaultResolution {
		cfg.Resolution = p.cfg.HPASync
	}
	s, err := metrics.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: %w", err)
	}
	return s, nil
}
