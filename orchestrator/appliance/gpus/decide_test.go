package gpus

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

func inventory() *gpu.Inventory {
	return &gpu.Inventory{Revision: 1, Devices: []gpu.Device{
		{GPU: device.GPU{UUID: "g0", MemoryBytes: 1000}},
		{GPU: device.GPU{UUID: "g1", MemoryBytes: 1000, MIG: device.MIG{Enabled: true, Instances: []device.MIGInstance{{UUID: "m", Profile: "1g.10gb+me"}, {UUID: "o", Profile: "1g.10gb"}}}}},
	}}
}

func TestGrantsAreWhatLimitsAskFor(t *testing.T) {
	type limits map[string]string
	for _, c := range []struct {
		name       string
		containers []limits
		grants     []topology.Grant
		want       string // in the error; "": none
	}{
		{"a GPU", []limits{{topology.GPUResource: "1"}}, []topology.Grant{{Container: "c0", GPU: "g0"}}, ""},
		{"a GPU for the wrong container", []limits{{topology.GPUResource: "1"}, nil}, []topology.Grant{{Container: "c1", GPU: "g0"}}, "container c0: it asks for 1 nvidia.com/gpu and was granted 0"},
		{"one for all", []limits{{topology.GPUResource: "1"}, nil}, []topology.Grant{{GPU: "g0"}}, ""},
		{"one for all that nobody asks for", []limits{nil, nil}, []topology.Grant{{GPU: "g0"}}, "no container asks for"},
		{"one for all, where each asks for two", []limits{{topology.GPUResource: "2"}}, []topology.Grant{{GPU: "g0"}}, "asks for 2"},
		{"an instance", []limits{{topology.MIGPrefix + "1g.10gb": "1"}}, []topology.Grant{{Container: "c0", GPU: "g1", MIG: "o"}}, ""},
		{"an instance of another profile", []limits{{topology.MIGPrefix + "1g.10gb": "1"}}, []topology.Grant{{Container: "c0", GPU: "g1", MIG: "m"}}, "nvidia.com/mig-1g.10gb"},
		{"a profile with a plus", []limits{{topology.MIGPrefix + "1g.10gb.me": "1"}}, []topology.Grant{{Container: "c0", GPU: "g1", MIG: "m"}}, ""},
		{"an instance that isn't there", []limits{{topology.MIGPrefix + "1g.10gb": "1"}}, []topology.Grant{{Container: "c0", GPU: "g1", MIG: "x"}}, "not on this machine"},
		{"a share", []limits{{topology.ShareResource: "250"}}, []topology.Grant{{Container: "c0", GPU: "g0", Share: 250}}, ""},
		{"memory", []limits{{topology.MemoryResource: "300"}}, []topology.Grant{{Container: "c0", GPU: "g0", Share: 300, Memory: 300}}, ""},
		{"too much memory", []limits{{topology.MemoryResource: "300"}}, []topology.Grant{{Container: "c0", GPU: "g0", Share: 300, Memory: 400}}, "300 bytes"},
		{"a share that isn't asked for", []limits{nil}, []topology.Grant{{Container: "c0", GPU: "g0", Share: 300}}, "no part of a GPU"},
		{"a GPU as a share of all", []limits{{topology.GPUResource: "1"}}, []topology.Grant{{Container: "c0", GPU: "g0", Share: topology.Whole}}, ""},
		{"a claim's", []limits{nil}, []topology.Grant{{Container: "c0", GPU: "g0", Claim: "default/c"}}, ""},
		{"a claim's that the pod doesn't use", []limits{nil}, []topology.Grant{{Container: "c0", GPU: "g0", Claim: "default/other"}}, "does not use the ResourceClaim default/other"},
		{"a claim's of another namespace", []limits{nil}, []topology.Grant{{Container: "c0", GPU: "g0", Claim: "theirs/c"}}, "does not use the ResourceClaim theirs/c"},
		{"a claim's beside a limit", []limits{{topology.GPUResource: "1"}}, []topology.Grant{{Container: "c0", GPU: "g0", Claim: "default/c"}}, "granted 0"},
	} {
		claim := "c"
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: &claim}}}}
		for i, l := range c.containers {
			r := corev1.ResourceList{}
			for k, v := range l {
				r[corev1.ResourceName(k)] = resource.MustParse(v)
			}
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "c" + string(rune('0'+i)), Resources: corev1.ResourceRequirements{Limits: r}})
		}
		err := covers(pod, c.grants, inventory())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", c.name, err, c.want)
		}
	}
}

func TestATroubleIsAboutThePodsOwnDevices(t *testing.T) {
	began, now := time.Unix(100, 0), time.Unix(1000, 0)
	inv := inventory()
	inv.Devices[0].Reasons = []gpu.Reason{{Kind: gpu.ReasonHot, Text: "hot", Since: time.Unix(990, 0)}, {Kind: gpu.ReasonXID, Text: "48", Since: time.Unix(995, 0)}}
	inv.Devices[1].Reasons = []gpu.Reason{{Kind: gpu.ReasonXID, Text: "94", Since: time.Unix(980, 0), MIG: "m"}}
	away := inventory()
	away.Unavailable = "restarts"
	away.Devices[0].Reasons = []gpu.Reason{{Kind: gpu.ReasonLost, Text: "lost", Since: time.Unix(960, 0)}}
	for _, c := range []struct {
		name  string
		inv   *gpu.Inventory
		now   time.Time
		grant topology.Grant
		want  string
		since int64
	}{
		{"two reasons", inv, now, topology.Grant{GPU: "g0"}, "GPU g0: ThermalSlowdown: hot; GPU g0: XID: 48", 990},
		{"its instance", inv, now, topology.Grant{GPU: "g1", MIG: "m"}, "GPU g1: XID: 94 (on m)", 980},
		{"another instance", inv, now, topology.Grant{GPU: "g1", MIG: "o"}, "", 0},
		{"one that is gone", inv, now, topology.Grant{GPU: "g9"}, "GPU g9 is not on this machine any more", 100},
		{"the driver restarts", away, now, topology.Grant{GPU: "g0"}, "", 0},
		{"the driver stays away", away, now.Add(30 * time.Second), topology.Grant{GPU: "g0"}, "GPU g0: Lost: lost", 960},
		{"nobody knows what there is", away, now, topology.Grant{GPU: "g9"}, "", 0},
	} {
		why, since := trouble(c.inv, []topology.Grant{c.grant}, began, c.now)
		if why != c.want || why != "" && since.Unix() != c.since {
			t.Errorf("%s: %q since %d, not %q since %d", c.name, why, since.Unix(), c.want, c.since)
		}
	}
}
