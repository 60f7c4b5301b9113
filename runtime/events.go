package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// recorder writes events in the background. One that repeats within ten minutes raises the count of
// the first; when the API can't keep up, events are dropped, never pods delayed.
type recorder struct {
	client kubernetes.Interface
	node   string
	now    func() time.Time
	log    *slog.Logger
	queue  chan *corev1.Event

	mu   sync.Mutex
	n    uint64
	seen map[string]*corev1.Event
}

func newRecorder(c kubernetes.Interface, node string, now func() time.Time, log *slog.Logger) *recorder {
	return &recorder{client: c, node: node, now: now, log: log, queue: make(chan *corev1.Event, 1024), seen: map[string]*corev1.Event{}}
}

func (r *recorder) emit(pod *corev1.Pod, path, kind, reason, message string) {
	r.send(corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: path}, kind, reason, message)
}

func (r *recorder) send(ref corev1.ObjectReference, kind, reason, message string) {
	now := metav1.NewTime(r.now())
	ns := ref.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	if len(message) > 1024 {
		message = message[:1021] + "..."
	}
	r.mu.Lock()
	r.n++
	n := r.n
	r.mu.Unlock()
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("%s.%x%04x", ref.Name, now.UnixNano(), n&0xffff)},
		InvolvedObject: ref, Reason: reason, Message: message, Type: kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: r.node}, ReportingController: "kubelet", ReportingInstance: r.node}
	select {
	case r.queue <- e:
	default:
		r.log.Debug("event dropped", "reason", reason, "message", message)
	}
}

func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.queue:
			r.write(ctx, e)
		}
	}
}

func (r *recorder) write(ctx context.Context, e *corev1.Event) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	key := string(e.InvolvedObject.UID) + "|" + e.InvolvedObject.FieldPath + "|" + e.Reason + "|" + e.Message
	api := r.client.CoreV1().Events(e.Namespace)
	if old := r.seen[key]; old != nil && e.LastTimestamp.Sub(old.LastTimestamp.Time) < 10*time.Minute {
		up := old.DeepCopy()
		up.Count, up.LastTimestamp = old.Count+1, e.LastTimestamp
		up.ResourceVersion = ""
		if res, err := api.Update(ctx, up, metav1.UpdateOptions{}); err == nil {
			r.seen[key] = res
			return
		}
	}
	res, err := api.Create(ctx, e, metav1.CreateOptions{})
	if err != nil {
		r.log.Debug("write event", "reason", e.Reason, "error", err)
		return
	}
	if len(r.seen) > 4096 {
		clear(r.seen)
	}
	r.seen[key] = res
}
