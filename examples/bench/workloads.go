package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// flowNodes are the nodes of a flow, and flowObjects the objects.
const (
	flowNodes   = 100
	flowObjects = 10_000
)

// workloadMeasurements measure the controllers: how fast each works, what they cost when nothing happens, and how soon they
// go on after their leader was killed. Pods run on fake nodes, in this process, but those of the thousand replicas.
func workloadMeasurements() (all []measurement) {
	add := func(row string, run func(ctx context.Context, w *workshop, row string) ([]Row, error)) {
		all = append(all, measurement{table: "workloads", rows: []string{row}, run: func(ctx context.Context, w *workshop) ([]Row, error) { return run(ctx, w, row) }})
	}
	add("a Deployment of 1000 WASI replicas, small ones in C, applied to all Ready", func(ctx context.Context, w *workshop, row string) ([]Row, error) {
		return measureReplicas(ctx, w, row, 1000, buildWaitingGuest)
	})
	add("a Deployment of 200 WASI replicas, servers in Go, applied to all Ready", func(ctx context.Context, w *workshop, row string) ([]Row, error) {
		return measureReplicas(ctx, w, row, 200, buildServingGuest)
	})
	for _, f := range flows() {
		add(fmt.Sprintf("%s: %d %s", f.controller, flowObjects, f.what), func(ctx context.Context, w *workshop, row string) ([]Row, error) {
			return measureFlow(ctx, w, row, f)
		})
	}
	add("nothing happens: CPU of a control plane with 5000 pods on 100 nodes", idleCPU)
	add("the leader is killed: 100 Deployments scaled at once, all pods bound, beside 10000 pods", leaderChange)
	return all
}

// plane is a member of the control plane in a process of its own.
type plane struct {
	*process
	client         *kubernetes.Clientset
	address, token string
}

func startPlane(ctx context.Context, w *workshop, name string, join ...string) (*plane, error) {
	program, err := w.build(ctx, ".", "./subject/workloads")
	if err != nil {
		return nil, err
	}
	dir, err := w.folder(name)
	if err != nil {
		return nil, err
	}
	p, err := start(program, append([]string{"control", name, dir}, join...)...)
	if err != nil {
		return nil, err
	}
	line, err := p.line(ctx, time.Minute)
	if err != nil {
		p.stop()
		return nil, err
	}
	said := strings.Fields(line)
	if len(said) != 3 {
		p.stop()
		return nil, fmt.Errorf("the control plane said %q", line)
	}
	client, err := clientOf(said[0])
	if err != nil {
		p.stop()
		return nil, err
	}
	return &plane{process: p, client: client, address: said[1], token: said[2]}, nil
}

// clientOf is a client without a brake of its own, that speaks protobuf.
func clientOf(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.QPS, config.ContentConfig = -1, rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf"}
	return kubernetes.NewForConfig(config)
}

func measureFlow(ctx context.Context, w *workshop, row string, f flow) ([]Row, error) {
	p, err := startPlane(ctx, w, "flow")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	nodesCtx, cancel := context.WithCancel(ctx)
	wait, err := startFakeNodes(nodesCtx, p.client, flowNodes)
	defer cancel()
	if err != nil {
		return nil, err
	}
	rate, err := f.run(ctx, p.client, flowObjects)
	cancel()
	wait()
	if err != nil {
		return nil, err
	}
	return []Row{{Row: row, Unit: "1/s", Pintle: number(rate)}}, nil
}

