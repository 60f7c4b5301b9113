package registry_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/raftstore"
)

var (
	_ reconcile.Client = (*registry.Client)(nil)
	_ scheduler.Client = (*registry.Client)(nil)
)

func core(resource string) schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource(resource)
}

// open runs a registry over a store in memory, with the namespaces "default" and "kube-system" and
// their service accounts. Its parts have ended, and nothing is left running, when the test ends.
func open(t *testing.T, change ...func(*registry.Config)) *registry.Registry {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := registry.Config{Store: store, Kinds: api.All(), ServiceCIDR: netip.MustParsePrefix("10.9.0.0/24")}
	for _, f := range change {
		f(&cfg)
	}
	r, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
		goleak.VerifyNone(t, leaks)
	})
	<-r.Ready()
	for _, ns := range []string{"default", "kube-system"} {
		create(t, r, core("namespaces"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		create(t, r, core("serviceaccounts"), &corev1.ServiceAccount{ObjectMeta: meta(ns, "default")})
	}
	return r
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func create[T api.Object](t *testing.T, r *registry.Registry, gvr schema.GroupVersionResource, obj T) T {
	t.Helper()
	e, err := r.Create(t.Context(), gvr, obj, registry.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s: %v", gvr.Resource, err)
	}
	return e.Object().DeepCopyObject().(T)
}

func update[T api.Object](t *testing.T, r *registry.Registry, gvr schema.GroupVersionResource, sub string, obj T) T {
	t.Helper()
	e, err := r.Update(t.Context(), gvr, sub, obj, registry.UpdateOptions{})
	if err != nil {
		t.Fatalf("update %s %s: %v", gvr.Resource, sub, err)
	}
	return e.Object().DeepCopyObject().(T)
}

func configMap(name string, data ...string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: meta("default", name), Data: map[string]string{}}
	for i := 0; i+1 < len(data); i += 2 {
		cm.Data[data[i]] = data[i+1]
	}
	return cm
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta("default", name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

func refused(t *testing.T, err error, is func(error) bool, message string) {
	t.Helper()
	if err == nil || !is(err) || !strings.Contains(err.Error(), message) {
		t.Errorf("the answer is %v, not one with %q", err, message)
	}
}

func TestAWriteIsReadAtOnceWithServerSetMetadata(t *testing.T) {
	r := open(t)
	cm := configMap("a", "k", "v")
	e, err := r.Create(t.Context(), core("configmaps"), cm, registry.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := e.Object().(*corev1.ConfigMap)
	if got.UID == "" || got.CreationTimestamp.IsZero() || got.ResourceVersion != fmt.Sprint(e.Revision()) {
		t.Errorf("metadata is not set: %+v", got.ObjectMeta)
	}
	if cm.UID != "" || cm.ResourceVersion != "" {
		t.Error("Create changed its argument")
	}
	read, err := r.Get(t.Context(), core("configmaps"), "default", "a")
	if err != nil || read != e {
		t.Errorf("what is read is not the cached entry: %v %v", read, err)
	}
	if js := string(read.JSON()); !strings.Contains(js, `"kind":"ConfigMap","apiVersion":"v1"`) && !strings.Contains(js, `"kind":"ConfigMap"`) {
		t.Errorf("JSON lacks its kind: %s", js)
	}
}

func TestRefusals(t *testing.T) {
	r := open(t)
	ctx := t.Context()
	cms := core("configmaps")
	first := create(t, r, cms, configMap("a", "k", "1"))
	update(t, r, cms, "", func() *corev1.ConfigMap { c := first.DeepCopy(); c.Data["k"] = "2"; return c }())

	_, err := r.Create(ctx, cms, configMap("a"), registry.CreateOptions{})
	refused(t, err, apierrors.IsAlreadyExists, `configmaps "a" already exists`)
	_, err = r.Create(ctx, cms, &corev1.ConfigMap{ObjectMeta: meta("nowhere", "a")}, registry.CreateOptions{})
	refused(t, err, apierrors.IsNotFound, `namespaces "nowhere" not found`)
	_, err = r.Create(ctx, cms, configMap("A_b"), registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "RFC 1123")
	_, err = r.Create(ctx, cms, configMap("b", "../x", "1"), registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "data[../x]")
	_, err = r.Create(ctx, cms, first, registry.CreateOptions{})
	refused(t, err, apierrors.IsBadRequest, "resourceVersion should not be set")
	_, err = r.Update(ctx, cms, "", first, registry.UpdateOptions{})
	refused(t, err, apierrors.IsConflict, `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`)
	_, err = r.Update(ctx, cms, "", configMap("zzz"), registry.UpdateOptions{})
	refused(t, err, apierrors.IsNotFound, `configmaps "zzz" not found`)
	other := configMap("a")
	other.UID = "another"
	_, err = r.Update(ctx, cms, "", other, registry.UpdateOptions{})
	refused(t, err, apierrors.IsConflict, "UID in precondition: another")
	_, _, err = r.Delete(ctx, cms, "default", "a", metav1.DeleteOptions{Preconditions: metav1.NewRVDeletionPrecondition("1").Preconditions}, "me")
	refused(t, err, apierrors.IsConflict, "the ResourceVersion in the precondition (1) does not match")
	_, err = r.Update(ctx, cms, "status", configMap("a"), registry.UpdateOptions{})
	refused(t, err, apierrors.IsNotFound, "")
	if e, _ := r.Get(ctx, cms, "default", "a"); e.Object().(*corev1.ConfigMap).Data["k"] != "2" {
		t.Error("a refused write took effect")
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	r := open(t)
	before := r.Revision()
	e, err := r.Create(t.Context(), core("services"), service("a"), registry.CreateOptions{DryRun: true})
	if err != nil || e.Object().(*corev1.Service).Spec.ClusterIP == "" {
		t.Errorf("dry run: %v %v", e, err)
	}
	if r.Revision() != before {
		t.Error("a dry run wrote")
	}
}

func TestAnUpdateThatChangesNothingWritesNothing(t *testing.T) {
	r := open(t)
	p := create(t, r, core("pods"), pod("a"))
	before := r.Revision()
	if again := update(t, r, core("pods"), "", p); again.ResourceVersion != p.ResourceVersion || r.Revision() != before {
		t.Errorf("%s became %s", p.ResourceVersion, again.ResourceVersion)
	}
}

func TestAStatusUpdateTouchesStatusOnly(t *testing.T) {
	r := open(t)
	p := create(t, r, core("pods"), pod("a"))
	p.Status.Phase = corev1.PodRunning
	p.Labels = map[string]string{"x": "y"}
	p.Spec.Containers[0].Image = "other"
	got := update(t, r, core("pods"), "status", p)
	if got.Status.Phase != corev1.PodRunning || got.Labels != nil || got.Spec.Containers[0].Image != "i" {
		t.Errorf("%+v", got)
	}
	got.Spec.Containers[0].Image = "other"
	got.Status.Phase = corev1.PodFailed
	got = update(t, r, core("pods"), "", got)
	if got.Status.Phase != corev1.PodRunning || got.Spec.Containers[0].Image != "other" || got.Generation != 2 {
		t.Errorf("%+v", got)
	}
}

func TestGeneratedNamesAreTriedAgain(t *testing.T) {
	r := open(t)
	seen := map[string]bool{}
	for range 20 {
		cm := create(t, r, core("configmaps"), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: strings.Repeat("a", 70)}})
		if len(cm.Name) != 63 || seen[cm.Name] {
			t.Errorf("name %q", cm.Name)
		}
		seen[cm.Name] = true
	}
}

func TestOfConcurrentWritersNoneIsLost(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	create(t, r, cms, configMap("a"))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 10 {
				for {
					e, err := r.Get(t.Context(), cms, "default", "a")
					if err != nil {
						t.Error(err)
						return
					}
					cm := e.Object().(*corev1.ConfigMap).DeepCopy()
					if cm.Data == nil {
						cm.Data = map[string]string{}
					}
					cm.Data[fmt.Sprintf("%d-%d", w, n)] = "x"
					if _, err = r.Update(t.Context(), cms, "", cm, registry.UpdateOptions{}); err == nil {
						break
					} else if !apierrors.IsConflict(err) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	e, _ := r.Get(t.Context(), cms, "default", "a")
	if n := len(e.Object().(*corev1.ConfigMap).Data); n != 80 {
		t.Errorf("%d of 80 writes are there", n)
	}
}

func TestAdmissionMayChangeAndRefuse(t *testing.T) {
	r := open(t, func(c *registry.Config) { c.Admitter = admitter{} })
	cm := create(t, r, core("configmaps"), configMap("a"))
	if cm.Labels["seen-by"] != "policy" {
		t.Errorf("labels %v", cm.Labels)
	}
	_, err := r.Create(t.Context(), core("configmaps"), configMap("forbidden"), registry.CreateOptions{User: "me"})
	refused(t, err, apierrors.IsForbidden, "not for me")
}

type admitter struct{}

func (admitter) Admit(_ context.Context, req registry.Request) error {
	if req.Name == "forbidden" {
		return fmt.Errorf("not for %s", req.User)
	}
	if req.Object != nil {
		req.Object.SetLabels(map[string]string{"seen-by": "policy"})
	}
	return nil
}

func next(t *testing.T, w *registry.Watcher) registry.Event {
	t.Helper()
	select {
	case ev, ok := <-w.Events():
		if !ok {
			t.Fatalf("the watch ended: %v", w.Err())
		}
		return ev
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
		return registry.Event{}
	}
}

func describe(ev registry.Event) string {
	if ev.Entry == nil {
		return string(ev.Type)
	}
	return string(ev.Type) + " " + ev.Entry.Object().GetName()
}
