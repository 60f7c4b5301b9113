package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/orchestrator"
)

// writers is how many creations are under way at a time.
const writers = 128

// endToEnd creates pods with client-go over TLS and waits until a watch, over TLS too, has shown every one bound. The store
// writes to disk; a binding is shown once it is durable.
func endToEnd(ctx context.Context, nodes, pods int, r results) (err error) {
	c, stop, err := cluster(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := each(ctx, nodes, func(ctx context.Context, i int) error {
		n := makeNode(i)
		n.UID = ""
		_, err := c.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	w, err := c.CoreV1().Pods(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer w.Stop()
	bound := make(chan error, 1)
	go func() {
		have := map[string]bool{}
		for event := range w.ResultChan() {
			if p, ok := event.Object.(*corev1.Pod); ok && p.Spec.NodeName != "" {
				if have[p.Name] = true; len(have) == pods {
					bound <- nil
					return
				}
			}
		}
		bound <- fmt.Errorf("the watch ended after %d pods", len(have))
	}()
	begin := time.Now()
	if err := each(ctx, pods, func(ctx context.Context, i int) error {
		p := makePod(i)
		p.UID = ""
		_, err := c.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	r["created"] = float64(pods) / time.Since(begin).Seconds()
	select {
	case err := <-bound:
		if err != nil {
			return err
		}
	case <-time.After(2 * time.Minute):
		return errors.New("not all pods were bound within 2 minutes")
	}
	r["bound"] = float64(pods) / time.Since(begin).Seconds()
	return nil
}

// each calls fn for 0 to n-1, writers at a time.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, writers)
	for range writers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(ctx, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// cluster starts a control plane with its state on disk, and a client that reaches it over TLS.
func cluster(ctx context.Context) (*kubernetes.Clientset, func() error, error) {
	dir, err := os.MkdirTemp("", "pintle-scheduling-")
	if err != nil {
		return nil, nil, err
	}
	o, err := orchestrator.New(orchestrator.Config{DataDir: dir, Address: "127.0.0.1:0"})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	stop := func() error {
		cancel()
		return errors.Join(<-ended, os.RemoveAll(dir))
	}
	select {
	case <-o.Ready():
	case err := <-ended:
		cancel()
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	kubeconfig, err := o.Kubeconfig()
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	cfg.QPS, cfg.ContentConfig = -1, rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf"}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return c, stop, nil
}
