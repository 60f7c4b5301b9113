package controllers_test

import (
	"context"
	"fmt"
	"log"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// Controllers run on whatever satisfies reconcile.Client: a registry's client in a control plane,
// an in-memory one here.
func ExampleNew() {
	client := reconciletest.New(nil)
	c, err := controllers.New(controllers.Config{Client: client, Kinds: api.All(), RootCA: []byte("a certificate")})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // ends with leadership
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()

	accounts, err := client.Watch(ctx, reconcile.ServiceAccounts())
	if err != nil {
		log.Fatal(err)
	}
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if _, err := client.Create(ctx, reconcile.Namespaces(), shop); err != nil {
		log.Fatal(err)
	}
	for e := range accounts.ResultChan() {
		if sa, ok := e.Object.(*corev1.ServiceAccount); ok && e.Type == watch.Added {
			fmt.Println("service account", sa.Namespace+"/"+sa.Name)
			break
		}
	}
	cancel()
	fmt.Println("ended with", <-ended)
	// Output:
	// service account shop/default
	// ended with <nil>
}
