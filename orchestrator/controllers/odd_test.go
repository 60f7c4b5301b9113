package controllers_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// settles fails if somebody goes on writing; leases are the nodes'.
func (c *cluster) settles() {
	c.t.Helper()
	var settled, calm int
	c.eventually(10*time.Minute, func() string {
		before := settled
		if settled = c.fake.Writes() - c.leaseWrites(); settled != before {
			calm = 0
		} else {
			calm++
		}
		if calm < 45 { // longer than a back-off
			return fmt.Sprintf("writes went on to %d", settled)
		}
		return ""
	})
}

func template(labels map[string]string, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](1),
		Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func (c *cluster) rs(name string, replicas int32, selector, labels map[string]string) {
	c.create(reconcile.ReplicaSets(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: selector}, Template: template(labels, "v1")}})
}

// What is odd but allowed costs a while of work, not work for ever, and nobody takes what is another's.
func TestOddObjectsKeepNobodyBusy(t *testing.T) {
	web := map[string]string{"app": "web"}
	pods := func(c *cluster, want int) {
		c.t.Helper()
		n := 0
		for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
			if p.DeletionTimestamp == nil {
				n++
			}
		}
		if n != want {
			c.t.Errorf("%d pods, want %d", n, want)
		}
	}
	deployment := func(name string, replicas int32, edit ...func(*appsv1.Deployment)) *appsv1.Deployment {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: web}, ProgressDeadlineSeconds: ptr.To[int32](600), RevisionHistoryLimit: ptr.To[int32](10), Template: template(web, "v1")}}
		for _, f := range edit {
			f(d)
		}
		return d
	}
	for name, f := range map[string]func(c *cluster){
		"replica sets whose selectors overlap": func(c *cluster) {
			c.rs("one", 2, web, web)
			c.rs("two", 3, web, web)
			c.settles()
			pods(c, 5)
		},
		"deployments whose selectors overlap": func(c *cluster) {
			c.create(reconcile.Deployments(), deployment("one", 2))
			c.create(reconcile.Deployments(), deployment("two", 3))
			c.settles()
			pods(c, 5)
		},
		"a replica set beside a deployment that would adopt it": func(c *cluster) {
			c.rs("orphan", 2, web, web)
			c.create(reconcile.Deployments(), deployment("one", 2))
			c.settles()
			pods(c, 2)
			if rs := get[*appsv1.ReplicaSet](c, reconcile.ReplicaSets(), "shop", "orphan"); metav1.GetControllerOf(rs) == nil {
				c.t.Error("the orphan wasn't adopted")
			}
		},
		"nothing is wanted": func(c *cluster) {
			c.create(reconcile.Deployments(), deployment("none", 0))
			c.settles()
			pods(c, 0)
			d := get[*appsv1.Deployment](c, reconcile.Deployments(), "shop", "none")
			for _, x := range d.Status.Conditions {
				if x.Status != corev1.ConditionTrue {
					c.t.Errorf("%s is %s", x.Type, x.Status)
				}
			}
		},
		"pods that lose and gain the label": func(c *cluster) {
			c.rs("one", 2, web, web)
			c.settles()
			p := list[*corev1.Pod](c, reconcile.Pods(), "shop")[0]
			change(c, reconcile.Pods(), "", "shop", p.Name, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "debug"} })
			c.settles()
			pods(c, 3) // the one that was taken out, and its replacement
			if p = get[*corev1.Pod](c, reconcile.Pods(), "shop", p.Name); metav1.GetControllerOf(p) != nil {
				c.t.Error("it wasn't released")
			}
			change(c, reconcile.Pods(), "", "shop", p.Name, func(p *corev1.Pod) { p.Labels = web })
			c.settles()
			pods(c, 2) // adopted again, one is too many
		},
		"budgets that overlap, and one that can't be kept": func(c *cluster) {
			for name, least := range map[string]string{"a": "1", "b": "200%", "c": "9"} {
				v := intstr.Parse(least)
				c.create(reconcile.PodDisruptionBudgets(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
					Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &v, Selector: &metav1.LabelSelector{MatchLabels: web}}})
			}
			c.rs("one", 2, web, web)
			c.settles()
		},
		"a service whose pods have no such port": func(c *cluster) {
			c.create(reconcile.Services(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{
				ClusterIP: "10.96.0.7", Selector: web, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("nowhere")}}}})
			c.rs("one", 2, web, web)
			c.settles()
		},
		"a surge of nothing and no unavailability": func(c *cluster) {
			c.create(reconcile.Deployments(), deployment("one", 3, func(d *appsv1.Deployment) {
				zero := intstr.FromString("0%")
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &zero, MaxUnavailable: &zero}
			}))
			c.settles()
			change(c, reconcile.Deployments(), "", "shop", "one", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
			c.settles()
			pods(c, 3)
		},
	} {
		t.Run(name, func(t *testing.T) { inCluster(t, reconciletest.Faults{}, 0, f) })
	}
}
