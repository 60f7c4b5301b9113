// Package podautoscaler is the HorizontalPodAutoscaler: it scales whatever has a scale subresource so that its metrics
// come to their targets, as https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ says.
//
// Each autoscaler is looked at when its spec changes, and every Config.Sync. proposals.go makes a size of one metric,
// behavior.go limits what the largest of them may change, decide.go puts it together; all three are pure. controller.go
// observes and writes.
//
// As in Kubernetes, the recommendations and the steps of the recent past, which stabilization windows and policies look
// back on, are remembered by the leader alone and start afresh with a new one: it waits one window before it scales down.
// Metrics that can't be had are conditions and events, and never an error of the loop: the next look is a Sync away.
package podautoscaler
