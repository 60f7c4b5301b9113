package runtime

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// layered is an Engine whose containers write into a layer of their own on the disk.
type layered interface {
	// LayerBytes is how much a container has written there, in bytes.
	LayerBytes(ctx context.Context, id string) (int64, error)
}

func storageLimit(c *corev1.Container) (resource.Quantity, bool) {
	q, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
	return q, ok && !q.IsZero()
}

// limitsStorage reports whether any container of the pod has a limit on ephemeral storage.
func limitsStorage(pod *corev1.Pod) bool {
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			if _, ok := storageLimit(&l[i]); ok {
				return true
			}
		}
	}
	return false
}

// overStorage measures layers, logs and emptyDirs on the disk, where a container has a limit.
func (w *worker) overStorage(ctx context.Context, pod *corev1.Pod) *refusal {
	if !limitsStorage(pod) {
		return nil
	}
	used := map[string]int64{}
	w.mu.Lock()
	live := make([]Container, 0, len(w.live))
	for _, c := range w.live {
		live = append(live, c)
	}
	engine := w.engine
	w.mu.Unlock()
	if e, ok := engine.(layered); ok {
		for _, c := range live {
			if n, err := e.LayerBytes(ctx, c.ID); err == nil {
				used[c.Name] += n
			}
		}
	}
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			used[l[i].Name] += folderBytes(filepath.Join(w.a.logDir(w.uid), l[i].Name))
		}
	}
	volumes := int64(0)
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			volumes += folderBytes(w.volumes.path(v.Name))
		}
	}
	return overLimits(pod, used, volumes)
}

// overLimits judges what containers, by name, and the pod's volumes take, in bytes. It is pure.
func overLimits(pod *corev1.Pod, used map[string]int64, volumes int64) *refusal {
	var total resource.Quantity
	sum, all := volumes, true
	for i, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for j := range l {
			c := &l[j]
			limit, ok := storageLimit(c)
			if ok && used[c.Name] > limit.Value() {
				return &refusal{reason: "Evicted", message: fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())}
			}
			sum += used[c.Name]
			if i == 1 || isSidecar(c) {
				all = all && ok
				total.Add(limit)
			}
		}
	}
	if all && sum > total.Value() {
		return &refusal{reason: "Evicted", message: fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", total.String())}
	}
	return nil
}

// folderBytes is the sum of the files below a folder; what can't be read counts nothing.
func folderBytes(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				sum += i.Size()
			}
		}
		return nil
	})
	return sum
}
