package registry

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// objectWatch is a Watcher as a watch.Interface.
type objectWatch struct {
	w       *Watcher
	results chan watch.Event
}

func newObjectWatch(w *Watcher, kind *api.Kind) *objectWatch {
	o := &objectWatch{w: w, results: make(chan watch.Event)}
	go o.run(kind)
	return o
}

// ResultChan is closed when the watch ends.
func (o *objectWatch) ResultChan() <-chan watch.Event { return o.results }

// Stop ends the watch. What was on its way is thrown away, so that nothing waits for a reader.
func (o *objectWatch) Stop() {
	o.w.Stop()
	for range o.results {
	}
}

func (o *objectWatch) run(kind *api.Kind) {
	defer close(o.results)
	for ev := range o.w.Events() {
		out := watch.Event{Type: ev.Type}
		if ev.Entry != nil {
			out.Object = ev.Entry.Object()
		} else {
			out.Object = BookmarkObject(kind, ev)
		}
		if !o.forward(out) {
			return
		}
	}
}

func (o *objectWatch) forward(ev watch.Event) bool {
	select {
	case o.results <- ev:
		return true
	case <-o.w.done:
		return false
	}
}

// BookmarkObject is the object that a bookmark carries on the wire: empty but for its resourceVersion
// and, at the end of the initial events, the annotation that clients wait for.
func BookmarkObject(kind *api.Kind, ev Event) api.Object {
	obj := kind.New()
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	obj.SetResourceVersion(strconv.FormatInt(ev.Revision, 10))
	if ev.InitialEventsEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return obj
}
