// Package nodeautoscaler asks for nodes that pending pods need and gives back those that nobody needs, through a
// Provider that the embedding program supplies. It behaves as the Kubernetes documentation on node autoscaling
// describes (https://kubernetes.io/docs/concepts/cluster-administration/node-autoscaling/), with Cluster Autoscaler's
// annotations, event reasons and default times.
//
// # Asking
//
// A pod that the scheduler found no node for is tried, by the scheduler's own decision, on the nodes there are and
// those that are coming. For the pods that are left, each group is tried: a node of it is added in the simulation
// whenever a pod fits on none, so that no more are asked for than hold the pods. The group that helps most pods wins;
// of those, the one that wastes least. The pods of a PodGroup are helped together or not at all. A group whose nodes
// don't come within ProvisionTime, or whose Request fails, is left alone for a while, longer each time.
//
// # Giving back
//
// A node that is empty, or little used with every pod fitting elsewhere, for UnneededFor, is cordoned, its pods are
// evicted (budgets are asked), and it is returned. Pods of DaemonSets don't count. What blocks it: pods without a
// controller, a budget that allows nothing, the annotations cluster-autoscaler.kubernetes.io/safe-to-evict: "false" on a
// pod and cluster-autoscaler.kubernetes.io/scale-down-disabled: "true" on a node, and that somebody else has cordoned it.
// A node that can't be drained within DrainTime is uncordoned. What is being returned is written on the node, so that
// the next leader goes on with it.
//
// # Limits
//
// Simulated pods see nodes, pods and namespaces, not ResourceClaims: a pod that uses some asks for no node. GPUs that
// are asked for as resources are seen where a group's Template has them in its allocatable resources.
package nodeautoscaler
