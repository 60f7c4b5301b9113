package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"github.com/pintle/pintle/orchestrator/api"
)

func at(seconds float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(seconds * 1e9))
}

// said is a reading of one pod, u, with these containers.
func said(containers map[string]counter) reading {
	return reading{pods: map[types.UID]podReading{"u": {containers: containers}}}
}

func TestRatesAreOfCountersOfTheSameContainer(t *testing.T) {
	c := func(seconds float64, cpu time.Duration, started float64) counter {
		return counter{at: at(seconds), cpu: cpu, started: at(started), memory: int64(seconds)}
	}
	for name, tt := range map[string]struct {
		readings history
		want     string // "": absent
	}{
		"one reading says nothing":               {history{said(map[string]counter{"a": c(10, time.Second, 0)})}, ""},
		"two do":                                 {history{said(map[string]counter{"a": c(10, time.Second, 0)}), said(map[string]counter{"a": c(14, 3*time.Second, 0)})}, "a 0.50 over 4s, 14 B"},
		"over as long as is known":               {history{said(map[string]counter{"a": c(10, 0, 0)}), said(map[string]counter{"a": c(12, 0, 0)}), said(map[string]counter{"a": c(20, 5*time.Second, 0)})}, "a 0.50 over 10s, 20 B"},
		"not over a restart":                     {history{said(map[string]counter{"a": c(10, 9*time.Second, 0)}), said(map[string]counter{"a": c(15, time.Second, 12)}), said(map[string]counter{"a": c(20, 2*time.Second, 12)})}, "a 0.20 over 5s, 20 B"},
		"nor over a counter that fell":           {history{said(map[string]counter{"a": c(10, 9*time.Second, 0)}), said(map[string]counter{"a": c(15, time.Second, 0)})}, ""},
		"a pod of which a part is new is absent": {history{said(map[string]counter{"a": c(10, 0, 0)}), said(map[string]counter{"a": c(15, 0, 0), "b": c(15, 0, 14)})}, ""},
		"a container that has ended is gone":     {history{said(map[string]counter{"a": c(10, 0, 0), "b": c(10, 0, 0)}), said(map[string]counter{"a": c(15, 0, 0)})}, "a 0.00 over 5s, 15 B"},
		"a pod that has ended too":               {history{said(map[string]counter{"a": c(10, 0, 0)}), {}}, ""},
		"the same moment twice is no window":     {history{said(map[string]counter{"a": c(10, 0, 0)}), said(map[string]counter{"a": c(10, 0, 0)})}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if used, ok := tt.readings.pod("u"); ok {
				for name, u := range used {
					got += fmt.Sprintf("%s %.2f over %v, %d B", name, u.cpu, u.window, u.memory)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// agent answers over pipes, since a fake clock doesn't wait for sockets.
type agent struct {
	mu      sync.Mutex
	asked   map[string]int // by path
	began   time.Time
	silent  atomic.Bool
	devices string
}

func (a *agent) dial(ctx context.Context, node string) (net.Conn, error) {
	if node == "gone" || a.silent.Load() {
		return nil, errors.New("no route")
	}
	near, far := net.Pipe()
	go func() {
		l := &oneConn{conn: far, done: make(chan struct{})}
		_ = (&http.Server{Handler: a}).Serve(l)
	}()
	return near, nil
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return &closing{c, l}, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

type closing struct {
	net.Conn
	l *oneConn
}

func (c *closing) Close() error { _ = c.l.Close(); return c.Conn.Close() }

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.Path]++
	a.mu.Unlock()
	if r.URL.Path == "/metrics/devices" {
		fmt.Fprint(w, a.devices)
		return
	}
	now := time.Now()
	one := func(cores float64) map[string]any {
		return map[string]any{"time": now, "usageCoreNanoSeconds": uint64(cores * float64(now.Sub(a.began)))}
	}
	mem := map[string]any{"time": now, "workingSetBytes": 1 << 20}
	_ = json.NewEncoder(w).Encode(map[string]any{"node": map[string]any{"cpu": one(2), "memory": mem}, "pods": []any{map[string]any{
		"podRef":     map[string]any{"name": "p", "namespace": "ns", "uid": "u"},
		"containers": []any{map[string]any{"name": "c", "startTime": a.began, "cpu": one(0.5), "memory": mem}, map[string]any{"name": "d", "startTime": a.began, "cpu": one(0.25), "memory": mem}}}}})
}

func pod(name, node string, uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: uid, Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
}

// service runs a Service over nodes n1 and gone, with pods p, which the node reports, new, which it doesn't, and lost.
func service(t *testing.T, a *agent, custom Custom) (s *Service, stop func()) {
	t.Helper()
	s, err := New(Config{
		Nodes: func(context.Context, labels.Selector) ([]*corev1.Node, error) {
			return []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "gone"}}}, nil
		},
		Pods: func(context.Context, string, labels.Selector) ([]*corev1.Pod, error) {
			return []*corev1.Pod{pod("p", "n1", "u"), pod("new", "n1", "v"), pod("lost", "gone", "w"), pod("waits", "", "x")}, nil
		},
		Dial: a.dial, Custom: custom,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestNodesAreReadOnlyWhileSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{asked: map[string]int{}, began: time.Now().Add(-time.Hour)}
		s, stop := service(t, a, nil)
		defer stop()
		asked := func() int {
			synctest.Wait()
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.asked["/stats/summary"]
		}
		time.Sleep(time.Hour)
		if n := asked(); n != 0 {
			t.Fatalf("asked %d times while nobody wanted to know", n)
		}
		began := time.Now()
		pods, err := s.PodMetrics(t.Context(), "ns", nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the first answer took %v", d)
		}
		if len(pods) != 1 || pods[0].Name != "p" || len(pods[0].Containers) != 2 || pods[0].Window.Duration != time.Second {
			t.Fatalf("%+v", pods)
		}
		if c := pods[0].Containers[0]; c.Name != "c" || c.Usage.Cpu().MilliValue() != 500 || c.Usage.Memory().Value() != 1<<20 {
			t.Errorf("%+v", c)
		}
		nodes, err := s.NodeMetrics(t.Context(), nil)
		if err != nil || len(nodes) != 1 || nodes[0].Usage.Cpu().MilliValue() != 2000 {
			t.Errorf("%+v %v", nodes, err)
		}
		time.Sleep(time.Minute + time.Second)
		if n := asked(); n < 13 || n > 15 { // two at first, then every 5 s
			t.Errorf("asked %d times within a minute", n)
		}
		if pods, _ := s.PodMetrics(t.Context(), "ns", nil); len(pods) != 1 || pods[0].Window.Duration != 15*time.Second {
			t.Errorf("%+v", pods)
		}
		a.silent.Store(true)
		time.Sleep(40 * time.Second)
		if pods, err := s.PodMetrics(t.Context(), "ns", nil); len(pods) != 0 || err != nil {
			t.Errorf("a silent node's figures live on: %+v %v", pods, err)
		}
		a.silent.Store(false)
		time.Sleep(3 * time.Minute)
		before := asked()
		time.Sleep(time.Hour)
		if n := asked(); n != before {
			t.Errorf("it never sleeps: asked %d times more", n-before)
		}
		if pods, err := s.PodMetrics(t.Context(), "ns", nil); err != nil || len(pods) != 1 || pods[0].Window.Duration != time.Second {
			t.Errorf("after its sleep: %+v %v", pods, err)
		}
	})
}

func TestAQuestionEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a := &agent{asked: map[string]int{}}
	s, err := New(Config{Nodes: func(context.Context, labels.Selector) ([]*corev1.Node, error) { return nil, nil },
		Pods: func(context.Context, string, labels.Selector) ([]*corev1.Pod, error) { return nil, nil }, Dial: a.dial})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.NodeMetrics(ctx, nil); !errors.Is(err, context.Canceled) { // it doesn't run
		t.Error(err)
	}
}

