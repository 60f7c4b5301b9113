package orchestrator_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

// The same pod, asked of the cluster, of its API and of a backup of it: each says what every plugin says of every node.
func TestADecisionIsExplainedHereAndFromABackup(t *testing.T) {
	o := newOrchestrator(t, orchestrator.Config{DataDir: t.TempDir()})
	defer start(t, o)()
	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	for name, cpu := range map[string]string{"small": "1", "large": "4"} {
		room := corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("10")}
		addNode(t, client, name, corev1.NodeStatus{Capacity: room, Allocatable: room})
	}
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		SchedulerName: "nobody", Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}}}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	check := func(from string, e *scheduler.Explanation, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if e.Pod != "default/p" || e.Node != "large" || len(e.Nodes) != 2 {
			t.Fatalf("%s: %+v", from, e)
		}
		if large := e.Nodes[0]; large.Name != "large" || len(large.Refusals) > 0 || len(large.Scores) == 0 {
			t.Errorf("%s: %+v", from, large)
		}
		if small := e.Nodes[1]; len(small.Refusals) != 1 || small.Refusals[0].Plugin != "NodeResourcesFit" || small.Refusals[0].Reasons[0] != "Insufficient cpu" {
			t.Errorf("%s: %+v", from, small)
		}
	}
	e, err := o.Explain(t.Context(), "default", "p")
	check("the cluster", e, err)
	raw, err := client.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default/pods/p/scheduling").DoRaw(t.Context())
	var served scheduler.Explanation
	if err == nil {
		err = json.Unmarshal(raw, &served)
	}
	check("the API", &served, err)

	var backup bytes.Buffer
	if err := o.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	e, err = orchestrator.ExplainBackup(t.Context(), orchestrator.Config{}, &backup, "default", "p")
	check("the backup", e, err)

	if _, err := o.Explain(t.Context(), "default", "nobody"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a pod that isn't there: %v", err)
	}
	if _, err := orchestrator.ExplainBackup(t.Context(), orchestrator.Config{}, strings.NewReader("no backup"), "default", "p"); err == nil {
		t.Error("what is no backup explains")
	}
}
