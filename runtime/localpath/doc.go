// Package localpath is the node's half of the built-in provisioner "pintle.dev/local-path": folders of the node's machine as
// PersistentVolumes.
//
// The scheduler chooses the node of a claim (WaitForFirstConsumer) and writes it into the annotation
// volume.kubernetes.io/selected-node; that node's Provisioner makes the folder and the PersistentVolume; the binder of the
// control plane binds. It also raises what a folder may hold when the claim grows, and removes folder and PersistentVolume once
// the claim is gone and the reclaim policy is Delete.
//
// Decide says what is to be done, purely. Provisioner watches, and does it. Folders keeps the folders and a record of each.
//
// # What is never lost, and never leaked
//
// A record is on the disk before a folder is made, and says "creating" until the PersistentVolume is in the API, so that an
// agent that is killed in between finds the folder again: it goes on, or, if nobody wants it any more, removes it. A record that
// says "deleting" is finished in the same way. A folder is removed only if the API says that its PersistentVolume is Released
// with the policy Delete, or if there never was one; a folder whose PersistentVolume somebody deleted stays, and so does
// one without a record. When a node is gone, its PersistentVolumes stay, as do claims and pods that wait for the node:
// whoever knows that the data is lost deletes claim and PersistentVolume.
//
// # Quota
//
// On ext4 and xfs mounted with project quotas ("prjquota"; Linux 5.14 or newer) a folder can't hold more than its claim's size:
// writing fails as on a full disk. Elsewhere the size is a promise: PersistentVolumes say so in the annotation
// pintle.dev/quota, and an event of the claim says it when more is used.
package localpath
