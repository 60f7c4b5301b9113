package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewRefusesAConfigWithoutClientOrKinds(t *testing.T) {
	for name, cfg := range map[string]controllers.Config{
		"Config.Client": {Kinds: api.All()},
		"Config.Kinds":  {Client: reconciletest.New(nil)},
	} {
		if _, err := controllers.New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// readyIn counts the ready endpoints of a service's slices.
func (c *cluster) readyIn(ns, svc string) (n int) {
	for _, es := range list[*discoveryv1.EndpointSlice](c, reconcile.EndpointSlices(), ns) {
		if es.Labels[discoveryv1.LabelServiceName] != svc {
			continue
		}
		for _, ep := range es.Endpoints {
			if *ep.Conditions.Ready {
				n++
			}
		}
	}
	return n
}

// serving says what is missing until n pods of "web" serve.
func (c *cluster) serving(ns string, n int) string {
	d := get[*appsv1.Deployment](c, reconcile.Deployments(), ns, "web")
	if d.Status.AvailableReplicas != int32(n) || d.Status.Replicas != int32(n) || d.Status.ObservedGeneration != d.Generation {
		return fmt.Sprintf("deployment status %+v", d.Status)
	}
	if got := c.readyIn(ns, "web"); got != n {
		return fmt.Sprintf("%d ready endpoints of %d", got, n)
	}
	addresses := 0
	if e := get[*corev1.Endpoints](c, reconcile.Endpoints(), ns, "web"); e != nil {
		for _, s := range e.Subsets {
			addresses += len(s.Addresses)
		}
	}
	if addresses != n {
		return fmt.Sprintf("%d addresses in Endpoints", addresses)
	}
	return ""
}

func (c *cluster) furnished(namespaces ...string) string {
	for _, ns := range namespaces {
		if get[*corev1.ServiceAccount](c, reconcile.ServiceAccounts(), ns, "default") == nil {
			return ns + " has no default service account"
		}
		if cm := get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), ns, "kube-root-ca.crt"); cm == nil || cm.Data["ca.crt"] != "ca" {
			return ns + " has no kube-root-ca.crt"
		}
	}
	return ""
}

// story is a deployment's whole life; every step must come true on a good client and on a bad one.
func story(c *cluster) {
	t := c.t
	c.deploy("shop", 3)
	c.create(reconcile.PodDisruptionBudgets(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}})
	c.create(reconcile.Secrets(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "tok", Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
		Type: corev1.SecretTypeServiceAccountToken})
	c.eventually(5*time.Minute, func() string { return c.furnished("default", "shop", "kube-node-lease") })
	c.eventually(5*time.Minute, func() string { return c.serving("shop", 3) })
	c.eventually(5*time.Minute, func() string {
		if s := get[*policyv1.PodDisruptionBudget](c, reconcile.PodDisruptionBudgets(), "shop", "web").Status; s.CurrentHealthy != 3 || s.DesiredHealthy != 2 || s.DisruptionsAllowed != 1 || s.ExpectedPods != 3 {
			return fmt.Sprintf("budget %+v", s)
		}
		return ""
	})
	c.eventually(5*time.Minute, func() string {
		if get[*corev1.Secret](c, reconcile.Secrets(), "shop", "tok") != nil {
			return "the token of an account that does not exist is still there"
		}
		if get[*corev1.Service](c, reconcile.Services(), "default", "kubernetes") == nil || get[*corev1.Endpoints](c, reconcile.Endpoints(), "default", "kubernetes") == nil || c.readyIn("default", "kubernetes") != 1 {
			return "default/kubernetes is not published"
		}
		return ""
	})
	// Nothing was made twice.
	for resource, n := range map[string]int{"pods": 3, "replicasets": 1, "endpointslices": 2, "endpoints": 2, "services": 2, "serviceaccounts": 3} {
		if got := c.fake.Creates(resource); got != n {
			t.Errorf("%d %s were created, want %d", got, resource, n)
		}
	}
	var settled int
	c.eventually(10*time.Minute, func() string { // and nobody goes on writing; leases are the kubelets'
		before := settled
		if settled = c.fake.Writes() - c.leaseWrites(); settled != before {
			return fmt.Sprintf("writes went on to %d", settled)
		}
		return ""
	})

	// An update rolls all pods forward.
	change(c, reconcile.Deployments(), "", "shop", "web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.eventually(10*time.Minute, func() string {
		for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
			if p.Spec.Containers[0].Image != "v2" {
				return "a pod of v1 is left"
			}
		}
		return c.serving("shop", 3)
	})

	// Deleting the deployment collects sets and pods; the service stays, without endpoints.
	c.delete(reconcile.Deployments(), "shop", "web")
	c.eventually(10*time.Minute, func() string {
		if n := len(list[*appsv1.ReplicaSet](c, reconcile.ReplicaSets(), "shop")); n > 0 {
			return fmt.Sprintf("%d replica sets left", n)
		}
		if n := len(list[*corev1.Pod](c, reconcile.Pods(), "shop")); n > 0 {
			return fmt.Sprintf("%d pods left", n)
		}
		if n := c.readyIn("shop", "web"); n > 0 {
			return fmt.Sprintf("%d endpoints left", n)
		}
		return ""
	})

	// Deleting the namespace empties it and lets it go.
	c.create(reconcile.Pods(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "slow"}, Spec: corev1.PodSpec{NodeName: "n1"}})
	c.tick()
	c.delete(reconcile.Namespaces(), "", "shop")
	c.eventually(10*time.Minute, func() string {
		if get[*corev1.Namespace](c, reconcile.Namespaces(), "", "shop") != nil {
			return "the namespace is still there"
		}
		return ""
	})
	for _, k := range api.All() {
		if k.Namespaced && k.StoredAs.Resource == "" {
			if left := list[api.Object](c, k.GVR(), "shop"); len(left) > 0 {
				t.Errorf("%d %s left in a namespace that is gone, such as %s", len(left), k.Resource, left[0].GetName())
			}
		}
	}
	if why := c.furnished("default"); why != "" {
		t.Error(why)
	}
}

