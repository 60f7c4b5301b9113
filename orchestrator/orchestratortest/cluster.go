package orchestratortest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
)

// Cluster is a control plane that lives as long as its test.
type Cluster struct {
	*orchestrator.Orchestrator
	Client kubernetes.Interface // cluster-admin
}

// startTimeout is far more than a start takes; it is how long a broken one may keep a test waiting.
const startTimeout = 30 * time.Second

// Start returns a control plane that is ready and ends with the test. change adjusts its config, which
// keeps everything in memory and listens nowhere.
func Start(t testing.TB, change ...func(*orchestrator.Config)) *Cluster {
	t.Helper()
	cfg := orchestrator.Config{Name: "test"}
	for _, c := range change {
		c(&cfg)
	}
	o, err := orchestrator.New(cfg)
	if err != nil {
		t.Fatalf("orchestratortest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("orchestratortest: the control plane ended with %v", err)
		}
	})
	select {
	case <-o.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatalf("orchestratortest: the control plane did not start: %v", err)
	case <-time.After(startTimeout):
		t.Fatalf("orchestratortest: the control plane is not ready after %v", startTimeout)
	}
	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		t.Fatalf("orchestratortest: %v", err)
	}
	return &Cluster{Orchestrator: o, Client: client}
}

// AddNode creates a Node that is ready and has room, for the scheduler: 16 CPUs, 64 GiB, 110 pods. No agent
// stands behind it, so it counts as unreachable 40 s after it was created, by the cluster's clock.
func (c *Cluster) AddNode(t testing.TB, name string) *corev1.Node {
	t.Helper()
	ctx := context.Background()
	node, err := c.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("orchestratortest: %v", err)
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	// Controllers write the node, too, from the moment that it is there: a patch doesn't conflict with them.
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
	}})
	if err != nil {
		t.Fatalf("orchestratortest: %v", err)
	}
	if node, err = c.Client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatalf("orchestratortest: %v", err)
	}
	return node
}
