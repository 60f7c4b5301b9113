package apiserver_test

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// wantManagers compares who is said to manage an object: one entry for each manager, operation and subresource.
func wantManagers(t *testing.T, obj metav1.Object, want ...string) {
	t.Helper()
	var got []string
	for _, m := range obj.GetManagedFields() {
		entry := m.Manager + " " + string(m.Operation)
		if m.Subresource != "" {
			entry += " " + m.Subresource
		}
		if m.FieldsV1 == nil || len(m.FieldsV1.GetRawBytes()) == 0 || m.Time == nil || m.APIVersion == "" {
			t.Errorf("%s is not complete: %+v", entry, m)
		}
		got = append(got, entry)
	}
	slices.Sort(got) // by time they are, to the second
	if !slices.Equal(got, want) {
		t.Fatalf("managers %q, want %q", got, want)
	}
}

// A client that names no field manager is known by its user agent, up to the first slash.
func TestWritersAreKnownByTheirUserAgent(t *testing.T) {
	c := start(t, options{})
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			cfg := c.config()
			cfg.ContentType = contentType
			cfg.UserAgent = "vendor/v1.2 (linux/amd64) build"
			client := c.clientset(cfg)
			ctx := t.Context()
			name := map[bool]string{true: "json", false: "protobuf"}[contentType == "application/json"]

			maps := client.CoreV1().ConfigMaps("default")
			made, err := maps.Create(ctx, configMap(name), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantManagers(t, made, "vendor Update")
			made.Data["more"] = "x"
			other := c.config()
			other.UserAgent = "other/v2"
			if made, err = c.clientset(other).CoreV1().ConfigMaps("default").Update(ctx, made, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			wantManagers(t, made, "other Update", "vendor Update")
			if made, err = maps.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"third":"y"}}`), metav1.PatchOptions{FieldManager: "named"}); err != nil {
				t.Fatal(err)
			}
			wantManagers(t, made, "named Update", "other Update", "vendor Update")

			deployments := client.AppsV1().Deployments("default")
			d, err := deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
					Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
			}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantManagers(t, d, "vendor Update")
			d.Status.ObservedGeneration = 1
			if d, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			wantManagers(t, d, "vendor Update", "vendor Update status")
			if _, err = deployments.UpdateScale(ctx, name, &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
				Spec: autoscalingv1.ScaleSpec{Replicas: 3}}, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if d, err = deployments.Get(ctx, name, metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			wantManagers(t, d, "vendor Update", "vendor Update scale", "vendor Update status")
		})
	}
}
