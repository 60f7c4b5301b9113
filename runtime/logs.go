package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/runtime/nodeapi"
)

// lastLines is the end of a log, for termination messages.
func lastLines(path string, lines int64, limit int) string {
	var b bytes.Buffer
	if err := nodeapi.ReadLogs(context.Background(), path, nodeapi.LogOptions{TailLines: &lines}, &b); err != nil {
		return ""
	}
	s := b.Bytes()
	return strings.ToValidUTF8(string(s[max(0, len(s)-limit):]), "�")
}

// logOf finds the log of the newest attempt of a container, or of the one before it.
func (w *worker) logOf(container string, previous bool) (path string, attempt int, err error) {
	entries, err := os.ReadDir(filepath.Join(w.a.logDir(w.uid), container))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", 0, err
	}
	var attempts []int
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil && strings.HasSuffix(e.Name(), ".log") {
			attempts = append(attempts, n)
		}
	}
	slices.Sort(attempts)
	if previous {
		// While a restart waits, the newest attempt is the one before the next.
		if id := w.lastTermination(container); id != "" {
			for _, n := range attempts {
				if containerID(w.pod(), container, n) == id {
					return w.logPath(container, n), n, nil
				}
			}
		}
		if len(attempts) < 2 {
			return "", 0, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", container, w.name))
		}
		n := attempts[len(attempts)-2]
		return w.logPath(container, n), n, nil
	}
	if len(attempts) == 0 {
		return "", 0, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, w.name, w.waitsFor(container)))
	}
	n := attempts[len(attempts)-1]
	return w.logPath(container, n), n, nil
}

// reportedStatus is what was last said of a container.
func (w *worker) reportedStatus(container string) (st corev1.ContainerStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != nil {
		for _, l := range [][]corev1.ContainerStatus{w.status.InitContainerStatuses, w.status.ContainerStatuses} {
			for _, c := range l {
				if c.Name == container {
					return c
				}
			}
		}
	}
	return st
}

// waitsFor says why a container has no log yet.
func (w *worker) waitsFor(container string) string {
	if wait := w.reportedStatus(container).State.Waiting; wait != nil {
		switch wait.Reason {
		case "ErrImagePull", "ImagePullBackOff":
			return "trying and failing to pull image"
		case "":
		default:
			return wait.Reason
		}
	}
	return "ContainerCreating"
}

// lastTermination is the ID of the attempt that the status shows as the one before, or "".
func (w *worker) lastTermination(container string) string {
	t := w.reportedStatus(container).LastTerminationState.Terminated
	if t == nil {
		return ""
	}
	_, id, _ := strings.Cut(t.ContainerID, "://")
	return id
}
