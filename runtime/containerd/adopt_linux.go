package containerd

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"

	"github.com/pintle/pintle/runtime"
)

// adopt brings one record up to date after a start or a reconnect.
// Containers may start meanwhile: each is asked for under its own lock, and an error isn't its end.
func (e *Engine) adopt(ctx context.Context, c *client.Client, x *ctr) error {
	x.op.Lock()
	if !x.gone && x.Process == nil { // a create that was killed: nobody was told of it
		x.gone = true
		if err := e.discard(ctx, c, x); err != nil {
			e.cfg.Logger.Warn("container of a cut-off create stays", "container", x.Spec.ID, "err", err)
		}
		e.mu.Lock()
		delete(e.containers, x.Spec.ID)
		e.mu.Unlock()
	}
	if x.gone || !x.Started || x.State == runtime.Exited {
		x.op.Unlock()
		return nil
	}
	var proc *task.Process
	switch res, err := c.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: x.CID}); {
	case err == nil:
		proc = res.Process
	case !isNotFound(err):
		x.op.Unlock()
		return fmt.Errorf("look for container %s: %w", x.Spec.ID, err)
	}
	if proc != nil && proc.Status != task.Status_CREATED {
		if x.pump == nil {
			p, err := startPump(fifoPaths(e.fifoDir(x.CID), x.Spec.Stdin, x.Spec.TTY), x.Spec.LogPath, x.Spec.LogMaxBytes, x.Spec.LogMaxFiles)
			if err != nil {
				e.cfg.Logger.Warn("log of an adopted container not read", "container", x.Spec.ID, "err", err)
			}
			e.mu.Lock()
			x.pump = p
			e.mu.Unlock()
		}
		e.mu.Lock()
		if x.State != runtime.Running { // killed between start and its record
			x.State, x.StartedAt = runtime.Running, time.Now()
		}
		x.PID = int(proc.Pid)
		e.mu.Unlock()
	}
	if proc != nil && proc.Status != task.Status_CREATED {
		x.op.Unlock()
		if proc.Status == task.Status_STOPPED {
			e.exited(ctx, x, proc.ExitStatus, proc.ExitedAt.AsTime())
		}
		return nil
	}
	defer x.op.Unlock()
	if err := e.endTask(ctx, c, x); err != nil {
		e.cfg.Logger.Warn("task of a lost container stays", "container", x.Spec.ID, "err", err)
	}
	if x.State == runtime.Created {
		return nil // its start was cut off: whoever asked for it asks again
	}
	e.finish(x, 137, time.Now(), "the container was gone when the engine came back; its exit code is not known")
	e.publish(runtime.ContainerEvent{ContainerID: x.Spec.ID, SandboxID: x.Spec.SandboxID, Type: "exit"})
	return nil
}
