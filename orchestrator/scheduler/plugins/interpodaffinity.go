package plugins

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// InterPodAffinity honours podAffinity and podAntiAffinity, the pod's own and that of the pods
// which run already.
type InterPodAffinity struct{}

// Name implements framework.Plugin.
func (InterPodAffinity) Name() string { return "InterPodAffinity" }

// Prepare implements framework.Plugin.
func (InterPodAffinity) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	p := framework.Prepared{}
	own, refusing := &pod.Affinity, s.Refusing(pod)
	if len(own.Required)+len(own.RequiredAnti)+len(refusing) > 0 {
		f := newAffinityFilter(pod, s, refusing)
		p.Filter, p.FilterRows = f.filter, f.filterRows
	}
	wishing := s.Wishing(pod)
	if len(own.Preferred)+len(own.PreferredAnti)+len(wishing) > 0 {
		var wishes []wish
		for i := range own.Preferred {
			c := termCensus(s, &own.Preferred[i])
			wishes = append(wishes, wish{c.Column, c.Counts, own.Preferred[i].Weight})
		}
		for i := range own.PreferredAnti {
			c := termCensus(s, &own.PreferredAnti[i])
			wishes = append(wishes, wish{c.Column, c.Counts, -own.PreferredAnti[i].Weight})
		}
		for _, c := range wishing {
			wishes = append(wishes, wish{c.Column, c.Counts, c.Weight})
		}
		p.Score = func(n *framework.Node) (sum int64) {
			for i := range wishes {
				sum += wishes[i].of(n.Row)
			}
			return sum
		}
		p.ScoreRows = func(rows []int32, out []int64) {
			clear(out)
			for i := range wishes {
				for at, row := range rows {
					out[at] += wishes[i].of(int(row))
				}
			}
		}
		p.Scale, p.Weight = framework.ToRange, 2
	}
	return p
}

// wish is what the pods of a domain are worth.
type wish struct {
	column *framework.LabelColumn
	counts []int64
	weight int64
}

func (w *wish) of(row int) int64 {
	if v := w.column.Values[row]; v >= 0 && int(v) < len(w.counts) {
		return w.counts[v] * w.weight
	}
	return 0
}

// termCensus counts the pods that a term means.
func termCensus(s *framework.State, t *framework.Term) *framework.Census {
	return s.Census("term\x00"+t.Key, t.TopologyKey, t.Pairs(), nil, func(sample *corev1.Pod, namespace labels.Set) bool {
		return t.Matches(sample, namespace)
	})
}

type affinityFilter struct {
	matched []*framework.Census // for each required term, the pods that all of them mean
	anti    []*framework.Census
	theirs  []*framework.Carried // of pods that refuse this one
	first   bool                 // no pod matches, but this pod matches its own terms: it may be the first
}

func newAffinityFilter(pod *framework.Pod, s *framework.State, refusing []*framework.Carried) *affinityFilter {
	f := &affinityFilter{theirs: refusing}
	own := pod.Affinity.Required
	// A pod counts for affinity only if it matches all terms together.
	keys := make([]string, len(own))
	for i := range own {
		keys[i] = own[i].Key
	}
	all := strings.Join(keys, "\x00")
	found := false
	for i := range own {
		c := s.Census("all\x00"+own[i].TopologyKey+"\x00"+all, own[i].TopologyKey, own[0].Pairs(), nil, func(sample *corev1.Pod, namespace labels.Set) bool {
			return matchesAll(own, sample, namespace)
		})
		found = found || c.Total > 0
		f.matched = append(f.matched, c)
	}
	f.first = !found && matchesAll(own, pod.Pod, s.NamespaceLabels(pod.Namespace))
	for i := range pod.Affinity.RequiredAnti {
		f.anti = append(f.anti, termCensus(s, &pod.Affinity.RequiredAnti[i]))
	}
	return f
}

func matchesAll(terms []framework.Term, pod *corev1.Pod, namespaceLabels map[string]string) bool {
	for i := range terms {
		if !terms[i].Matches(pod, namespaceLabels) {
			return false
		}
	}
	return true
}

func (f *affinityFilter) filter(n *framework.Node) []string {
	for _, c := range f.matched {
		if c.Column.Values[n.Row] < 0 || !f.first && c.Count(n.Row) == 0 {
			return []string{"node(s) didn't match pod affinity rules"}
		}
	}
	for _, c := range f.anti {
		if c.Count(n.Row) > 0 {
			return []string{"node(s) didn't match pod anti-affinity rules"}
		}
	}
	for _, c := range f.theirs {
		if v := c.Column.Values[n.Row]; v >= 0 && int(v) < len(c.Counts) && c.Counts[v] > 0 {
			return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
		}
	}
	return nil
}

func (f *affinityFilter) filterRows(ok []bool) {
	for _, c := range f.matched {
		for row, v := range c.Column.Values[:len(ok)] {
			ok[row] = ok[row] && v >= 0 && (f.first || c.Counts[v] > 0)
		}
	}
	for _, c := range f.anti {
		for row, v := range c.Column.Values[:len(ok)] {
			ok[row] = ok[row] && (v < 0 || c.Counts[v] == 0)
		}
	}
	for _, c := range f.theirs {
		for row, v := range c.Column.Values[:len(ok)] {
			ok[row] = ok[row] && (v < 0 || int(v) >= len(c.Counts) || c.Counts[v] == 0)
		}
	}
}
