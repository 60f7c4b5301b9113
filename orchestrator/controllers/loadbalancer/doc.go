// Package loadbalancer gives Services of type LoadBalancer addresses from AddressPools, as
// https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer has a cloud do it: status.loadBalancer
// says which, and the finalizer service.kubernetes.io/load-balancer-cleanup keeps the Service until it is given back.
//
// A Service without spec.loadBalancerClass, or with api.LoadBalancerClass, gets one; while there is no AddressPool at all
// such Services are left to others. An annotation or spec.loadBalancerIP asks for an address, an annotation for a pool.
// No address is that of two Services: one that asks for another's waits, with an event. A pool that is full is an event,
// too, and whoever waits is served when something is given back. A Service keeps its address when a pool shrinks.
//
// On the network one node answers for an address: the annotation networking.pintle.dev/announced-by names it. It is a
// node that is ready and not labelled node.kubernetes.io/exclude-from-external-load-balancers, with
// externalTrafficPolicy Local one that has endpoints, and stays so for as long as it is one. Every node forwards what
// reaches it for the address.
package loadbalancer
