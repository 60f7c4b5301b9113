package scheduler_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/raftstore"
)

// A scheduler needs a client: a registry's, over a store in memory here. It places a pod on the one node
// that has room for it.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg, err := registry.New(registry.Config{Store: store, Kinds: api.All()})
	if err != nil {
		fmt.Println(err)
		return
	}
	sched, err := scheduler.New(scheduler.Config{Client: reg.Client("system:kube-scheduler")})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 3)
	for _, run := range []func(context.Context) error{store.Run, reg.Run, sched.Run} {
		go func() { ended <- run(ctx) }()
	}
	<-reg.Ready()

	client := reg.Client("me", "system:masters")
	nodes, pods := corev1.SchemeGroupVersion.WithResource("nodes"), corev1.SchemeGroupVersion.WithResource("pods")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if _, err := client.Create(ctx, corev1.SchemeGroupVersion.WithResource("namespaces"), namespace); err != nil {
		fmt.Println(err)
		return
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "default"}} // a controller's work, elsewhere
	if _, err := client.Create(ctx, corev1.SchemeGroupVersion.WithResource("serviceaccounts"), account); err != nil {
		fmt.Println(err)
		return
	}
	for name, cpus := range map[string]string{"small": "1", "large": "8"} {
		room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpus), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10")}
		node, err := client.Create(ctx, nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if err != nil {
			fmt.Println(err)
			return
		}
		node = node.DeepCopyObject().(api.Object) // stored objects are shared
		node.(*corev1.Node).Status = corev1.NodeStatus{Capacity: room, Allocatable: room}
		if _, err := client.Update(ctx, nodes, "status", node); err != nil {
			fmt.Println(err)
			return
		}
	}
	changes, err := client.Watch(ctx, pods)
	if err != nil {
		fmt.Println(err)
		return
	}
	needs := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}}
	if _, err := client.Create(ctx, pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "till"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "till", Image: "till:v1", Resources: needs}}}}); err != nil {
		fmt.Println(err)
		return
	}
	for change := range changes.ResultChan() {
		if pod, ok := change.Object.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			fmt.Println(pod.Name, "runs on", pod.Spec.NodeName)
			break
		}
	}
	changes.Stop()
	stop()
	for range cap(ended) {
		<-ended
	}
	_ = store.Close()
	// Output: till runs on large
}
