package runtime

import (
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func (w *worker) messagePath(containerID string) string {
	return filepath.Join(w.a.podDir(w.uid), "messages", containerID)
}

// terminationMessage reads what the container left, up to Kubernetes' 4096 bytes, and by its policy the
// end of its log.
func (w *worker) terminationMessage(c *Container) string {
	pod := w.pod()
	var spec *corev1.Container
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			if l[i].Name == c.Name {
				spec = &l[i]
			}
		}
	}
	path := c.Labels[labelMessage]
	if path == "" {
		path = w.messagePath(c.ID)
	}
	if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
		return strings.ToValidUTF8(string(b[:min(len(b), 4096)]), "�")
	}
	if spec != nil && spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && c.ExitCode != 0 {
		return lastLines(w.logPath(c.Name, c.Attempt), 80, 2048)
	}
	return ""
}