func TestADeploymentLivesAndDies(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, story)
}

func TestADeploymentLivesAndDiesOnABadClient(t *testing.T) {
	for name, f := range map[string]reconciletest.Faults{
		"conflicts":     {Conflict: 0.3},
		"errors":        {Error: 0.05},
		"lost answers":  {Lost: 0.3},
		"stale reads":   {Stale: 0.5, StaleFor: 200 * time.Millisecond},
		"closed watch":  {Closed: 0.3},
		"slow and all":  {Conflict: 0.1, Error: 0.02, Lost: 0.1, Stale: 0.2, Closed: 0.1, Slow: 0.1, Delay: 50 * time.Millisecond},
		"rather broken": {Conflict: 0.3, Error: 0.04, Lost: 0.3, Stale: 0.3, Closed: 0.3},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) { inCluster(t, f, seed, story) })
		}
	}
}

func TestAPodThatIsDeletedLeavesItsServiceAtOnce(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		c.deploy("shop", 3)
		c.eventually(time.Minute, func() string { return c.serving("shop", 3) })
		began := time.Now()
		c.delete(reconcile.Pods(), "shop", list[*corev1.Pod](c, reconcile.Pods(), "shop")[0].Name)
		synctest.Wait() // no timer fires in here: what waits for one hasn't happened
		if n := c.readyIn("shop", "web"); n != 2 {
			t.Errorf("%d endpoints are ready", n)
		}
		terminating := 0
		for _, es := range list[*discoveryv1.EndpointSlice](c, reconcile.EndpointSlices(), "shop") {
			for _, ep := range es.Endpoints {
				if *ep.Conditions.Terminating && *ep.Conditions.Serving {
					terminating++
				}
			}
		}
		if terminating != 1 {
			t.Errorf("%d endpoints are terminating", terminating)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func taints(n *corev1.Node) (out []string) {
	for _, t := range n.Spec.Taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	return out
}

func TestASilentNodeIsTaintedAndItsPodsAreEvictedAfterTheirTolerance(t *testing.T) {
	for name, f := range map[string]reconciletest.Faults{"good": {}, "bad": {Conflict: 0.2, Error: 0.02, Lost: 0.2, Stale: 0.2, Closed: 0.1}} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, f, 7, func(c *cluster) {
				c.deploy("shop", 4, corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)})
				c.create(reconcile.Pods(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "daemon"}, Spec: corev1.PodSpec{NodeName: "n1",
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}})
				c.eventually(5*time.Minute, func() string { return c.serving("shop", 4) })
				c.dead["n1"] = true
				died := time.Now()
				c.eventually(2*time.Minute, func() string {
					n := get[*corev1.Node](c, reconcile.Nodes(), "", "n1")
					if n.Status.Conditions[0].Status != corev1.ConditionUnknown {
						return fmt.Sprintf("conditions %+v", n.Status.Conditions)
					}
					if got := strings.Join(taints(n), " "); got != "node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute" {
						return "taints " + got
					}
					for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
						if ok, _ := reconcile.PodReady(p); ok && p.Spec.NodeName == "n1" {
							return "a pod of the silent node is ready"
						}
					}
					return ""
				})
				if d := time.Since(died); d < 30*time.Second {
					t.Errorf("unreachable after only %v", d)
				}
				if n := get[*corev1.Node](c, reconcile.Nodes(), "", "n2"); len(n.Spec.Taints) > 0 {
					t.Errorf("the other node has taints %v", taints(n))
				}
				tainted := time.Now()
				for time.Since(tainted) < 290*time.Second {
					c.tick()
				}
				for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
					if p.DeletionTimestamp != nil {
						t.Fatalf("%s was evicted before its tolerance ended", p.Name)
					}
				}
				c.eventually(5*time.Minute, func() string { return c.serving("shop", 4) })
				for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
					if on1 := p.Spec.NodeName == "n1"; on1 && p.Name != "daemon" && p.DeletionTimestamp == nil || p.Name == "daemon" && p.DeletionTimestamp != nil {
						t.Errorf("%s on %s: deleted %v", p.Name, p.Spec.NodeName, p.DeletionTimestamp)
					}
					n := 0
					for _, x := range p.Status.Conditions {
						if x.Type == corev1.DisruptionTarget {
							n++
						}
					}
					if n > 1 {
						t.Errorf("%s has %d DisruptionTarget conditions", p.Name, n)
					}
				}
				// It comes back: the taints go, its terminating pods end.
				c.dead["n1"] = false
				change(c, reconcile.Nodes(), "status", "", "n1", func(n *corev1.Node) {
					n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
				})
				c.eventually(2*time.Minute, func() string { return strings.Join(taints(get[*corev1.Node](c, reconcile.Nodes(), "", "n1")), " ") })
				// It is removed: its pods, also those that tolerate everything, are garbage.
				c.dead["n1"] = true
				c.delete(reconcile.Nodes(), "", "n1")
				c.eventually(10*time.Minute, func() string {
					for _, p := range list[*corev1.Pod](c, reconcile.Pods(), "shop") {
						if p.Spec.NodeName == "n1" {
							return p.Name + " is left"
						}
					}
					return c.serving("shop", 4)
				})
			})
		})
	}
}
