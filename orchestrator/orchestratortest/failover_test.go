package orchestratortest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// anywhere is a client over TLS of whichever member answers, first the one that is named.
func anywhere(t *testing.T, m *orchestratortest.Members, first string) *rest.Config {
	t.Helper()
	data, err := m.Get(first).Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{m.Get(first).Addr().String()}
	for _, c := range m.Running() {
		if a := c.Addr().String(); !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	config.QPS = -1
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, address := range addresses {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return config
}

// witness is an informer that notes what it is told about one object, whose data counts up.
type witness struct {
	name string

	mu    sync.Mutex // guards what follows
	seen  []int
	wrong []string
}

func count(o any) int {
	cm, ok := o.(*corev1.ConfigMap)
	if !ok || cm.Name != "counter" {
		return -1
	}
	n, err := strconv.Atoi(cm.Data["n"])
	if err != nil {
		return -1
	}
	return n
}

func watchCounter(ctx context.Context, t *testing.T, name string, config *rest.Config) *witness {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: name}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
	informer := factory.Core().V1().ConfigMaps().Informer()
	note := func(event string, o any) {
		n := count(o)
		if n < 0 {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.seen) > 0 && n != w.seen[len(w.seen)-1]+1 {
			w.wrong = append(w.wrong, fmt.Sprintf("%s %d after %d", event, n, w.seen[len(w.seen)-1]))
		}
		w.seen = append(w.seen, n)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { note("added", o) }, UpdateFunc: func(_, o any) { note("updated", o) },
		DeleteFunc: func(o any) { note("deleted", o) },
	}); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	t.Cleanup(factory.Shutdown)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatalf("%s: the informer never began", name)
	}
	return w
}

func (w *witness) last() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return -1
	}
	return w.seen[len(w.seen)-1]
}

// retried calls f until it succeeds, while a leader is missing.
func retried(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	until(t, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := f(ctx)
		if err != nil {
			t.Logf("%s: %v", what, err)
		}
		return err == nil || apierrors.IsAlreadyExists(err)
	})
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/x:1"}}}}}}
}

func TestTheLeaderIsKilledAndTheOthersGoOn(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.Get("m1").AddNode(t, "one")
	leader := m.Leader()
	var survivors []string
	for i := range 3 {
		if name := m.Name(i); name != leader {
			survivors = append(survivors, name)
		}
	}
	writer := m.Get(survivors[0]).Client
	counter := configMap("counter")
	counter.Data = map[string]string{"n": "0"}
	if _, err := writer.CoreV1().ConfigMaps("default").Create(ctx, counter, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var witnesses []*witness
	for _, name := range survivors {
		witnesses = append(witnesses, watchCounter(ctx, t, name, m.Get(name).RESTConfig()))
	}
	witnesses = append(witnesses, watchCounter(ctx, t, "a client of the leader that fails over", anywhere(t, m, leader)))

	// One writer counts up all the time. A count that may not have been written is tried again as the same one.
	written := make(chan int, 1)
	stop := make(chan struct{})
	var counted atomic.Int64
	go func() {
		n := 0
		defer func() { written <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			next := configMap("counter")
			next.Data = map[string]string{"n": strconv.Itoa(n + 1)}
			callCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
			_, err := writer.CoreV1().ConfigMaps("default").Update(callCtx, next, metav1.UpdateOptions{})
			cancel()
			if err == nil {
				n++
				counted.Store(int64(n))
			}
		}
	}()
	until(t, "some counts", func() bool { return counted.Load() > 20 })
	at := counted.Load()
	killed := time.Now()
	m.Kill(leader)
	name := "born-after"
	retried(t, "create a deployment", func(ctx context.Context) error {
		_, err := m.Get(survivors[1]).Client.AppsV1().Deployments("default").Create(ctx, deployment(name, 2), metav1.CreateOptions{})
		return err
	})
	t.Logf("a survivor took a write %v after the leader was killed", time.Since(killed).Round(time.Millisecond))
	until(t, "controllers and scheduler work", func() bool {
		list, err := m.Get(survivors[0]).Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + name, FieldSelector: "spec.nodeName=one"})
		return err == nil && len(list.Items) == 2
	})
	t.Logf("controllers and scheduler had made and bound its pods %v after", time.Since(killed).Round(time.Millisecond))
	until(t, "more counts", func() bool { return counted.Load() > at+40 })
	m.Start(leader)
	at = counted.Load()
	until(t, "still more counts", func() bool { return counted.Load() > at+20 })
	close(stop)
	total := <-written
	for _, w := range witnesses {
		until(t, w.name+" sees the last count", func() bool { return w.last() >= total })
		w.mu.Lock()
		for _, wrong := range w.wrong {
			t.Errorf("%s: %s", w.name, wrong)
		}
		w.mu.Unlock()
	}
	t.Logf("%d counts, each seen once by %d informers", total, len(witnesses))
}

func TestARollingRestartFailsNoRequest(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	var done, failed atomic.Int64
	stop := make(chan struct{})
	for i := range 3 {
		client, err := kubernetes.NewForConfig(anywhere(t, m, m.Name(i)))
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("w%d-%d", i, n)
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name), metav1.CreateOptions{})
				if err == nil {
					_, err = client.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("%s: %v", name, err)
				}
				done.Add(1)
			}
		})
	}
	for i := range 3 {
		at := done.Load()
		until(t, "requests go on", func() bool { return done.Load() > at+30 })
		m.Stop(m.Name(i))
		at = done.Load()
		until(t, "requests go on without it", func() bool { return done.Load() > at+30 })
		m.Start(m.Name(i))
		m.WaitVoters(3)
	}
	close(stop)
	writers.Wait()
	t.Logf("%d requests, %d failed", 2*done.Load(), failed.Load())
}
