// Package persistentvolume binds PersistentVolumeClaims to PersistentVolumes, asks provisioners for the volumes that aren't
// there, and says what became of both, as the Kubernetes documentation of persistent volumes has it.
//
// A volume is given away by one write that names the claim in it, compared and swapped: two claims can't have one, whatever
// the order of events. Who fails between that write and the claim's own finds the half that is done, and goes on from there.
package persistentvolume
