package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// StopDaemon ends the private containerd. Its containers run on and are adopted by the next Run.
func (e *Engine) StopDaemon(ctx context.Context) error {
	if !e.runMu.TryLock() {
		return errors.New("containerd: StopDaemon while the engine runs")
	}
	defer e.runMu.Unlock()
	if e.daemon == nil {
		return nil
	}
	return e.daemon.stop(ctx)
}

// Teardown ends every container, sandbox and the private containerd, and removes what the engine
// made on the host: links, mounts, namespaces, nft table, cgroups, and its need for IP forwarding.
// Images and logs below DataDir stay. Call it after Run has returned. Idempotent; after an error
// call it again.
func (e *Engine) Teardown(ctx context.Context) error {
	if !e.runMu.TryLock() {
		return errors.New("containerd: Teardown while the engine runs")
	}
	defer e.runMu.Unlock()
	unlock, err := e.open(ctx)
	if err != nil {
		return fmt.Errorf("teardown: %w", err)
	}
	defer unlock()
	err = e.empty(ctx)
	e.disconnect()
	if e.daemon != nil {
		err = errors.Join(err, e.daemon.stop(ctx))
	}
	if err == nil {
		err = errors.Join(e.net.removeBridge(), removeNAT(e.names.table), removeCgroup(e.names.cgroup))
	}
	if err != nil {
		return fmt.Errorf("teardown: %w", err)
	}
	if err := os.RemoveAll(e.names.run); err != nil {
		return fmt.Errorf("teardown: %w", err)
	}
	if err := releaseForwarding(e.cfg.Name); err != nil {
		return fmt.Errorf("teardown: %w", err)
	}
	// Made by containerd's shims; only when nobody else has anything there.
	os.Remove("/run/containerd/s")
	os.Remove("/run/containerd")
	return nil
}

func (e *Engine) empty(ctx context.Context) error {
	var errs []error
	e.mu.Lock()
	var sbs, cs []string
	for id := range e.sandboxes {
		sbs = append(sbs, id)
	}
	for id := range e.containers {
		cs = append(cs, id)
	}
	c := e.client
	e.mu.Unlock()
	for _, id := range cs {
		errs = append(errs, e.RemoveContainer(ctx, id))
	}
	for _, id := range sbs {
		errs = append(errs, e.RemoveSandbox(ctx, id))
	}
	if e.daemon == nil {
		errs = append(errs, e.emptyNamespace(ctx, c))
	}
	os.RemoveAll(filepath.Join(e.cfg.DataDir, "cni"))
	return errors.Join(errs...)
}

// emptyNamespace takes our namespace off a containerd that isn't ours.
func (e *Engine) emptyNamespace(ctx context.Context, c *client.Client) error {
	ctx = e.with(ctx)
	imgs, err := c.ImageService().List(ctx)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, i := range imgs {
		if err := c.ImageService().Delete(ctx, i.Name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("delete image: %w", err)
		}
	}
	return nil
}
