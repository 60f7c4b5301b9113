package controllers_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func owned(name string, by ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, OwnerReferences: by}}
}

func (c *cluster) ref(name string) metav1.OwnerReference {
	o := get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "shop", name)
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: o.UID, BlockOwnerDeletion: ptr.To(true)}
}

func (c *cluster) has(name string) bool {
	return get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "shop", name) != nil
}

func (c *cluster) deleteWith(name string, policy metav1.DeletionPropagation) {
	c.t.Helper()
	if err := c.fake.Delete(context.Background(), reconcile.ConfigMaps(), "shop", name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

func TestGarbageIsCollectedByOwner(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		add := func(name string, by ...string) {
			o := owned(name)
			for _, b := range by {
				o.OwnerReferences = append(o.OwnerReferences, c.ref(b))
			}
			c.create(reconcile.ConfigMaps(), o)
			synctest.Wait()
		}
		// Background: the owner goes at once, then all below it, without a second look.
		add("a")
		add("b", "a")
		add("c", "b")
		c.deleteWith("a", metav1.DeletePropagationBackground)
		if c.has("a") || c.has("b") || c.has("c") {
			t.Error("background deletion left something")
		}
		// Foreground: the owner stays until the last dependent has gone.
		add("a")
		add("b", "a")
		change(c, reconcile.ConfigMaps(), "", "shop", "b", func(o *corev1.ConfigMap) { o.Finalizers = []string{"example.com/wait"} })
		c.deleteWith("a", metav1.DeletePropagationForeground)
		if !c.has("a") || !c.has("b") {
			t.Error("foreground deletion didn't wait")
		}
		change(c, reconcile.ConfigMaps(), "", "shop", "b", func(o *corev1.ConfigMap) {
			o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == "example.com/wait" })
		})
		synctest.Wait()
		if c.has("a") || c.has("b") {
			t.Error("foreground deletion left something")
		}
		// Orphan: the dependents lose the reference and stay.
		add("a")
		add("b", "a")
		c.deleteWith("a", metav1.DeletePropagationOrphan)
		if c.has("a") || !c.has("b") || len(get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "shop", "b").OwnerReferences) != 0 {
			t.Error("orphaning went wrong")
		}
		// Of two owners one may go.
		add("x")
		add("y")
		add("z", "x", "y")
		c.deleteWith("x", metav1.DeletePropagationBackground)
		if !c.has("z") || len(get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "shop", "z").OwnerReferences) != 1 {
			t.Error("the second owner's dependent went, or kept the first's reference")
		}
		c.deleteWith("y", metav1.DeletePropagationBackground)
		if c.has("z") {
			t.Error("a dependent outlived both owners")
		}
	})
}

func TestForegroundDeletionWaitsForNobodyWhoStaysOrWaitsItself(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		add := func(name string, by ...string) {
			o := owned(name)
			for _, b := range by {
				o.OwnerReferences = append(o.OwnerReferences, c.ref(b))
			}
			c.create(reconcile.ConfigMaps(), o)
			synctest.Wait()
		}
		// A dependent that another owner keeps is not waited for.
		add("x")
		add("y")
		add("z", "x", "y")
		c.deleteWith("x", metav1.DeletePropagationForeground)
		if c.has("x") || !c.has("z") || len(get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "shop", "z").OwnerReferences) != 1 {
			t.Error("the first owner waits for a dependent that the second keeps")
		}
		// Owners in a circle.
		add("a")
		add("b", "a")
		change(c, reconcile.ConfigMaps(), "", "shop", "a", func(o *corev1.ConfigMap) { o.OwnerReferences = []metav1.OwnerReference{c.ref("b")} })
		time.Sleep(5 * time.Second)
		if synctest.Wait(); !c.has("a") || !c.has("b") {
			t.Error("a circle of owners was collected")
		}
		c.deleteWith("a", metav1.DeletePropagationForeground)
		time.Sleep(5 * time.Second)
		if synctest.Wait(); c.has("a") || c.has("b") {
			t.Error("a circle of owners waits for itself")
		}
		// An owner of that name, but another one.
		add("a")
		o := owned("impostor")
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "another"}}
		c.create(reconcile.ConfigMaps(), o)
		// A namespaced owner does not reach into another namespace; a cluster-scoped one does.
		ns := get[*corev1.Namespace](c, reconcile.Namespaces(), "", "default")
		o = owned("of-a-namespace")
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: "default", UID: ns.UID}}
		c.create(reconcile.ConfigMaps(), o)
		far := owned("far")
		far.Namespace, far.OwnerReferences = "default", []metav1.OwnerReference{c.ref("a")}
		c.create(reconcile.ConfigMaps(), far)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if c.has("impostor") {
			t.Error("another UID counts as the owner")
		}
		if !c.has("of-a-namespace") {
			t.Error("a cluster-scoped owner isn't found")
		}
		if get[*corev1.ConfigMap](c, reconcile.ConfigMaps(), "default", "far") != nil {
			t.Error("an owner in another namespace counts")
		}
	})
}

