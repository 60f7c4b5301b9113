package persistentvolume

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
)

// event is one to be recorded about the claim or the volume that was decided about.
type event struct{ typ, reason, message string }

func normal(reason, format string, args ...any) *event {
	return &event{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

func warning(reason, format string, args ...any) *event {
	return &event{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

// forClaim is what is to become of a claim.
type forClaim struct {
	bind        *corev1.PersistentVolume // nil: to none, now
	class       string                   // the default class, for a claim that has none yet
	provisioner string                   // who is to make a volume; it is written to the claim
	phase       corev1.PersistentVolumeClaimPhase
	event       *event
}

// view is what a claim is decided by.
type view struct {
	// volumes are at least those that name the claim, and, unless reservedOnly, those of its class that name none.
	volumes func(reservedOnly bool) []*corev1.PersistentVolume
	volume  func(name string) *corev1.PersistentVolume
	class   func(name string) *storagev1.StorageClass
	classes func() []*storagev1.StorageClass
	waiting func() []string // pods that use the claim and aren't bound to a node
}

// decideClaim works out which volume a claim gets, and who makes one where there is none.
func decideClaim(c *corev1.PersistentVolumeClaim, see view) forClaim {
	if _, complete := c.Annotations[volumes.BindCompleted]; complete {
		return decideBound(c, see)
	}
	pending := forClaim{phase: corev1.ClaimPending}
	if name := c.Spec.VolumeName; name != "" {
		v := see.volume(name)
		switch {
		case v == nil:
		case v.Spec.ClaimRef == nil:
			if why := volumes.Mismatch(v, c); why != "" {
				pending.event = warning("VolumeMismatch", "Cannot bind to requested volume %q: %s", name, why)
				return pending
			}
			return forClaim{bind: v, phase: corev1.ClaimBound}
		case volumes.BoundTo(v, c):
			return forClaim{bind: v, phase: corev1.ClaimBound}
		default:
			pending.event = warning("FailedBinding", "volume %q already bound to a different claim.", name)
		}
		return pending
	}
	if c.DeletionTimestamp != nil {
		return pending // nobody is to have a volume made for it
	}
	class := see.class(api.ClaimClass(c))
	waits := class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	if v := volumes.Best(c, see.volumes(waits), waits); v != nil {
		return forClaim{bind: v, phase: corev1.ClaimBound}
	}
	if !api.HasClaimClass(c) {
		if d := api.DefaultStorageClass(see.classes()); d != nil {
			pending.class = d.Name
			return pending
		}
	}
	switch name := api.ClaimClass(c); {
	case waits && c.Annotations[volumes.SelectedNode] == "":
		pending.event = normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
		if pods := see.waiting(); len(pods) > 0 {
			pending.event = normal("WaitForPodScheduled", "waiting for pod%s %s to be scheduled", plural(len(pods)), strings.Join(pods, ","))
		}
	case name == "":
		pending.event = normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case class == nil:
		pending.event = warning("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		pending.event = warning("ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
	default:
		pending.provisioner = class.Provisioner
		pending.event = normal("ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
	}
	return pending
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// decideBound looks after a claim that was bound once.
func decideBound(c *corev1.PersistentVolumeClaim, see view) forClaim {
	lost := func(reason, message string) forClaim {
		return forClaim{phase: corev1.ClaimLost, event: warning(reason, "%s", message)}
	}
	if c.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	switch v := see.volume(c.Spec.VolumeName); {
	case v == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.Spec.ClaimRef == nil, volumes.BoundTo(v, c):
		return forClaim{bind: v, phase: corev1.ClaimBound}
	default:
		return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
	}
}

// forVolume is what is to become of a volume.
type forVolume struct {
	phase   corev1.PersistentVolumePhase
	message string
	unbind  bool // it is free again, or its claim's to come
	claim   bool // its claim is to be looked at
	event   *event
}

// decideVolume works out whose a volume is. c is the claim of the name that it names, nil if there is none.
func decideVolume(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) forVolume {
	ref := v.Spec.ClaimRef
	switch {
	case ref == nil:
		return forVolume{phase: corev1.VolumeAvailable}
	case ref.UID == "":
		return forVolume{phase: corev1.VolumeAvailable, claim: c != nil}
	case c == nil || c.UID != ref.UID:
		return released(v)
	case c.Spec.VolumeName == v.Name:
		return forVolume{phase: corev1.VolumeBound}
	case c.Spec.VolumeName == "":
		if volumes.Mode(v.Spec.VolumeMode) != volumes.Mode(c.Spec.VolumeMode) {
			return forVolume{phase: v.Status.Phase, event: warning("VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", c.Name)}
		}
		return forVolume{phase: v.Status.Phase, claim: true}
	case v.Annotations[volumes.ProvisionedBy] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return released(v) // it was made for a claim that took another
	}
	return forVolume{phase: corev1.VolumeAvailable, unbind: true}
}

// released is the volume of a claim that is gone. Who made it deletes it, where that is its policy; what a person made, nobody
// here can delete.
func released(v *corev1.PersistentVolume) forVolume {
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && v.Annotations[volumes.ProvisionedBy] == "" && v.Spec.CSI == nil {
		why := fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name)
		out := forVolume{phase: corev1.VolumeFailed, message: why}
		if v.Status.Phase != corev1.VolumeFailed {
			out.event = warning("VolumeFailedDelete", "%s", why)
		}
		return out
	}
	if v.Status.Phase == corev1.VolumeFailed {
		return forVolume{phase: corev1.VolumeFailed, message: v.Status.Message}
	}
	return forVolume{phase: corev1.VolumeReleased}
}
