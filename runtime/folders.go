package runtime

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/runtime/localpath"
)

// provisionFolders is this node's half of the built-in provisioner, until ctx ends. What keeps it from working (a record that
// is damaged, say) keeps nothing else from it: it is said, and tried again.
func (a *Agent) provisionFolders(ctx context.Context) {
	// Which claims are in use is known when the pods are.
	select {
	case <-a.podsKnown():
	case <-ctx.Done():
		return
	}
	p, err := localpath.New(localpath.Config{Client: a.cfg.Client, NodeName: a.cfg.NodeName, Hostname: a.cfg.Labels[corev1.LabelHostname],
		Dir: cmp.Or(a.cfg.VolumesDir, filepath.Join(a.dir, "volumes")), InUse: a.claimInUse,
		Event: a.events.send, Logger: a.log, Clock: a.cfg.Clock})
	if err != nil {
		a.log.Error("local-path volumes can't be provisioned", "error", err)
		return
	}
	a.mu.Lock()
	a.folders = p
	a.mu.Unlock()
	for {
		if err := p.Run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("local-path volumes can't be provisioned", "error", err)
		}
		if !sleep(ctx, 30*time.Second) {
			return
		}
	}
}

// claimInUse reports whether a pod of this node has the volume as that of the claim, or is about to.
func (a *Agent) claimInUse(claim, volume string) bool {
	namespace, name, _ := strings.Cut(claim, "/")
	for _, w := range a.allWorkers() {
		if w.namespace == namespace && (w.provided.any() || w.hasSandbox()) && w.names(name) {
			if has := w.provided.volumeOf(name); has != "" && has != volume {
				continue // a new claim of the same name, as StatefulSets make them
			}
			return true
		}
	}
	return false
}
