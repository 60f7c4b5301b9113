package controllers_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
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
