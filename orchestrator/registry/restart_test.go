package registry_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

// during runs a registry over a folder for as long as f runs.
func during(t *testing.T, dir string, f func(*registry.Registry)) {
	t.Helper()
	store, err := raftstore.Open(raftstore.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(registry.Config{Store: store, Kinds: api.All(), ServiceCIDR: netip.MustParsePrefix("10.9.0.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	<-r.Ready()
	f(r)
	cancel()
	wg.Wait()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	_, err = r.Get(context.Background(), core("pods"), "default", "a")
	refused(t, err, apierrors.IsServiceUnavailable, "not running")
}

func TestARestartKeepsObjectsVersionsAndAllocations(t *testing.T) {
	dir := t.TempDir()
	var before *corev1.Service
	during(t, dir, func(r *registry.Registry) {
		create(t, r, core("namespaces"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		before = create(t, r, core("services"), service("a"))
	})
	during(t, dir, func(r *registry.Registry) {
		e, err := r.Get(t.Context(), core("services"), "default", "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Object(); got.GetResourceVersion() != before.ResourceVersion || got.GetUID() != before.UID {
			t.Errorf("%+v became %+v", before.ObjectMeta, got)
		}
		b := service("b")
		b.Spec.ClusterIP = before.Spec.ClusterIP
		_, err = r.Create(t.Context(), core("services"), b, registry.CreateOptions{})
		refused(t, err, apierrors.IsInvalid, "provided IP is already allocated")
	})
}
