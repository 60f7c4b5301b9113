package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

// ctr is one container's record. The exported fields are on disk: exit codes must outlive
// containerd's task, which is deleted at the exit so that no shim stays for a dead container.
type ctr struct {
	Spec       runtime.ContainerSpec
	CID        string // containerd's id
	ImageID    string
	Process    *specs.Process // what exec starts from
	Cgroup     string
	StopSignal string
	State      runtime.ContainerState
	Started    bool // a task may exist
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool
	Message    string
	PID        int

	op   sync.Mutex // one create, start, exit or remove at a time
	gone bool       // removed; under op
	pump *pump      // under Engine.mu
}

func (e *Engine) ctrFile(cid string) string {
	return filepath.Join(e.cfg.DataDir, "containers", cid+".json")
}
func (e *Engine) fifoDir(cid string) string { return filepath.Join(e.names.run, "fifo", cid) }

func (e *Engine) loadContainers() error {
	files, err := filepath.Glob(e.ctrFile("*"))
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, f := range files {
		x := &ctr{}
		data, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(data, x) != nil || x.CID == "" {
			os.Remove(f) // torn by a power cut, and so no task is left
			continue
		}
		e.containers[x.Spec.ID] = x
	}
	return nil
}

func (e *Engine) save(x *ctr) error {
	e.mu.Lock()
	data, err := json.Marshal(x)
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	return writeFile(e.ctrFile(x.CID), data)
}

func (e *Engine) get(id string) *ctr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.containers[id]
}

func (e *Engine) byContainerd(cid string) *ctr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.containers[cid]; x != nil {
		return x
	}
	for _, x := range e.containers {
		if x.CID == cid {
			return x
		}
	}
	return nil
}

