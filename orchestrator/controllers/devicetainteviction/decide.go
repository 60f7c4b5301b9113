package devicetainteviction

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
)

// device names one of a pool.
type device struct{ driver, pool, name string }

// taints are those of the devices that are published: of each pool its newest generation counts.
func taints(all []*resourcev1.ResourceSlice) map[device][]resourcev1.DeviceTaint {
	type pool struct{ driver, name string }
	newest := map[pool]int64{}
	for _, s := range all {
		p := pool{s.Spec.Driver, s.Spec.Pool.Name}
		newest[p] = max(newest[p], s.Spec.Pool.Generation)
	}
	out := map[device][]resourcev1.DeviceTaint{}
	for _, s := range all {
		if s.Spec.Pool.Generation < newest[pool{s.Spec.Driver, s.Spec.Pool.Name}] {
			continue
		}
		for i := range s.Spec.Devices {
			if d := &s.Spec.Devices[i]; len(d.Taints) > 0 {
				out[device{s.Spec.Driver, s.Spec.Pool.Name, d.Name}] = d.Taints
			}
		}
	}
	return out
}

// decide tells whether the pods of a claim must go, and when: at once, or when a toleration's time is over. since is when a taint
// was added that doesn't say so itself.
func decide(claim *resourcev1.ResourceClaim, tainted map[device][]resourcev1.DeviceTaint, since func(device, *resourcev1.DeviceTaint) time.Time) (evict bool, at time.Time) {
	if claim.Status.Allocation == nil {
		return false, at
	}
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		d := device{r.Driver, r.Pool, r.Device}
		all := tainted[d]
		for j := range all {
			t := &all[j]
			if t.Effect != resourcev1.DeviceTaintEffectNoExecute {
				continue
			}
			tolerated, seconds := toleration(r.Tolerations, t)
			if tolerated && seconds == nil {
				continue
			}
			added := since(d, t)
			if t.TimeAdded != nil {
				added = t.TimeAdded.Time
			}
			if tolerated {
				added = added.Add(time.Duration(max(0, *seconds)) * time.Second)
			}
			if !evict || added.Before(at) {
				evict, at = true, added
			}
		}
	}
	return evict, at
}

// toleration says whether a taint is tolerated, and for how long: nil is for ever. Of several tolerations the shortest counts.
func toleration(all []resourcev1.DeviceToleration, t *resourcev1.DeviceTaint) (tolerated bool, seconds *int64) {
	for i := range all {
		o := &all[i]
		if !tolerates(o, t) {
			continue
		}
		if tolerated = true; o.TolerationSeconds != nil && (seconds == nil || *o.TolerationSeconds < *seconds) {
			seconds = o.TolerationSeconds
		}
	}
	return tolerated, seconds
}

func tolerates(o *resourcev1.DeviceToleration, t *resourcev1.DeviceTaint) bool {
	if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
		return false
	}
	switch o.Operator {
	case resourcev1.DeviceTolerationOpExists:
		return true
	case resourcev1.DeviceTolerationOpEqual, "":
		return o.Key != "" && o.Value == t.Value
	}
	return false
}
