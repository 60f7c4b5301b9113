package gpu_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/gputest"
)

// start runs a manager of the machine until the test ends, and returns it once it is ready.
func start(t *testing.T, machine *gputest.Machine, change func(*gpu.Config)) *gpu.Manager {
	t.Helper()
	cfg := gpu.Config{Driver: machine, Poll: time.Second, Retry: time.Second}
	if change != nil {
		change(&cfg)
	}
	m, err := gpu.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, m)
	t.Cleanup(func() {
		for _, what := range machine.Misuse() {
			t.Error("the driver was misused:", what)
		}
	})
	return m
}

// run runs a manager until the test ends or stop is called, which waits for it.
func run(t *testing.T, m *gpu.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	<-m.Ready()
	return stop
}

// until waits for an inventory that is so.
func until(t *testing.T, m *gpu.Manager, what string, is func(*gpu.Inventory) bool) *gpu.Inventory {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble's clock
	defer cancel()
	inv := m.Inventory()
	for !is(inv) {
		next, err := m.WaitChange(ctx, inv.Revision)
		if err != nil {
			t.Fatalf("waited for %s: %v", what, err)
		}
		inv = next
	}
	return inv
}

func healthy(i int, want bool) func(*gpu.Inventory) bool {
	return func(inv *gpu.Inventory) bool { return len(inv.Devices) > i && inv.Devices[i].Healthy() == want }
}

func TestTheInventoryIsTheMachines(t *testing.T) {
	for _, c := range []struct {
		machine *gputest.Machine
		count   int
		link    string
	}{{gputest.DGXA100(), 8, "NV12"}, {gputest.DGXH100(), 8, "NV18"}, {gputest.TwoL4(), 2, "PHB"}} {
		m := start(t, c.machine, nil)
		inv := m.Inventory()
		if inv.Unavailable != "" || len(inv.Devices) != c.count {
			t.Fatalf("%d GPUs, %q", len(inv.Devices), inv.Unavailable)
		}
		for i := range inv.Devices {
			d := &inv.Devices[i]
			if !d.Healthy() || d.Index != i || d.Reading == nil {
				t.Errorf("GPU %d is %+v", i, d)
			}
		}
		if got := inv.Link(0, 1).String(); got != c.link {
			t.Errorf("GPUs 0 and 1 of %s share %s, not %s", inv.Devices[0].Name, got, c.link)
		}
		if _, err := inv.Matrix(); err != nil {
			t.Error(err)
		}
	}
}

func TestWithoutADriverTheManagerSaysWhyAndFindsItLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.TwoL4()
		machine.Unload("the kernel module isn't loaded")
		m := start(t, machine, nil)
		if inv := m.Inventory(); !strings.Contains(inv.Unavailable, "kernel module") || len(inv.Devices) != 0 || len(inv.Labels()) != 0 || len(inv.Resources()) != 0 {
			t.Fatalf("without a driver: %+v", inv)
		}
		machine.Load()
		until(t, m, "two GPUs", func(inv *gpu.Inventory) bool { return inv.Unavailable == "" && len(inv.Devices) == 2 })
	})
}

func TestADriverThatRestartsIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXH100()
		m := start(t, machine, nil)
		machine.Unload("rmmod nvidia")
		inv := until(t, m, "no driver", func(inv *gpu.Inventory) bool { return inv.Unavailable != "" })
		if len(inv.Devices) != 8 || inv.Devices[0].Healthy() {
			t.Errorf("the GPUs are forgotten, or healthy, while the driver is away: %+v", inv.Devices)
		}
		machine.Load()
		inv = until(t, m, "healthy GPUs", healthy(7, true))
		if !inv.Devices[0].Healthy() || machine.Opened() < 2 {
			t.Errorf("after the restart: %s, %d sessions", inv.Devices[0].Why(), machine.Opened())
		}
	})
}

func TestAManagerRunsAgainAfterItStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.TwoL4()
		m, err := gpu.New(gpu.Config{Driver: machine})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			run(t, m)()
		}
		if len(machine.Misuse()) > 0 {
			t.Error(machine.Misuse())
		}
	})
}

