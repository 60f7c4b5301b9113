package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
)

// loadReport is a load, and what the driver said before, during and after it.
type loadReport struct {
	GPU                   string
	Result                loadResult
	Error                 string
	Before, During, After *device.Reading
	MostUtil              uint32
	MostMemory            uint64
	MostPower             uint32
	Listed                bool // our process was in the driver's list
	ProcessMemory         uint64
	ProcessUtil           uint32
}

// load keeps one GPU busy for a while and looks at it through the Manager meanwhile.
func (r *report) load(ctx context.Context, m *gpu.Manager, o options, i int, out io.Writer) {
	d := &r.Inventory.Devices[i]
	name := fmt.Sprintf("a load on GPU %d", i)
	if d.Problem != "" {
		r.skip(name, d.Problem)
		return
	}
	report := loadReport{GPU: d.UUID, Before: newest(m, d.UUID)}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	begun, ended := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		report.Result, err = runLoad(loading, d.UUID, o.bytes, func() { close(begun) })
	}()
	select {
	case <-begun:
		report.observe(loading, m, o.load, ended)
	case <-ended:
	}
	stop()
	<-ended
	if err != nil {
		report.Error = err.Error()
	}
	time.Sleep(2 * time.Second) // a reading or two later
	report.After = newest(m, d.UUID)
	r.Loads = append(r.Loads, report)
	if errors.Is(err, errNoCUDA) {
		r.skip(name, err.Error())
		return
	}
	r.judge(&report, name, o, out)
}

// observe looks every 200 ms, and keeps the most it sees.
func (l *loadReport) observe(ctx context.Context, m *gpu.Manager, long time.Duration, ended <-chan struct{}) {
	end := time.After(long)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if reading := newest(m, l.GPU); reading != nil {
			l.During = reading
			l.MostUtil = max(l.MostUtil, value(reading.GPUUtil))
			l.MostMemory = max(l.MostMemory, value(reading.MemoryUsed))
			l.MostPower = max(l.MostPower, value(reading.Power))
			for _, p := range reading.Processes {
				if p.PID == uint32(os.Getpid()) {
					l.Listed = true
					l.ProcessMemory, l.ProcessUtil = max(l.ProcessMemory, value(p.Memory)), max(l.ProcessUtil, value(p.Util))
				}
			}
		}
		select {
		case <-tick.C:
		case <-end:
			return
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

func newest(m *gpu.Manager, uuid string) *device.Reading {
	d, ok := m.Inventory().Device(uuid)
	if !ok {
		return nil
	}
	return d.Reading
}

func value[T uint32 | uint64](v *T) T {
	if v == nil {
		return 0
	}
	return *v
}

func (r *report) judge(l *loadReport, name string, o options, out io.Writer) {
	fmt.Fprintf(out, "\nLoad on %s: ", l.GPU)
	if l.Error != "" {
		fmt.Fprintln(out, l.Error)
		r.check(name+" runs and computes rightly", false, l.Error)
		return
	}
	kind := "kernel"
	if l.Result.Fallback != "" {
		kind = "filling memory, because " + l.Result.Fallback
	}
	fmt.Fprintf(out, "%d rounds in %v (%s), %d of them read back and right\n", l.Result.Rounds, l.Result.Busy.Round(time.Millisecond), kind, l.Result.Verified)
	fmt.Fprintf(out, "  seen meanwhile: GPU %d %%, %d MiB used, %d W; our process listed: %v, with %d MiB, %d %%\n", l.MostUtil, l.MostMemory>>20, l.MostPower/1000, l.Listed, l.ProcessMemory>>20, l.ProcessUtil)
	r.check(name+" runs and computes rightly", true, "")
	if l.Result.Fallback != "" {
		r.skip(name+", as a kernel", l.Result.Fallback)
	}
	if l.Before == nil || l.During == nil {
		r.check("the load is seen", false, "the GPU was not read meanwhile")
		return
	}
	if l.During.MemoryUsed == nil {
		r.skip("the load's memory is seen", "the driver doesn't tell")
	} else {
		rise := int64(l.MostMemory) - int64(value(l.Before.MemoryUsed))
		r.check("the load's memory is seen", rise >= int64(o.bytes), fmt.Sprintf("%d MiB were taken, the driver's figure rose by %d MiB", o.bytes>>20, rise>>20))
	}
	if l.During.GPUUtil == nil {
		r.skip("the load's utilisation is seen", "the driver doesn't tell, as with MIG")
	} else {
		r.check("the load's utilisation is seen", l.MostUtil > 0, "it stayed at 0 %")
	}
	if l.Listed {
		r.check("the load's process is listed", true, "")
		if l.ProcessMemory == 0 {
			r.skip("the memory of each process", "the driver doesn't tell")
		}
		if l.ProcessUtil == 0 {
			r.skip("the utilisation of each process", "the driver doesn't tell, or had no sample yet")
		}
	} else {
		r.skip("the load's process is listed", "the driver lists other process ids, or none, as in a container with its own")
	}
}
