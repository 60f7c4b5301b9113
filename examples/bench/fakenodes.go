package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// ends is the label of pods that fakeNodes have succeed at once.
const ends = "bench.pintle.dev/ends"

// fakeNodes stand in for nodes' agents, as hollow nodes do elsewhere: they say that every pod bound to them runs and is ready,
// or has succeeded, take deleted ones away, and renew their leases every 10 s.
type fakeNodes struct {
	client kubernetes.Interface
	names  []string
}

// fakePodsPerNode is the room of each.
const fakePodsPerNode = 110

// startFakeNodes makes n nodes. They work until ctx ends; wait returns then.
func startFakeNodes(ctx context.Context, client kubernetes.Interface, n int) (wait func(), err error) {
	f := &fakeNodes{client: client}
	for i := range n {
		f.names = append(f.names, fmt.Sprintf("fake-%05d", i))
	}
	if err := parallel(ctx, n, f.create); err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	var group sync.WaitGroup
	group.Go(func() { f.renew(ctx) })
	group.Go(func() { f.run(ctx) })
	return group.Wait, nil
}

func (f *fakeNodes) create(ctx context.Context, i int) error {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: *resource.NewQuantity(fakePodsPerNode, resource.DecimalSI)}
	name := f.names[i]
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}, Status: corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}}}}
	if _, err := f.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	now, seconds := metav1.NowMicro(), int32(40)
	_, err := f.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &now}}, metav1.CreateOptions{})
	return err
}

// renew writes every lease once in 10 s, spread over them.
func (f *fakeNodes) renew(ctx context.Context) {
	const every = 10 * time.Second
	tick := time.NewTicker(every / time.Duration(len(f.names)))
	defer tick.Stop()
	leases := f.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	for i := 0; ; i = (i + 1) % len(f.names) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		lease, err := leases.Get(ctx, f.names[i], metav1.GetOptions{})
		if err != nil {
			continue // the next round
		}
		now := metav1.NowMicro()
		lease.Spec.RenewTime = &now
		_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
}

// run plays the agents' part for pods, from watch to watch.
func (f *fakeNodes) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	work := make(chan *corev1.Pod, 100_000)
	for range 16 {
		group.Go(func() {
			for p := range work {
				f.act(ctx, p)
			}
		})
	}
	defer close(work)
	for ctx.Err() == nil {
		w, err := f.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || e.Type == watch.Deleted || !strings.HasPrefix(p.Spec.NodeName, "fake-") {
				continue
			}
			work <- p
		}
	}
}

// act brings one pod a step further; what fails is tried again when the pod changes.
func (f *fakeNodes) act(ctx context.Context, p *corev1.Pod) {
	pods := f.client.CoreV1().Pods(p.Namespace)
	if p.DeletionTimestamp != nil {
		now := int64(0)
		_ = pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID}})
		return
	}
	if p.Status.Phase != corev1.PodPending && p.Status.Phase != "" {
		return
	}
	p = p.DeepCopy()
	now := metav1.Now()
	p.Status.Phase, p.Status.StartTime, p.Status.PodIP = corev1.PodRunning, &now, "10.0.0.1"
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	ready, state := corev1.ConditionTrue, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	if p.Labels[ends] != "" {
		p.Status.Phase, ready = corev1.PodSucceeded, corev1.ConditionFalse
		state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: ready, LastTransitionTime: now})
	}
	for _, c := range p.Spec.Containers {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: ready == corev1.ConditionTrue, State: state})
	}
	for range 5 {
		_, err := pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) {
			return
		}
		stored, err := pods.Get(ctx, p.Name, metav1.GetOptions{})
		if err != nil || stored.DeletionTimestamp != nil {
			return // deleted: the watch says so
		}
		stored.Status = p.Status
		p = stored
	}
}

// parallel calls fn for 0 to n-1, 64 at a time, until one fails.
func parallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, 64) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
