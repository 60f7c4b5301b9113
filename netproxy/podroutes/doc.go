// Package podroutes joins the pod networks of the nodes of a cluster: a pod reaches every other by its
// address, on whichever machine. Where another node is a neighbour on a link, its pods' network is a route to
// it; where it is behind a router, the packets travel in VXLAN, over UDP port 8472.
//
// What there is to be known about the others stands in their Node objects, address and podCIDR; the VXLAN's
// identifier and MAC addresses follow from names, so that nothing is announced and nothing must be learned.
package podroutes
