// Package claims allocates devices to ResourceClaims (resource.k8s.io/v1), as the Kubernetes documentation of dynamic
// resource allocation has it. It is pure: it knows no API and no clock, and the same objects give the same devices.
//
// Types to know: [Pool] (the devices that a driver publishes under one name), [Request] and [Allocate] (the search), and
// [Ledger] (who holds what, and which pools reach a node: kept up with the objects of a cluster).
// Nothing here is for concurrent use, and no object that it is given may be changed afterwards.
package claims
