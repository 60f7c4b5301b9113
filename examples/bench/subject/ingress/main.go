// Command ingress serves one Ingress over HTTP on a loopback port, in front of the endpoint that its
// argument names, and prints its address.
//
//	ingress IP:PORT
package main

import (
	"log"
	"net"
	"net/netip"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/examples/bench/subject/parent"
	"github.com/pintle/pintle/netproxy/ingress"
	"github.com/pintle/pintle/netproxy/services"
)

func main() {
	backend, err := netip.ParseAddrPort(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	c, err := ingress.New(ingress.Config{HTTP: []net.Listener{listener}})
	if err != nil {
		log.Fatal(err)
	}
	endpoints := []netip.AddrPort{backend}
	c.SetServices([]services.Change{{New: &services.Service{
		Key: services.Key{Namespace: "default", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.5")},
		Ports: []services.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80,
			Endpoints: []services.Endpoint{{Addr: backend, Ready: true, Serving: true}},
			Cluster:   endpoints, Internal: endpoints, External: endpoints}},
	}}})
	class, prefix := "pintle", networkingv1.PathTypePrefix
	c.SetIngresses([]*networkingv1.Ingress{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: networkingv1.IngressSpec{IngressClassName: &class, Rules: []networkingv1.IngressRule{{
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}},
		}}},
	}}, nil, nil)
	if err := parent.Serve(c.Run, c.Ready(), func() string { return listener.Addr().String() }); err != nil {
		log.Fatal(err)
	}
}
