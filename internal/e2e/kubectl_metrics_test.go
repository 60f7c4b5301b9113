package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// busyNode answers as an agent does: the node uses half a CPU, each of its pods' container c a quarter.
func busyNode(t *testing.T, client *atomic.Pointer[kubernetes.Interface]) func(context.Context, string) (net.Conn, error) {
	began := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats/summary", func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		usage := func(cores float64, memory int) (cpu, mem map[string]any) {
			return map[string]any{"time": now, "usageCoreNanoSeconds": uint64(cores * float64(now.Sub(began)))}, map[string]any{"time": now, "workingSetBytes": memory}
		}
		pods := []any{}
		if c := client.Load(); c != nil {
			list, err := (*c).CoreV1().Pods("").List(r.Context(), metav1.ListOptions{})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			for _, p := range list.Items {
				cpu, mem := usage(0.2495, 64<<20)
				pods = append(pods, map[string]any{"podRef": map[string]any{"name": p.Name, "namespace": p.Namespace, "uid": p.UID},
					"containers": []any{map[string]any{"name": "c", "startTime": began, "cpu": cpu, "memory": mem}}})
			}
		}
		cpu, mem := usage(0.4995, 1<<30)
		_ = json.NewEncoder(w).Encode(map[string]any{"node": map[string]any{"nodeName": "n1", "cpu": cpu, "memory": mem}, "pods": pods})
	})
	l := memnet.Listen()
	s := &http.Server{Handler: mux}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		_ = l.Close()
	})
	return func(ctx context.Context, _ string) (net.Conn, error) { return l.Dial(ctx, nil) }
}

func TestKubectlTopAndAutoscaleWorkOnWhatNodesReport(t *testing.T) {
	t.Parallel()
	var client atomic.Pointer[kubernetes.Interface]
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) {
		cfg.Address, cfg.HPASync, cfg.DialNode = "127.0.0.1:0", time.Second, busyNode(t, &client)
	})
	client.Store(&c.Client)
	c.AddNode(t, "n1")
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	k := newKubectl(t, config)
	const workload = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x, resources: {requests: {cpu: 100m}}}]}}}}`
	k.steps([]step{
		with(workload, does("apply --server-side --field-manager=me -f -", "serverside-applied")),
		does("wait --for=create pod -l app=web --timeout=20s"),
		does("wait --for=jsonpath={.spec.nodeName}=n1 pod -l app=web --timeout=20s"),
	})
	list, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatal(list, err)
	}
	pod := list.Items[0].Name
	k.steps([]step{
		does("patch pod "+pod+" --subresource=status --type=merge -p '{\"status\":{\"phase\":\"Running\",\"startTime\":\"2026-01-01T00:00:00Z\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}'", "patched"),
		does("top node", "CPU(cores)", "n1", "500m", "3%", "1024Mi"),
		does("top pod", "NAME", pod, "250m", "64Mi"),
		does("top pod --containers -l app=web", "POD", pod, " c ", "250m", "64Mi"),
		does("get podmetrics.metrics.k8s.io", "CPU", "MEMORY", "WINDOW", pod, "249"),
		does("get --raw /apis/metrics.k8s.io/v1beta1/nodes/n1", `"kind":"NodeMetrics"`, `"window":`, `"timestamp":`),
		refuses("get --raw /apis/metrics.k8s.io/v1beta1/nodes/n2", `nodes.metrics.k8s.io "n2" not found`),
		refuses("top pod --as=joe", `User "joe" cannot list resource "pods" in API group "metrics.k8s.io"`),
		does("get --raw /apis/custom.metrics.k8s.io/v1beta2", "pods/DCGM_FI_DEV_GPU_UTIL"),
		refuses("get --raw /apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue", "not found"),
		does("autoscale deployment web --cpu=50% --min=1 --max=4", "autoscaled"),
		does("wait --for=jsonpath={.spec.replicas}=4 deployment/web --timeout=20s", "condition met"),
		// The size is the autoscaler's now: who applies another one is told so, and who applies none leaves it.
		with(workload, refuses("apply --server-side --field-manager=me -f -", "conflict", "kube-controller-manager", ".spec.replicas")),
		with(strings.Replace(workload, "replicas: 1, ", "", 1), does("apply --server-side --field-manager=me -f -", "serverside-applied")),
		does("get deployment web -o jsonpath={.spec.replicas}", "4"),
		does("get hpa", "REFERENCE", "Deployment/web", "cpu: 250%/50%"),
		does("describe hpa web", "SuccessfulRescale", "New size: 4; reason: cpu resource utilization (percentage of request) above target", "ScalingLimited", "TooManyReplicas", "ValidMetricFound"),
		does("get horizontalpodautoscalers.v1.autoscaling web -o jsonpath={.spec.targetCPUUtilizationPercentage}", "50"),
		does("autoscale deployment web --name=second --max=9", "autoscaled"),
		does("wait --for=jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].reason}=AmbiguousSelector hpa/second --timeout=20s", "condition met"),
		does("delete hpa web second", "deleted"),
	})
}
