package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/runtime/nodeapi"
)

// routes joins nodeapi to the pods of this node.
func (a *Agent) routes() http.Handler {
	mux := http.NewServeMux()
	a.stats(mux)
	mux.Handle("/", nodeapi.New(nodeapi.Config{Pod: a.servedPod, Container: a.servedContainer, Running: a.servedRuns,
		Sandbox: a.servedSandbox, Engine: a.servedEngine, Logger: a.log}))
	return mux
}

func (a *Agent) servedPod(namespace, name string) (*corev1.Pod, bool) {
	w := a.find(namespace, name)
	if w == nil {
		return nil, false
	}
	return w.pod(), true
}

func (a *Agent) served(namespace, name string) (*worker, error) {
	w := a.find(namespace, name)
	if w == nil {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return w, nil
}

// servedContainer finds the newest attempt that has a log, or the one before it.
func (a *Agent) servedContainer(namespace, pod, container string, previous bool) (id, logPath string, tty bool, err error) {
	w, err := a.served(namespace, pod)
	if err != nil {
		return "", "", false, err
	}
	p := w.pod()
	c := containerNamed(p, container)
	if c == nil {
		return "", "", false, apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", container, pod))
	}
	path, attempt, err := w.logOf(container, previous)
	if err != nil {
		return "", "", false, err
	}
	return containerID(p, container, attempt), path, c.TTY, nil
}

// containerNamed is a container of the pod, or nil.
func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		if i := slices.IndexFunc(l, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &l[i]
		}
	}
	return nil
}

// servedRuns is false only for a container that is known to have ended.
func (a *Agent) servedRuns(namespace, pod, id string) bool {
	w := a.find(namespace, pod)
	if w == nil {
		return false
	}
	w.mu.Lock()
	c, seen := w.live[id]
	e := w.engine
	w.mu.Unlock()
	if seen || e == nil {
		return !seen || c.State != Exited
	}
	// The worker hasn't looked since it started this one, or it removed it.
	all, err := e.Containers(context.Background())
	if err != nil {
		return true // the engine is away, not the container
	}
	return slices.ContainsFunc(all, func(c Container) bool { return c.ID == id && c.State != Exited })
}

func (a *Agent) servedSandbox(namespace, pod string) (string, error) {
	w, err := a.served(namespace, pod)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.box == nil {
		return "", fmt.Errorf("pod %s has no sandbox", pod)
	}
	return w.box.ID, nil
}

func (a *Agent) servedEngine(namespace, pod string) (nodeapi.Engine, error) {
	w, err := a.served(namespace, pod)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.engine == nil {
		return nil, errors.New("the pod's engine isn't chosen yet")
	}
	return w.engine, nil
}
