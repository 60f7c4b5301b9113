// Package consolidation moves pods that have parts of GPUs together, so that whole GPUs become free. Departures leave holes:
// four GPUs, each a quarter in use, have room for three whole ones that nobody can be given.
//
// It is off by default. With it on, once in an Interval it looks for pods that wait for whole GPUs in vain, and for the node
// where the fewest pods must make way for one of them; what moves where is planned by package devices of the scheduler,
// which the examples' trace measures too. To move a pod is to end it: its controller makes another one, which the
// scheduler puts where the least is lost, and that is beside others. A plan stands in the ConfigMap gpu-consolidation of
// kube-system; DryRun only writes that.
//
// Only pods are moved that are ready and that a ReplicaSet, StatefulSet or ReplicationController makes anew, that keep nothing on
// their node (emptyDir, hostPath, volume claims), are in no PodGroup and don't depend on other pods' places. Budgets
// (PodDisruptionBudget) are honoured as by the eviction API. The annotation gpu.pintle.dev/movable says "false" for a pod that
// must stay and "true" for one that may move whatever it keeps or makes it; cluster-autoscaler.kubernetes.io/safe-to-evict
// "false" and karpenter.sh/do-not-disrupt "true" keep a pod, too.
package consolidation
