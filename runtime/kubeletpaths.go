package runtime

import (
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// KubeletDir is where the ecosystem's manifests expect the kubelet's folder: those of CSI drivers and of their sidecars name it
// in hostPath volumes. A pod that mounts it, or anything below it, gets the folder "kubelet" of the agent's DataDir, so that
// nodes of several clusters, or a kubelet, don't meet there.
const KubeletDir = "/var/lib/kubelet"

// hostPath is where a path that a manifest names lies on this machine.
func (a *Agent) hostPath(path string) string {
	if clean := filepath.Clean(path); clean == KubeletDir || strings.HasPrefix(clean, KubeletDir+"/") {
		return filepath.Join(a.kubeletDir(), strings.TrimPrefix(clean, KubeletDir))
	}
	return path
}

func (a *Agent) kubeletDir() string { return filepath.Join(a.dir, "kubelet") }

// shareKubeletDir lets what drivers mount below the folder be seen by pods, and the other way round. The mount stays when the
// agent ends: containers of drivers run on, and are its peers.
func (a *Agent) shareKubeletDir() error {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	if err := os.MkdirAll(a.kubeletDir(), 0o755); err != nil {
		return err
	}
	return makeShared(a.kubeletDir())
}

// propagates reports whether a container is to see the volume's later mounts, or to make some.
func propagates(pod *corev1.Pod, volume string) bool {
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			for _, m := range l[i].VolumeMounts {
				if m.Name == volume && m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
					return true
				}
			}
		}
	}
	return false
}
