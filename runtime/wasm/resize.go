package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/pintle/pintle/runtime"
)

// ResizeContainer implements runtime.Resizer. A guest's memory grows to another limit from its next memory.grow on; what
// it has it keeps, since WebAssembly's memory never shrinks: a limit below that is refused.
func (e *Engine) ResizeContainer(_ context.Context, id string, r runtime.Resources) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	if c == nil {
		return fmt.Errorf("resize container %s: %w", id, runtime.ErrNotFound)
	}
	if c.guest != nil {
		if has := c.memory.size.Load(); r.MemoryLimit > 0 && has > uint64(r.MemoryLimit) {
			return fmt.Errorf("resize container %s: its memory has %d bytes, and WebAssembly's memory never shrinks to the limit of %d: "+
				"a resizePolicy of RestartContainer lets it start anew", id, has, r.MemoryLimit)
		}
		c.memory.limit.Store(uint64(max(r.MemoryLimit, 0)))
		c.guest.meter.set(time.Duration(r.CPUQuota)*time.Microsecond, time.Duration(r.CPUPeriod)*time.Microsecond)
	}
	c.spec.Resources = r
	return nil
}

// ResizeSandbox implements runtime.Resizer: guests have nothing around them.
func (e *Engine) ResizeSandbox(context.Context, string, runtime.Resources) error { return nil }
