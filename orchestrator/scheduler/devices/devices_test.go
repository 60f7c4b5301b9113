package devices

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

// asks is what a container asks for: "gpu=2 share=500 memory=1024 mig-1g.10gb=1".
func asks(text string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, field := range strings.Fields(text) {
		name, amount, _ := strings.Cut(field, "=")
		switch {
		case name == "gpu" || strings.HasPrefix(name, "mig-"):
			name = "nvidia.com/" + name
		case name == "share" || name == "memory":
			name = "gpu.pintle.dev/" + name
		}
		list[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return list
}

func container(name, text string) corev1.Container {
	list := asks(text)
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Limits: list, Requests: list}}
}

// pod has a main container for each text; those that begin with "init:" and "sidecar:" are init containers.
func pod(uid string, texts ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid), Annotations: map[string]string{}}}
	for i, text := range texts {
		name := fmt.Sprint("c", i)
		if rest, ok := strings.CutPrefix(text, "init:"); ok {
			p.Spec.InitContainers = append(p.Spec.InitContainers, container(name, rest))
		} else if rest, ok := strings.CutPrefix(text, "sidecar:"); ok {
			c := container(name, rest)
			always := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		} else {
			p.Spec.Containers = append(p.Spec.Containers, container(name, text))
		}
	}
	return p
}

func soft(p *corev1.Pod) *corev1.Pod {
	p.Annotations[topology.SoftAnnotation] = "true"
	return p
}

func nodeOf(told topology.NodeGPUs) *Node {
	n := NewNode()
	n.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{topology.NodeAnnotation: told.Format()}}})
	return n
}

// gpus are so many healthy GPUs of 16 GiB, each with memory limits.
func gpus(count int) topology.NodeGPUs {
	var told topology.NodeGPUs
	for i := range count {
		told.GPUs = append(told.GPUs, topology.NodeGPU{UUID: fmt.Sprint("GPU-", i), Model: "M", Memory: 16 << 30, MemoryLimits: true})
	}
	return told
}

func divided(layout topology.Layout, count int) topology.NodeGPUs {
	told := gpus(count)
	for i := range told.GPUs {
		told.GPUs[i].Divided, told.GPUs[i].Layout = true, layout
	}
	return told
}

// give chooses and records, and fails the test where Fits and Choose differ.
func give(t *testing.T, n *Node, p *corev1.Pod) ([]topology.Grant, *Refusal) {
	t.Helper()
	r := RequestOf(p)
	fits := n.Fits(r)
	grants, refusal := n.Choose(r, nil, 1000, 1<<30)
	if (fits == nil) != (refusal == nil) {
		t.Fatalf("%s: fits says %+v, and the choice %+v", p.Name, fits, refusal)
	}
	if refusal == nil && len(grants) > 0 {
		p = p.DeepCopy()
		p.Annotations[topology.PodAnnotation] = topology.FormatGrants(grants)
		n.AddPod(p, r)
	}
	return grants, refusal
}

func reason(r *Refusal) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s, short of %d %s", r.Reason, r.Short, r.Resource)
}

