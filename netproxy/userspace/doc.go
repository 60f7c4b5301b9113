// Package userspace stands in for Service addresses with listeners on the loopback, where
// nftables or root is missing. Mapping says which listener stands for which address.
//
// Connections are spliced to an endpoint that is chosen when they open, live on when endpoints
// change, and pass each half's end on. A port without endpoints refuses connections and datagrams at
// once, unless the Service is one that is scaled to zero: then TCP connections wait for an endpoint. SCTP is not carried; a warning says so. A Proxy is safe for concurrent use.
package userspace
