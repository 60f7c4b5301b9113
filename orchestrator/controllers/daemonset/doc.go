// Package daemonset keeps one pod of a DaemonSet on every node that its template fits, as Kubernetes documents it: the pods
// carry the node's name in their affinity and the documented tolerations, and the scheduler binds them.
//
// An update that fails is rolled back, see package rollback. That a node is down is no failure of an update.
package daemonset
