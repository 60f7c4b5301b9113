package controllers_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func (c *cluster) statefulSet(name string, replicas int32) {
	l := map[string]string{"app": name}
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, ServiceName: name,
		Selector: &metav1.LabelSelector{MatchLabels: l}, Template: template(l, "v1"),
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}},
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Delete", WhenScaled: "Delete"}}}
	api.ByGVR(api.All(), reconcile.StatefulSets()).Default(s)
	c.create(reconcile.StatefulSets(), s)
}

func (c *cluster) daemonSet(name string, surge int) {
	l := map[string]string{"app": name}
	s := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: l}, Template: template(l, "v1"), UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: "RollingUpdate",
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(1 - surge))}}}}
	api.ByGVR(api.All(), reconcile.DaemonSets()).Default(s)
	c.create(reconcile.DaemonSets(), s)
}

// sets says what is missing until the stateful set and both daemon sets are complete with image.
func (c *cluster) sets(image string, replicas int32) string {
	s := get[*appsv1.StatefulSet](c, reconcile.StatefulSets(), "shop", "db")
	if st := s.Status; st.AvailableReplicas != replicas || st.UpdatedReplicas != replicas || st.Replicas != replicas || st.CurrentRevision != st.UpdateRevision || st.ObservedGeneration != s.Generation {
		return fmt.Sprintf("stateful set: %+v", st)
	}
	for _, name := range []string{"logs", "proxy"} {
		d := get[*appsv1.DaemonSet](c, reconcile.DaemonSets(), "shop", name)
		if st := d.Status; st.DesiredNumberScheduled != 2 || st.NumberAvailable != 2 || st.UpdatedNumberScheduled != 2 || st.ObservedGeneration != d.Generation {
			return fmt.Sprintf("daemon set %s: %+v", name, st)
		}
	}
	pods := list[*corev1.Pod](c, reconcile.Pods(), "shop")
	for _, p := range pods {
		if p.Spec.Containers[0].Image != image {
			return p.Name + " is of " + p.Spec.Containers[0].Image
		}
	}
	if len(pods) != int(replicas)+4 {
		return fmt.Sprintf("%d pods", len(pods))
	}
	return ""
}

func setsStory(c *cluster) {
	c.statefulSet("db", 3)
	c.daemonSet("logs", 0)
	c.daemonSet("proxy", 1)
	c.eventually(5*time.Minute, func() string { return c.sets("v1", 3) })
	for what, n := range map[string]int{"pods": 7, "controllerrevisions": 3, "persistentvolumeclaims": 3} { // nothing was made twice
		if got := c.fake.Creates(what); got != n {
			c.t.Errorf("%d %s were created, want %d", got, what, n)
		}
	}
	c.settles()
	change(c, reconcile.StatefulSets(), "", "shop", "db", func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v2" })
	for _, name := range []string{"logs", "proxy"} {
		change(c, reconcile.DaemonSets(), "", "shop", name, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	}
	c.eventually(10*time.Minute, func() string { return c.sets("v2", 3) })
	for what, n := range map[string]int{"pods": 14, "controllerrevisions": 6, "persistentvolumeclaims": 3} {
		if got := c.fake.Creates(what); got != n {
			c.t.Errorf("after an update %d %s were created, want %d", got, what, n)
		}
	}
	// What is scaled away takes its claim along; what is deleted takes everything.
	change(c, reconcile.StatefulSets(), "", "shop", "db", func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](1) })
	claims := func(n int) string {
		if got := len(list[*corev1.PersistentVolumeClaim](c, reconcile.PersistentVolumeClaims(), "shop")); got != n {
			return fmt.Sprintf("%d claims", got)
		}
		return ""
	}
	c.eventually(10*time.Minute, func() string { return c.sets("v2", 1) })
	c.eventually(10*time.Minute, func() string { return claims(1) })
	c.delete(reconcile.StatefulSets(), "shop", "db")
	c.delete(reconcile.DaemonSets(), "shop", "logs")
	c.delete(reconcile.DaemonSets(), "shop", "proxy")
	c.eventually(10*time.Minute, func() string {
		if n := len(list[*corev1.Pod](c, reconcile.Pods(), "shop")); n > 0 {
			return fmt.Sprintf("%d pods are left", n)
		}
		if n := len(list[*appsv1.ControllerRevision](c, reconcile.ControllerRevisions(), "shop")); n > 0 {
			return fmt.Sprintf("%d revisions are left", n)
		}
		return claims(0)
	})
}

func TestSetsLiveAndDieOnAnyClient(t *testing.T) {
	for name, f := range map[string]reconciletest.Faults{
		"good":          {},
		"stale reads":   {Stale: 0.5, StaleFor: 200 * time.Millisecond},
		"rather broken": {Conflict: 0.2, Error: 0.01, Lost: 0.2, Stale: 0.3, Closed: 0.05, Slow: 0.1, Delay: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) { inCluster(t, f, 3, setsStory) })
	}
}

// Two sets whose selectors overlap leave each other's pods alone, and a huge size is worked at in steps.
func TestOddSetsKeepNobodyBusy(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		web := map[string]string{"app": "web"}
		for _, name := range []string{"one", "two"} {
			s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2),
				Selector: &metav1.LabelSelector{MatchLabels: web}, Template: template(web, "v1")}}
			api.ByGVR(api.All(), reconcile.StatefulSets()).Default(s)
			c.create(reconcile.StatefulSets(), s)
		}
		c.rs("three", 2, web, web)
		c.daemonSet("web", 0)
		for range 60 {
			c.tick()
		}
		c.settles()
		if n := len(list[*corev1.Pod](c, reconcile.Pods(), "shop")); n != 8 {
			c.t.Errorf("%d pods, want 2 of each stateful set, 2 of the replica set and 2 of the daemon set", n)
		}
	})
}
