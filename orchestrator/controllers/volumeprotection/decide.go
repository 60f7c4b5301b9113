package volumeprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// what is to become of an object's finalizer.
type verdict int

const (
	keep verdict = iota
	add
	remove
)

func decide(o api.Object, finalizer string, inUse func() bool) verdict {
	has := slices.Contains(o.GetFinalizers(), finalizer)
	switch {
	case o.GetDeletionTimestamp() == nil && !has:
		return add
	case o.GetDeletionTimestamp() != nil && has && !inUse():
		return remove
	}
	return keep
}

// claimInUse says whether a pod uses the claim: one that a node has, or that wants to be on one, until it has ended or is gone.
func claimInUse(c *corev1.PersistentVolumeClaim, pods []*corev1.Pod) bool {
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return p.Spec.NodeName != "" && !reconcile.PodTerminal(p) &&
			slices.ContainsFunc(volumes.Uses(p), func(u volumes.Use) bool {
				return u.Claim == c.Name && (!u.Ephemeral || volumes.MadeFor(p, c) == nil)
			})
	})
}

// volumeInUse says whether a claim is bound to the volume.
func volumeInUse(v *corev1.PersistentVolume) bool { return v.Status.Phase == corev1.VolumeBound }
