package registry_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/registry"
)

func TestAListAndAWatchFromItMissNothing(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	create(t, r, cms, configMap("a"))
	list, err := r.List(t.Context(), cms, "", registry.ListOptions{})
	if err != nil || len(list.Entries) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	create(t, r, cms, configMap("b"))
	update(t, r, cms, "", configMap("b", "k", "v"))
	if _, _, err := r.Delete(t.Context(), cms, "default", "a", metav1.DeleteOptions{}, "me"); err != nil {
		t.Fatal(err)
	}
	w, err := r.Watch(t.Context(), cms, registry.WatchOptions{FromRevision: list.Revision})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for _, want := range []string{"ADDED b", "MODIFIED b", "DELETED a"} {
		if ev := next(t, w); describe(ev) != want || ev.Entry.Object().GetResourceVersion() != fmt.Sprint(ev.Revision) {
			t.Errorf("%s, not %s", describe(ev), want)
		}
	}
}

func TestInitialEventsEndWithABookmark(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	create(t, r, cms, configMap("a"))
	w, err := r.Watch(t.Context(), cms, registry.WatchOptions{InitialEvents: true, Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, w); describe(ev) != "ADDED a" {
		t.Error(describe(ev))
	}
	if ev := next(t, w); ev.Type != watch.Bookmark || !ev.InitialEventsEnd || ev.Revision == 0 {
		t.Errorf("%+v", ev)
	}
	create(t, r, cms, configMap("b"))
	if ev := next(t, w); describe(ev) != "ADDED b" {
		t.Error(describe(ev))
	}
	w.Stop()
	w.Stop()
	for range w.Events() {
	}
	if w.Err() != nil {
		t.Error(w.Err())
	}
}

func TestObjectsEnterAndLeaveASelector(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	w, err := r.Watch(t.Context(), cms, registry.WatchOptions{Selector: labels.SelectorFromSet(labels.Set{"in": "yes"})})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	cm := create(t, r, cms, configMap("a"))
	cm.Labels = map[string]string{"in": "yes"}
	cm = update(t, r, cms, "", cm)
	cm.Data = map[string]string{"k": "v"}
	cm = update(t, r, cms, "", cm)
	cm.Labels = nil
	cm = update(t, r, cms, "", cm)
	for _, want := range []string{"ADDED a", "MODIFIED a", "DELETED a"} {
		ev := next(t, w)
		if describe(ev) != want {
			t.Errorf("%s, not %s", describe(ev), want)
		}
		if ev.Type == watch.Deleted && (ev.Entry.Object().GetLabels()["in"] != "yes" || ev.Entry.Object().GetResourceVersion() != cm.ResourceVersion) {
			t.Errorf("%+v", ev.Entry.Object())
		}
	}
}

func TestASlowWatcherIsEndedAndHoldsUpNobody(t *testing.T) {
	r := open(t, func(c *registry.Config) { c.RecentEvents = 8 })
	cms := core("configmaps")
	first := create(t, r, cms, configMap("a"))
	w, err := r.Watch(t.Context(), cms, registry.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for n := range 100 {
		update(t, r, cms, "", configMap("a", "n", fmt.Sprint(n)))
	}
	for range w.Events() {
	}
	refused(t, w.Err(), apierrors.IsResourceExpired, "")
	var revision int64
	_, _ = fmt.Sscan(first.ResourceVersion, &revision)
	_, err = r.Watch(t.Context(), cms, registry.WatchOptions{FromRevision: revision})
	refused(t, err, apierrors.IsResourceExpired, "")
}

func TestPagesHoldAtTheRevisionOfTheFirst(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	for n := range 5 {
		create(t, r, cms, configMap(fmt.Sprint("c", n)))
	}
	opts := registry.ListOptions{Limit: 2}
	page, err := r.List(t.Context(), cms, "default", opts)
	if err != nil || page.Remaining == nil || *page.Remaining != 3 {
		t.Fatalf("%+v %v", page, err)
	}
	if _, _, err := r.Delete(t.Context(), cms, "default", "c4", metav1.DeleteOptions{}, "me"); err != nil {
		t.Fatal(err)
	}
	create(t, r, cms, configMap("c9"))
	var names []string
	for _, e := range page.Entries {
		names = append(names, e.Object().GetName())
	}
	for revision := page.Revision; page.Continue != ""; {
		opts.Continue = page.Continue
		if page, err = r.List(t.Context(), cms, "default", opts); err != nil {
			t.Fatal(err)
		}
		if page.Revision != revision {
			t.Errorf("a page holds at %d, not %d", page.Revision, revision)
		}
		for _, e := range page.Entries {
			names = append(names, e.Object().GetName())
		}
	}
	if got := fmt.Sprint(names); got != "[c0 c1 c2 c3 c4]" {
		t.Error(got)
	}
	_, err = r.List(t.Context(), cms, "", registry.ListOptions{Continue: "nonsense"})
	refused(t, err, apierrors.IsBadRequest, "continue")
}

func TestFieldSelectors(t *testing.T) {
	r := open(t)
	create(t, r, core("pods"), pod("a"))
	create(t, r, core("pods"), pod("b"))
	if _, err := r.Bind(t.Context(), "default", "b", "", "n1", registry.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for selector, want := range map[string]int{"metadata.name=a": 1, "spec.nodeName=n1": 1, "spec.nodeName!=n1": 1, "metadata.namespace=default": 2, "spec.nodeName=n2": 0} {
		list, err := r.List(t.Context(), core("pods"), "", registry.ListOptions{Fields: fields.ParseSelectorOrDie(selector)})
		if err != nil || len(list.Entries) != want {
			t.Errorf("%s: %d, %v", selector, len(list.Entries), err)
		}
	}
	_, err := r.List(t.Context(), core("pods"), "", registry.ListOptions{Fields: fields.ParseSelectorOrDie("spec.nonsense=1")})
	refused(t, err, apierrors.IsBadRequest, "field label not supported: spec.nonsense")
}

func TestEventsAreOneThingInTwoGroups(t *testing.T) {
	r := open(t)
	gvr := eventsv1.SchemeGroupVersion.WithResource("events")
	w, err := r.Watch(t.Context(), gvr, registry.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	create(t, r, core("events"), &corev1.Event{ObjectMeta: meta("default", "e"), Reason: "Because", Message: "note",
		InvolvedObject: corev1.ObjectReference{Namespace: "default", Kind: "Pod", Name: "a"}})
	ev := next(t, w)
	got, ok := ev.Entry.Object().(*eventsv1.Event)
	if !ok || got.Note != "note" || got.APIVersion != "events.k8s.io/v1" {
		t.Errorf("%+v", ev.Entry.Object())
	}
	got = got.DeepCopy()
	got.Series = &eventsv1.EventSeries{Count: 7}
	update(t, r, gvr, "", got)
	e, err := r.Get(t.Context(), core("events"), "default", "e")
	if s := e.Object().(*corev1.Event).Series; err != nil || s == nil || s.Count != 7 {
		t.Errorf("%v %v", e, err)
	}
}

func TestTheClientIsWhatControllersExpect(t *testing.T) {
	r := open(t)
	c := r.Client("system:kube-controller-manager", "system:masters")
	cms := core("configmaps")
	w, err := c.Watch(t.Context(), cms)
	if err != nil {
		t.Fatal(err)
	}
	if ev := <-w.ResultChan(); ev.Type != watch.Bookmark {
		t.Errorf("%+v", ev)
	}
	owner, err := c.Create(t.Context(), cms, configMap("owner"))
	if err != nil {
		t.Fatal(err)
	}
	owned := configMap("owned")
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.GetUID()}}
	if _, err := c.Create(t.Context(), cms, owned); err != nil {
		t.Fatal(err)
	}
	if objs, err := c.Owned(t.Context(), cms, owner.GetUID()); err != nil || len(objs) != 1 || objs[0].GetName() != "owned" {
		t.Errorf("%v %v", objs, err)
	}
	for _, want := range []string{"owner", "owned"} {
		if ev := <-w.ResultChan(); ev.Type != watch.Added || ev.Object.(*corev1.ConfigMap).Name != want {
			t.Errorf("%+v", ev)
		}
	}
	w.Stop()
	if err := c.Delete(t.Context(), cms, "default", "owned", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if objs, err := c.List(t.Context(), cms, "default", nil); err != nil || len(objs) != 1 {
		t.Errorf("%v %v", objs, err)
	}
	if objs, _ := c.Owned(t.Context(), cms, owner.GetUID()); len(objs) != 0 {
		t.Errorf("%v", objs)
	}
}

func TestEventsEndByThemselves(t *testing.T) {
	r := open(t, func(c *registry.Config) { c.EventTTL = 20 * time.Millisecond })
	w, err := r.Watch(t.Context(), core("events"), registry.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	create(t, r, core("events"), &corev1.Event{ObjectMeta: meta("default", "e"),
		InvolvedObject: corev1.ObjectReference{Namespace: "default", Kind: "Pod", Name: "a"}})
	for _, want := range []string{"ADDED e", "DELETED e"} {
		if ev := next(t, w); describe(ev) != want {
			t.Errorf("%s, not %s", describe(ev), want)
		}
	}
}
