package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/runtime/claims"
	"github.com/pintle/pintle/runtime/csi"
	"github.com/pintle/pintle/runtime/localpath"
)

// newDrivers makes the manager of the node's storage drivers.
func (a *Agent) newDrivers() (*csi.Manager, error) {
	known := a.podsKnown()
	return csi.New(csi.Config{Client: a.cfg.Client, NodeName: a.cfg.NodeName, Dir: a.kubeletDir(), Token: a.podToken, Pods: a.pods.Snapshot,
		Known: func(uid string) bool {
			select {
			case <-known:
			default:
				return true // not all pods are known yet
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.workers[types.UID(uid)] != nil
		},
		Report: a.reportInUse, Event: a.events.send, Logger: a.log})
}

// reportInUse writes into the Node's status which volumes must not be detached.
func (a *Agent) reportInUse(ctx context.Context) error {
	a.reporting.Lock()
	defer a.reporting.Unlock()
	nodes := a.cfg.Client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := a.drivers().InUse()
	if slices.Equal(node.Status.VolumesInUse, now) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesInUse": now}})
	if err != nil {
		return err
	}
	_, err = nodes.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// podToken issues a token of the pod's service account, bound to the pod.
func (a *Agent) podToken(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (string, time.Time, error) {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	r := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: seconds,
		BoundObjectRef: &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}}}
	if audience != "" {
		r.Spec.Audiences = []string{audience}
	}
	r, err := a.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, r, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	return r.Status.Token, r.Status.ExpirationTimestamp.Time, nil
}

func (a *Agent) drivers() *csi.Manager {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.csi
}

// mountDriver has a driver make the volume ready.
func (a *Agent) mountDriver(ctx context.Context, v csi.Volume) (mountedVolume, error) {
	d := a.drivers()
	if d == nil {
		return mountedVolume{}, &claims.Waiting{Message: "storage drivers are not known yet"}
	}
	m, err := d.Mount(ctx, v)
	if err != nil {
		return mountedVolume{}, err
	}
	out := mountedVolume{path: m.Path, readOnly: v.ReadOnly, driver: true, republish: m.Republish}
	if v.Claim != nil {
		out.claim, out.volume = v.Claim.Name, v.PV.Name
	}
	return out, nil
}

// unmountDrivers takes a pod's volumes down, once its containers have ended.
func (a *Agent) unmountDrivers(ctx context.Context, uid types.UID) error {
	if d := a.drivers(); d != nil {
		return d.Unmount(ctx, string(uid))
	}
	return nil
}

// growFilesystem grows a claim's filesystem, where its claim says that this is what its expansion waits for.
func (a *Agent) growFilesystem(ctx context.Context, pod *corev1.Pod, m mountedVolume) error {
	api := a.cfg.Client.CoreV1().PersistentVolumeClaims(pod.Namespace)
	claim, err := api.Get(ctx, m.claim, metav1.GetOptions{})
	if err != nil || claim.Spec.VolumeName != m.volume || !growsOnNode(claim) {
		return err
	}
	pv, err := a.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, m.volume, metav1.GetOptions{})
	if err != nil || pv.Spec.CSI == nil {
		return err
	}
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	if asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]; size.Cmp(asked) < 0 {
		return nil // the volume itself grows first
	}
	grown, err := a.drivers().Expand(ctx, string(pod.UID), pv, size.Value())
	if err != nil {
		return fmt.Errorf("NodeExpandVolume failed for volume %q : %w", pv.Name, err)
	}
	if !grown {
		return nil
	}
	if _, err := api.UpdateStatus(ctx, localpath.Grown(claim, size), metav1.UpdateOptions{}); err != nil {
		return err
	}
	a.events.emit(pod, "", corev1.EventTypeNormal, "FileSystemResizeSuccessful", fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q", pv.Name))
	return nil
}

func growsOnNode(c *corev1.PersistentVolumeClaim) bool {
	if s := c.Status.AllocatedResourceStatuses[corev1.ResourceStorage]; s == corev1.PersistentVolumeClaimNodeResizePending || s == corev1.PersistentVolumeClaimNodeResizeInProgress {
		return true
	}
	for _, x := range c.Status.Conditions {
		if x.Type == corev1.PersistentVolumeClaimFileSystemResizePending && x.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
