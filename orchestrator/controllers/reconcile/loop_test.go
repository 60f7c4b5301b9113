package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
}

// loop runs a controller of config maps in a bubble until f returns.
func loop(t *testing.T, client func(*reconciletest.Fake) reconcile.Client, c reconcile.Controller, f func(ctx context.Context, fake *reconciletest.Fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fake := reconciletest.New(nil)
		env := reconcile.Env{Client: fake}
		if client != nil {
			env.Client = client(fake)
		}
		ctx, cancel := context.WithCancel(t.Context())
		synced, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- c.Run(ctx, env, func() { close(synced) }) }()
		<-synced
		f(ctx, fake)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAFailingKeyBacksOffAndAGoodOneDoesNotWaitForIt(t *testing.T) {
	var mu sync.Mutex
	runs := map[string][]time.Time{}
	c := reconcile.Controller{Name: "x", Workers: 1, Watches: []reconcile.Watch{{Resource: reconcile.ConfigMaps()}},
		Reconcile: func(_ context.Context, k reconcile.Key) (time.Duration, error) {
			mu.Lock()
			defer mu.Unlock()
			runs[k.Name] = append(runs[k.Name], time.Now())
			switch k.Name {
			case "bad":
				return 0, errors.New("bad")
			case "panics":
				panic("oh")
			case "again":
				return time.Minute, nil
			}
			return 0, nil
		}}
	loop(t, nil, c, func(ctx context.Context, fake *reconciletest.Fake) {
		for _, n := range []string{"bad", "panics", "again", "good"} {
			if _, err := fake.Create(ctx, reconcile.ConfigMaps(), configMap(n)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for _, n := range []string{"bad", "panics"} { // 5 ms, 10 ms … 20 s, then every 30 s
			if got := len(runs[n]); got < 25 || got > 40 {
				t.Errorf("%s ran %d times in ten minutes", n, got)
			}
			if d := runs[n][1].Sub(runs[n][0]); d != 5*time.Millisecond {
				t.Errorf("%s ran again after %v", n, d)
			}
		}
		if len(runs["good"]) != 1 || len(runs["again"]) != 11 {
			t.Errorf("good ran %d times, again %d", len(runs["good"]), len(runs["again"]))
		}
	})
}

func TestOneKeyHasOneWorkerAndAChangeMeanwhileIsNotLost(t *testing.T) {
	var mu sync.Mutex
	busy, most, runs := 0, 0, 0
	c := reconcile.Controller{Name: "x", Workers: 8, Watches: []reconcile.Watch{{Resource: reconcile.ConfigMaps()}},
		Reconcile: func(context.Context, reconcile.Key) (time.Duration, error) {
			mu.Lock()
			busy++
			runs++
			most = max(most, busy)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			busy--
			mu.Unlock()
			return 0, nil
		}}
	loop(t, nil, c, func(ctx context.Context, fake *reconciletest.Fake) {
		o, _ := fake.Create(ctx, reconcile.ConfigMaps(), configMap("a"))
		synctest.Wait()
		for i := range 5 { // all while the first run sleeps
			n := o.DeepCopyObject().(*corev1.ConfigMap)
			n.Data = map[string]string{"i": fmt.Sprint(i)}
			var err error
			if o, err = fake.Update(ctx, reconcile.ConfigMaps(), "", n); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 1 || runs != 2 {
			t.Errorf("%d workers at once, %d runs", most, runs)
		}
	})
}

// Whatever happens to the watch, and whichever handler call fails or panics once, each change is delivered.
func TestEveryChangeIsDeliveredThroughClosedWatchesAndFailingHandlers(t *testing.T) {
	var mu sync.Mutex
	known := map[string]bool{}
	calls := 0
	c := reconcile.Controller{Name: "x", Reconcile: func(context.Context, reconcile.Key) (time.Duration, error) { return 0, nil },
		Watches: []reconcile.Watch{{Resource: reconcile.ConfigMaps(), Map: func(_ context.Context, e reconcile.Event, _ func(reconcile.Key)) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls%3 == 0 {
				return errors.New("the read failed")
			}
			known[e.Object.GetName()] = e.Type != watch.Deleted
			return nil
		}}}}
	closing := func(f *reconciletest.Fake) reconcile.Client {
		return f.Faulty(reconciletest.Faults{Closed: 0.5, Error: 0.2}, 1)
	}
	loop(t, closing, c, func(ctx context.Context, fake *reconciletest.Fake) {
		for i := range 50 {
			if _, err := fake.Create(ctx, reconcile.ConfigMaps(), configMap(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if i%2 == 1 {
				time.Sleep(10 * time.Millisecond)
				if err := fake.Delete(ctx, reconcile.ConfigMaps(), "ns", fmt.Sprint(i), metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for i := range 50 {
			if there, ok := known[fmt.Sprint(i)]; there != (i%2 == 0) || i%2 == 0 && !ok {
				t.Errorf("%d: known %v, there %v", i, ok, there)
			}
		}
	})
}

func TestEventsAreCountedCombinedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := reconciletest.New(nil)
		r := reconcile.NewRecorder(reconcile.Env{Client: fake})
		emit := func(name, reason, message string) {
			r.Emit("test", configMap(name), corev1.SchemeGroupVersion.WithKind("ConfigMap"), corev1.EventTypeNormal, reason, message)
			r.Flush(t.Context())
		}
		for range 5 {
			emit("same", "Same", "the same")
		}
		for i := range 20 {
			emit("like", "Like", fmt.Sprint("message ", i))
		}
		for i := range 100 {
			emit("flood", fmt.Sprint("Reason", i), "x")
		}
		count := map[string]int{}
		evs, err := reconcile.List[*corev1.Event](t.Context(), fake, reconcile.Events(), "ns", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			count[e.InvolvedObject.Name]++
			if e.InvolvedObject.Name == "same" && e.Count != 5 {
				t.Errorf("count %d", e.Count)
			}
		}
		if count["same"] != 1 || count["like"] != 11 || count["flood"] != 25 {
			t.Errorf("events: %v", count)
		}
	})
}

// half delivers the nodes that there are only when it is let.
type half struct {
	reconcile.Client
	let chan struct{}
}

func (h half) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	if gvr == reconcile.Nodes() {
		<-h.let
	}
	return h.Client.Watch(ctx, gvr)
}

func TestAfterSyncNothingIsDecidedOnHalfOfWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := reconciletest.New(nil)
		if _, err := fake.Create(t.Context(), reconcile.ConfigMaps(), configMap("a")); err != nil {
			t.Fatal(err)
		}
		for _, after := range []bool{false, true} {
			var runs atomic.Int64
			c := reconcile.Controller{Name: "x", AfterSync: after, Watches: []reconcile.Watch{{Resource: reconcile.ConfigMaps()}, {Resource: reconcile.Nodes()}},
				Reconcile: func(context.Context, reconcile.Key) (time.Duration, error) { runs.Add(1); return 0, nil }}
			ctx, cancel := context.WithCancel(t.Context())
			let, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- c.Run(ctx, reconcile.Env{Client: half{fake, let}}, nil) }()
			synctest.Wait()
			if early := runs.Load() > 0; early == after {
				t.Errorf("AfterSync %v: reconciled before everything was delivered: %v", after, early)
			}
			close(let)
			synctest.Wait()
			if runs.Load() != 1 {
				t.Errorf("AfterSync %v: reconciled %d times", after, runs.Load())
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
