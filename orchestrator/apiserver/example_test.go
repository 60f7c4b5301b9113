package apiserver_test

import (
	"context"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

// An API server without a socket: client-go talks to it in memory.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg, err := registry.New(registry.Config{Store: store, Kinds: api.All()})
	if err != nil {
		fmt.Println(err)
		return
	}
	memory := apiserver.ListenMemory()
	server, err := apiserver.New(apiserver.Config{Registry: reg, Memory: memory, Authenticator: authn.InProcess(), Authorizer: authz.Masters{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 3)
	for _, run := range []func(context.Context) error{store.Run, reg.Run, server.Run} {
		go func() { ended <- run(ctx) }()
	}
	<-server.Ready()

	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://pintle.invalid", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return memory.Dial(ctx, &authn.User{Name: "me", Groups: []string{authn.GroupMasters}})
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	namespace, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	fmt.Println(namespace.Name, namespace.Status.Phase, err)
	cancel()
	for range 3 {
		<-ended
	}
	fmt.Println(store.Close())
	// Output:
	// shop Active <nil>
	// <nil>
}
