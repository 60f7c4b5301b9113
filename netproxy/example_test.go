package netproxy_test

import (
	"context"
	"fmt"
	"net/netip"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/netproxy"
)

// A proxy for one node: client would be a kubernetes.Clientset for the cluster.
func Example() {
	client := fake.NewClientset()
	p, err := netproxy.New(netproxy.Config{
		Client:       client,
		Name:         "demo",
		NodeName:     "node-1",
		Mode:         netproxy.Userspace,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		DNSServiceIP: netip.MustParseAddr("10.96.0.10"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	<-p.Ready()
	// The agent asks this before it signals a pod's containers.
	fmt.Println(p.Drained(ctx, netip.MustParseAddr("10.244.0.7")))
	cancel()
	fmt.Println(<-done)
	// Output:
	// <nil>
	// <nil>
}
