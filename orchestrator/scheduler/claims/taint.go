package claims

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
)

// tolerated says whether the tolerations let a device be allocated that has the taints.
func tolerated(taints []resourcev1.DeviceTaint, tolerations []resourcev1.DeviceToleration) bool {
	for i := range taints {
		t := &taints[i]
		if t.Effect != resourcev1.DeviceTaintEffectNoSchedule && t.Effect != resourcev1.DeviceTaintEffectNoExecute {
			continue // None, and what we don't know, has no effect
		}
		if !slices.ContainsFunc(tolerations, func(o resourcev1.DeviceToleration) bool { return tolerates(&o, t) }) {
			return false
		}
	}
	return true
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
