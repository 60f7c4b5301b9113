package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

// gangSize is how many pods of a group are placed whole or not at all.
const gangSize = 64

// gangs has a scheduler place so many groups, which are all there when it starts: pods bound per second of its running, and the
// milliseconds until the first group is. Nothing is stored.
func gangs(ctx context.Context, nodes, groups int, r results) error {
	w := &warm{objects: map[string][]api.Object{}, bound: make(chan string, groups*gangSize)}
	for i := range nodes {
		w.objects["nodes"] = append(w.objects["nodes"], makeNode(i))
	}
	for g := range groups {
		name := fmt.Sprintf("gang-%04d", g)
		group := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, UID: types.UID(name)}}
		group.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: gangSize}
		w.objects["podgroups"] = append(w.objects["podgroups"], group)
		for i := range gangSize {
			p := makePod(g*gangSize + i)
			p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &name}
			w.objects["pods"] = append(w.objects["pods"], p)
		}
	}
	s, err := scheduler.New(scheduler.Config{Client: w})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		return errors.Join(errors.New("the scheduler ended"), err)
	}
	begin := time.Now()
	for n := 1; n <= groups*gangSize; n++ {
		select {
		case <-w.bound:
		case <-time.After(time.Minute):
			return fmt.Errorf("%d of %d pods were bound", n-1, groups*gangSize)
		}
		if n == gangSize {
			r["first"] = float64(time.Since(begin).Microseconds()) / 1000
		}
	}
	r["rate"] = float64(groups*gangSize) / time.Since(begin).Seconds()
	cancel()
	return <-ended
}
