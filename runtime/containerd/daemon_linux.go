package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is the private containerd. It is a session of its own, so that neither a kill of our
// process nor a Ctrl-C in its terminal reaches it, and the next start adopts it by the pid file.
type daemon struct {
	bin, dir, socket string
	log              *slog.Logger
}

// pidRecord names a process for good: pids are reused, a pid with its start time isn't.
type pidRecord struct {
	PID   int
	Start string // field 22 of /proc/PID/stat: clock ticks since boot
	Boot  string // boot id
}

func (d *daemon) config() string {
	q := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	off := []string{
		"io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
		"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
		"io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart",
		"io.containerd.monitor.v1.cgroups", "io.containerd.tracing.processor.v1.otlp",
		"io.containerd.internal.v1.tracing",
	}
	for i := range off {
		off[i] = q(off[i])
	}
	return fmt.Sprintf("version = 2\nroot = %s\nstate = %s\ndisabled_plugins = [%s]\noom_score = -999\n\n[grpc]\n  address = %s\n\n[debug]\n  level = \"warn\"\n",
		q(filepath.Join(d.dir, "root")), q(filepath.Join(d.dir, "state")), strings.Join(off, ", "), q(d.socket))
}

// ensure starts the daemon unless it runs, and returns a descriptor that becomes readable when it ends.
func (d *daemon) ensure(ctx context.Context) (pidfd int, err error) {
	if fd, ok := d.running(); ok {
		d.log.Info("containerd adopted", "socket", d.socket)
		return fd, d.await(ctx, fd)
	}
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return -1, fmt.Errorf("create containerd's folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(d.socket), 0o711); err != nil {
		return -1, fmt.Errorf("create containerd's socket folder: %w", err)
	}
	conf := filepath.Join(d.dir, "config.toml")
	if err := writeFile(conf, []byte(d.config())); err != nil {
		return -1, err
	}
	logPath := filepath.Join(d.dir, "containerd.log")
	if fi, err := os.Stat(logPath); err == nil && fi.Size() > 8<<20 {
		os.Rename(logPath, logPath+".1") //nolint:errcheck // only the log
	}
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open containerd's log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(d.bin, "--config", conf)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return -1, fmt.Errorf("start containerd: %w", err)
	}
	rec := recordOf(cmd.Process.Pid)
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	go cmd.Wait() //nolint:errcheck // reaps it; ends with the daemon, which may outlive Run
	if err != nil {
		return -1, fmt.Errorf("watch containerd: %w", err)
	}
	if err := writeJSON(filepath.Join(d.dir, "containerd.pid"), rec); err != nil {
		cmd.Process.Kill() //nolint:errcheck // nobody would find it again
		unix.Close(fd)
		return -1, err
	}
	return fd, d.await(ctx, fd)
}

// await returns when the socket answers.
func (d *daemon) await(ctx context.Context, fd int) error {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
		if err == nil {
			return conn.Close()
		}
		if ended(fd, 10*time.Millisecond) {
			unix.Close(fd)
			return fmt.Errorf("containerd ended while it started; see %s", filepath.Join(d.dir, "containerd.log"))
		}
		if ctx.Err() != nil {
			unix.Close(fd)
			return fmt.Errorf("wait for containerd: %w", context.Cause(ctx))
		}
	}
}

// running finds the daemon of an earlier start.
func (d *daemon) running() (pidfd int, ok bool) {
	data, err := os.ReadFile(filepath.Join(d.dir, "containerd.pid"))
	if err != nil {
		return -1, false
	}
	var rec pidRecord
	if json.Unmarshal(data, &rec) != nil || rec.PID == 0 {
		return -1, false
	}
	fd, err := unix.PidfdOpen(rec.PID, 0)
	if err != nil {
		return -1, false
	}
	// The descriptor is held before the comparison: the pid can't be reused in between.
	if recordOf(rec.PID) != rec || ended(fd, 0) {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

func (d *daemon) stop(ctx context.Context) error {
	fd, ok := d.running()
	if !ok {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop containerd: %w", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !ended(fd, 50*time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it ended meanwhile
			ended(fd, 5*time.Second)
			break
		}
	}
	os.Remove(filepath.Join(d.dir, "containerd.pid"))
	return nil
}

func ended(fd int, wait time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, int(wait/time.Millisecond))
	return n > 0
}

func recordOf(pid int) pidRecord {
	rec := pidRecord{PID: pid}
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		if i := strings.LastIndexByte(string(data), ')'); i > 0 {
			if f := strings.Fields(string(data)[i+1:]); len(f) > 19 {
				rec.Start = f[19]
			}
		}
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	rec.Boot = strings.TrimSpace(string(boot))
	return rec
}
