package orchestratortest_test

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// installShop is what a vendor's product does: the code under test. It knows nothing of Pintle.
func installShop(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	labels := map[string]string{"app": "shop"}
	_, err = client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "shop", Image: "shop:v1"}}},
		}},
	}, metav1.CreateOptions{})
	return err
}

// A vendor's test looks like this one: a cluster, the code under test, and what became of it. The pod's
// agent is played by the test.
func TestAVendorsTest(t *testing.T) {
	t.Parallel()
	cluster := orchestratortest.Start(t)
	cluster.AddNode(t, "one")
	ctx := t.Context()
	if err := installShop(ctx, cluster.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	pods, err := cluster.Client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=one"})
	if err != nil {
		t.Fatal(err)
	}
	defer pods.Stop()
	pod := (<-pods.ResultChan()).Object.(*corev1.Pod)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = "10.0.0.1"
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	if _, err := cluster.Client.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	shops, err := cluster.Client.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer shops.Stop()
	for event := range shops.ResultChan() {
		if event.Object.(*appsv1.Deployment).Status.AvailableReplicas == 1 {
			return
		}
	}
	t.Fatal("the watch ended before the shop was available")
}
