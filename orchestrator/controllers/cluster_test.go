package controllers_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/controllers/kubernetesservice"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// cluster runs all controllers on a fake state in a synctest bubble: time passes only while
// everybody waits, so a test of five minutes takes none, and a goroutine left behind fails it.
type cluster struct {
	t    *testing.T
	fake *reconciletest.Fake
	// dead nodes renew no lease and run no pods. Only the test's goroutine writes it, between synctest.Waits.
	dead   map[string]bool
	second int
	leases int // written by tick
}

func token(_ context.Context, sa *corev1.ServiceAccount, _ *corev1.Secret) (string, error) {
	return "token-of-" + sa.Name, nil
}

// inCluster runs f in a bubble beside the controllers; faults of zero are none.
func inCluster(t *testing.T, faults reconciletest.Faults, seed uint64, f func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, fake: reconciletest.New(nil), dead: map[string]bool{}}
		var client reconcile.Client = c.fake
		if faults != (reconciletest.Faults{}) {
			client = c.fake.Faulty(faults, seed)
		}
		ctl, err := controllers.New(controllers.Config{Client: client, Kinds: api.All(), RootCA: []byte("ca"), ServiceAccountToken: token,
			KubernetesService: kubernetesservice.Config{ClusterIP: "10.96.0.1", Addresses: []string{"192.0.2.1"}, Target: 6443}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ctl.Run(ctx) }()
		<-ctl.Ready()
		for _, ns := range []string{"default", "kube-node-lease", "shop"} {
			c.create(reconcile.Namespaces(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		}
		c.node("n1")
		c.node("n2")
		f(c)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := ctl.Run(t.Context()); err == nil {
			t.Error("a second Run is accepted")
		}
	})
}

func (c *cluster) create(gvr schema.GroupVersionResource, o api.Object) {
	c.t.Helper()
	if _, err := c.fake.Create(context.Background(), gvr, o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) node(name string) {
	c.create(reconcile.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "z-" + name}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}}})
	now := metav1.NowMicro()
	c.create(reconcile.Leases(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: name}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}})
}

func get[T api.Object](c *cluster, gvr schema.GroupVersionResource, ns, name string) T {
	c.t.Helper()
	o, err := reconcile.Get[T](context.Background(), c.fake, gvr, ns, name)
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func list[T api.Object](c *cluster, gvr schema.GroupVersionResource, ns string) []T {
	c.t.Helper()
	o, err := reconcile.List[T](context.Background(), c.fake, gvr, ns, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

// change applies f to the newest state until it is no conflict.
func change[T api.Object](c *cluster, gvr schema.GroupVersionResource, sub, ns, name string, f func(T)) {
	c.t.Helper()
	for {
		o := get[T](c, gvr, ns, name).DeepCopyObject().(T)
		f(o)
		_, err := c.fake.Update(context.Background(), gvr, sub, o)
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) delete(gvr schema.GroupVersionResource, ns, name string) {
	c.t.Helper()
	if err := c.fake.Delete(context.Background(), gvr, ns, name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// tick lets a second pass and then does what a scheduler and kubelets do.
func (c *cluster) tick() {
	time.Sleep(time.Second)
	synctest.Wait()
	c.second++
	ctx := context.Background()
	for _, n := range []string{"n1", "n2"} {
		if !c.dead[n] && c.second%10 == 0 {
			c.leases++
			change(c, reconcile.Leases(), "", "kube-node-lease", n, func(l *coordinationv1.Lease) { l.Spec.RenewTime = ptr.To(metav1.NowMicro()) })
		}
	}
	for i, p := range list[*corev1.Pod](c, reconcile.Pods(), "") {
		n := p.DeepCopy()
		switch {
		case p.Spec.NodeName == "":
			if p.DeletionTimestamp == nil {
				if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil { // a daemon pod names its node
					n.Spec.NodeName = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
					_, _ = c.fake.Update(ctx, reconcile.Pods(), "", n)
					continue
				}
				for j := range 2 {
					if name := fmt.Sprintf("n%d", (i+j)%2+1); !c.dead[name] {
						n.Spec.NodeName = name
						break
					}
				}
				_, _ = c.fake.Update(ctx, reconcile.Pods(), "", n) // a lost race comes again next second
			}
		case c.dead[p.Spec.NodeName]:
		case p.DeletionTimestamp != nil:
			_ = c.fake.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		case p.Status.Phase != corev1.PodRunning:
			n.Status.Phase, n.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.1.%d.%d", c.second%250, i+1)
			n.Status.Conditions = append(n.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			_, _ = c.fake.Update(ctx, reconcile.Pods(), "status", n)
		}
	}
}

// eventually lets up to limit pass until ok says "".
func (c *cluster) eventually(limit time.Duration, ok func() string) {
	c.t.Helper()
	var why string
	for end := time.Now().Add(limit); time.Now().Before(end); {
		synctest.Wait()
		if why = ok(); why == "" {
			return
		}
		c.tick()
	}
	c.t.Fatalf("after %v: %s", limit, why)
}

func (c *cluster) deploy(ns string, replicas int32, tolerations ...corev1.Toleration) {
	l := map[string]string{"app": "web"}
	c.create(reconcile.Deployments(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l}, ProgressDeadlineSeconds: ptr.To[int32](600), RevisionHistoryLimit: ptr.To[int32](10),
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(l)}, Spec: corev1.PodSpec{
			Tolerations: tolerations, TerminationGracePeriodSeconds: ptr.To[int64](30), Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}})
	c.create(reconcile.Services(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.7", Selector: l, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
}

func (c *cluster) leaseWrites() int { return c.leases }
