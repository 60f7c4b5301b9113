package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// target is a way to the application.
type target struct {
	name string
	url  string
	host string // the Host that an Ingress knows it by; "" for a Service
}

// load asks every target again and again, in the rhythm of a clock and not of the answers.
type load struct {
	begun time.Time
	stop  chan struct{}
	all   sync.WaitGroup
	asked atomic.Int64

	mu      sync.Mutex // guards what follows
	failed  map[string][]string
	slowest map[string]time.Duration
}

func startLoad(targets []target, perSecond int) *load {
	l := &load{begun: time.Now(), stop: make(chan struct{}), failed: map[string][]string{}, slowest: map[string]time.Duration{}}
	for _, to := range targets {
		transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableKeepAlives: to.host == ""} // a Service chooses for each connection
		client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
		l.all.Go(func() {
			defer transport.CloseIdleConnections()
			tick := time.NewTicker(time.Second / time.Duration(perSecond))
			defer tick.Stop()
			var asking sync.WaitGroup
			defer asking.Wait()
			for {
				select {
				case <-tick.C:
					asking.Go(func() { l.ask(client, to) })
				case <-l.stop:
					return
				}
			}
		})
	}
	return l
}

func (l *load) ask(client *http.Client, to target) {
	begun := time.Now()
	err := get(client, to)
	l.asked.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest[to.name] = max(l.slowest[to.name], time.Since(begun))
	if err != nil {
		l.failed[to.name] = append(l.failed[to.name], fmt.Sprintf("at %v, after %v: %v", begun.Sub(l.begun).Round(time.Millisecond), time.Since(begun).Round(time.Millisecond), err))
	}
}

func get(client *http.Client, to target) error {
	request, err := http.NewRequest(http.MethodGet, to.url, nil)
	if err != nil {
		return err
	}
	if to.host != "" {
		request.Host = to.host
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return err
}

// end stops and reports. Targets that may fail are only told of.
func (l *load) end(t *testing.T, mayFail func(target string) bool) {
	t.Helper()
	close(l.stop)
	l.all.Wait()
	took := time.Since(l.begun)
	t.Logf("%d requests in %v, %.0f a second", l.asked.Load(), took.Round(time.Millisecond), float64(l.asked.Load())/took.Seconds())
	for name, slowest := range l.slowest {
		failed := l.failed[name]
		t.Logf("%s: %d failed, the slowest took %v", name, len(failed), slowest.Round(time.Millisecond))
		if len(failed) > 0 && !mayFail(name) {
			for _, f := range failed[:min(5, len(failed))] {
				t.Errorf("%s: %s", name, f)
			}
		}
	}
}

// failover is a client of whichever of the members answers, the first at first.
func failover(t *testing.T, members []*machine) *rest.Config {
	t.Helper()
	config := members[0].restConfig(t)
	config.TLSClientConfig.ServerName = "kubernetes"
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, m := range members {
			dialCtx, cancel := context.WithTimeout(ctx, time.Second)
			conn, err := (&net.Dialer{KeepAlive: time.Second}).DialContext(dialCtx, network, m.spec.At+":6443")
			cancel()
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return config
}

// witness notes what an informer is told of a ConfigMap whose data counts up.
type witness struct {
	name string
	// skips: client-go lists anew after a connection that nobody ended, and then learns of the newest count alone.
	skips bool

	mu    sync.Mutex // guards what follows
	last  int
	wrong []string
}

func (w *witness) note(o any) {
	cm, ok := o.(*corev1.ConfigMap)
	if !ok || cm.Name != "counter" {
		return
	}
	n, err := strconv.Atoi(cm.Data["n"])
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || w.last > 0 && n != w.last+1 && (!w.skips || n <= w.last) {
		w.wrong = append(w.wrong, fmt.Sprintf("%q after %d", cm.Data["n"], w.last))
	}
	w.last = n
}

// counter is a ConfigMap that counts up, and the informers that watch it.
type counter struct {
	witnesses []*witness
	stop      context.CancelFunc
	counting  sync.WaitGroup
	n         int // once counting has ended
}

// startCounter counts with writer, and watches with all others; the one that is named may skip counts, but never
// go back.
func startCounter(t *testing.T, writer *rest.Config, readers map[string]*rest.Config, skips string) *counter {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &counter{stop: cancel, n: 1}
	client, err := kubernetes.NewForConfig(writer)
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counter"}, Data: map[string]string{"n": strconv.Itoa(n)}}
	}
	_ = client.CoreV1().ConfigMaps("default").Delete(ctx, "counter", metav1.DeleteOptions{})
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, at(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, config := range readers {
		reader, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		w := &witness{name: name, skips: name == skips}
		factory := informers.NewSharedInformerFactoryWithOptions(reader, 0, informers.WithNamespace("default"))
		informer := factory.Core().V1().ConfigMaps().Informer()
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: w.note, UpdateFunc: func(_, o any) { w.note(o) }, DeleteFunc: w.note}); err != nil {
			t.Fatal(err)
		}
		watching, end := context.WithCancel(context.Background())
		t.Cleanup(func() { end(); factory.Shutdown() })
		factory.Start(watching.Done())
		cache.WaitForCacheSync(watching.Done(), informer.HasSynced)
		c.witnesses = append(c.witnesses, w)
	}
	c.counting.Go(func() {
		for ctx.Err() == nil {
			// A count that may not have been written is written again: the same object, so no change if it was.
			callCtx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_, err := client.CoreV1().ConfigMaps("default").Update(callCtx, at(c.n+1), metav1.UpdateOptions{})
			cancel()
			if err == nil {
				c.n++
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return c
}

// end stops counting, and fails the test unless every informer was told of each count once, in order.
func (c *counter) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.counting.Wait()
	for _, w := range c.witnesses {
		eventually(t, w.name+" sees the last count", func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.last < c.n {
				return fmt.Errorf("%d of %d", w.last, c.n)
			}
			return nil
		})
		for _, wrong := range w.wrong {
			t.Errorf("the informer of %s was told of %s", w.name, wrong)
		}
	}
	t.Logf("%d counts, each seen once by %d informers", c.n, len(c.witnesses))
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, err)
}