// CreateContainer implements runtime.Engine.
func (e *Engine) CreateContainer(ctx context.Context, spec runtime.ContainerSpec) error {
	if !safeID.MatchString(spec.ID) {
		return fmt.Errorf("container id %q is not usable as a file name", spec.ID)
	}
	c, err := e.conn()
	if err != nil {
		return err
	}
	e.mu.Lock()
	sb := e.sandboxes[spec.SandboxID]
	x := e.containers[spec.ID]
	if x == nil && sb != nil {
		x = &ctr{Spec: spec, CID: containerdID(spec.ID), CreatedAt: time.Now()}
		e.containers[spec.ID] = x
		x.op.Lock()
	} else if x != nil {
		e.mu.Unlock()
		return nil
	}
	e.mu.Unlock()
	if sb == nil {
		return fmt.Errorf("create container %s: sandbox %s: %w", spec.ID, spec.SandboxID, runtime.ErrNotFound)
	}
	defer x.op.Unlock()
	if err := e.prepare(e.with(ctx), c, sb, x); err != nil {
		e.mu.Lock()
		delete(e.containers, spec.ID)
		e.mu.Unlock()
		x.gone = true
		e.discard(e.with(context.WithoutCancel(ctx)), c, x)
		return fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	return nil
}

func (e *Engine) prepare(ctx context.Context, c *client.Client, sb *sandbox, x *ctr) error {
	img, err := e.resolve(ctx, x.Spec.Image)
	if err != nil {
		return err
	}
	if img.image.Wasm {
		return fmt.Errorf("image %s holds a WASI module: %w", x.Spec.Image, runtime.ErrImageFormat)
	}
	x.ImageID = img.image.ID
	if err := e.save(x); err != nil {
		return err
	}
	sn := c.SnapshotService(e.snapshotter)
	// The label keeps the garbage collector off until the container names the snapshot.
	root := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)})
	mounts, err := sn.Prepare(ctx, x.CID, img.parent, root)
	if errdefs.IsAlreadyExists(err) {
		e.discard(ctx, c, x) // a create that was killed
		mounts, err = sn.Prepare(ctx, x.CID, img.parent, root)
	}
	if err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	spec, err := e.spec(ctx, sb, x, img, mounts)
	if err != nil {
		return err
	}
	specAny, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	opts, err := typeurl.MarshalAny(&options.Options{Root: filepath.Join(e.names.run, "runc")})
	if err != nil {
		return fmt.Errorf("encode runc options: %w", err)
	}
	_, err = c.ContainerService().Create(ctx, containers.Container{
		ID: x.CID, Image: x.Spec.Image, Snapshotter: e.snapshotter, SnapshotKey: x.CID, Spec: specAny,
		Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2", Options: opts},
		Labels:  map[string]string{"pintle.dev/sandbox": x.Spec.SandboxID},
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	x.Process, x.Cgroup = spec.Process, spec.Linux.CgroupsPath
	return e.save(x)
}

// discard removes what a container has in containerd, whatever of it is there.
func (e *Engine) discard(ctx context.Context, c *client.Client, x *ctr) error {
	if err := c.ContainerService().Delete(ctx, x.CID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete container: %w", err)
	}
	if err := c.SnapshotService(e.snapshotter).Remove(ctx, x.CID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete snapshot: %w", err)
	}
	if err := os.RemoveAll(e.fifoDir(x.CID)); err != nil {
		return fmt.Errorf("delete fifos: %w", err)
	}
	if x.gone {
		os.Remove(e.ctrFile(x.CID))
	}
	return nil
}

// StartContainer implements runtime.Engine.
func (e *Engine) StartContainer(ctx context.Context, id string) error {
	return e.StartContainerIn(ctx, id, nil)
}

// StartContainerIn implements runtime.CgroupStarter.
func (e *Engine) StartContainerIn(ctx context.Context, id string, before func(cgroup string) error) error {
	c, err := e.conn()
	if err != nil {
		return err
	}
	x := e.get(id)
	if x == nil {
		return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
	}
	x.op.Lock()
	defer x.op.Unlock()
	switch {
	case x.gone:
		return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
	case x.State == runtime.Running:
		return nil
	case x.State == runtime.Exited:
		return fmt.Errorf("start container %s: it has run already", id)
	}
	if err := e.start(e.with(ctx), c, x, before); err != nil {
		away := ctx.Err() != nil || e.away(ctx, c, err)
		// A cut-off start must not leave a process that nobody knows of.
		clean, cancel := context.WithTimeout(e.with(context.WithoutCancel(ctx)), 10*time.Second)
		defer cancel()
		e.endTask(clean, c, x) //nolint:errcheck // the next start or RemoveContainer tries again
		if !away {
			e.finish(x, 128, time.Now(), err.Error())
		}
		return fmt.Errorf("start container %s: %w", id, err)
	}
	e.publish(runtime.ContainerEvent{ContainerID: id, SandboxID: x.Spec.SandboxID, Type: "start"})
	return nil
}

// away reports that a call failed because containerd went away, not for the container's sake.
func (e *Engine) away(ctx context.Context, c *client.Client, err error) bool {
	if native := errgrpc.ToNative(err); errdefs.IsUnavailable(err) || errdefs.IsUnavailable(native) || errdefs.IsCanceled(native) {
		return true
	}
	ctx, cancel := context.WithTimeout(e.with(ctx), 2*time.Second)
	defer cancel()
	_, err = c.Version(ctx)
	return err != nil
}

func (e *Engine) start(ctx context.Context, c *client.Client, x *ctr, before func(cgroup string) error) error {
	if x.Started { // an attempt that was cut off
		if err := e.endTask(ctx, c, x); err != nil {
			return err
		}
	}
	mounts, err := c.SnapshotService(e.snapshotter).Mounts(ctx, x.CID)
	if err != nil {
		return fmt.Errorf("find root filesystem: %w", err)
	}
	if err := os.MkdirAll(e.fifoDir(x.CID), 0o700); err != nil {
		return fmt.Errorf("create fifo folder: %w", err)
	}
	e.mu.Lock()
	x.Started = true
	e.mu.Unlock()
	if err := e.save(x); err != nil {
		return err
	}
	fifos := fifoPaths(e.fifoDir(x.CID), x.Spec.Stdin, x.Spec.TTY)
	p, err := startPump(fifos, x.Spec.LogPath, x.Spec.LogMaxBytes, x.Spec.LogMaxFiles)
	if err != nil {
		return err
	}
	e.mu.Lock()
	x.pump = p
	e.mu.Unlock()
	if _, err := c.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: x.CID, Rootfs: mount.ToProto(mounts),
		Stdin: fifos.Stdin, Stdout: fifos.Stdout, Stderr: fifos.Stderr, Terminal: fifos.Terminal}); err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	if before != nil {
		if err := before(cgroupFolder(x.Cgroup)); err != nil {
			return err
		}
	}
	res, err := c.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: x.CID})
	if err != nil {
		return fmt.Errorf("start task: %w", err)
	}
	e.mu.Lock()
	x.State, x.StartedAt, x.PID = runtime.Running, time.Now(), int(res.Pid)
	e.mu.Unlock()
	return e.save(x)
}

// endTask kills and deletes the task, whatever state it is in.
func (e *Engine) endTask(ctx context.Context, c *client.Client, x *ctr) error {
	t := c.TaskService()
	// No task, or an ended one, is no error: both are deleted below.
	_, err := t.Kill(ctx, &tasks.KillRequest{ContainerID: x.CID, Signal: uint32(syscall.SIGKILL), All: true})
	for range 200 {
		if _, err = t.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: x.CID}); err == nil || isNotFound(err) {
			err = nil
			break
		}
		if ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond) // killed, not yet dead
	}
	if err == nil && x.StartedAt.IsZero() { // its start was cut off or failed
		err = e.endOrphan(ctx, t, x)
	}
	e.mu.Lock()
	p := x.pump
	x.pump = nil
	e.mu.Unlock()
	if p != nil {
		p.drain(time.Second)
	}
	if err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	return nil
}

