package registry_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := registry.New(registry.Config{Store: store, Kinds: api.All()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan struct{}, 2)
	go func() { _ = store.Run(ctx); ended <- struct{}{} }()
	go func() { _ = r.Run(ctx); ended <- struct{}{} }()
	<-r.Ready()

	c := r.Client("me")
	namespaces := corev1.SchemeGroupVersion.WithResource("namespaces")
	ns, err := c.Create(ctx, namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Create(ctx, namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	fmt.Println(ns.GetName(), ns.GetLabels())
	fmt.Println(err)

	cancel()
	<-ended
	<-ended
	_ = store.Close()
	// Output:
	// shop map[kubernetes.io/metadata.name:shop]
	// namespaces "shop" already exists
}
