package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

// nativeAdmission is the label policy in Go: a thousand a time, for one takes less than the clock does.
func nativeAdmission(r results) {
	q := request()
	allowed := 0
	took, _ := timed(func() error {
		for range 1000 {
			if slices.ContainsFunc(q.Meta.Labels, func(p abi.Pair) bool { return p.Key == "owner" }) {
				allowed++
			}
		}
		return nil
	})
	r["admission/native/p50"] = quantile(took, 0.5) / 1000
	runtime.KeepAlive(allowed)
}

// admission asks one module through the Host and bare, in turns.
func admission(ctx context.Context, h *policies.Host, r results, language string, wasm []byte) error {
	name := "labels-" + language
	if _, err := h.Load(ctx, name, wasm); err != nil {
		return err
	}
	if err := h.Set(ctx, abi.Policy{Name: name, Kind: abi.Admission, Module: name, Settings: []byte(labelSettings)}); err != nil {
		return err
	}
	q := request()
	hosted := func() error {
		response, _, err := h.Admit(ctx, name, q)
		if err == nil && !response.Allowed {
			err = fmt.Errorf("refused: %s", response.Message)
		}
		return err
	}
	b, err := newBare(ctx, wasm, labelSettings, abi.NewNodeTable())
	if err != nil {
		return err
	}
	defer b.close(ctx)
	message, err := q.Append(nil, b.configured.Wants)
	if err != nil {
		return err
	}
	bare := func() error { _, err := b.send(ctx, "pintle_admit", message); return err }
	ours, theirs, err := inTurns(hosted, bare)
	if err != nil {
		return err
	}
	r.add("admission/"+language, ours)
	r.add("admission/"+language+"/bare", theirs)
	return nil
}

// inTurns times two functions in alternate rounds, so that what else the machine does falls on both.
func inTurns(one, other func() error) (first, second []float64, err error) {
	for range 3 {
		a, err := timed(one)
		if err != nil {
			return nil, nil, err
		}
		b, err := timed(other)
		if err != nil {
			return nil, nil, err
		}
		first, second = append(first, a...), append(second, b...)
	}
	slices.Sort(first)
	slices.Sort(second)
	return first, second, nil
}

// many is 64 policies on one write, and what each of them holds while it idles.
func many(ctx context.Context, h *policies.Host, r results, wasm []byte) error {
	const n = 64
	if _, err := h.Load(ctx, "many", wasm); err != nil {
		return err
	}
	q := request()
	// The first policy's makes the module's own state; the others are counted.
	set := func(i int) error {
		name := fmt.Sprint("many-", i)
		if err := h.Set(ctx, abi.Policy{Name: name, Kind: abi.Admission, Module: "many", Settings: []byte(labelSettings)}); err != nil {
			return err
		}
		_, _, err := h.Admit(ctx, name, q)
		return err
	}
	if err := set(0); err != nil {
		return err
	}
	before := live()
	for i := 1; i <= n; i++ {
		if err := set(i); err != nil {
			return err
		}
	}
	_, spent, err := h.Admit(ctx, "many-1", q)
	if err != nil {
		return err
	}
	r["idle/KiB"] = (float64(live()-before)/n - float64(spent.Memory)) / 1024
	r["idle/own/KiB"] = float64(spent.Memory) / 1024
	one := func() error { _, _, err := h.Admit(ctx, "many-1", q); return err }
	all := func() error {
		for i := 1; i <= n; i++ {
			if _, _, err := h.Admit(ctx, fmt.Sprint("many-", i), q); err != nil {
				return err
			}
		}
		return nil
	}
	single, whole, err := inTurns(one, all)
	r["many/one"], r["many/all"] = quantile(single, 0.5), quantile(whole, 0.5)
	return err
}

// live is how many bytes of the heap and of stacks are in use.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// reload asks a policy two thousand times a second, first in peace and then while a large module of another policy is
// loaded again and again. The requests come from another process through a pipe, as a server's come through a socket: a timer
// of this process's would wait for whatever keeps its own cores busy. A call's time counts from when it was due.
func reload(ctx context.Context, h *policies.Host, r results, small, large []byte) error {
	if _, err := h.Load(ctx, "small", small); err != nil {
		return err
	}
	if err := h.Set(ctx, abi.Policy{Name: "asked", Kind: abi.Admission, Module: "small", Settings: []byte(labelSettings)}); err != nil {
		return err
	}
	if _, err := h.Load(ctx, "large", large); err != nil {
		return err
	}
	if err := h.Set(ctx, abi.Policy{Name: "reloaded", Kind: abi.Admission, Module: "large"}); err != nil {
		return err
	}
	q := request()
	paced := func(until <-chan struct{}) (took []float64, err error) {
		requests, stop, err := startPacer(ctx)
		if err != nil {
			return nil, err
		}
		defer stop()
		for {
			select {
			case <-until:
				slices.Sort(took)
				return took, nil
			default:
			}
			var due int64
			if err := binary.Read(requests, binary.LittleEndian, &due); err != nil {
				return nil, err
			}
			if _, _, err := h.Admit(ctx, "asked", q); err != nil {
				return nil, err
			}
			took = append(took, float64(time.Now().UnixNano()-due)/1000)
		}
	}
	for round := range 2 {
		peace := make(chan struct{})
		time.AfterFunc(4*time.Second, func() { close(peace) })
		calm, err := paced(peace)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		done := make(chan struct{})
		var loadErr error
		wg.Go(func() {
			defer close(done)
			for i := range 4 {
				// A section more, so that it isn't the same module again.
				version := append(slices.Clone(large), 0, 3, 1, byte('a'+round), byte('a'+i))
				if _, loadErr = h.Load(ctx, "large", version); loadErr != nil {
					return
				}
			}
		})
		busy, err := paced(done)
		wg.Wait()
		if err == nil {
			err = loadErr
		}
		if err != nil {
			return err
		}
		added := quantile(busy, 0.99) - quantile(calm, 0.99)
		if best, ok := r["reload/added"]; !ok || added < best {
			r["reload/added"], r["reload/p99"], r["reload/calm/p99"] = added, quantile(busy, 0.99), quantile(calm, 0.99)
			r["reload/KiB"] = float64(len(large)) / 1024
		}
	}
	return nil
}

// startPacer runs pace in a process of its own.
func startPacer(ctx context.Context) (requests io.Reader, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, self, "pace")
	requests, err = cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return requests, func() { cancel(); _ = cmd.Wait() }, nil
}

// pace writes, every 500 µs, when that was due: Unix nanoseconds, 8 bytes.
func pace(to io.Writer) error {
	for due := time.Now(); ; due = due.Add(500 * time.Microsecond) {
		time.Sleep(time.Until(due))
		if err := binary.Write(to, binary.LittleEndian, due.UnixNano()); err != nil {
			return err
		}
	}
}
