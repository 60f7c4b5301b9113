// Package ephemeralvolume makes the PersistentVolumeClaims of pods' generic ephemeral volumes, named for pod and volume and owned
// by the pod, as the Kubernetes documentation of ephemeral volumes has it.
package ephemeralvolume