// idleCPU is a control plane's part of a core over 30 s in which nothing happens but the nodes' heartbeats.
func idleCPU(ctx context.Context, w *workshop, row string) ([]Row, error) {
	const deployments, replicas, seconds = 50, 100, 30
	p, err := startPlane(ctx, w, "idle")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	nodesCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := startFakeNodes(nodesCtx, p.client, flowNodes); err != nil {
		return nil, err
	}
	if err := fill(ctx, p.client, deployments, replicas); err != nil {
		return nil, err
	}
	if err := rest10(ctx); err != nil { // what was begun ends
		return nil, err
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(seconds * time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	after, err := p.cpu()
	if err != nil {
		return nil, err
	}
	return []Row{{Row: row, Unit: "%", Pintle: number(100 * (after - before).Seconds() / seconds), below: 1,
		Note: "of a core, over 30 s; 100 nodes renew their leases every 10 s"}}, nil
}

func rest10(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cpu is the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	_, after, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, errors.New("processor time: /proc says nothing")
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// fill makes Deployments and waits until all their pods are available.
func fill(ctx context.Context, c kubernetes.Interface, deployments int, replicas int32) error {
	ctx, cancel := context.WithTimeoutCause(ctx, flowLimit, fmt.Errorf("not all of %d pods were there within %s", deployments*int(replicas), flowLimit))
	defer cancel()
	sets := c.AppsV1().Deployments(metav1.NamespaceDefault)
	if err := parallel(ctx, deployments, func(ctx context.Context, i int) error {
		meta, labels := named(metav1.NamespaceDefault, i)
		_, err := sets.Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: small(labels)}}, metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	return available(ctx, c, deployments, replicas)
}

// available waits until as many Deployments have as many replicas available, or bound, if there is nobody to run them.
func available(ctx context.Context, c kubernetes.Interface, deployments int, replicas int32) error {
	for {
		list, err := c.AppsV1().Deployments(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		n := 0
		for _, d := range list.Items {
			if d.Status.AvailableReplicas >= replicas {
				n++
			}
		}
		if n >= deployments {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leaderChange kills the first of three members, which leads, and has 100 Deployments scaled through a survivor at once; it ends
// when a watch there has shown all their new pods bound.
func leaderChange(ctx context.Context, w *workshop, row string) ([]Row, error) {
	const deployments, replicas = 100, 100
	var members []*plane
	defer func() {
		for _, m := range members {
			m.stop()
		}
	}()
	for i := range 3 {
		var join []string
		if i > 0 {
			join = []string{members[0].address, members[0].token}
		}
		m, err := startPlane(ctx, w, fmt.Sprint("m", i+1), join...)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	survivor := members[1].client
	nodesCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := startFakeNodes(nodesCtx, survivor, flowNodes+20); err != nil {
		return nil, err
	}
	if err := fill(ctx, survivor, deployments, replicas); err != nil {
		return nil, err
	}
	if err := rest10(ctx); err != nil {
		return nil, err
	}
	watched, err := survivor.CoreV1().Pods(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermNotEqualSelector("spec.nodeName", "").String()})
	if err != nil {
		return nil, err
	}
	defer watched.Stop()
	bound := make(chan error, 1)
	go func() {
		have := map[string]bool{}
		for e := range watched.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && p.Spec.NodeName != "" {
				if have[p.Name] = true; len(have) == deployments*(replicas+1) {
					bound <- nil
					return
				}
			}
		}
		bound <- errors.New("the watch ended before all pods were bound")
	}()
	begin := time.Now()
	if err := members[0].cmd.Process.Kill(); err != nil {
		return nil, err
	}
	scale := []byte(fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas+1))
	err = parallel(ctx, deployments, func(ctx context.Context, i int) error {
		meta, _ := named(metav1.NamespaceDefault, i)
		_, err := survivor.AppsV1().Deployments(metav1.NamespaceDefault).Patch(ctx, meta.Name, "application/merge-patch+json", scale, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	select {
	case err = <-bound:
	case <-time.After(time.Minute):
		err = errors.New("not all pods were bound within a minute")
	}
	if err != nil {
		return nil, err
	}
	return []Row{{Row: row, Unit: "ms", Pintle: number(milliseconds(time.Since(begin))), below: 2000, Note: "kill -9; the 100 writes that scale are in it"}}, nil
}
