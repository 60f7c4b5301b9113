// Package csi is the node's side of the Container Storage Interface: drivers register themselves through the ecosystem's folders,
// and pods get their volumes.
//
// Manager is the type to know. It watches plugins_registry below Config.Dir for sockets, asks who is behind them, writes the
// node's CSINode and the driver's topology labels, and then stages, publishes, unpublishes and unstages volumes (Mount, Unmount),
// grows them, and measures them. For a driver that has the controller service in the same process it also makes the
// controller's calls (controller.go): CreateVolume, DeleteVolume, ControllerPublish and ControllerUnpublish for VolumeAttachments,
// and ControllerExpandVolume.
//
// # Paths
//
// Manifests of drivers name /var/lib/kubelet: their pods mount it, or folders below it, and are told paths below it. Here that
// folder is Config.Dir, and whoever makes the pod's mounts maps it. A driver whose socket is registered with a path
// below /var/lib/kubelet is told paths below it; one that registers another path runs outside pods, and is told real ones.
//
// # Restarts
//
// What is staged and published is written down beside it (vol_data.json, as the kubelet has it) before the driver is
// asked, so that a later agent unpublishes and unstages it; calls are idempotent, and are made again when it isn't certain how they
// ended. A folder that a volume may be mounted on is never removed with what is in it.
//
// # Who makes a controller's calls
//
// A node says in the annotation csi.pintle.dev/controllers of its CSINode for which drivers it makes them. A claim's selected node,
// a volume's node and an attachment's node make them where they can; for others the first of these nodes, by name, that is Ready.
// While two nodes think that they are the first, both ask, which is no harm: every call carries a name that decides what is made,
// and so does every object. External sidecars are left to it: a driver is theirs if its CSIDriver object has
// the annotation csi.pintle.dev/controller: external, or if a pod of the node has a container whose image is called csi-provisioner,
// csi-attacher or csi-resizer and mounts a folder that holds the driver's socket.
package csi
