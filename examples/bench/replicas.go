package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const wasiImage = "bench.pintle.dev/guest:1"

// measureReplicas runs a Deployment of WASI pods on an appliance of its own; build compiles their guest.
func measureReplicas(ctx context.Context, w *workshop, row string, replicas int32, build func(ctx context.Context, out string) error) ([]Row, error) {
	program, err := w.build(ctx, ".", "./subject/workloads")
	if err != nil {
		return nil, err
	}
	dir, err := w.folder("replicas")
	if err != nil {
		return nil, err
	}
	guest, archive := filepath.Join(dir, "guest.wasm"), filepath.Join(dir, "guest.tar")
	if err := build(ctx, guest); err != nil {
		return nil, err
	}
	if err := packProgram(guest, archive, wasiImage, "wasip1", "wasm"); err != nil {
		return nil, fmt.Errorf("pack the image: %w", err)
	}
	p, err := start(program, "node", filepath.Join(dir, "data"), archive)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	path, err := p.line(ctx, time.Minute)
	if err != nil {
		return nil, err
	}
	client, err := clientOf(path)
	if err != nil {
		return nil, err
	}
	before, err := p.rss()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, flowLimit, fmt.Errorf("%d pods were not Ready within %s", replicas, flowLimit))
	defer cancel()
	grace, class, labels := int64(0), "wasm", map[string]string{"app": "many"}
	template := small(labels)
	template.Spec.RuntimeClassName, template.Spec.TerminationGracePeriodSeconds = &class, &grace
	c := &template.Spec.Containers[0]
	c.Image, c.ImagePullPolicy, c.Ports = wasiImage, corev1.PullNever, []corev1.ContainerPort{{ContainerPort: 8080}}
	begin := time.Now()
	if _, err := client.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "many"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := available(ctx, client, 1, replicas); err != nil {
		select {
		case <-p.ended:
			err = errors.Join(err, errors.New(firstLines(p.stderr.String(), 3)))
		default:
		}
		return nil, err
	}
	took := time.Since(begin)
	after, err := p.rss()
	if err != nil {
		return nil, err
	}
	return []Row{{Row: row, Unit: "s", Pintle: number(took.Seconds()), Note: fmt.Sprintf("all in one process; %s MiB each", plain((after-before)/float64(replicas)))}}, nil
}

// buildServingGuest compiles the quickstart's server, net/http in Go.
func buildServingGuest(ctx context.Context, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "github.com/pintle/pintle/examples/quickstart/demoserver")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	return said(cmd)
}

// buildWaitingGuest compiles a guest that does nothing but wait.
func buildWaitingGuest(ctx context.Context, out string) error {
	return said(exec.CommandContext(ctx, "clang", "--target=wasm32", "-O2", "-ffreestanding", "-nostdlib", "-Wl,--no-entry", "-o", out, "subject/waitingguest/main.c"))
}

func said(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, firstLines(string(out), 3))
	}
	return nil
}
