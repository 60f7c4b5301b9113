package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// flow is many objects of one kind, brought by their controller to where they should be.
type flow struct {
	controller  string
	what        string // is counted, as a row says it
	preparedToo bool   // what prepare does is part of the way
	prepare     func(ctx context.Context, c kubernetes.Interface, ns string, n int) error
	create      func(ctx context.Context, c kubernetes.Interface, ns string, i int) error
	// watch follows what the controller writes; done says whether an event is the last thing expected of an object.
	watch func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error)
	done  func(e watch.Event) bool
}

// flowLimit is how long one flow may take.
const flowLimit = 3 * time.Minute

// run returns how many objects a second went the whole way, from the first's creation to the last's end.
func (f flow) run(ctx context.Context, c kubernetes.Interface, n int) (float64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, flowLimit, fmt.Errorf("%s: not all of %d objects got there within %s", f.controller, n, flowLimit))
	defer cancel()
	ns := "flow-" + f.controller
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	begin := time.Now()
	if f.prepare != nil {
		if err := f.prepare(ctx, c, ns, n); err != nil {
			return 0, err
		}
	}
	if !f.preparedToo {
		begin = time.Now()
	}
	counted := make(chan error, 1)
	w, err := f.watch(ctx, c, ns)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	go func() { counted <- f.count(w, n) }()
	if f.create != nil {
		if err := parallel(ctx, n, func(ctx context.Context, i int) error { return f.create(ctx, c, ns, i) }); err != nil {
			return 0, err
		}
	}
	select {
	case err = <-counted:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return float64(n) / time.Since(begin).Seconds(), err
}

func (f flow) count(w watch.Interface, n int) error {
	have := map[types.UID]bool{}
	for e := range w.ResultChan() {
		if o, ok := e.Object.(metav1.Object); ok && f.done(e) {
			if have[o.GetUID()] = true; len(have) == n {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: the watch ended after %d objects", f.controller, len(have))
}

func small(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.example.com/small:1"}}}}
}

func named(ns string, i int) (metav1.ObjectMeta, map[string]string) {
	name := fmt.Sprintf("o-%05d", i)
	return metav1.ObjectMeta{Namespace: ns, Name: name}, map[string]string{"app": name}
}

func added(e watch.Event) bool { return e.Type == watch.Added }

// flows are the controllers that are measured so.
func flows() []flow {
	one := int32(1)
	return []flow{
		{controller: "deployment", what: "Deployments of one pod, complete",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, labels := named(ns, i)
				_, err := c.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
					Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: small(labels)}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.AppsV1().Deployments(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				d, ok := e.Object.(*appsv1.Deployment)
				return ok && d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == 1
			}},
		{controller: "replicaset", what: "ReplicaSets of one pod, ready",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, labels := named(ns, i)
				_, err := c.AppsV1().ReplicaSets(ns).Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{
					Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: small(labels)}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.AppsV1().ReplicaSets(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				s, ok := e.Object.(*appsv1.ReplicaSet)
				return ok && s.Status.ReadyReplicas == 1
			}},
		{controller: "statefulset", what: "StatefulSets of one pod, ready",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, labels := named(ns, i)
				_, err := c.AppsV1().StatefulSets(ns).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
					Replicas: &one, ServiceName: "none", Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: small(labels)}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.AppsV1().StatefulSets(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				s, ok := e.Object.(*appsv1.StatefulSet)
				return ok && s.Status.ReadyReplicas == 1
			}},
		{controller: "daemonset", what: "pods of 100 DaemonSets on 100 nodes, ready", preparedToo: true,
			prepare: func(ctx context.Context, c kubernetes.Interface, ns string, n int) error {
				return parallel(ctx, n/flowNodes, func(ctx context.Context, i int) error {
					meta, labels := named(ns, i)
					_, err := c.AppsV1().DaemonSets(ns).Create(ctx, &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
						Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: small(labels)}}, metav1.CreateOptions{})
					return err
				})
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				p, ok := e.Object.(*corev1.Pod)
				return ok && p.Status.Phase == corev1.PodRunning
			}},
		{controller: "job", what: "Jobs of one pod, complete",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, _ := named(ns, i)
				template := small(map[string]string{ends: "yes"})
				template.Spec.RestartPolicy = corev1.RestartPolicyNever
				_, err := c.BatchV1().Jobs(ns).Create(ctx, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.BatchV1().Jobs(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				j, ok := e.Object.(*batchv1.Job)
				return ok && j.Status.CompletionTime != nil
			}},
		{controller: "cronjob", what: "CronJobs that fire at one minute, their Jobs there",
			prepare: cronJobs,
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.BatchV1().Jobs(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: added},
		{controller: "endpointslice", what: "Services, their EndpointSlices there",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, labels := named(ns, i)
				_, err := c.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: labels,
					Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.DiscoveryV1().EndpointSlices(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				_, ok := e.Object.(*discoveryv1.EndpointSlice)
				return ok && added(e)
			}},
		{controller: "disruption", what: "PodDisruptionBudgets, judged",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, labels := named(ns, i)
				_, err := c.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{
					Selector: &metav1.LabelSelector{MatchLabels: labels}}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.PolicyV1().PodDisruptionBudgets(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				b, ok := e.Object.(*policyv1.PodDisruptionBudget)
				return ok && b.Status.ObservedGeneration == b.Generation
			}},
		{controller: "resourcequota", what: "ResourceQuotas, counted",
			create: func(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
				meta, _ := named(ns, i)
				_, err := c.CoreV1().ResourceQuotas(ns).Create(ctx, &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{
					Hard: corev1.ResourceList{corev1.ResourcePods: *pods(10)}}}, metav1.CreateOptions{})
				return err
			},
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.CoreV1().ResourceQuotas(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				q, ok := e.Object.(*corev1.ResourceQuota)
				return ok && len(q.Status.Used) > 0
			}},
		{controller: "persistentvolume", what: "claims bound to volumes that are there", prepare: volumes, create: claim,
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				return c.CoreV1().PersistentVolumeClaims(ns).Watch(ctx, metav1.ListOptions{})
			},
			done: func(e watch.Event) bool {
				v, ok := e.Object.(*corev1.PersistentVolumeClaim)
				return ok && v.Status.Phase == corev1.ClaimBound
			}},
		{controller: "garbagecollector", what: "dependents of one deleted owner, gone",
			prepare: ownedConfigMaps,
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				w, err := c.CoreV1().ConfigMaps(ns).Watch(ctx, metav1.ListOptions{LabelSelector: "owned"})
				if err != nil {
					return nil, err
				}
				return w, c.CoreV1().ConfigMaps(ns).Delete(ctx, "owner", metav1.DeleteOptions{})
			},
			done: func(e watch.Event) bool { return e.Type == watch.Deleted }},
		{controller: "namespace", what: "objects of one deleted namespace, gone",
			prepare: configMaps,
			watch: func(ctx context.Context, c kubernetes.Interface, ns string) (watch.Interface, error) {
				w, err := c.CoreV1().ConfigMaps(ns).Watch(ctx, metav1.ListOptions{LabelSelector: "owned"})
				if err != nil {
					return nil, err
				}
				return w, c.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{})
			},
			done: func(e watch.Event) bool { return e.Type == watch.Deleted }},
	}
}
