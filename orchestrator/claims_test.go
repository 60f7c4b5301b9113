package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// devicesCluster is a cluster with nodes that no agent runs on, which publish devices of a driver.
type devicesCluster struct {
	t *testing.T
	kubernetes.Interface
}

func object[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

// addNode makes a node and gives it a status, by a patch: controllers write a new node, too.
func addNode(t *testing.T, client kubernetes.Interface, name string, status corev1.NodeStatus) {
	t.Helper()
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

func startDevices(t *testing.T) *devicesCluster {
	c := &devicesCluster{t, orchestratortest.Start(t).Client}
	ctx := t.Context()
	if _, err := c.ResourceV1().DeviceClasses().Create(ctx, object[resourcev1.DeviceClass](t,
		`{metadata: {name: gpu.example.com}, spec: {selectors: [{cel: {expression: "device.driver == 'gpu.example.com'"}}]}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, model := range map[string]string{"n1": "A100", "n2": "H100"} {
		status := object[corev1.Node](t, `{status: {conditions: [{type: Ready, status: "True"}], allocatable: {cpu: 8, memory: 8Gi, pods: 110}, capacity: {cpu: 8, memory: 8Gi, pods: 110}}}`).Status
		status.Conditions[0].LastHeartbeatTime = metav1.Now()
		addNode(t, c, name, status)
		if _, err := c.ResourceV1().ResourceSlices().Create(ctx, object[resourcev1.ResourceSlice](t, fmt.Sprintf(`{metadata: {name: %[1]s}, spec: {driver: gpu.example.com, nodeName: %[1]s, pool: {name: %[1]s, generation: 1, resourceSliceCount: 1}, devices: [
			{name: gpu-0, attributes: {model: {string: %[2]s}, version: {version: 9.0.0}}, capacity: {memory: {value: 80Gi}}},
			{name: gpu-1, attributes: {model: {string: %[2]s}, version: {version: 9.0.0}}, capacity: {memory: {value: 80Gi}}}]}}`, name, model)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *devicesCluster) until(what string, is func(ctx context.Context) bool) {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is(c.t.Context()) {
			return
		}
	}
	c.t.Fatalf("never: %s", what)
}

func (c *devicesCluster) pod(name, claim string) {
	c.t.Helper()
	p := object[corev1.Pod](c.t, fmt.Sprintf(`{metadata: {name: %s}, spec: {resourceClaims: [{name: gpu, %s}], containers: [{name: c, image: i, resources: {claims: [{name: gpu}]}}]}}`, name, claim))
	c.until("pod "+name+" is made", func(ctx context.Context) bool {
		_, err := c.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
}

func (c *devicesCluster) node(name string) string {
	p, err := c.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p.Spec.NodeName
}

func (c *devicesCluster) bound(name string) string {
	c.t.Helper()
	c.until("pod "+name+" is bound", func(context.Context) bool { return c.node(name) != "" })
	return c.node(name)
}

// Templates, CEL selectors, sharing, and giving back: a claim's whole life as a client sees it.
func TestPodsGetTheDevicesThatTheyClaim(t *testing.T) {
	c := startDevices(t)
	ctx := t.Context()
	claims := c.ResourceV1().ResourceClaims("default")
	if _, err := c.ResourceV1().ResourceClaimTemplates("default").Create(ctx, object[resourcev1.ResourceClaimTemplate](t, `{metadata: {name: h100}, spec: {metadata: {labels: {for: training}}, spec: {devices: {requests: [{name: r, exactly: {
		deviceClassName: gpu.example.com, selectors: [{cel: {expression: "device.attributes['gpu.example.com'].model == 'H100' && device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) >= 0"}}]}}]}}}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.pod("a", "resourceClaimTemplateName: h100")
	c.pod("b", "resourceClaimTemplateName: h100")
	if a, b := c.bound("a"), c.bound("b"); a != "n2" || b != "n2" {
		t.Errorf("bound to %s and %s", a, b)
	}
	// Both H100s are taken: a third pod waits, and says why.
	c.pod("d", "resourceClaimTemplateName: h100")
	c.until("pod d says why it waits", func(ctx context.Context) bool {
		p, err := c.CoreV1().Pods("default").Get(ctx, "d", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodScheduled && strings.Contains(cond.Message, "2 cannot allocate all claims") {
				return true
			}
		}
		return false
	})
	list, err := claims.List(ctx, metav1.ListOptions{LabelSelector: "for=training"})
	if err != nil || len(list.Items) != 3 {
		t.Fatalf("%d claims, %v", len(list.Items), err)
	}
	owners := map[string]bool{}
	for _, claim := range list.Items {
		owner := metav1.GetControllerOf(&claim)
		if owner == nil || claim.Annotations[resourcev1.PodResourceClaimAnnotation] != "gpu" {
			t.Fatalf("%+v", claim.ObjectMeta)
		}
		if owner.Name == "d" {
			continue
		}
		if claim.Status.Allocation == nil || len(claim.Status.ReservedFor) != 1 || claim.Status.ReservedFor[0].Name != owner.Name || len(claim.Finalizers) != 1 {
			t.Fatalf("%+v", claim)
		}
		device := claim.Status.Allocation.Devices.Results[0]
		if owners[device.Device] || device.Pool != "n2" || device.Driver != "gpu.example.com" || device.Request != "r" {
			t.Errorf("%+v", device)
		}
		owners[device.Device] = true
	}
	// A pod ends: its claim goes, and its device is the next one's.
	p, err := c.CoreV1().Pods("default").Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := *p.Status.ResourceClaimStatuses[0].ResourceClaimName
	p.Status.Phase = corev1.PodSucceeded
	if _, err := c.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.bound("d"); got != "n2" {
		t.Errorf("d is on %s", got)
	}
	c.until("the claim of a pod that has ended is gone", func(ctx context.Context) bool {
		_, err := claims.Get(ctx, first, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	// A pod is deleted: its claim goes with it.
	p, err = c.CoreV1().Pods("default").Get(ctx, "b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	if err := c.CoreV1().Pods("default").Delete(ctx, "b", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	c.until("the claim of a pod that was deleted is gone", func(ctx context.Context) bool {
		_, err := claims.Get(ctx, *p.Status.ResourceClaimStatuses[0].ResourceClaimName, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func TestAClaimIsSharedAndProtected(t *testing.T) {
	c := startDevices(t)
	ctx := t.Context()
	claims := c.ResourceV1().ResourceClaims("default")
	if _, err := claims.Create(ctx, object[resourcev1.ResourceClaim](t, `{metadata: {name: shared}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu.example.com, count: 2}}], constraints: [{matchAttribute: gpu.example.com/model}]}}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.pod("a", "resourceClaimName: shared")
	c.pod("b", "resourceClaimName: shared")
	if a, b := c.bound("a"), c.bound("b"); a != b {
		t.Errorf("the pods of one claim are on %s and %s", a, b)
	}
	claim, err := claims.Get(ctx, "shared", metav1.GetOptions{})
	if err != nil || len(claim.Status.ReservedFor) != 2 || len(claim.Status.Allocation.Devices.Results) != 2 {
		t.Fatalf("%+v %v", claim, err)
	}
	// It is deleted while it is used: it stays until nobody uses it, and nobody new gets it.
	if err := claims.Delete(ctx, "shared", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if claim, err = claims.Get(ctx, "shared", metav1.GetOptions{}); err != nil || claim.DeletionTimestamp == nil {
		t.Fatalf("a claim in use: %+v %v", claim, err)
	}
	c.pod("late", "resourceClaimName: shared")
	zero := int64(0)
	for _, name := range []string{"a", "b"} {
		if err := c.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	c.until("the claim is gone", func(ctx context.Context) bool {
		_, err := claims.Get(ctx, "shared", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if got := c.node("late"); got != "" {
		t.Errorf("a pod got a claim that was being deleted, on %s", got)
	}
	// The device that a client asks for must be one that the claim has.
	if _, err := claims.Create(ctx, object[resourcev1.ResourceClaim](t, `{metadata: {name: bad}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu.example.com, selectors: [{cel: {expression: "device.nothing"}}]}}]}}}`), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "undefined field") {
		t.Error(err)
	}
}
