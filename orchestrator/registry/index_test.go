package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
)

// The index of what nobody controls follows each change, whether it was there before or made by the first question.
func TestOrphansAreThoseWithoutAController(t *testing.T) {
	c := newResource(&api.Kind{Resource: "configmaps"}, 8)
	revision := int64(0)
	set := func(name string, owners ...metav1.OwnerReference) {
		revision++
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, OwnerReferences: owners}}
		c.apply([]change{{key: "a/" + name, entry: &Entry{key: "a/" + name, obj: obj, revision: revision}, revision: revision}}, nil)
	}
	remove := func(name string) {
		revision++
		c.apply([]change{{key: "a/" + name, revision: revision}}, nil)
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, e := range c.orphaned("a") {
			got = append(got, e.obj.GetName())
		}
		if !slices.Equal(got, want) {
			t.Errorf("orphans %v, want %v", got, want)
		}
	}
	yes := true
	controller, owner := metav1.OwnerReference{UID: types.UID("u"), Controller: &yes}, metav1.OwnerReference{UID: types.UID("v")}
	set("one")
	set("two", controller)
	set("three", owner)
	check("one", "three")
	set("two", owner)
	set("one", owner, controller)
	check("three", "two")
	remove("three")
	set("four")
	check("four", "two")
	var entries []*Entry
	for i := range 3 {
		name := fmt.Sprint("new-", i)
		entries = append(entries, &Entry{key: "a/" + name, obj: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}}})
	}
	c.reset(entries, revision+1)
	check("new-0", "new-1", "new-2")
}

// Whatever changes, a list by labels is what a look at every object finds.
func TestIndexesOfLabelsFindWhatALookAtAllFinds(t *testing.T) {
	c, rng, revision := newResource(&api.Kind{Resource: "configmaps"}, 8), rand.New(rand.NewPCG(1, 2)), int64(0)
	some := func(n int) string { return fmt.Sprint(rng.IntN(n)) }
	for step := range 4000 {
		key := "ns" + some(2) + "/o" + some(300)
		revision++
		ch := change{key: key, revision: revision}
		if rng.IntN(4) > 0 {
			ch.entry = &Entry{key: key, revision: revision, obj: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key[:3], Name: key[4:],
				Labels: map[string]string{"a": some(3), "b": some(40), "k" + some(12): "x"}}}}
		}
		c.apply([]change{ch}, nil)
		if step == 2000 {
			all, _, _ := c.snapshot("")
			c.reset(all, revision)
		}
		sel, err := labels.Parse([]string{"a=" + some(3), "a=" + some(3) + ",b=" + some(40), "b in (" + some(40) + ")", "k" + some(12) + "=x", "a!=1,b=" + some(50), "b in (1,2)", "!a"}[rng.IntN(7)])
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range []string{"", "ns0", "ns1", "ns2"} {
			all, _, _ := c.snapshot(ns)
			found, _ := c.candidates(ns, sel)
			matches := func(e *Entry) bool { return !sel.Matches(labels.Set(e.obj.GetLabels())) }
			all, found = slices.DeleteFunc(all, matches), slices.DeleteFunc(found, matches)
			if !slices.Equal(all, found) {
				t.Fatalf("step %d, namespace %q, %s: %d objects, want %d", step, ns, sel, len(found), len(all))
			}
		}
	}
	if n := len(c.indexes.labels); n == 0 || n > maxLabelIndexes {
		t.Errorf("%d keys are indexed, want 1 to %d", n, maxLabelIndexes)
	}
}
