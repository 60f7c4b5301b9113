// Package scaletozero scales the workload behind a Service to zero when no node has used the Service for the time of its
// annotation pintle.dev/scale-to-zero-after, and back to what it was when a node's proxy holds a connection or a request
// for it. Kubernetes has no such controller (kubernetes#69687); its HorizontalPodAutoscaler leaves a workload at zero
// alone and goes on once there are pods again, so that both may have one workload.
//
// How a Service is used stands in Leases that the nodes' proxies write, see netproxy/standby. The workload is named by the
// annotation pintle.dev/scale-target ("deployment/web"), or else is the one whose pods the Service selects. It is scaled
// through its scale subresource; how many pods it had stands in its annotation pintle.dev/replicas-before-zero.
package scaletozero
