// Package userspace stands in for Service addresses with listeners on the loopback, where
// nftables or root is missing. Mapping says which listener stands for which address.
//
// Connections are spliced to an endpoint that is chosen when they open, live on when endpoints
// change, and pass each half's end on. A port without endpoints resets connections at once.
// A Proxy is safe for concurrent use.
package userspace