func TestWhatIsRefusedAndWhy(t *testing.T) {
	sick := func(told topology.NodeGPUs, which ...int) topology.NodeGPUs {
		for _, i := range which {
			told.GPUs[i].Unhealthy = "XID 79"
		}
		return told
	}
	mode := func(told topology.NodeGPUs, mode string, replicas int) topology.NodeGPUs {
		told.Mode, told.Replicas = mode, replicas
		return told
	}
	unlimited := mode(gpus(2), "fractional", 0)
	for i := range unlimited.GPUs {
		unlimited.GPUs[i].MemoryLimits = false
	}
	for _, c := range []struct {
		name string
		node topology.NodeGPUs
		held []string
		pod  *corev1.Pod
		want string
	}{
		{"nothing asked of nothing", topology.NodeGPUs{}, nil, pod("p", "cpu=1"), ""},
		{"a GPU of none", topology.NodeGPUs{}, nil, pod("p", "gpu=1"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"all of four", gpus(4), nil, pod("p", "gpu=4"), ""},
		{"two containers", gpus(4), nil, pod("p", "gpu=3", "gpu=2"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"beside another", gpus(4), []string{"gpu=3"}, pod("p", "gpu=4"), "Insufficient nvidia.com/gpu, short of 3 nvidia.com/gpu"},
		{"one is sick", sick(gpus(2), 0), nil, pod("p", "gpu=2"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"all are sick", sick(gpus(2), 0, 1), nil, pod("p", "gpu=1"), "node(s) have only unhealthy GPUs, short of 1 nvidia.com/gpu"},
		{"a share where none are", gpus(2), nil, pod("p", "share=500"), "Insufficient gpu.pintle.dev/share, short of 500 gpu.pintle.dev/share"},
		{"a share", mode(gpus(1), "fractional", 0), []string{"share=400"}, pod("p", "share=600"), ""},
		{"too great a share", mode(gpus(1), "fractional", 0), []string{"share=500"}, pod("p", "share=600"), "Insufficient gpu.pintle.dev/share, short of 100 gpu.pintle.dev/share"},
		{"a share and a whole", mode(gpus(1), "fractional", 0), []string{"share=100"}, pod("p", "gpu=1"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"shares don't add up over GPUs", mode(gpus(2), "fractional", 0), []string{"share=600", "share=600"}, pod("p", "share=500"), "Insufficient gpu.pintle.dev/share, short of 100 gpu.pintle.dev/share"},
		{"memory alone", mode(gpus(1), "fractional", 0), []string{"memory=12Gi"}, pod("p", "memory=4Gi"), ""},
		{"too much memory", mode(gpus(1), "fractional", 0), []string{"memory=12Gi"}, pod("p", "memory=5Gi"), "Insufficient gpu.pintle.dev/memory, short of 1073741824 gpu.pintle.dev/memory"},
		{"more than any has", mode(gpus(1), "fractional", 0), nil, pod("p", "memory=17Gi"), "Insufficient gpu.pintle.dev/memory, short of 1073741824 gpu.pintle.dev/memory"},
		{"a share of memory beside much memory", mode(gpus(1), "fractional", 0), []string{"share=100 memory=12Gi"}, pod("p", "share=500"), "Insufficient gpu.pintle.dev/memory, short of 0 gpu.pintle.dev/memory"},
		{"not enforced", unlimited, nil, pod("p", "share=500"), "node(s) can't enforce a limit of GPU memory, short of 0 "},
		{"not enforced, and soft is enough", unlimited, nil, soft(pod("p", "share=500")), ""},
		{"two whole ones by share", mode(gpus(2), "fractional", 0), nil, pod("p", "share=2000"), ""},
		{"one and a half", mode(gpus(2), "fractional", 0), nil, pod("p", "share=1500"), "node(s) can't give gpu.pintle.dev/share of 1500: a share of more than one GPU must be of whole ones, short of 0 "},
		{"turns", mode(gpus(2), "time-slicing", 3), []string{"gpu=5"}, pod("p", "gpu=1"), ""},
		{"no turns left", mode(gpus(2), "mps", 3), []string{"gpu=5"}, pod("p", "gpu=2"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"a divided GPU is none", divided(topology.A30(), 1), nil, pod("p", "gpu=1"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"an instance of a GPU that isn't divided", gpus(1), nil, pod("p", "mig-1g.6gb=1"), "Insufficient nvidia.com/mig-1g.6gb, short of 1 nvidia.com/mig-1g.6gb"},
		{"instances to be made", divided(topology.A30(), 1), []string{"mig-2g.12gb=1"}, pod("p", "mig-1g.6gb=2"), ""},
		{"no room for more", divided(topology.A30(), 1), []string{"mig-2g.12gb=1"}, pod("p", "mig-1g.6gb=3"), "Insufficient nvidia.com/mig-1g.6gb, short of 1 nvidia.com/mig-1g.6gb"},
		{"the one media engine", divided(topology.A30(), 1), []string{"mig-1g.6gb.me=1"}, pod("p", "mig-1g.6gb.me=1"), "Insufficient nvidia.com/mig-1g.6gb.me, short of 1 nvidia.com/mig-1g.6gb.me"},
		{"an init container has what main ones have", gpus(2), nil, pod("p", "init:gpu=2", "gpu=1", "gpu=1"), ""},
		{"a sidecar has its own", gpus(2), nil, pod("p", "sidecar:gpu=1", "init:gpu=1", "gpu=1"), ""},
		{"a sidecar keeps it from later init containers", gpus(2), nil, pod("p", "sidecar:gpu=1", "init:gpu=2", "gpu=1"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"and from earlier ones, as the node counts", gpus(2), nil, pod("p", "init:gpu=2", "sidecar:gpu=1", "gpu=1"), "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu"},
		{"init shares before main ones'", mode(gpus(1), "fractional", 0), nil, pod("p", "init:share=900", "share=400", "share=500"), ""},
		{"shares of containers", mode(gpus(2), "fractional", 0), []string{"share=300"}, pod("p", "share=500", "share=600", "share=500"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := nodeOf(c.node)
			for i, held := range c.held {
				if _, refusal := give(t, n, pod(fmt.Sprint("held-", i), held)); refusal != nil {
					t.Fatalf("%s: %+v", held, refusal)
				}
			}
			_, refusal := give(t, n, c.pod)
			if c.name == "a share of memory beside much memory" { // only that it's the memory
				if refusal == nil || refusal.Resource != topology.MemoryResource {
					t.Errorf("%+v", refusal)
				}
				return
			}
			if got := reason(refusal); got != c.want {
				t.Errorf("%s\nnot\n%s", got, c.want)
			}
		})
	}
}

func TestANodeThatSaysNothingIsCounted(t *testing.T) {
	n := NewNode()
	n.SetNode(&corev1.Node{Status: corev1.NodeStatus{Allocatable: asks("gpu=2 mig-1g.10gb=1 cpu=8")}})
	p := pod("a", "gpu=1 mig-1g.10gb=1")
	if grants, refusal := give(t, n, p); refusal != nil || len(grants) != 0 {
		t.Fatalf("%v, %+v", grants, refusal)
	}
	n.AddPod(p, RequestOf(p)) // as NVIDIA's device plugin has it: no annotation
	for text, want := range map[string]string{
		"gpu=1":         "",
		"gpu=2":         "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu",
		"mig-1g.10gb=1": "Insufficient nvidia.com/mig-1g.10gb, short of 1 nvidia.com/mig-1g.10gb",
		"share=100":     "Insufficient gpu.pintle.dev/share, short of 100 gpu.pintle.dev/share",
	} {
		if got := reason(n.Fits(RequestOf(pod("b", text)))); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	n.RemovePod("a")
	if refusal := n.Fits(RequestOf(pod("b", "gpu=2"))); refusal != nil {
		t.Errorf("after it went: %+v", refusal)
	}
}

func TestWholeGPUsAreChosenByTheirLinks(t *testing.T) {
	told := gpus(4)
	told.Links = []int{10, 10, 400, 10, 10, 10} // 0-1 0-2 0-3 1-2 1-3 2-3
	n := nodeOf(told)
	grants, _ := give(t, n, pod("a", "gpu=2"))
	if got := uuids(grants); !slices.Equal(got, []string{"GPU-0", "GPU-3"}) {
		t.Errorf("chose %v", got)
	}
	n = nodeOf(told)
	grants, _ = give(t, n, pod("b", "gpu=1", "gpu=2"))
	for _, g := range grants {
		if linked := g.GPU == "GPU-0" || g.GPU == "GPU-3"; linked != (g.Container == "c1") {
			t.Errorf("the container with two didn't get the pair: %+v", grants)
		}
	}
}

func uuids(grants []topology.Grant) (out []string) {
	for _, g := range grants {
		out = append(out, g.Device())
	}
	slices.Sort(out)
	return out
}

func TestAPartGoesWhereLeastIsLeftUnlessThePolicySaysOtherwise(t *testing.T) {
	told := gpus(3)
	told.Mode = "fractional"
	n := nodeOf(told)
	for i, share := range []int{500, 600, 900} {
		p := pod(fmt.Sprint(i), fmt.Sprint("share=", share))
		p.Annotations[topology.PodAnnotation] = topology.FormatGrants([]topology.Grant{{Container: "c0", GPU: fmt.Sprint("GPU-", i), Share: share}})
		n.AddPod(p, RequestOf(p))
	}
	r := RequestOf(pod("p", "share=300"))
	if grants, _ := n.Choose(r, nil, 1000, 0); len(grants) != 1 || grants[0].GPU != "GPU-1" || grants[0].Share != 300 {
		t.Errorf("best fit: %+v", grants)
	}
	// Everybody asks for 400 or 500: what a hole of 400 would lose, one of 500 doesn't.
	prices := topology.NewPrices([]topology.PodClass{{Frequency: 0.6, GPUMilli: 400, GPUs: 1}, {Frequency: 0.4, GPUMilli: 200, GPUs: 1}}, nil)
	if grants, _ := n.Choose(r, Pricing{prices}, 1<<20, 1<<40); len(grants) != 1 || grants[0].GPU != "GPU-0" {
		t.Errorf("by price: %+v", grants)
	}
}

func TestInstancesThatExistComeFirst(t *testing.T) {
	told := divided(topology.A100With80GB(), 2)
	told.GPUs[1].Instances = []topology.NodeInstance{
		{UUID: "MIG-sick", Profile: "1g.10gb", Placement: topology.Placement{Start: 0, Size: 1}, Unhealthy: "XID"},
		{UUID: "MIG-made", Profile: "1g.10gb", Placement: topology.Placement{Start: 1, Size: 1}, Transient: true},
		{UUID: "MIG-good", Profile: "1g.10gb", Placement: topology.Placement{Start: 2, Size: 1}},
	}
	n := nodeOf(told)
	grants, _ := give(t, n, pod("a", "mig-1g.10gb=1"))
	if len(grants) != 1 || grants[0].MIG != "MIG-good" || grants[0].Profile != "" {
		t.Fatalf("%+v", grants)
	}
	grants, _ = give(t, n, pod("b", "mig-1g.10gb=1"))
	if len(grants) != 1 || grants[0].Profile != "1g.10gb" || grants[0].MIG != "" {
		t.Errorf("no other is there to be had, so it must be made: %+v", grants)
	}
	if n.Free("MIG-good") || n.Free("MIG-made") || n.Free("GPU-1") {
		t.Error("what is taken counts as free")
	}
}

func TestClaimsAndPodsKeepApart(t *testing.T) {
	n := nodeOf(gpus(2))
	n.SetClaim("claim", []string{"GPU-0"})
	if n.Free("GPU-0") || !n.Free("GPU-1") {
		t.Error("the claim's GPU is free, or the other isn't")
	}
	if _, refusal := give(t, n, pod("a", "gpu=2")); reason(refusal) != "Insufficient nvidia.com/gpu, short of 1 nvidia.com/gpu" {
		t.Errorf("%+v", refusal)
	}
	grants, _ := give(t, n, pod("a", "gpu=1"))
	if !slices.Equal(uuids(grants), []string{"GPU-1"}) || n.Free("GPU-1") {
		t.Errorf("%+v", grants)
	}
	p := pod("shares the claim", "cpu=1")
	p.Annotations[topology.PodAnnotation] = topology.FormatGrants([]topology.Grant{{Container: "c0", GPU: "GPU-0", Claim: "default/claim"}})
	n.AddPod(p, RequestOf(p))
	n.RemoveClaim("claim")
	if !n.Free("GPU-0") {
		t.Error("a claim's device stays taken when the claim has gone")
	}
}

func TestAnUnreadableAnnotationIsSaid(t *testing.T) {
	n := NewNode()
	n.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{topology.NodeAnnotation: "{"}}})
	if r := n.Fits(RequestOf(pod("a", "gpu=1"))); r == nil || r.Reason != reasonBroken {
		t.Errorf("%+v", r)
	}
	if r := n.Fits(RequestOf(pod("a", "cpu=1"))); r != nil {
		t.Errorf("a pod that needs none of them: %+v", r)
	}
}

// usage recounts from all grants, by the rules of the wire, what is taken; it fails where anything is taken twice.
func usage(t *testing.T, told *topology.NodeGPUs, pods map[string][]topology.Grant) {
	t.Helper()
	for i := range told.GPUs {
		d := &told.GPUs[i]
		part, users := topology.Share{}, 0
		var instances []topology.Instance
		names := map[string]bool{}
		for _, grants := range pods {
			for _, g := range grants {
				if g.GPU != d.UUID {
					continue
				}
				switch {
				case g.Profile != "":
					p, ok := d.Layout.Profile(g.Profile)
					if !ok || !slices.ContainsFunc(d.Layout.Free(instances, p), func(at topology.Placement) bool { return at.Start == g.Start }) {
						t.Fatalf("no room for %+v beside %v", g, instances)
					}
					at := p.Placements[slices.IndexFunc(p.Placements, func(at topology.Placement) bool { return at.Start == g.Start })]
					instances = append(instances, topology.Instance{ProfileID: p.ID, Placement: at})
				case g.MIG != "":
					if names[g.MIG] {
						t.Fatalf("%s is given twice", g.MIG)
					}
					names[g.MIG] = true
				default:
					users++
					part = part.Plus(g.Part(d.Memory))
				}
			}
		}
		most := 1
		if told.Replicas > 1 {
			most = told.Replicas
		}
		if told.Mode != "fractional" && users > most {
			t.Fatalf("%s has %d users, and may have %d", d.UUID, users, most)
		}
		if part.Milli > topology.Whole || part.Memory > d.Memory {
			t.Fatalf("%+v is taken of %s", part, d.UUID)
		}
	}
}

func TestNothingIsGivenTwiceWhateverComesAndGoes(t *testing.T) {
	mixed := divided(topology.A100With80GB(), 4)
	mixed.Mode = "fractional"
	mixed.GPUs[2].Divided, mixed.GPUs[3].Divided = false, false
	mixed.GPUs[0].Instances = []topology.NodeInstance{{UUID: "MIG-0", Profile: "2g.20gb", Placement: topology.Placement{Start: 0, Size: 2}}}
	kinds := map[string]topology.NodeGPUs{"whole": gpus(8), "mixed": mixed}
	fractional := gpus(4)
	fractional.Mode = "fractional"
	kinds["fractional"] = fractional
	turns := gpus(3)
	turns.Mode, turns.Replicas = "time-slicing", 4
	kinds["turns"] = turns
	for name, told := range kinds {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 7))
			n := nodeOf(told)
			pods := map[string][]topology.Grant{}
			given, refused := 0, 0
			for i := range 3000 {
				if len(pods) > 0 && r.IntN(5) < 2 {
					names := slices.Sorted(maps.Keys(pods))
					gone := names[r.IntN(len(names))]
					n.RemovePod(types.UID(gone))
					delete(pods, gone)
				}
				var texts []string
				for range 1 + r.IntN(2) {
					texts = append(texts, []string{
						fmt.Sprint("gpu=", 1+r.IntN(3)), fmt.Sprint("share=", 1+r.IntN(999)), fmt.Sprint("memory=", 1+r.IntN(15), "Gi"),
						fmt.Sprintf("share=%d memory=%dGi", 1+r.IntN(500), 1+r.IntN(12)), "mig-1g.10gb=2", "mig-2g.20gb=1", "mig-3g.40gb=1", "mig-1g.10gb.me=1",
					}[r.IntN(8)])
				}
				p := pod(fmt.Sprint("p", i), texts...)
				grants, refusal := give(t, n, p)
				if refusal != nil {
					refused++
					continue
				}
				given++
				pods[p.Name] = grants
				usage(t, &told, pods)
			}
			if given < 100 || refused < 100 {
				t.Errorf("%d given, %d refused: that shows little", given, refused)
			}
			for name := range pods {
				n.RemovePod(types.UID(name))
			}
			for i := range told.GPUs {
				if !n.Free(told.GPUs[i].UUID) {
					t.Errorf("%s stays taken when all have gone", told.GPUs[i].UUID)
				}
			}
		})
	}
}

func TestModelsThatAPodAllows(t *testing.T) {
	p := pod("a", "gpu=1")
	p.Spec.NodeSelector = map[string]string{productLabel: "A100"}
	if got := RequestOf(p).Class.Models; !slices.Equal(got, []string{"A100"}) {
		t.Errorf("%v", got)
	}
	p = pod("a", "gpu=1")
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: productLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{"T4", "A10"}}}},
	}}}}
	if got := RequestOf(p).Class.Models; !slices.Equal(got, []string{"A10", "T4"}) {
		t.Errorf("%v", got)
	}
}
