package registry_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

func TestAnObjectGoesWithItsLastFinalizer(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	cm := configMap("a")
	cm.Finalizers = []string{"example.com/one", "example.com/two"}
	create(t, r, cms, cm)
	e, gone, err := r.Delete(t.Context(), cms, "default", "a", metav1.DeleteOptions{}, "me")
	if err != nil || gone || e.Object().GetDeletionTimestamp() == nil {
		t.Fatalf("%v %v %v", e, gone, err)
	}
	if again, gone, err := r.Delete(t.Context(), cms, "default", "a", metav1.DeleteOptions{}, "me"); err != nil || gone || again != e {
		t.Errorf("a second deletion: %v %v %v", again, gone, err)
	}
	obj := e.Object().(*corev1.ConfigMap).DeepCopy()
	more := obj.DeepCopy()
	more.Finalizers = append(more.Finalizers, "example.com/three")
	_, err = r.Update(t.Context(), cms, "", more, registry.UpdateOptions{})
	refused(t, err, apierrors.IsInvalid, "no new finalizers can be added if the object is being deleted")
	obj.Finalizers = obj.Finalizers[:1]
	obj = update(t, r, cms, "", obj)
	obj.Finalizers = nil
	update(t, r, cms, "", obj)
	_, err = r.Get(t.Context(), cms, "default", "a")
	refused(t, err, apierrors.IsNotFound, "")
}

func TestPropagationBecomesAFinalizer(t *testing.T) {
	r := open(t)
	for policy, finalizer := range map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationForeground: "foregroundDeletion", metav1.DeletePropagationOrphan: "orphan", metav1.DeletePropagationBackground: "",
	} {
		name := strings.ToLower(string(policy))
		create(t, r, core("configmaps"), configMap(name))
		e, gone, err := r.Delete(t.Context(), core("configmaps"), "default", name, metav1.DeleteOptions{PropagationPolicy: &policy}, "me")
		if err != nil || gone != (finalizer == "") || strings.Join(e.Object().GetFinalizers(), ",") != finalizer {
			t.Errorf("%s: %v %v %v", policy, e.Object().GetFinalizers(), gone, err)
		}
	}
}

func TestPodsEndGracefully(t *testing.T) {
	r := open(t)
	pods := core("pods")
	grace := func(n int64) metav1.DeleteOptions { return metav1.DeleteOptions{GracePeriodSeconds: &n} }

	create(t, r, pods, pod("waiting"))
	if _, gone, err := r.Delete(t.Context(), pods, "default", "waiting", metav1.DeleteOptions{}, "me"); err != nil || !gone {
		t.Errorf("a pod without a node: %v %v", gone, err)
	}

	p := create(t, r, pods, pod("bound"))
	if _, err := r.Bind(t.Context(), "default", "bound", p.UID, "n1", registry.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Bind(t.Context(), "default", "bound", p.UID, "n2", registry.CreateOptions{})
	refused(t, err, apierrors.IsConflict, `pod bound is already assigned to node "n1"`)
	for n, step := range []struct {
		opts metav1.DeleteOptions
		want int64
		gone bool
	}{{metav1.DeleteOptions{}, 30, false}, {metav1.DeleteOptions{}, 30, false}, {grace(60), 30, false}, {grace(5), 5, false}, {grace(0), 0, true}} {
		e, gone, err := r.Delete(t.Context(), pods, "default", "bound", step.opts, "me")
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Object().GetDeletionGracePeriodSeconds(); gone != step.gone || got == nil || *got != step.want {
			t.Errorf("deletion %d: grace %v, gone %v", n, got, gone)
		}
	}
	_, err = r.Get(t.Context(), pods, "default", "bound")
	refused(t, err, apierrors.IsNotFound, "")
}

func TestANamespaceEndsWhenItIsEmpty(t *testing.T) {
	r := open(t)
	nss := core("namespaces")
	create(t, r, nss, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	e, gone, err := r.Delete(t.Context(), nss, "", "x", metav1.DeleteOptions{}, "me")
	if err != nil || gone {
		t.Fatalf("%v %v", gone, err)
	}
	ns := e.Object().(*corev1.Namespace).DeepCopy()
	if ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Errorf("%+v", ns)
	}
	_, err = r.Create(t.Context(), core("configmaps"), &corev1.ConfigMap{ObjectMeta: meta("x", "a")}, registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, "because it is being terminated")
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Error("the cause is missing")
	}
	ns.Spec.Finalizers = nil
	update(t, r, nss, "finalize", ns)
	_, err = r.Get(t.Context(), nss, "", "x")
	refused(t, err, apierrors.IsNotFound, "")
	_, _, err = r.Delete(t.Context(), nss, "", "default", metav1.DeleteOptions{}, "me")
	refused(t, err, apierrors.IsForbidden, "may not be deleted")
}

func TestPodsGetTheirServiceAccountsToken(t *testing.T) {
	r := open(t)
	p := create(t, r, core("pods"), pod("a"))
	if p.Spec.ServiceAccountName != "default" || len(p.Spec.Volumes) != 1 || !strings.HasPrefix(p.Spec.Volumes[0].Name, "kube-api-access-") ||
		p.Spec.Containers[0].VolumeMounts[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" || len(p.Spec.Tolerations) != 2 || *p.Spec.Priority != 0 {
		t.Errorf("%+v", p.Spec)
	}
	other := pod("b")
	other.Spec.ServiceAccountName = "nobody"
	_, err := r.Create(t.Context(), core("pods"), other, registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, `error looking up service account default/nobody: serviceaccount "nobody" not found`)
}
