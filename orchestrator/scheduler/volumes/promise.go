package volumes

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	binding "github.com/pintle/pintle/orchestrator/api/volumes"
)

// Promise holds what a plan needs for a pod, until Release: nobody else gets its volumes, and who has one of its claims, too,
// goes where it goes. A plan that can't be had any more isn't held.
func (b *Book) Promise(pod types.UID, p *Plan) {
	b.Release(pod)
	if p.Empty() {
		return
	}
	for _, m := range p.Bind {
		v := b.volumes[m.Volume.Name]
		if by, taken := b.takenVolumes[m.Volume.Name]; v == nil || v.Spec.ClaimRef != nil && !binding.BoundTo(v.PersistentVolume, m.Claim) || taken && by != pod && !b.shares(m.Claim, m.Volume.Name) {
			return
		}
	}
	b.promised[pod] = p
	for _, m := range p.Bind {
		if _, taken := b.takenVolumes[m.Volume.Name]; !taken {
			b.takenVolumes[m.Volume.Name] = pod
		}
	}
	p.claims(func(c *corev1.PersistentVolumeClaim) { put(b.takenClaims, key(c.Namespace, c.Name), pod, p) })
}

// shares says whether the volume is promised to the claim, by way of another pod.
func (b *Book) shares(c *corev1.PersistentVolumeClaim, volume string) bool {
	for _, p := range b.takenClaims[key(c.Namespace, c.Name)] {
		for _, m := range p.Bind {
			if m.Claim.UID == c.UID && m.Volume.Name == volume {
				return true
			}
		}
	}
	return false
}

// Release takes a promise back.
func (b *Book) Release(pod types.UID) {
	p := b.promised[pod]
	if p == nil {
		return
	}
	delete(b.promised, pod)
	p.claims(func(c *corev1.PersistentVolumeClaim) { drop(b.takenClaims, key(c.Namespace, c.Name), pod) })
	for _, m := range p.Bind {
		if b.takenVolumes[m.Volume.Name] != pod {
			continue
		}
		delete(b.takenVolumes, m.Volume.Name)
		for heir, plan := range b.takenClaims[key(m.Claim.Namespace, m.Claim.Name)] {
			for _, same := range plan.Bind {
				if same.Volume.Name == m.Volume.Name {
					b.takenVolumes[m.Volume.Name] = heir
				}
			}
		}
	}
}

// Promised is what is held for a pod, nil if nothing is.
func (b *Book) Promised(pod types.UID) *Plan { return b.promised[pod] }

// promised is what another pod's plan does for a claim.
type promised struct {
	Node   string  // a volume is made for it there
	volume *Volume // it gets this one
}

func (b *Book) promise(c *corev1.PersistentVolumeClaim, pod types.UID) *promised {
	for other, p := range b.takenClaims[key(c.Namespace, c.Name)] {
		if other == pod {
			continue
		}
		for _, m := range p.Bind {
			if m.Claim.UID == c.UID {
				return &promised{volume: b.volumes[m.Volume.Name]}
			}
		}
		for _, wanted := range p.Provision {
			if wanted.UID == c.UID {
				return &promised{Node: p.Node}
			}
		}
	}
	return nil
}

// Progress says how far the claims of a plan have come.
type Progress int

// The answers.
const (
	Waiting Progress = iota
	Ready            // all are bound
	Failed           // one is gone, or whoever makes its volume has given the node up
)

// Progress looks at the claims that a pod with this plan waits for. why says what failed.
func (b *Book) Progress(p *Plan) (state Progress, why string) {
	state = Ready
	p.claims(func(was *corev1.PersistentVolumeClaim) {
		c := b.claims[key(was.Namespace, was.Name)]
		switch {
		case state == Failed:
		case c == nil || c.UID != was.UID:
			state, why = Failed, `persistentvolumeclaim "`+was.Name+`" not found`
		case c.DeletionTimestamp != nil:
			state, why = Failed, `persistentvolumeclaim "`+was.Name+`" is being deleted`
		case c.Status.Phase == corev1.ClaimLost:
			state, why = Failed, `persistentvolumeclaim "`+was.Name+`" bound to non-existent persistentvolume "`+c.Spec.VolumeName+`"`
		case !Complete(c), b.volumes[c.Spec.VolumeName] == nil: // of the volume we may hear later than of the claim
			state = Waiting
		}
	})
	if state != Waiting {
		return state, why
	}
	for _, was := range p.Provision {
		if c := b.claims[key(was.Namespace, was.Name)]; !Complete(c) && c.Annotations[binding.SelectedNode] != p.Node {
			return Failed, `selectedNode annotation reset for PVC "` + was.Name + `"`
		}
	}
	return Waiting, ""
}

// Fits says whether the volumes of a plan whose claims are Ready can be used on its node after all.
func (b *Book) Fits(p *Plan, node *corev1.Node) bool {
	fits := true
	p.claims(func(was *corev1.PersistentVolumeClaim) {
		if c := b.claims[key(was.Namespace, was.Name)]; c != nil {
			v := b.volumes[c.Spec.VolumeName]
			fits = fits && v != nil && v.Reaches(node)
		}
	})
	return fits
}
