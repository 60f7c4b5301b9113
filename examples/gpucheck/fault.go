package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/pintle/pintle/gpu"
)

// fault has another process write to memory that it doesn't have: CUDA ends that process's context, the driver
// reports XID 31 or 13, and the GPU must stay healthy, because the mistake was a program's.
func (r *report) fault(ctx context.Context, m *gpu.Manager, i int, out io.Writer) {
	d := &r.Inventory.Devices[i]
	name := fmt.Sprintf("a program's mistake on GPU %d", i)
	self, err := os.Executable()
	if err != nil || d.Problem != "" || d.Unmonitored != "" {
		r.skip(name, fmt.Sprint("events can't be watched: ", err, d.Problem, d.Unmonitored))
		return
	}
	before := m.LastXID(d.UUID)
	said, err := exec.CommandContext(ctx, self, "-fault-now", d.UUID).CombinedOutput()
	fmt.Fprintf(out, "\nMistake on %s: %s\n", d.UUID, strings.TrimSpace(string(said)))
	if err != nil {
		r.skip(name, fmt.Sprintf("it could not be made: %v", err))
		return
	}
	for range 50 {
		if now := m.LastXID(d.UUID); now != before {
			now, _ := m.Inventory().Device(d.UUID)
			fmt.Fprintf(out, "  XID %d arrived\n", m.LastXID(d.UUID))
			r.check(name+" is reported", true, "")
			r.check("the GPU stays healthy after it", now != nil && now.Healthy(), "it is unhealthy")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	r.skip(name+" is reported", "no event came within 5 s; some virtual machines and containers get none")
}
