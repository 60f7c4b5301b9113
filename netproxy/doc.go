// Package netproxy makes Services, cluster DNS and Ingresses work on one node. Proxy is the type
// to know: it watches the API with client-go and programs one data plane (nftables where it can,
// user space elsewhere), the DNS server and the ingress, all from one table of Services.
//
// New checks, Run works until its context ends, Ready tells that the first state is programmed.
// Drained keeps the order of endings: it returns once no new connection goes to an address.
// All methods are safe for concurrent use; several proxies may live in one process and, with
// different names and networks, on one host.
package netproxy