func TestANamespaceThatCannotGoSaysWhy(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		held := owned("held")
		held.Finalizers = []string{"example.com/wait"}
		c.create(reconcile.ConfigMaps(), held)
		synctest.Wait()
		c.delete(reconcile.Namespaces(), "", "shop")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		ns := get[*corev1.Namespace](c, reconcile.Namespaces(), "", "shop")
		said := map[corev1.NamespaceConditionType]string{}
		for _, x := range ns.Status.Conditions {
			if x.Status == corev1.ConditionTrue {
				said[x.Type] = x.Reason + ": " + x.Message
			}
		}
		want := map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining:    "SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances",
			corev1.NamespaceFinalizersRemaining: "SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances",
		}
		if !maps.Equal(said, want) {
			t.Errorf("got %v, want %v", said, want)
		}
		change(c, reconcile.ConfigMaps(), "", "shop", "held", func(o *corev1.ConfigMap) { o.Finalizers = nil })
		time.Sleep(2 * time.Second)
		if synctest.Wait(); get[*corev1.Namespace](c, reconcile.Namespaces(), "", "shop") != nil {
			t.Error("it stays though nothing is left")
		}
	})
}

func TestEndpointsWithoutASelectorReachTheService(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		c.create(reconcile.Endpoints(), &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"},
			Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}, Ports: []corev1.EndpointPort{{Port: 5432}}}}})
		c.create(reconcile.Services(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"},
			Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 5432}}}})
		synctest.Wait()
		mirrored := func() int {
			return len(slices.DeleteFunc(list[*discoveryv1.EndpointSlice](c, reconcile.EndpointSlices(), "shop"), func(es *discoveryv1.EndpointSlice) bool {
				return es.Labels[discoveryv1.LabelServiceName] != "db" || len(es.Endpoints) != 1 || es.Endpoints[0].Addresses[0] != "192.0.2.7"
			}))
		}
		if n := mirrored(); n != 1 {
			t.Fatalf("%d slices", n)
		}
		c.delete(reconcile.Endpoints(), "shop", "db")
		if synctest.Wait(); mirrored() != 0 {
			t.Error("the slice outlives the Endpoints")
		}
	})
}

func TestAnOwnerThatWasNeverSeenGetsASecondLook(t *testing.T) {
	inCluster(t, reconciletest.Faults{}, 0, func(c *cluster) {
		early := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "late", UID: "late-uid"}
		c.create(reconcile.ConfigMaps(), owned("early", early))
		c.create(reconcile.ConfigMaps(), owned("orphan", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: types.UID("never")}))
		c.create(reconcile.ConfigMaps(), owned("foreign", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: "w"}))
		synctest.Wait()
		o := owned("late")
		o.UID = "late-uid"
		c.create(reconcile.ConfigMaps(), o)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !c.has("early") || !c.has("foreign") {
			t.Error("a dependent whose owner came late, or is of a kind that we don't know, was collected")
		}
		if c.has("orphan") {
			t.Error("a dependent of nobody stayed")
		}
	})
}
