package gputest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/gputest"
)

func open(t *testing.T, m *gputest.Machine) gpu.Session {
	t.Helper()
	s, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The capacity that NVIDIA's MIG user guide lists for each profile of an A100 and an H100.
func TestAGPUHoldsWhatTheGuideSays(t *testing.T) {
	for _, machine := range []*gputest.Machine{gputest.DGXA100(), gputest.DGXH100(), gputest.OneH200()} {
		for id, c := range map[int]struct {
			starts []int
			most   int
		}{
			19: {[]int{0, 1, 2, 3, 4, 5, 6, 7}, 7}, 20: {[]int{0, 1, 2, 3, 4, 5, 6}, 1}, 15: {[]int{0, 2, 4, 6, 1}, 4}, 14: {[]int{0, 2, 4, 6}, 3}, 9: {[]int{0, 4, 2}, 2}, 5: {[]int{0, 4}, 1}, 0: {[]int{0, 0}, 1},
		} {
			machine.Reset(0)
			s := open(t, machine)
			if err := s.SetMIGMode(machine.UUID(0), true); err != nil {
				t.Fatal(err)
			}
			machine.Reset(0) // A100 needs one
			made := 0
			for _, start := range c.starts {
				if _, err := s.CreateMIG(machine.UUID(0), id, start); err == nil {
					made++
				}
			}
			if made != c.most {
				t.Errorf("%d instances of profile %d, not %d", made, id, c.most)
			}
			s.Close()
		}
	}
}

func TestMIGModeNeedsAResetBeforeHopper(t *testing.T) {
	for _, c := range []struct {
		machine *gputest.Machine
		atOnce  bool
	}{{gputest.DGXA100(), false}, {gputest.DGXH100(), true}} {
		s := open(t, c.machine)
		if err := s.SetMIGMode(c.machine.UUID(0), true); err != nil {
			t.Fatal(err)
		}
		gpus, _ := s.GPUs()
		if gpus[0].MIG.Enabled != c.atOnce || !gpus[0].MIG.Pending {
			t.Errorf("%s: %+v", gpus[0].Name, gpus[0].MIG.Enabled)
		}
		c.machine.Reset(0)
		if gpus, _ = s.GPUs(); !gpus[0].MIG.Enabled {
			t.Errorf("%s: not after a reset", gpus[0].Name)
		}
		s.Close()
	}
	s := open(t, gputest.TwoL4())
	if err := s.SetMIGMode("GPU-00000001-0000-4000-8000-000000000001", true); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("an L4 has MIG: %v", err)
	}
}

func TestASessionIsOverWithItsDriverAndMisusedAfterClose(t *testing.T) {
	m := gputest.TwoL4()
	s := open(t, m)
	m.Unload("gone")
	if _, err := s.GPUs(); !errors.Is(err, device.ErrRestarted) {
		t.Errorf("%v", err)
	}
	if _, _, err := s.Wait(time.Second); !errors.Is(err, device.ErrRestarted) {
		t.Errorf("%v", err)
	}
	s.Close()
	if len(m.Misuse()) != 0 {
		t.Errorf("%v", m.Misuse())
	}
	s.Read(m.UUID(0))
	if len(m.Misuse()) != 1 {
		t.Errorf("a call after Close went unnoticed: %v", m.Misuse())
	}
}

func ExampleMachine() {
	machine := gputest.DGXH100()
	session, err := machine.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	machine.Lose(2)
	event, _, _ := session.Wait(time.Second)
	fmt.Println(event.Kind, event.XID)
	_, err = session.Read(machine.UUID(2))
	fmt.Println(errors.Is(err, device.ErrLost))
	// Output:
	// XID 79
	// true
}
