// Package volumeprotection keeps PersistentVolumeClaims while pods use them, and PersistentVolumes while claims are bound to
// them: their finalizers go when they are to be deleted and nobody needs them any more, as the Kubernetes documentation of
// storage object in use protection has it.
package volumeprotection
