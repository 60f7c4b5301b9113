package wasm

import (
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/runtime"
)

func TestARunningGuestGetsAnotherSizeButKeepsItsMemory(t *testing.T) {
	e := running(t)
	start(t, e, "sized", func(s *runtime.ContainerSpec) { s.Resources.MemoryLimit = 64 << 20 }, "sleep")
	if err := e.ResizeContainer(t.Context(), "sized", runtime.Resources{MemoryLimit: 128 << 20, CPUQuota: 10000, CPUPeriod: 100000}); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	c := e.containers["sized"]
	limit := c.memory.limit.Load()
	e.mu.Unlock()
	c.guest.meter.mu.Lock()
	rate := c.guest.meter.rate
	c.guest.meter.mu.Unlock()
	if limit != 128<<20 || rate != 0.1 {
		t.Errorf("limit %d, rate %v", limit, rate)
	}
	for end := time.Now().Add(20 * time.Second); c.memory.size.Load() == 0 && time.Now().Before(end); {
		goruntime.Gosched() // its code starts
	}
	if err := e.ResizeContainer(t.Context(), "sized", runtime.Resources{MemoryLimit: 1}); err == nil || !strings.Contains(err.Error(), "never shrinks") {
		t.Error(err)
	}
	signal(t, e, "sized", "SIGKILL")
	wait(t, e, "sized")
}

func TestMemoryGrowsToItsNewLimit(t *testing.T) {
	m := &boundedMemory{}
	m.Allocate(0, 1<<20)
	defer m.release()
	m.limit.Store(1 << 16)
	if m.Reallocate(1<<16) == nil || m.Reallocate(2<<16) != nil {
		t.Fatal("the first limit isn't kept")
	}
	m.limit.Store(2 << 16)
	if b := m.Reallocate(2 << 16); len(b) != 2<<16 {
		t.Fatal("the second limit isn't given")
	}
}

// What was written stays where it was, in the reservation, on the heap, and over the end of one that was too small.
func TestMemoryKeepsWhatWasWrittenAsItGrows(t *testing.T) {
	for name, reserved := range map[string]uint64{"reserved": 8 << 16, "heap": 0, "a part": 2 << 16} {
		m := &boundedMemory{}
		m.Allocate(0, reserved)
		for pages := uint64(1); pages <= 8; pages++ {
			b := m.Reallocate(pages << 16)
			if len(b) != int(pages)<<16 {
				t.Fatalf("%s: %d bytes, want %d pages", name, len(b), pages)
			}
			b[len(b)-1] = byte(pages)
			for i := range pages {
				if got := b[(i+1)<<16-1]; got != byte(i+1) {
					t.Fatalf("%s: page %d holds %d after growth to %d pages", name, i, got, pages)
				}
			}
		}
		m.Free()
		m.release()
	}
}

func TestAMeterTakesAnotherQuota(t *testing.T) {
	var m meter
	m.init(0, 0)
	now := time.Now()
	m.start(now)
	if p := m.stop(now.Add(time.Second)); p != 0 {
		t.Errorf("a pause of %v without a quota", p)
	}
	m.set(10*time.Millisecond, 100*time.Millisecond)
	m.start(now)
	if p := m.stop(now.Add(time.Second)); p < 5*time.Second {
		t.Errorf("a pause of %v after a second at a tenth", p)
	}
}
