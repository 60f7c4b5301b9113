package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

func isNotFound(err error) bool { return err != nil && errdefs.IsNotFound(errgrpc.ToNative(err)) }

func signalNumber(name string) (int, bool) {
	n := unix.SignalNum(name)
	return int(n), n != 0
}

// Exec implements runtime.Engine. When ctx ends the command is killed.
func (e *Engine) Exec(ctx context.Context, id string, cmd []string, st runtime.Streams) (int, error) {
	c, err := e.conn()
	if err != nil {
		return 0, err
	}
	x := e.get(id)
	if x == nil || x.Process == nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, runtime.ErrNotFound)
	}
	if len(cmd) == 0 {
		return 0, fmt.Errorf("exec in container %s: no command", id)
	}
	proc := *x.Process
	proc.Args, proc.Terminal = cmd, st.TTY
	if st.TTY {
		proc.Env = mergeEnv([]string{"TERM=xterm"}, proc.Env)
	}
	spec, err := typeurl.MarshalAnyToProto(&proc)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	eid := "exec-" + uuid.NewString()
	dir := filepath.Join(e.fifoDir(x.CID), eid)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer os.RemoveAll(dir)
	fifos := fifoPaths(dir, st.Stdin != nil, st.TTY)
	pipes, err := cio.NewDirectIO(context.Background(), fifos)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer func() { pipes.Cancel(); pipes.Close() }()
	nctx := e.with(ctx)
	late := e.with(context.WithoutCancel(ctx))
	t := c.TaskService()
	if _, err := t.Exec(nctx, &tasks.ExecProcessRequest{ContainerID: x.CID, ExecID: eid, Spec: spec,
		Stdin: fifos.Stdin, Stdout: fifos.Stdout, Stderr: fifos.Stderr, Terminal: st.TTY}); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer t.DeleteProcess(late, &tasks.DeleteProcessRequest{ContainerID: x.CID, ExecID: eid}) //nolint:errcheck // goes with its container
	if _, err := t.Start(nctx, &tasks.StartRequest{ContainerID: x.CID, ExecID: eid}); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	var out sync.WaitGroup
	out.Go(func() { copyOut(st.Stdout, pipes.Stdout) })
	if pipes.Stderr != nil {
		out.Go(func() { copyOut(st.Stderr, pipes.Stderr) })
	}
	if st.Stdin != nil {
		go func() {
			io.Copy(pipes.Stdin, st.Stdin) //nolint:errcheck // ends with the session
			pipes.Stdin.Close()
			t.CloseIO(late, &tasks.CloseIORequest{ContainerID: x.CID, ExecID: eid, Stdin: true}) //nolint:errcheck // it ended
		}()
	}
	done := make(chan struct{})
	defer close(done)
	if st.Resize != nil {
		go e.resize(late, x.CID, eid, st.Resize, done)
	}
	res, err := t.Wait(nctx, &tasks.WaitRequest{ContainerID: x.CID, ExecID: eid})
	if err != nil {
		t.Kill(late, &tasks.KillRequest{ContainerID: x.CID, ExecID: eid, Signal: uint32(syscall.SIGKILL)}) //nolint:errcheck // it ended
		t.Wait(late, &tasks.WaitRequest{ContainerID: x.CID, ExecID: eid})                                  //nolint:errcheck // only so that it can be deleted
		return 0, fmt.Errorf("exec in container %s: %w", id, errors.Join(err, context.Cause(ctx)))
	}
	drained := make(chan struct{})
	go func() { out.Wait(); close(drained) }()
	// Deleting the process closes the shim's end of the fifos, which ends the readers.
	t.DeleteProcess(late, &tasks.DeleteProcessRequest{ContainerID: x.CID, ExecID: eid}) //nolint:errcheck // deferred again
	select {
	case <-drained:
	case <-time.After(2 * time.Second): // a child in the background keeps the output open
	}
	return int(res.ExitStatus), nil
}

func copyOut(w io.Writer, r io.Reader) {
	if w == nil {
		w = io.Discard
	}
	if _, err := io.Copy(w, r); err != nil {
		io.Copy(io.Discard, r) //nolint:errcheck // the command must not block on a reader that went away
	}
}

func (e *Engine) resize(ctx context.Context, cid, eid string, sizes <-chan runtime.Size, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			if c, err := e.conn(); err == nil {
				c.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{ContainerID: cid, ExecID: eid, Width: uint32(s.Width), Height: uint32(s.Height)}) //nolint:errcheck // only its looks
			}
		}
	}
}

// Attach implements runtime.Engine.
func (e *Engine) Attach(ctx context.Context, id string, st runtime.Streams) error {
	c, err := e.conn()
	if err != nil {
		return err
	}
	e.mu.Lock()
	x := e.containers[id]
	var p *pump
	if x != nil {
		p = x.pump
	}
	e.mu.Unlock()
	if p == nil {
		return fmt.Errorf("attach to container %s: it isn't running: %w", id, runtime.ErrNotFound)
	}
	detach := p.attach(&subscriber{st.Stdout, st.Stderr})
	defer detach()
	done := make(chan struct{})
	defer close(done)
	late := e.with(context.WithoutCancel(ctx))
	if st.Stdin != nil && p.io.Stdin != nil {
		go func() {
			io.Copy(p.io.Stdin, st.Stdin) //nolint:errcheck // ends with the session
			if x.Spec.StdinOnce && ctx.Err() == nil {
				p.io.Stdin.Close()
				c.TaskService().CloseIO(late, &tasks.CloseIORequest{ContainerID: x.CID, Stdin: true}) //nolint:errcheck // it ended
			}
		}()
	}
	if st.Resize != nil {
		go e.resize(late, x.CID, "", st.Resize, done)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
