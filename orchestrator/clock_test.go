package orchestrator_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator"
)

// A test with a clock of its own sees a cluster that starts, works and stops without its being moved, and
// that takes the time from nowhere else.
func TestAClusterLivesInItsConfigsTime(t *testing.T) {
	then := time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC)
	clock := clocktesting.NewFakeClock(then)
	o := newOrchestrator(t, orchestrator.Config{Clock: clock})
	defer start(t, o)()
	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !got.CreationTimestamp.Time.Equal(then) {
		t.Errorf("created at %v", got.CreationTimestamp)
	}

	// A node without a heartbeat is unreachable after 40 s of that time.
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "silent"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=silent"})
	if err != nil {
		t.Fatal(err)
	}
	defer nodes.Stop()
	move := time.NewTicker(10 * time.Millisecond) // real time only paces the test
	defer move.Stop()
	for {
		select {
		case event, ok := <-nodes.ResultChan():
			if !ok {
				t.Fatal("the watch ended before the node counted as unreachable")
			}
			for _, taint := range event.Object.(*corev1.Node).Spec.Taints {
				if taint.Key == corev1.TaintNodeUnreachable {
					if clock.Since(then) < 40*time.Second {
						t.Errorf("unreachable after %v", clock.Since(then))
					}
					return
				}
			}
		case <-move.C:
			clock.Step(time.Second)
		}
	}
}