func (e *Engine) finish(x *ctr, code int, at time.Time, msg string) {
	e.mu.Lock()
	x.State, x.ExitCode, x.FinishedAt, x.Message, x.PID = runtime.Exited, code, at, msg, 0
	e.mu.Unlock()
	if err := e.save(x); err != nil {
		e.cfg.Logger.Warn("container record not written", "container", x.Spec.ID, "err", err)
	}
}

// exited records an exit, then lets the task and its shim go, and tells listeners when the log is complete.
func (e *Engine) exited(ctx context.Context, x *ctr, code uint32, at time.Time) {
	x.op.Lock()
	defer x.op.Unlock()
	if x.gone || x.State != runtime.Running {
		return
	}
	c, err := e.conn()
	if err != nil {
		return
	}
	if code == 137 && oomKilled(x.Cgroup) { // before the task goes, and its cgroup with it
		e.mu.Lock()
		x.OOMKilled = true
		e.mu.Unlock()
	}
	e.finish(x, int(code), at, "")
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := e.endTask(clean, c, x); err != nil {
		e.cfg.Logger.Warn("task of an ended container stays", "container", x.Spec.ID, "err", err)
	}
	e.publish(runtime.ContainerEvent{ContainerID: x.Spec.ID, SandboxID: x.Spec.SandboxID, Type: "exit"})
}

// SignalContainer implements runtime.Engine. "SIGTERM" and "" stand for the container's stop
// signal: the spec's, else the image's.
func (e *Engine) SignalContainer(ctx context.Context, id, signal string) error {
	c, err := e.conn()
	if err != nil {
		return err
	}
	x := e.get(id)
	if x == nil {
		return nil
	}
	if signal == "" || signal == "SIGTERM" {
		signal = x.StopSignal
	}
	n := unix.SignalNum(signal)
	if n == 0 {
		return fmt.Errorf("signal container %s: %q is no signal", id, signal)
	}
	_, err = c.TaskService().Kill(e.with(ctx), &tasks.KillRequest{ContainerID: x.CID, Signal: uint32(n), All: n == syscall.SIGKILL})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("signal container %s: %w", id, err)
	}
	return nil
}

// RemoveContainer implements runtime.Engine.
func (e *Engine) RemoveContainer(ctx context.Context, id string) error {
	c, err := e.conn()
	if err != nil {
		return err
	}
	x := e.get(id)
	if x == nil {
		return nil
	}
	x.op.Lock()
	defer x.op.Unlock()
	if x.gone {
		return nil
	}
	ctx = e.with(ctx)
	if x.Started {
		if err := e.endTask(ctx, c, x); err != nil {
			return fmt.Errorf("remove container %s: %w", id, err)
		}
	}
	x.gone = true
	if err := e.discard(ctx, c, x); err != nil {
		x.gone = false
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	e.mu.Lock()
	delete(e.containers, id)
	e.mu.Unlock()
	return nil
}

// Containers implements runtime.Engine.
func (e *Engine) Containers(context.Context) ([]runtime.Container, error) {
	if _, err := e.conn(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]runtime.Container, 0, len(e.containers))
	for _, x := range e.containers {
		out = append(out, runtime.Container{ID: x.Spec.ID, SandboxID: x.Spec.SandboxID, Name: x.Spec.Name,
			Attempt: x.Spec.Attempt, State: x.State, CreatedAt: x.CreatedAt, StartedAt: x.StartedAt,
			FinishedAt: x.FinishedAt, ExitCode: x.ExitCode, OOMKilled: x.OOMKilled, Message: x.Message,
			ImageID: x.ImageID, Labels: x.Spec.Labels, PID: x.PID})
	}
	return out, nil
}

// Stats implements runtime.Engine.
func (e *Engine) Stats(_ context.Context, id string) (runtime.Stats, error) {
	x := e.get(id)
	if x == nil {
		return runtime.Stats{}, fmt.Errorf("stats of container %s: %w", id, runtime.ErrNotFound)
	}
	s, err := cgroupStats(x.Cgroup)
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("stats of container %s: it isn't running: %w", id, runtime.ErrNotFound)
	}
	if err != nil {
		return s, fmt.Errorf("stats of container %s: %w", id, err)
	}
	return s, nil
}

// LayerBytes is how much a container has written into its own layer, in bytes; the agent asks it of
// containers that have a limit.
func (e *Engine) LayerBytes(ctx context.Context, id string) (int64, error) {
	c, err := e.conn()
	if err != nil {
		return 0, err
	}
	x := e.get(id)
	if x == nil {
		return 0, fmt.Errorf("layer of container %s: %w", id, runtime.ErrNotFound)
	}
	usage, err := c.SnapshotService(e.snapshotter).Usage(e.with(ctx), x.CID)
	if err != nil {
		return 0, fmt.Errorf("layer of container %s: %w", id, err)
	}
	return usage.Size, nil
}
