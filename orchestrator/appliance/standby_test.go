package appliance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// A workload that nobody uses ends. 50 clients at once, half of them of the Ingress, have it back, and none of them
// sees that it was away.
func TestAWorkloadAtZeroIsBackForWhoeverAsks(t *testing.T) {
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/server:1", "VERSION=v1")
	if err != nil {
		t.Fatal(err)
	}
	a := newAppliance(t, embedded(t.TempDir()))
	client, stop := start(t, a)
	defer stop()
	if err := a.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	ctx, labels, replicas := t.Context(), map[string]string{"app": "web"}, int32(2)
	deployments := client.AppsV1().Deployments("default")
	container := corev1.Container{Name: "server", Image: "example.com/server:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}
	if _, err := deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{container}}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service, err := client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"pintle.dev/scale-to-zero-after": "1s"}},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}
	if _, err = client.NetworkingV1().Ingresses("default").Create(ctx, &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: networkingv1.IngressSpec{DefaultBackend: &backend}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "it is scaled to zero and its pods end", func() bool {
		d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		pods, perr := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err == nil && perr == nil && *d.Spec.Replicas == 0 && d.Status.ObservedGeneration == d.Generation && len(pods.Items) == 0
	})
	urls := []string{"http://" + a.StandIn(net.JoinHostPort(service.Spec.ClusterIP, "80")), "http://" + a.HTTPAddress()}
	began := time.Now()
	var wg sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		wg.Go(func() {
			c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := c.Get(urls[i%2])
			if err != nil {
				errs[i] = err
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(text), "v1 ") {
				errs[i] = fmt.Errorf("%s: %s %q %w", urls[i%2], resp.Status, text, err)
			}
		})
	}
	wg.Wait()
	t.Logf("50 requests of a workload at zero are answered after %v", time.Since(began))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if d, err := deployments.Get(ctx, "web", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 2 {
		t.Errorf("%v %v", d, err)
	}
	wait(t, "it is told", func() bool {
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Service"})
		seen := map[string]bool{}
		if err == nil {
			for _, e := range events.Items {
				seen[e.Reason] = true
			}
		}
		return seen["ScaledToZero"] && seen["ScaledFromZero"]
	})
}
