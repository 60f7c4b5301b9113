package metrics

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// kept is how many readings of a node are remembered: rates go over the time between the first and the last.
const kept = 4

// counter is what something has used up to a moment.
type counter struct {
	at      time.Time
	started time.Time     // zero: unknown
	cpu     time.Duration // since it started
	memory  int64         // bytes in use now
}

// podReading is what a pod's running containers have used.
type podReading struct {
	namespace, name string
	containers      map[string]counter
}

// reading is what a node said at one time.
type reading struct {
	at   time.Time // when it came
	node counter
	pods map[types.UID]podReading
}

// history holds a node's readings, the newest last. Readings are never changed.
type history []reading

// with is the history with one more reading, without those that are too many.
func (h history) with(r reading) history {
	h = append(slices.Clone(h), r)
	return h[max(0, len(h)-kept):]
}

// use is a rate over a window, and what is in use at its end.
type use struct {
	at     time.Time
	window time.Duration
	cpu    float64 // cores
	memory int64   // bytes
}

// rate is what happened between two counters of the same thing; false where they aren't, or no time passed.
func rate(first, last counter) (use, bool) {
	window := last.at.Sub(first.at)
	if window <= 0 || !first.started.Equal(last.started) || last.cpu < first.cpu {
		return use{}, false
	}
	return use{at: last.at, window: window, cpu: float64(last.cpu-first.cpu) / float64(window), memory: last.memory}, true
}

// node is the node's own use, over as long a window as the history has.
func (h history) node() (use, bool) {
	if len(h) == 0 {
		return use{}, false
	}
	last := h[len(h)-1].node
	for _, r := range h[:len(h)-1] {
		if u, ok := rate(r.node, last); ok {
			return u, true
		}
	}
	return use{}, false
}

// pod is the use of each container that runs. It is false where one of them has no rate yet: a pod that is counted in
// part would look idler than it is.
func (h history) pod(uid types.UID) (map[string]use, bool) {
	if len(h) == 0 {
		return nil, false
	}
	last, there := h[len(h)-1].pods[uid]
	if !there || len(last.containers) == 0 {
		return nil, false
	}
	out := map[string]use{}
	for name := range maps.Keys(last.containers) {
		for _, r := range h[:len(h)-1] {
			first, there := r.pods[uid].containers[name]
			if !there {
				continue
			}
			if u, ok := rate(first, last.containers[name]); ok {
				out[name] = u
				break
			}
		}
		if _, ok := out[name]; !ok {
			return nil, false
		}
	}
	return out, true
}
