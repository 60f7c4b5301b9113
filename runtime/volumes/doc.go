// Package volumes lays out the volumes of a node's pods on its disk: emptyDir (disk and memory),
// configMap, secret, projected, downwardAPI (service account tokens included) and hostPath.
//
// Manager is the type to know: Setup makes a pod's volumes and says where each is, Refresh brings
// files up to date with the objects they come from, Teardown unmounts and removes everything.
// Files that come from the API change all at once, by swapping one symbolic link, so that a reader
// sees either the old set or the new one, as in Kubernetes.
//
// All methods of Manager are safe for concurrent use; calls for one pod take turns. A Manager keeps
// no state that the disk doesn't have: a new one, after a restart, goes on where the last one
// stopped.
package volumes
