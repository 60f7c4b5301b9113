package apiserver_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applyautoscalingv1 "k8s.io/client-go/applyconfigurations/autoscaling/v1"
)

func TestReplicasHaveOneOwnerThroughScaleAndTheObject(t *testing.T) {
	c := start(t, options{})
	client := c.admin().AppsV1().Deployments("default")
	two := int32(2)
	labels := map[string]string{"a": "b"}
	if _, err := client.Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &two,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}}, metav1.CreateOptions{FieldManager: "creator"}); err != nil {
		t.Fatal(err)
	}
	owner := func() string {
		t.Helper()
		d, err := client.Get(t.Context(), "d", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var owners []string
		for _, m := range d.ManagedFields {
			if strings.Contains(string(m.FieldsV1.Raw), "f:replicas") {
				owners = append(owners, m.Manager+"/"+m.Subresource)
			}
		}
		return strings.Join(owners, " ")
	}
	if got := owner(); got != "creator/" {
		t.Error(got)
	}
	if _, err := client.UpdateScale(t.Context(), "d", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}, metav1.UpdateOptions{FieldManager: "scaler"}); err != nil {
		t.Fatal(err)
	}
	if got := owner(); got != "scaler/scale" {
		t.Error(got)
	}
	apply := func(manager string, replicas int32, force bool) (*autoscalingv1.Scale, error) {
		return client.ApplyScale(t.Context(), "d", applyautoscalingv1.Scale().WithSpec(applyautoscalingv1.ScaleSpec().WithReplicas(replicas)), metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	if _, err := apply("applier", 4, false); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "scaler" with subresource "scale"`) {
		t.Error(err)
	}
	if s, err := apply("applier", 4, true); err != nil || s.Spec.Replicas != 4 {
		t.Error(s, err)
	}
	if got := owner(); got != "applier/scale" {
		t.Error(got)
	}
	if _, err := client.Patch(t.Context(), "d", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{FieldManager: "patcher"}, "scale"); err != nil {
		t.Fatal(err)
	}
	if got := owner(); got != "patcher/scale" {
		t.Error(got)
	}
	_, err := client.UpdateScale(t.Context(), "d", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default", ResourceVersion: "1"}}, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) {
		t.Error("a stale Scale was written:", err)
	}
	if _, body := c.fetch("/apis/apps/v1/namespaces/default/deployments/d/scale", "application/json;as=Table;v=v1;g=meta.k8s.io"); !strings.Contains(string(body), `"Desired"`) || !strings.Contains(string(body), `"cells":["d",1,`) {
		t.Errorf("%.600s", body)
	}
}
