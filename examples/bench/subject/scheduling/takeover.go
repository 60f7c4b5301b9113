package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

// warm is the API as a member sees it that becomes the leader: all objects are decoded in memory already.
type warm struct {
	objects map[string][]api.Object // by resource
	bound   chan string
}

func (w *warm) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	out := make(chan watch.Event)
	go func() {
		for _, o := range w.objects[gvr.Resource] {
			select {
			case out <- watch.Event{Type: watch.Added, Object: o}:
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- watch.Event{Type: watch.Bookmark, Object: &corev1.Pod{}}:
		case <-ctx.Done():
			return
		}
		<-ctx.Done()
		close(out)
	}()
	return watch.NewProxyWatcher(out), nil
}

func (w *warm) Get(_ context.Context, gvr schema.GroupVersionResource, _, name string) (api.Object, error) {
	return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
}

func (w *warm) Create(_ context.Context, _ schema.GroupVersionResource, o api.Object) (api.Object, error) {
	return o, nil
}

func (w *warm) Update(_ context.Context, _ schema.GroupVersionResource, _ string, o api.Object) (api.Object, error) {
	return o, nil
}

func (w *warm) Delete(context.Context, schema.GroupVersionResource, string, string, metav1.DeleteOptions) error {
	return nil
}

func (w *warm) Bind(_ context.Context, _, _ string, _ types.UID, node string, _ map[string]string) error {
	w.bound <- node
	return nil
}

// takeOver starts a scheduler where there are that many nodes and pods, and one pod more that waits: until it is ready, and
// until that pod's binding is written, in milliseconds.
func takeOver(ctx context.Context, nodes, pods int, r results) error {
	w := &warm{objects: map[string][]api.Object{}, bound: make(chan string, 1)}
	for i := range nodes {
		w.objects["nodes"] = append(w.objects["nodes"], makeNode(i))
	}
	for i := range pods {
		p := makePod(i)
		p.Spec.NodeName = fmt.Sprintf("node-%05d", i%nodes)
		w.objects["pods"] = append(w.objects["pods"], p)
	}
	w.objects["pods"] = append(w.objects["pods"], makePod(pods))
	begin := time.Now()
	s, err := scheduler.New(scheduler.Config{Client: w})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer cancel()
	select {
	case <-s.Ready():
		r["ready"] = float64(time.Since(begin).Microseconds()) / 1000
	case err := <-ended:
		return errors.Join(errors.New("the scheduler ended"), err)
	}
	<-w.bound
	r["bound"] = float64(time.Since(begin).Microseconds()) / 1000
	cancel()
	return <-ended
}
