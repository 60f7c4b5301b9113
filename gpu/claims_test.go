package gpu_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/gputest"
)

func grant(uuid string) []gpu.Grant { return []gpu.Grant{{GPU: uuid}} }

func TestAWholeGPUIsGivenOnce(t *testing.T) {
	machine := gputest.TwoL4()
	m := start(t, machine, nil)
	a := gpu.Claim{Pod: "a", Grants: grant(machine.UUID(0))}
	if err := m.Claim(a); err != nil {
		t.Fatal(err)
	}
	if err := m.Claim(a); err != nil {
		t.Errorf("the same claim again: %v", err)
	}
	if err := m.Claim(gpu.Claim{Pod: "b", Grants: grant(machine.UUID(0))}); !errors.Is(err, gpu.ErrTaken) {
		t.Errorf("the same GPU for another pod: %v", err)
	}
	if err := m.Claim(gpu.Claim{Pod: "a", Grants: grant(machine.UUID(1))}); err == nil {
		t.Error("a pod's devices were changed under it")
	}
	both := gpu.Claim{Pod: "c", Grants: append(grant(machine.UUID(1)), grant(machine.UUID(0))...)}
	if err := m.Claim(both); !errors.Is(err, gpu.ErrTaken) || len(m.Holders(machine.UUID(1))) != 0 {
		t.Errorf("half of a claim was given: %v, %v", err, m.Claims())
	}
	if err := m.Release("a"); err != nil {
		t.Fatal(err)
	}
	if err := m.Claim(both); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

func TestManyPodsNeverShareAWholeGPU(t *testing.T) {
	machine := gputest.DGXA100()
	m := start(t, machine, nil)
	var wg sync.WaitGroup
	for pod := range 32 {
		wg.Go(func() {
			for round := range 20 {
				name := fmt.Sprint(pod)
				if m.Claim(gpu.Claim{Pod: name, Grants: grant(machine.UUID((pod + round) % 8))}) == nil {
					if holders := m.Holders(machine.UUID((pod + round) % 8)); !slices.Equal(holders, []string{name}) {
						t.Errorf("GPU %d has %v", (pod+round)%8, holders)
					}
					if err := m.Release(name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestSharesAreCountedByTheirMode(t *testing.T) {
	t.Run("time slices", func(t *testing.T) {
		machine := gputest.TwoL4()
		m := start(t, machine, func(c *gpu.Config) { c.Sharing = gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 3} })
		if q := m.Inventory().Resources()[gpu.ResourceGPU]; q.Capacity != 6 {
			t.Errorf("two GPUs for three each are %+v", q)
		}
		for pod := range 4 {
			err := m.Claim(gpu.Claim{Pod: fmt.Sprint(pod), Grants: grant(machine.UUID(0))})
			if (err == nil) != (pod < 3) {
				t.Errorf("pod %d: %v", pod, err)
			}
		}
	})
	t.Run("fractions", func(t *testing.T) {
		machine := gputest.TwoL4()
		m := start(t, machine, func(c *gpu.Config) { c.Sharing.Mode = gpu.Fractions })
		give := func(pod string, share int, memory int64, soft bool) error {
			return m.Claim(gpu.Claim{Pod: pod, Grants: []gpu.Grant{{GPU: machine.UUID(0), Share: share, Memory: memory, Soft: soft}}})
		}
		if err := give("a", 600, 4<<30, false); !errors.Is(err, gpu.ErrNotEnforced) {
			t.Errorf("a limit that nothing enforces, for a pod that wants it enforced: %v", err)
		}
		if err := give("a", 600, 4<<30, true); err != nil {
			t.Error(err)
		}
		if err := give("b", 401, 0, true); !errors.Is(err, gpu.ErrTaken) {
			t.Errorf("more than what is free of the share: %v", err)
		}
		if err := give("b", 400, 22<<30, true); !errors.Is(err, gpu.ErrTaken) {
			t.Errorf("more than what is free of the memory: %v", err)
		}
		if err := give("b", 400, 18<<30, true); err != nil { // 22.49 GiB in all
			t.Error(err)
		}
		for _, share := range []int{0, -1, 1001} {
			if err := give("c", share, 0, true); err == nil {
				t.Errorf("a share of %d was given", share)
			}
		}
	})
}

func TestAnUnhealthyGPUIsNotGivenAndNotTakenAway(t *testing.T) {
	machine := gputest.TwoL4()
	m := start(t, machine, nil)
	held := gpu.Claim{Pod: "held", Grants: grant(machine.UUID(0))}
	if err := m.Claim(held); err != nil {
		t.Fatal(err)
	}
	machine.XID(0, 119)
	machine.XID(1, 119)
	until(t, m, "unhealthy GPUs", func(inv *gpu.Inventory) bool { return healthy(0, false)(inv) && healthy(1, false)(inv) })
	if err := m.Claim(held); err != nil {
		t.Errorf("a claim that is held, again: %v", err)
	}
	if err := m.Claim(gpu.Claim{Pod: "new", Grants: grant(machine.UUID(1))}); !errors.Is(err, gpu.ErrUnhealthy) {
		t.Errorf("an unhealthy GPU for a new pod: %v", err)
	}
}

func TestClaimsOutliveTheProcess(t *testing.T) {
	machine := gputest.DGXH100()
	file := filepath.Join(t.TempDir(), "deep", "gpu.json")
	keep := func(c *gpu.Config) { c.StateFile = file }
	first, err := gpu.New(gpu.Config{Driver: machine, StateFile: file})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, first)
	for i, pod := range []string{"a", "b", "c"} {
		if err := first.Claim(gpu.Claim{Pod: pod, Name: "default/" + pod, Grants: grant(machine.UUID(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Release("b"); err != nil {
		t.Fatal(err)
	}
	before := first.Claims()
	stop()
	second := start(t, machine, keep)
	if after := second.Claims(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%v became %v", before, after)
	}
	if err := second.Claim(gpu.Claim{Pod: "d", Grants: grant(machine.UUID(0))}); !errors.Is(err, gpu.ErrTaken) {
		t.Errorf("a GPU that was kept was given again: %v", err)
	}
	released, err := second.Reconcile([]string{"c", "unknown"})
	if err != nil || len(released) != 1 || released[0].Pod != "a" {
		t.Errorf("reconciled with c: released %v, %v", released, err)
	}
	if holders := second.Holders(machine.UUID(2)); !slices.Equal(holders, []string{"c"}) {
		t.Errorf("c's GPU has %v", holders)
	}
}

func TestADamagedStateFileIsAnErrorAndNotAForgottenClaim(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gpu.json")
	for _, content := range []string{"{", `{"version":99,"claims":[]}`} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gpu.New(gpu.Config{Driver: gputest.TwoL4(), StateFile: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestAMIGInstanceIsMadeForAPodAndDestroyedWithIt(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	divide(t, machine, 0, 19, 6) // one 1g.10gb, by hand
	until(t, m, "an instance", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 1 })
	byHand := m.Inventory().Devices[0].MIG.Instances[0].UUID
	claim := gpu.Claim{Pod: "a", Grants: []gpu.Grant{{GPU: machine.UUID(0), Profile: "3g.40gb", Start: 0}}}
	if err := m.Claim(claim); err != nil {
		t.Fatal(err)
	}
	if err := m.Claim(claim); err != nil {
		t.Errorf("the same claim again: %v", err)
	}
	inv := m.Inventory()
	if got := len(inv.Devices[0].MIG.Instances); got != 2 {
		t.Fatalf("there are %d instances", got)
	}
	injected, err := m.Injection("a", "main")
	if err != nil || len(injected.CDI) != 1 || !strings.HasPrefix(injected.CDI[0], "nvidia.com/gpu=MIG-") {
		t.Errorf("the pod gets %+v, %v", injected, err)
	}
	for name, g := range map[string]gpu.Grant{
		"the same slices":        {GPU: machine.UUID(0), Profile: "2g.20gb", Start: 2},
		"slices of another's":    {GPU: machine.UUID(0), Profile: "1g.10gb", Start: 6},
		"a made one, by another": {GPU: machine.UUID(0), MIG: m.Claims()[0].Grants[0].MIG},
	} {
		if err := m.Claim(gpu.Claim{Pod: "b", Grants: []gpu.Grant{g}}); !errors.Is(err, gpu.ErrTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, g := range map[string]gpu.Grant{
		"the divided GPU":        {GPU: machine.UUID(0)},
		"a profile it lacks":     {GPU: machine.UUID(0), Profile: "9g.90gb"},
		"an undivided GPU":       {GPU: machine.UUID(1), Profile: "1g.10gb"},
		"an instance and a kind": {GPU: machine.UUID(0), MIG: byHand, Profile: "1g.10gb"},
		"a share of an instance": {GPU: machine.UUID(0), MIG: byHand, Share: 100},
	} {
		if err := m.Claim(gpu.Claim{Pod: "b", Grants: []gpu.Grant{g}}); err == nil {
			t.Errorf("%s was given", name)
		}
	}
	if err := m.Claim(gpu.Claim{Pod: "b", Grants: []gpu.Grant{{GPU: machine.UUID(0), MIG: byHand}}}); err != nil {
		t.Errorf("the instance made by hand: %v", err)
	}
	for _, pod := range []string{"a", "b"} {
		if err := m.Release(pod); err != nil {
			t.Fatal(err)
		}
	}
	if left := m.Inventory().Devices[0].MIG.Instances; len(left) != 1 || left[0].UUID != byHand {
		t.Errorf("after the releases there are %v; the one made by hand should stay", left)
	}
}

func TestAnInstanceInUseKeepsItsClaim(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	if err := m.Divide(machine.UUID(0), true); err != nil || !m.Inventory().Devices[0].MIG.Enabled {
		t.Fatalf("MIG is not on: %v", err)
	}
	if err := m.Claim(gpu.Claim{Pod: "a", Grants: []gpu.Grant{{GPU: machine.UUID(0), Profile: "1g.10gb", Start: 3}}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Divide(machine.UUID(0), false); !errors.Is(err, gpu.ErrTaken) {
		t.Errorf("MIG was turned off under a pod: %v", err)
	}
	gi := m.Inventory().Devices[0].MIG.Instances[0].GI
	machine.Run(0, device.Process{PID: 42, GI: gi})
	if err := m.Release("a"); err == nil || len(m.Claims()) != 1 {
		t.Errorf("released though process 42 uses it: %v, %v", err, m.Claims())
	}
	machine.Run(0)
	if err := m.Release("a"); err != nil || len(m.Claims()) != 0 {
		t.Errorf("after the process ended: %v, %v", err, m.Claims())
	}
}

func TestAnInstanceMadeBeforeACrashIsFoundAgain(t *testing.T) {
	machine := gputest.DGXH100()
	made := divide(t, machine, 0, 19, 4)
	file := filepath.Join(t.TempDir(), "gpu.json")
	// What is kept between the promise and the noting of what was made.
	state := fmt.Sprintf(`{"version":1,"claims":[{"pod":"a","grants":[{"gpu":%q,"profile":"1g.10gb","start":4}]}]}`, machine.UUID(0))
	if err := os.WriteFile(file, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	m := start(t, machine, func(c *gpu.Config) { c.StateFile = file })
	if _, err := m.Reconcile([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	if got := m.Claims()[0].Grants[0].MIG; got != made[0] {
		t.Errorf("the claim has %q, not %q", got, made[0])
	}
	if _, err := m.Reconcile(nil); err != nil {
		t.Fatal(err)
	}
	if left := m.Inventory().Devices[0].MIG.Instances; len(left) != 0 {
		t.Errorf("the instance outlived its claim: %v", left)
	}
}

func TestInjectionIsEachContainersOwn(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	a, b := machine.UUID(0), machine.UUID(7)
	if err := m.Claim(gpu.Claim{Pod: "p", Grants: []gpu.Grant{{Container: "x", GPU: a}, {Container: "y", GPU: b}}}); err != nil {
		t.Fatal(err)
	}
	for container, want := range map[string]string{"x": a, "y": b, "z": ""} {
		got, err := m.Injection("p", container)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if len(got.CDI) != 0 || len(got.Env) != 0 {
				t.Errorf("container %s gets %+v", container, got)
			}
			continue
		}
		if !slices.Equal(got.CDI, []string{"nvidia.com/gpu=" + want}) || !slices.Contains(got.Env, "NVIDIA_VISIBLE_DEVICES="+want) || len(got.NUMA) != 1 {
			t.Errorf("container %s gets %+v", container, got)
		}
	}
}

func TestMPSLimitsMemoryAndThreadsOnceItsDaemonRuns(t *testing.T) {
	machine := gputest.TwoL4()
	dir := filepath.Join(t.TempDir(), "mps")
	control := filepath.Join(t.TempDir(), "nvidia-cuda-mps-control")
	// Like the daemon it makes its pipe, and ends with SIGTERM.
	script := "#!/bin/sh\n[ \"$1\" = -f ] || exit 1\nwhile [ ! -e " + dir + "/go ]; do sleep 0.05; done\ntouch $CUDA_MPS_PIPE_DIRECTORY/control\nexec sleep 1000\n"
	if err := os.WriteFile(control, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := gpu.New(gpu.Config{Driver: machine, Sharing: gpu.Sharing{Mode: gpu.MPS, Replicas: 4}, MPS: gpu.MPSConfig{Control: control, Dir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, m)
	claim := gpu.Claim{Pod: "p", Grants: grant(machine.UUID(0))}
	if err := m.Claim(claim); !errors.Is(err, gpu.ErrNoMPS) {
		t.Errorf("before the daemon runs: %v", err)
	}
	for os.WriteFile(filepath.Join(dir, "go"), nil, 0o600) != nil { // the folder is made with the daemon
		time.Sleep(10 * time.Millisecond)
	}
	for range 200 {
		if err = m.Claim(claim); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Injection("p", "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=5758M", "CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps"} {
		if !slices.Contains(got.Env, want) {
			t.Errorf("%v lacks %s", got.Env, want)
		}
	}
	if len(got.Mounts) != 2 || got.Mounts[0].Host != dir {
		t.Errorf("mounts %v", got.Mounts)
	}
	stop()
	if _, err := os.Stat(filepath.Join(dir, "control")); err == nil {
		t.Error("the pipe outlives the daemon")
	}
}

func TestAMemoryLimitIsTheDriversWhereItHasOne(t *testing.T) {
	machine := gputest.New(device.System{DriverVersion: "610.1", CUDAVersion: 13030}, device.GPU{Name: "new", ComputeMajor: 10, MemoryBytes: 100_000, MemoryLimits: true})
	m := start(t, machine, func(c *gpu.Config) { c.Sharing.Mode = gpu.Fractions })
	for pod, g := range map[string]gpu.Grant{"a": {Share: 300}, "b": {Share: 300, Memory: 10_000}} {
		g.GPU = machine.UUID(0)
		if err := m.Claim(gpu.Claim{Pod: pod, Grants: []gpu.Grant{g}}); err != nil {
			t.Fatal(err)
		}
		if err := m.LimitMemory(pod, "main", "/sys/fs/cgroup/"+pod); err != nil {
			t.Error(err)
		}
	}
	if got := machine.Limits(0); got["/sys/fs/cgroup/a"] != 30_000 || got["/sys/fs/cgroup/b"] != 10_000 {
		t.Errorf("the driver was told %v", got)
	}
}

func TestAClaimThatFailsInTheMiddleLeavesNothing(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	if err := m.Divide(machine.UUID(0), true); err != nil {
		t.Fatal(err)
	}
	divide(t, machine, 0, 19, 6) // made by hand a moment ago: the Manager doesn't know of it yet
	before := m.Inventory().Devices[0].MIG.Instances
	err := m.Claim(gpu.Claim{Pod: "a", Grants: []gpu.Grant{
		{GPU: machine.UUID(0), Profile: "2g.20gb", Start: 0}, {GPU: machine.UUID(0), Profile: "1g.10gb", Start: 6},
	}})
	if err == nil && len(before) == 0 {
		t.Error("slices were given that are taken")
	}
	if err != nil && len(m.Claims()) != 0 {
		t.Errorf("a claim that failed is kept: %v", m.Claims())
	}
	inv := until(t, m, "the instance made by hand alone", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 1 })
	if got := inv.Devices[0].MIG.Instances[0].Profile; got != "1g.10gb" {
		t.Errorf("what is left is a %s", got)
	}
}
