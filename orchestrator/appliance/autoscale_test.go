package appliance_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// A worker listens on nothing and reports through its own connection: its pods' load brings more of them.
func TestAWorkersPodUnderLoadGetsHelp(t *testing.T) {
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/wasi:1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := embedded(t.TempDir())
	cfg.Node, cfg.HPASync = "boss", 500*time.Millisecond
	member := newAppliance(t, cfg)
	client, stop := start(t, member)
	defer stop()
	worker := part(t, "hand", invite(t, member, orchestrator.RoleNode), true)
	_, stopWorker := start(t, worker)
	defer func() { stopWorker() }()
	if err := worker.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	one, half := int32(1), int32(50)
	labels := map[string]string{"app": "web"}
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: "hand"},
			Containers: []corev1.Container{{Name: "c", Image: "example.com/wasi:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
				Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m")}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1}}},
		}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AutoscalingV2().HorizontalPodAutoscalers("default").Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"}, MaxReplicas: 2,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &half}}}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ready := func() (addresses []string) {
		list, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return nil
		}
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					addresses = append(addresses, p.Status.PodIP)
				}
			}
		}
		return addresses
	}
	wait(t, "one pod is ready", func() bool { return len(ready()) == 1 })
	wait(t, "the autoscaler reads its CPU", func() bool {
		h, err := client.AutoscalingV2().HorizontalPodAutoscalers("default").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && len(h.Status.CurrentMetrics) == 1 && h.Status.CurrentMetrics[0].Resource != nil && h.Status.CurrentReplicas == 1
	})

	load, end := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer func() { end(); clients.Wait() }()
	address := ready()[0]
	began := time.Now()
	for range 2 {
		clients.Go(func() {
			for load.Err() == nil {
				r, _ := http.NewRequestWithContext(load, http.MethodGet, fmt.Sprintf("http://%s:8080/", address), nil)
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	wait(t, "a second pod is ready", func() bool { return len(ready()) == 2 })
	t.Logf("from load to a new pod that is ready: %v", time.Since(began).Round(10*time.Millisecond))
	end()
	clients.Wait()
	http.DefaultClient.CloseIdleConnections()
}
