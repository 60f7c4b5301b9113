//go:build linux && cgo && !nonvml

package nvml

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/gpu/device"
)

// open skips the test on a machine without a driver.
func open(t *testing.T) *Session {
	t.Helper()
	s, err := Library{}.Open()
	var unavailable *device.ErrUnavailable
	if errors.As(err, &unavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWithoutALibraryTheReasonIsGiven(t *testing.T) {
	_, err := Library{Path: "/nowhere/libnvidia-ml.so.1"}.Open()
	var unavailable *device.ErrUnavailable
	if !errors.As(err, &unavailable) || unavailable.Reason == "" {
		t.Errorf("%v", err)
	}
}

func TestTheDriverCanBeOpenedAgainAndAgain(t *testing.T) {
	for range 10 {
		s := open(t)
		gpus, err := s.GPUs()
		if err != nil || len(gpus) == 0 || gpus[0].UUID == "" {
			t.Fatalf("%d GPUs, %v", len(gpus), err)
		}
		if _, err := s.Read(gpus[0].UUID); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeveralSessionsWorkAtATime(t *testing.T) {
	open(t).Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 5 {
				s, err := Library{}.Open()
				if err != nil {
					t.Error(err)
					return
				}
				var inner sync.WaitGroup
				inner.Go(func() {
					if _, _, err := s.Wait(50 * time.Millisecond); err != nil {
						t.Error(err)
					}
				})
				inner.Go(func() {
					gpus, err := s.GPUs()
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := s.Read(gpus[0].UUID); err != nil {
						t.Error(err)
					}
				})
				inner.Wait()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAReadingIsPlausible(t *testing.T) {
	s := open(t)
	defer s.Close()
	system, err := s.System()
	if err != nil || system.DriverVersion == "" || system.CUDAVersion.Major() < 11 {
		t.Errorf("%+v, %v", system, err)
	}
	gpus, err := s.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gpus {
		t.Logf("%+v", g)
		r, err := s.Read(g.UUID)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r)
		if r.Temperature == nil || *r.Temperature < 5 || *r.Temperature > 110 {
			t.Errorf("a temperature of %v", r.Temperature)
		}
		if r.MemoryUsed != nil && *r.MemoryUsed > g.MemoryBytes {
			t.Errorf("%d of %d bytes are used", *r.MemoryUsed, g.MemoryBytes)
		}
	}
	if _, err := s.Read("GPU-00000000-0000-0000-0000-000000000000"); !errors.Is(err, device.ErrLost) {
		t.Errorf("a GPU that isn't there: %v", err)
	}
	begin := time.Now()
	if _, ok, err := s.Wait(100 * time.Millisecond); err != nil || !ok && time.Since(begin) < 50*time.Millisecond {
		t.Errorf("a wait for events: %v after %v", err, time.Since(begin))
	}
}
