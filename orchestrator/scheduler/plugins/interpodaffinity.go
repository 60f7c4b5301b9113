package plugins

import "github.com/pintle/pintle/orchestrator/scheduler/framework"

// InterPodAffinity honours podAffinity and podAntiAffinity, the pod's own and that of the pods
// which run already.
type InterPodAffinity struct{}

// Name implements framework.Plugin.
func (InterPodAffinity) Name() string { return "InterPodAffinity" }

// domain is one value of one topology key: a zone, say.
type domain struct{ key, value string }

// hardWeight is what a required affinity of a running pod towards this one adds to a score
// (kube-scheduler's default hardPodAffinityWeight).
const hardWeight = 1

// Prepare implements framework.Plugin.
func (InterPodAffinity) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	f := filterCounts(pod, s)
	p := framework.Prepared{}
	if len(f.own) > 0 || len(f.ownAnti) > 0 || len(f.theirs) > 0 {
		p.Filter = f.filter
	}
	if scores := preferredScores(pod, s); len(scores) > 0 {
		p.Score = func(n *framework.Node) (sum int64) {
			for d, weight := range scores {
				if value, ok := n.Node.Labels[d.key]; ok && value == d.value {
					sum += weight
				}
			}
			return sum
		}
		p.Normalize = func(scores []int64) { framework.NormalizeRange(scores, false) }
		p.Weight = 2
	}
	return p
}

type affinityFilter struct {
	own, ownAnti []framework.Term
	// matched counts the pods that each term finds, by domain; anti likewise.
	matched []map[domain]int
	anti    []map[domain]int
	theirs  map[domain]bool // where running pods refuse this one
	first   bool            // no pod matches, but this pod matches its own terms: it may be the first
}

func filterCounts(pod *framework.Pod, s *framework.State) *affinityFilter {
	f := &affinityFilter{own: pod.Affinity.Required, ownAnti: pod.Affinity.RequiredAnti, theirs: map[domain]bool{}}
	for range f.own {
		f.matched = append(f.matched, map[domain]int{})
	}
	for range f.ownAnti {
		f.anti = append(f.anti, map[domain]int{})
	}
	podNamespace := s.NamespaceLabels(pod.Namespace)
	found := false
	for _, n := range s.Nodes() {
		if len(f.own) == 0 && len(f.ownAnti) == 0 && !n.HasRequiredAntiAffinity() {
			continue
		}
		for _, other := range n.Pods {
			otherNamespace := s.NamespaceLabels(other.Namespace)
			// A pod counts for affinity only if it matches all terms together.
			if len(f.own) > 0 && matchesAll(f.own, other, otherNamespace) {
				for i := range f.own {
					if value, ok := n.Node.Labels[f.own[i].TopologyKey]; ok {
						f.matched[i][domain{f.own[i].TopologyKey, value}]++
						found = true
					}
				}
			}
			for i := range f.ownAnti {
				if value, ok := n.Node.Labels[f.ownAnti[i].TopologyKey]; ok && f.ownAnti[i].Matches(other.Pod, otherNamespace) {
					f.anti[i][domain{f.ownAnti[i].TopologyKey, value}]++
				}
			}
			for i := range other.Affinity.RequiredAnti {
				term := &other.Affinity.RequiredAnti[i]
				if value, ok := n.Node.Labels[term.TopologyKey]; ok && term.Matches(pod.Pod, podNamespace) {
					f.theirs[domain{term.TopologyKey, value}] = true
				}
			}
		}
	}
	f.first = !found && matchesAll(f.own, pod, podNamespace)
	return f
}

func matchesAll(terms []framework.Term, pod *framework.Pod, namespaceLabels map[string]string) bool {
	for i := range terms {
		if !terms[i].Matches(pod.Pod, namespaceLabels) {
			return false
		}
	}
	return true
}

func (f *affinityFilter) filter(n *framework.Node) []string {
	for i := range f.own {
		value, ok := n.Node.Labels[f.own[i].TopologyKey]
		if !ok || (!f.first && f.matched[i][domain{f.own[i].TopologyKey, value}] == 0) {
			return []string{"node(s) didn't match pod affinity rules"}
		}
	}
	for i := range f.ownAnti {
		value, ok := n.Node.Labels[f.ownAnti[i].TopologyKey]
		if ok && f.anti[i][domain{f.ownAnti[i].TopologyKey, value}] > 0 {
			return []string{"node(s) didn't match pod anti-affinity rules"}
		}
	}
	for d := range f.theirs {
		if value, ok := n.Node.Labels[d.key]; ok && value == d.value {
			return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
		}
	}
	return nil
}

func preferredScores(pod *framework.Pod, s *framework.State) map[domain]int64 {
	scores := map[domain]int64{}
	add := func(n *framework.Node, term *framework.Term, weight int64) {
		if value, ok := n.Node.Labels[term.TopologyKey]; ok {
			scores[domain{term.TopologyKey, value}] += weight
		}
	}
	podNamespace := s.NamespaceLabels(pod.Namespace)
	own := len(pod.Affinity.Preferred)+len(pod.Affinity.PreferredAnti) > 0
	for _, n := range s.Nodes() {
		if !own && !n.HasAffinity() {
			continue
		}
		for _, other := range n.Pods {
			a := &other.Affinity
			otherNamespace := s.NamespaceLabels(other.Namespace)
			for i := range pod.Affinity.Preferred {
				if term := &pod.Affinity.Preferred[i]; term.Matches(other.Pod, otherNamespace) {
					add(n, term, term.Weight)
				}
			}
			for i := range pod.Affinity.PreferredAnti {
				if term := &pod.Affinity.PreferredAnti[i]; term.Matches(other.Pod, otherNamespace) {
					add(n, term, -term.Weight)
				}
			}
			for i := range a.Required {
				if a.Required[i].Matches(pod.Pod, podNamespace) {
					add(n, &a.Required[i], hardWeight)
				}
			}
			for i := range a.Preferred {
				if a.Preferred[i].Matches(pod.Pod, podNamespace) {
					add(n, &a.Preferred[i], a.Preferred[i].Weight)
				}
			}
			for i := range a.PreferredAnti {
				if a.PreferredAnti[i].Matches(pod.Pod, podNamespace) {
					add(n, &a.PreferredAnti[i], -a.PreferredAnti[i].Weight)
				}
			}
		}
	}
	return scores
}
