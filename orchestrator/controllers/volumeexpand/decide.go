package volumeexpand

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
)

// event is one to be recorded about the claim.
type event struct{ typ, reason, message string }

// decide works out the status of a claim whose volume is v; nil: it is as it should be.
func decide(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume, now metav1.Time) (status *corev1.PersistentVolumeClaimStatus, e *event) {
	if v == nil || c.Status.Phase != corev1.ClaimBound || !volumes.Complete(c, v) {
		return nil, nil
	}
	want, have, size := volumes.Size(c), c.Status.Capacity[corev1.ResourceStorage], volumes.Capacity(v)
	ours := v.Annotations[volumes.ProvisionedBy] == api.LocalPathProvisioner
	grows := want.Cmp(have) > 0
	if !ours {
		if grows && size.Cmp(want) < 0 {
			e = &event{corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC"}
		}
		return nil, e
	}
	out := c.Status.DeepCopy()
	if size.Cmp(have) > 0 { // the node has made room
		out.Capacity = corev1.ResourceList{corev1.ResourceStorage: size}
		have = size
	}
	resizing := func(x corev1.PersistentVolumeClaimCondition) bool {
		return x.Type == corev1.PersistentVolumeClaimResizing
	}
	if want.Cmp(have) > 0 {
		if !slices.ContainsFunc(out.Conditions, resizing) {
			out.Conditions = append(out.Conditions, corev1.PersistentVolumeClaimCondition{Type: corev1.PersistentVolumeClaimResizing, Status: corev1.ConditionTrue, LastTransitionTime: now})
			e = &event{corev1.EventTypeNormal, "Resizing", "The node of volume " + v.Name + " is resizing it"}
		}
		if asked := out.AllocatedResources[corev1.ResourceStorage]; asked.Cmp(want) != 0 {
			out.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: want}
		}
		out.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: statusOf(c)}
	} else if slices.ContainsFunc(out.Conditions, resizing) || len(out.AllocatedResourceStatuses) > 0 {
		out.Conditions = slices.DeleteFunc(out.Conditions, func(x corev1.PersistentVolumeClaimCondition) bool {
			return resizing(x) || x.Type == corev1.PersistentVolumeClaimNodeResizeError
		})
		out.AllocatedResources, out.AllocatedResourceStatuses = corev1.ResourceList{corev1.ResourceStorage: have}, nil
		e = &event{corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded"}
	}
	return out, e
}

// statusOf keeps what the node says of a resize that it can't make, until the claim asks for another size.
func statusOf(c *corev1.PersistentVolumeClaim) corev1.ClaimResourceStatus {
	asked, want := c.Status.AllocatedResources[corev1.ResourceStorage], volumes.Size(c)
	if s := c.Status.AllocatedResourceStatuses[corev1.ResourceStorage]; s != "" && asked.Cmp(want) == 0 {
		return s
	}
	return corev1.PersistentVolumeClaimNodeResizePending
}
