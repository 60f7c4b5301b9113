// Package replicaset keeps as many pods as a ReplicaSet asks for.
//
// It needs no expectations (Kubernetes' memory of its own unseen writes): reconcile.Client shows
// a controller its own writes, and one key has one worker, so each count is of the present.
package replicaset
