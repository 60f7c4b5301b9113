package runtime

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// applied is what the API has after a plan.
func applied(have []resourcev1.ResourceSlice, p slicePlan, serial *int) (out []resourcev1.ResourceSlice) {
	removed, updated := map[string]bool{}, map[string]*resourcev1.ResourceSlice{}
	for _, name := range p.remove {
		removed[name] = true
	}
	for _, s := range p.update {
		updated[s.Name] = s
	}
	for _, s := range have {
		if u := updated[s.Name]; u != nil {
			s = *u
		}
		if !removed[s.Name] {
			out = append(out, s)
		}
	}
	for _, s := range p.create {
		*serial++
		s.Name = fmt.Sprintf("%s%d", s.GenerateName, *serial)
		out = append(out, *s)
	}
	return out
}

// Whatever the devices become: the slices say them, each once, all of one generation, which grows with every change; and
// nothing is written when nothing has changed.
func TestSlicesSayWhatTheNodeHas(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"}}
	r := rand.New(rand.NewPCG(1, 1))
	var have []resourcev1.ResourceSlice
	serial, before := 0, int64(0)
	foreign := resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "z"}, Spec: resourcev1.ResourceSliceSpec{Driver: "other.x", NodeName: &node.Name}}
	for round := range 300 {
		var devices []ResourceDevice
		for i := range r.IntN(150) {
			d := ResourceDevice{Name: fmt.Sprintf("gpu-%d", i), Attributes: map[string]ResourceAttribute{"uuid": {String: fmt.Sprint("GPU-", i)}}, Capacity: map[string]resource.Quantity{"memory": resource.MustParse("80Gi")}}
			if r.IntN(5) == 0 {
				d.Unhealthy = "XID 79"
			}
			devices = append(devices, d)
		}
		plan := planSlices(node, "gpu.x", devices, append(have, foreign))
		have = applied(have, plan, &serial)
		seen, tainted := map[string]bool{}, 0
		for _, s := range have {
			if s.Spec.Pool.Generation != have[0].Spec.Pool.Generation || s.Spec.Pool.ResourceSliceCount != int64(len(have)) || s.Spec.Pool.Name != "n1" ||
				len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "u1" || s.OwnerReferences[0].Kind != "Node" || len(s.Spec.Devices) > 64 {
				t.Fatalf("round %d: %+v", round, s)
			}
			for _, d := range s.Spec.Devices {
				if seen[d.Name] {
					t.Fatalf("round %d: %s twice", round, d.Name)
				}
				seen[d.Name] = true
				tainted += len(d.Taints)
			}
		}
		for _, d := range devices {
			if d.Unhealthy != "" {
				tainted--
			}
		}
		if len(seen) != len(devices) || tainted != 0 {
			t.Fatalf("round %d: %d devices of %d, %d taints too many", round, len(seen), len(devices), tainted)
		}
		if len(have) > 0 && len(plan.update)+len(plan.create) > 0 && len(plan.update) > 0 && have[0].Spec.Pool.Generation <= before {
			t.Fatalf("round %d: generation %d after %d", round, have[0].Spec.Pool.Generation, before)
		}
		before = 0
		if len(have) > 0 {
			before = have[0].Spec.Pool.Generation
		}
		if again := planSlices(node, "gpu.x", devices, append(have, foreign)); len(again.update)+len(again.create)+len(again.remove) > 0 {
			t.Fatalf("round %d: nothing has changed, and it plans %+v", round, again)
		}
	}
}

func TestANodeThatIsMadeAnewOwnsItsSlices(t *testing.T) {
	serial := 0
	device := []ResourceDevice{{Name: "gpu-0"}}
	have := applied(nil, planSlices(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "old"}}, "gpu.x", device, nil), &serial)
	plan := planSlices(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "new"}}, "gpu.x", device, have)
	if len(plan.update) != 1 || plan.update[0].OwnerReferences[0].UID != types.UID("new") {
		t.Errorf("%+v", plan)
	}
}

func TestAttributesKeepTheirTypes(t *testing.T) {
	n, yes := int64(7), true
	d := sliceDevice("gpu.x", &ResourceDevice{Name: "d", Attributes: map[string]ResourceAttribute{"s": {String: "text"}, "v": {Version: "1.2.3"}, "i": {Int: &n}, "b": {Bool: &yes}, "nothing": {}},
		Capacity: map[string]resource.Quantity{"memory": resource.MustParse("1Gi")}, Unhealthy: "broken"})
	a := d.Attributes
	if len(a) != 4 || *a["s"].StringValue != "text" || *a["v"].VersionValue != "1.2.3" || *a["i"].IntValue != 7 || !*a["b"].BoolValue {
		t.Errorf("%+v", a)
	}
	if m := d.Capacity["memory"].Value; m.String() != "1Gi" {
		t.Errorf("%+v", d.Capacity)
	}
	if len(d.Taints) != 1 || d.Taints[0].Key != "gpu.x/unhealthy" || d.Taints[0].Effect != resourcev1.DeviceTaintEffectNoSchedule {
		t.Errorf("%+v", d.Taints)
	}
}