func TestOnlyHardwareXIDsMakeAGPUUnhealthy(t *testing.T) {
	for xid, well := range map[uint64]bool{
		13: true, 31: true, 43: true, 45: true, 68: true, 94: true, 109: true, 63: true, 137: true,
		46: false, 48: false, 62: false, 64: false, 74: false, 79: false, 95: false, 119: false, 120: false, 140: false, 145: false, 999: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			machine := gputest.DGXA100()
			m := start(t, machine, nil)
			machine.XID(3, xid)
			time.Sleep(3 * time.Second)
			d := m.Inventory().Devices[3]
			if d.Healthy() != well {
				t.Errorf("after XID %d the GPU is %q", xid, d.Why())
			}
			if !well && !strings.Contains(d.Why(), "XID") {
				t.Errorf("after XID %d the reason is %q", xid, d.Why())
			}
			if !m.Inventory().Devices[2].Healthy() {
				t.Errorf("XID %d of GPU 3 made GPU 2 unhealthy", xid)
			}
		})
	}
}

func TestAGPUHealsAfterQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXA100()
		m := start(t, machine, func(c *gpu.Config) { c.Health.HealAfter = time.Minute })
		machine.XID(0, 119)
		until(t, m, "an unhealthy GPU", healthy(0, false))
		time.Sleep(50 * time.Second)
		machine.XID(0, 119) // again: the quiet begins anew
		time.Sleep(50 * time.Second)
		if healthy(0, true)(m.Inventory()) {
			t.Error("the GPU healed less than a minute after its last XID")
		}
		until(t, m, "a healthy GPU", healthy(0, true))
	})
}

func TestAGPUThatNeedsAResetStaysUnhealthyUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXH100()
		m := start(t, machine, nil)
		machine.XID(1, 95)
		machine.Change(1, func(r *device.Reading) { r.Recovery = device.RecoveryReset })
		until(t, m, "an unhealthy GPU", healthy(1, false))
		time.Sleep(time.Hour)
		if d := m.Inventory().Devices[1]; d.Healthy() || !strings.Contains(d.Why(), "reset the GPU") || !strings.Contains(d.Why(), "XID 95") {
			t.Errorf("an hour later: %q", d.Why())
		}
		machine.Reset(1)
		until(t, m, "a healthy GPU", healthy(1, true))
	})
}

func TestALostGPUIsUnhealthyKeepsItsPlaceAndHealsWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXH100()
		m := start(t, machine, nil)
		lost := machine.UUID(5)
		machine.Lose(5)
		inv := until(t, m, "a lost GPU", healthy(5, false))
		time.Sleep(time.Minute)
		inv = m.Inventory()
		if len(inv.Devices) != 8 || inv.Devices[5].UUID != lost || inv.Devices[5].Healthy() {
			t.Fatalf("%d GPUs, the sixth is %s, %q", len(inv.Devices), inv.Devices[5].UUID, inv.Devices[5].Why())
		}
		if q := inv.Resources()[gpu.ResourceGPU]; q.Capacity != 8 || q.Allocatable != 7 {
			t.Errorf("with a lost GPU the node has %+v", q)
		}
		machine.Reset(5)
		until(t, m, "all healthy", healthy(5, true))
	})
}

func TestConditionsComeAndGoWithTheReading(t *testing.T) {
	for name, c := range map[string]struct {
		change, undo func(*device.Reading)
		kind         gpu.ReasonKind
	}{
		"a repair that waits": {func(r *device.Reading) { r.Rows = &device.RemappedRows{Pending: true} }, func(r *device.Reading) { r.Rows = &device.RemappedRows{Uncorrectable: 1} }, gpu.ReasonRepair},
		"no spare rows":       {func(r *device.Reading) { r.Rows = &device.RemappedRows{Failed: true} }, func(r *device.Reading) { r.Rows = &device.RemappedRows{} }, gpu.ReasonRepair},
		"a link down":         {func(r *device.Reading) { r.LinksUp = 11 }, func(r *device.Reading) { r.LinksUp = 12 }, gpu.ReasonNVLink},
		"heat":                {func(r *device.Reading) { r.Throttle = device.ThrottleHWThermal }, func(r *device.Reading) { r.Throttle = device.ThrottleIdle }, gpu.ReasonHot},
		"too hot":             {func(r *device.Reading) { hot := uint32(95); r.Temperature = &hot }, func(r *device.Reading) { cool := uint32(40); r.Temperature = &cool }, gpu.ReasonHot},
		"the power brake":     {func(r *device.Reading) { r.Throttle = device.ThrottleHWPowerBrake }, func(r *device.Reading) { r.Throttle = 0 }, gpu.ReasonPower},
		"link errors":         {func(r *device.Reading) { r.LinkErrors = []device.LinkErrors{{Link: 2, Replay: 5000}} }, func(*device.Reading) {}, gpu.ReasonNVLink},
		"ECC":                 {func(r *device.Reading) { n := uint64(1); r.ECCUncorrected = &n }, func(*device.Reading) {}, gpu.ReasonMemory},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				machine := gputest.DGXA100()
				machine.Change(0, func(r *device.Reading) { r.LinkErrors = []device.LinkErrors{{Link: 2}} })
				m := start(t, machine, nil)
				time.Sleep(5 * time.Second)
				machine.Change(0, c.change)
				inv := until(t, m, "an unhealthy GPU", healthy(0, false))
				if got := inv.Devices[0].Reasons[0].Kind; got != c.kind {
					t.Errorf("the reason is %s, not %s", got, c.kind)
				}
				machine.Change(0, c.undo)
				until(t, m, "a healthy GPU", healthy(0, true))
			})
		})
	}
}

func TestWorkAtThePowerCapIsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXA100()
		m := start(t, machine, nil)
		machine.Change(0, func(r *device.Reading) { r.Throttle = device.ThrottleSWPowerCap | device.ThrottleSWThermal })
		time.Sleep(10 * time.Minute)
		if d := m.Inventory().Devices[0]; !d.Healthy() {
			t.Error(d.Why())
		}
	})
}

func TestReadingsAloneDontRaiseTheRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.TwoL4()
		m := start(t, machine, nil)
		before := m.Inventory()
		warm := uint32(60)
		machine.Change(0, func(r *device.Reading) { r.Temperature = &warm })
		time.Sleep(10 * time.Second)
		after := m.Inventory()
		if after.Revision != before.Revision || *after.Devices[0].Reading.Temperature != 60 {
			t.Errorf("revision %d, then %d; %d °C", before.Revision, after.Revision, *after.Devices[0].Reading.Temperature)
		}
	})
}

func TestAnXIDOfAnInstanceLeavesTheOthersHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXH100()
		m := start(t, machine, nil)
		divide(t, machine, 0, 19, 0, 1)
		inv := until(t, m, "two instances", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 2 })
		first, second := inv.Devices[0].MIG.Instances[0].UUID, inv.Devices[0].MIG.Instances[1].UUID
		if err := machine.XIDOn(first, 119); err != nil {
			t.Fatal(err)
		}
		inv = until(t, m, "an unhealthy instance", func(inv *gpu.Inventory) bool { return !inv.Devices[0].InstanceHealthy(first) })
		if !inv.Devices[0].InstanceHealthy(second) || !inv.Devices[0].Healthy() {
			t.Error("the XID of one instance made another, or the GPU, unhealthy")
		}
		if q := inv.Resources()["nvidia.com/mig-1g.10gb"]; q.Capacity != 2 || q.Allocatable != 1 {
			t.Errorf("the node has %+v", q)
		}
	})
}

// divide turns MIG on and makes instances of a profile, as an administrator would with nvidia-smi.
func divide(t *testing.T, machine *gputest.Machine, i, profile int, starts ...int) []string {
	t.Helper()
	s, err := machine.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetMIGMode(machine.UUID(i), true); err != nil {
		t.Fatal(err)
	}
	var made []string
	for _, start := range starts {
		instance, err := s.CreateMIG(machine.UUID(i), profile, start)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, instance.UUID)
	}
	return made
}

func TestAWrongConfigIsRefused(t *testing.T) {
	for name, cfg := range map[string]gpu.Config{
		"a negative poll":       {Poll: -1},
		"one replica":           {Sharing: gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 1}},
		"replicas of the whole": {Sharing: gpu.Sharing{Replicas: 4}},
		"too many MPS clients":  {Sharing: gpu.Sharing{Mode: gpu.MPS, Replicas: 49}},
		"an unknown mode":       {Sharing: gpu.Sharing{Mode: "half"}},
	} {
		if _, err := gpu.New(cfg); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}

func TestRunTwiceAtATimeIsRefused(t *testing.T) {
	m := start(t, gputest.TwoL4(), nil)
	if err := m.Run(t.Context()); err == nil {
		t.Error("a second Run began")
	}
}

func TestWaitChangeEndsWithItsContext(t *testing.T) {
	m := start(t, gputest.TwoL4(), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := m.WaitChange(ctx, m.Inventory().Revision); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestLinksThatAreDownUnderMIGAreNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := gputest.DGXH100()
		m := start(t, machine, nil)
		time.Sleep(5 * time.Second)
		if err := m.Divide(machine.UUID(0), true); err != nil {
			t.Fatal(err)
		}
		machine.Change(0, func(r *device.Reading) { r.LinksUp = 0 })
		time.Sleep(time.Minute)
		if d := m.Inventory().Devices[0]; !d.Healthy() {
			t.Error(d.Why())
		}
	})
}
