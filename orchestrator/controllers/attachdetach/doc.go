// Package attachdetach asks for the volumes of CSI drivers to be attached to the nodes of the pods that use them, by
// VolumeAttachments, and takes them from nodes where no pod needs them any more, as the Kubernetes documentation of CSI drivers
// (attachRequired) and of non-graceful node shutdown has it. Who attaches is the driver's attacher.
package attachdetach