const dcgm = `# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",container="c",namespace="ns",pod="p"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",container="c",namespace="ns",pod="p"} 30
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-c",container="c",namespace="other",pod="p"} 7
DCGM_FI_DEV_GPU_UTIL{gpu="3",UUID="GPU-d",container="",namespace="",pod=""} 1
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",container="c",namespace="ns",pod="p"} 1000.5
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b",container="c",namespace="ns",pod="p"} 24
# TYPE other gauge
other{namespace="ns",pod="p"} 3
`

// fixed answers one metric of Ingresses.
type fixed struct{}

func (fixed) CustomMetrics() []api.CustomMetric { return nil }
func (fixed) CustomValues(_ context.Context, q api.CustomMetricQuery) ([]custommetrics.MetricValue, error) {
	if q.Metric != "requests" {
		return nil, nil
	}
	return []custommetrics.MetricValue{{DescribedObject: corev1.ObjectReference{Name: q.Name}}}, nil
}

func TestGPUsAreMetricsOfTheirPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{asked: map[string]int{}, devices: dcgm}
		s, stop := service(t, a, fixed{})
		defer stop()
		q := api.CustomMetricQuery{Resource: corev1.Resource("pods"), Namespace: "ns", Metric: "DCGM_FI_DEV_GPU_UTIL"}
		value := func(q api.CustomMetricQuery) string {
			values, err := s.CustomValues(t.Context(), q)
			if err != nil {
				return string(apierrors.ReasonForError(err))
			}
			var out []string
			for _, v := range values {
				out = append(out, v.DescribedObject.Name+" "+v.Value.String())
			}
			return strings.Join(out, ", ")
		}
		if got := value(q); got != "p 60" {
			t.Errorf("the mean of a utilization: %s", got)
		}
		one := q
		one.Selector, _ = labels.Parse("UUID=GPU-b")
		if got := value(one); got != "p 30" {
			t.Errorf("one GPU's: %s", got)
		}
		memory := q
		memory.Metric = "DCGM_FI_DEV_FB_USED"
		if got := value(memory); got != "p 1024500m" {
			t.Errorf("the sum of memory: %s", got)
		}
		unknown := q
		unknown.Metric = "DCGM_FI_DEV_NONE"
		if got := value(unknown); got != "NotFound" {
			t.Errorf("unknown: %s", got)
		}
		unknown.Metric = "other"
		if got := value(unknown); got != "NotFound" {
			t.Errorf("other than GPUs': %s", got)
		}
		if got := value(api.CustomMetricQuery{Resource: corev1.Resource("ingresses"), Name: "i", Metric: "requests"}); got != "i 0" {
			t.Errorf("the embedding program's: %s", got)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.asked["/metrics/devices"] != 1 {
			t.Errorf("the node was asked %d times for one moment", a.asked["/metrics/devices"])
		}
	})
}
