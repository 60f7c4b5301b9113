package gpus_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// From the driver to the container, nothing by hand: the node publishes its GPUs, a claim selects one of them, the scheduler
// chooses, the node injects; and nvidia.com/gpu gets another one.
func TestAClaimedGPUReachesItsContainer(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n1", gputest.TwoL4(), nil)
	ctx := t.Context()
	var listed *resourcev1.ResourceSlice
	until(t, "the node's GPUs are published", func() bool {
		list, err := c.Client.ResourceV1().ResourceSlices().List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1,spec.driver=gpu.nvidia.com"})
		if err != nil || len(list.Items) != 1 || len(list.Items[0].Spec.Devices) != 2 {
			return false
		}
		listed = &list.Items[0]
		return true
	})
	if d := listed.Spec.Devices[0]; d.Attributes["type"].StringValue == nil || *d.Attributes["type"].StringValue != "gpu" || len(d.Capacity) == 0 || d.Attributes["driverVersion"].VersionValue == nil {
		t.Fatalf("%+v", d)
	}
	if len(listed.OwnerReferences) != 1 || listed.OwnerReferences[0].Name != "n1" {
		t.Errorf("%+v", listed.OwnerReferences)
	}
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu.nvidia.com"}, Spec: resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{
		CEL: &resourcev1.CELDeviceSelector{Expression: "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"}}}}}
	if _, err := c.Client.ResourceV1().DeviceClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wanted := *listed.Spec.Devices[1].Attributes["uuid"].StringValue
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "second"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
		Name: "gpu", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu.nvidia.com", Selectors: []resourcev1.DeviceSelector{{
			CEL: &resourcev1.CELDeviceSelector{Expression: "device.attributes['gpu.nvidia.com'].uuid == '" + wanted + "' && device.attributes['gpu.nvidia.com'].driverVersion.isGreaterThan(semver('1.0.0'))"}}}}}}}}}
	if _, err := c.Client.ResourceV1().ResourceClaims("default").Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	name, grace := "second", int64(1)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace,
		ResourceClaims: []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: &name}},
		Containers:     []corev1.Container{{Name: "c", Image: "img", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "mine"}}}}}}}
	if _, err := c.Client.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the pod runs", func() bool { return n.get("p").Status.Phase == corev1.PodRunning })
	grants, err := topology.ParseGrants(n.get("p").Annotations[topology.PodAnnotation])
	if err != nil || len(grants) != 1 || grants[0].GPU != wanted || grants[0].Claim != "default/second" {
		t.Fatalf("%+v %v", grants, err)
	}
	injection, err := n.devices.Injection(n.get("p"), "c")
	if err != nil || len(injection.Devices) == 0 || !slices.ContainsFunc(injection.Env, func(e string) bool { return strings.Contains(e, "NVIDIA_VISIBLE_DEVICES") }) {
		t.Errorf("%+v %v", injection, err)
	}
	// The GPU goes by the bus: its device is tainted, and the slice has a new generation.
	generation := listed.Spec.Pool.Generation
	n.machine.Lose(1)
	until(t, "the lost GPU is tainted or not published", func() bool {
		s, err := c.Client.ResourceV1().ResourceSlices().Get(ctx, listed.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range s.Spec.Devices {
			if d.Attributes["uuid"].StringValue != nil && *d.Attributes["uuid"].StringValue == wanted && len(d.Taints) == 0 {
				return false
			}
		}
		return s.Spec.Pool.Generation > generation
	})
}
