package gpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// MPSConfig says where the control daemon of CUDA's Multi-Process Service is. It matters with the mode MPS.
type MPSConfig struct {
	// Control is the path of nvidia-cuda-mps-control, which Run then keeps running; "": somebody else does.
	Control string
	// Dir is the folder of the daemon's pipes, which containers see too; "": /tmp/nvidia-mps, its own default.
	Dir string
}

// ErrNoMPS is returned for a claim while there is no MPS daemon to serve it.
var ErrNoMPS = errors.New("the MPS control daemon isn't running")

// serves says whether a daemon has made its pipe.
func (c MPSConfig) serves() error {
	_, err := os.Stat(filepath.Join(c.Dir, "control"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no pipe %s; start nvidia-cuda-mps-control, or set gpu.MPSConfig.Control", ErrNoMPS, filepath.Join(c.Dir, "control"))
	}
	return err
}

// runMPS keeps the daemon running until the context ends, in the foreground, so that it ends with us.
func (m *Manager) runMPS(ctx context.Context) error {
	c := m.cfg.MPS
	if m.cfg.Sharing.Mode != MPS || c.Control == "" {
		return nil
	}
	for ctx.Err() == nil {
		if err := os.MkdirAll(filepath.Join(c.Dir, "log"), 0o777); err != nil {
			m.cfg.Logger.Error("make the folder of the MPS daemon", "error", err)
		}
		if err := os.Remove(filepath.Join(c.Dir, "control")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.cfg.Logger.Warn("remove the pipe of an MPS daemon that ended", "error", err)
		}
		cmd := exec.CommandContext(ctx, c.Control, "-f")
		cmd.Env = append(os.Environ(), "CUDA_MPS_PIPE_DIRECTORY="+c.Dir, "CUDA_MPS_LOG_DIRECTORY="+filepath.Join(c.Dir, "log"))
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its servers then
		cmd.WaitDelay = 5 * time.Second
		err := cmd.Run()
		if ctx.Err() == nil {
			m.cfg.Logger.Error("the MPS control daemon ended; it is started again", "path", c.Control, "error", err)
			pause(ctx, time.Second)
		}
	}
	if err := os.Remove(filepath.Join(c.Dir, "control")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.cfg.Logger.Warn("remove the pipe of the MPS daemon", "error", err)
	}
	return nil
}
