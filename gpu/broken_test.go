package gpu_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/gputest"
)

// broken is a driver whose sessions can't list their GPUs.
type broken struct{ *gputest.Machine }

type brokenSession struct{ gpu.Session }

func (b broken) Open() (gpu.Session, error) {
	s, err := b.Machine.Open()
	return brokenSession{s}, err
}

func (brokenSession) GPUs() ([]device.GPU, error) { return nil, errors.New("an unknown error") }

func TestADriverThatOpensAndAnswersNothingIsAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := gpu.New(gpu.Config{Driver: broken{gputest.TwoL4()}})
		if err != nil {
			t.Fatal(err)
		}
		run(t, m) // returns once it is ready
		time.Sleep(time.Minute)
		if inv := m.Inventory(); !strings.Contains(inv.Unavailable, "an unknown error") {
			t.Errorf("%q", inv.Unavailable)
		}
	})
}
