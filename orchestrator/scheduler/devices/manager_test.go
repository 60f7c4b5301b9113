package devices_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
)

// The node checks what was chosen and never chooses: whatever comes and goes, it must accept every choice.
func TestTheNodeAcceptsWhatIsChosen(t *testing.T) {
	for name, c := range map[string]struct {
		machine *gputest.Machine
		sharing gpu.Sharing
		divide  []int
	}{
		"whole":                   {machine: gputest.DGXA100()},
		"fractions, some divided": {machine: gputest.DGXH100(), sharing: gpu.Sharing{Mode: gpu.Fractions}, divide: []int{0, 3, 4}},
		"whole, most divided":     {machine: gputest.DGXA100(), divide: []int{0, 1, 2, 3, 5, 6}},
		"turns":                   {machine: gputest.TwoL4(), sharing: gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := gpu.New(gpu.Config{Driver: c.machine, Sharing: c.sharing, Poll: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			t.Cleanup(func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			<-m.Ready()
			for _, i := range c.divide {
				if err := m.Divide(c.machine.UUID(i), true); err != nil {
					t.Fatal(err)
				}
			}
			churn(t, m)
		})
	}
}

func churn(t *testing.T, m *gpu.Manager) {
	r := rand.New(rand.NewPCG(11, 12))
	n := devices.NewNode()
	here := map[string]bool{}
	kinds := map[string]int{}
	for i := range 1500 {
		told := m.Inventory().Node(m.Claims())
		n.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{topology.NodeAnnotation: told.Format()}}})
		if len(here) > 0 && r.IntN(5) < 2 {
			names := slices.Sorted(maps.Keys(here))
			gone := names[r.IntN(len(names))]
			if err := m.Release(gone); err != nil {
				t.Fatal(err)
			}
			n.RemovePod(types.UID(gone))
			delete(here, gone)
			// The node may be read again only later: the choice must not use what still looks taken, nor trip over it.
			if r.IntN(2) == 0 {
				told := m.Inventory().Node(m.Claims())
				n.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{topology.NodeAnnotation: told.Format()}}})
			}
		}
		pod, claim := somePod(r, fmt.Sprint("pod-", i))
		request := devices.RequestOf(pod)
		grants, refusal := n.Choose(request, nil, 0, 0)
		if refusal != nil {
			continue
		}
		claim.Grants = grants
		if err := m.Claim(claim); err != nil {
			t.Fatalf("pod %d, which asks for %v: the node refuses %+v: %v", i, pod.Spec, grants, err)
		}
		for _, g := range grants {
			switch {
			case g.Profile != "":
				kinds["made"]++
			case g.Share != 0:
				kinds["part"]++
			default:
				kinds["whole"]++
			}
		}
		pod.Annotations[topology.PodAnnotation] = topology.FormatGrants(grants)
		n.AddPod(pod, request)
		here[claim.Pod] = true
	}
	if total := kinds["made"] + kinds["part"] + kinds["whole"]; total < 200 {
		t.Errorf("only %v were given", kinds)
	}
	t.Log(kinds)
}

// somePod asks for something, at times of several containers.
func somePod(r *rand.Rand, name string) (*corev1.Pod, gpu.Claim) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Annotations: map[string]string{topology.SoftAnnotation: "true"}}}
	claim := gpu.Claim{Pod: name, Name: "default/" + name}
	container := func(name string) corev1.Container {
		list := corev1.ResourceList{}
		set := func(name string, n int64) {
			list[corev1.ResourceName(name)] = *resource.NewQuantity(n, resource.DecimalSI)
		}
		switch r.IntN(8) {
		case 0, 1:
			set(topology.GPUResource, 1+r.Int64N(3))
		case 2:
			set(topology.ShareResource, 1+r.Int64N(999))
		case 3:
			set(topology.MemoryResource, (1+r.Int64N(40))<<30)
		case 4:
			set(topology.ShareResource, 1+r.Int64N(500))
			set(topology.MemoryResource, (1+r.Int64N(40))<<30)
		case 5:
			set(topology.MIGPrefix+"1g.10gb", 1+r.Int64N(3))
		case 6:
			set(topology.MIGPrefix+"2g.20gb", 1)
			set(topology.MIGPrefix+"1g.10gb.me", 1)
		case 7:
			set(topology.MIGPrefix+[]string{"3g.40gb", "4g.40gb", "7g.80gb", "1g.20gb"}[r.IntN(4)], 1)
		}
		return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Limits: list, Requests: list}}
	}
	if r.IntN(3) == 0 {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, container("first"))
		claim.Init = append(claim.Init, "first")
	}
	if r.IntN(5) == 0 {
		c := container("beside")
		always := corev1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		claim.Sidecars = append(claim.Sidecars, "beside")
	}
	for i := range 1 + r.IntN(4)/3 {
		pod.Spec.Containers = append(pod.Spec.Containers, container(fmt.Sprint("main-", i)))
	}
	return pod, claim
}
