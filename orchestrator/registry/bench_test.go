package registry_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

func bench(b *testing.B) *registry.Registry {
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.New(registry.Config{Store: store, Kinds: api.All()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(func() { cancel(); _ = store.Close() })
	go func() { _ = store.Run(ctx) }()
	go func() { _ = r.Run(ctx) }()
	<-r.Ready()
	c := r.Client("bench")
	for gvr, obj := range map[string]api.Object{"namespaces": &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}} {
		if _, err := c.Create(ctx, core(gvr), obj); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := c.Create(ctx, core("serviceaccounts"), &corev1.ServiceAccount{ObjectMeta: meta("default", "default")}); err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkCreatePods is the whole write path, the store in memory.
func BenchmarkCreatePods(b *testing.B) {
	c := bench(b).Client("bench")
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if _, err := c.Create(b.Context(), core("pods"), pod(fmt.Sprint("p", n))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBindPods adds what the scheduler does to each.
func BenchmarkBindPods(b *testing.B) {
	c := bench(b).Client("bench")
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprint("p", n)
		if _, err := c.Create(b.Context(), core("pods"), pod(name)); err != nil {
			b.Fatal(err)
		}
		if err := c.Bind(b.Context(), "default", name, "", "n1", nil); err != nil {
			b.Fatal(err)
		}
	}
}
