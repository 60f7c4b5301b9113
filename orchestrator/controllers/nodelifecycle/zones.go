package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Rates bound how fast nodes that are not healthy lose their pods, as
// https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction describes. The zero value is
// Kubernetes' defaults.
type Rates struct {
	Eviction           float64 // nodes a second in each zone; 0 is 0.1
	SecondaryEviction  float64 // in a large zone of which too much is unhealthy; 0 is 0.01
	UnhealthyThreshold float64 // the share of a zone's nodes that is too much; 0 is 0.55
	LargeCluster       int     // zones of more nodes are large; small ones stop evicting; 0 is 50
}

func (r Rates) withDefaults() Rates {
	set := func(v *float64, to float64) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&r.Eviction, 0.1)
	set(&r.SecondaryEviction, 0.01)
	set(&r.UnhealthyThreshold, 0.55)
	if r.LargeCluster <= 0 {
		r.LargeCluster = 50
	}
	return r
}

// zoneOf is where a node is: nodes of one zone tend to be lost together.
func zoneOf(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + "/" + n.Labels[corev1.LabelTopologyZone]
}

// labelExclude takes a node out of how its zone is.
const labelExclude = "node.kubernetes.io/exclude-disruption"

// zone is how its nodes are.
type zone struct{ ready, notReady int }

func countZones(nodes []*corev1.Node) map[string]zone {
	zones := map[string]zone{}
	for _, n := range nodes {
		if _, excluded := n.Labels[labelExclude]; excluded {
			continue
		}
		z := zones[zoneOf(n)]
		if r := ready(n); r != nil && r.Status == corev1.ConditionTrue {
			z.ready++
		} else {
			z.notReady++
		}
		zones[zoneOf(n)] = z
	}
	return zones
}

// decideRates is how many nodes a second may lose their pods in each zone. Where no node of the whole cluster is
// healthy it is none: then it is likelier that the control plane is cut off.
func decideRates(zones map[string]zone, r Rates) (rates map[string]float64, allLost bool) {
	rates, allLost = map[string]float64{}, true
	for name, z := range zones {
		full := z.ready == 0 && z.notReady > 0
		allLost = allLost && full
		switch {
		case full: // the zone is lost, and its pods are wanted elsewhere
			rates[name] = r.Eviction
		case z.notReady > 2 && float64(z.notReady)/float64(z.notReady+z.ready) >= r.UnhealthyThreshold:
			if z.ready+z.notReady > r.LargeCluster {
				rates[name] = r.SecondaryEviction
			}
		default:
			rates[name] = r.Eviction
		}
	}
	if allLost = allLost && len(zones) > 0; allLost {
		clear(rates)
	}
	return rates, allLost
}

// pace is a zone's allowance: one node now, and the next after a while.
type pace struct {
	rate float64
	last time.Time // when a node used it
}

// take uses the allowance if there is one, and says when to ask again otherwise.
func (p *pace) take(rate float64, now time.Time) (ok bool, again time.Duration) {
	p.rate = rate
	if rate <= 0 {
		return false, recheck
	}
	if left := p.last.Add(time.Duration(float64(time.Second) / rate)).Sub(now); !p.last.IsZero() && left > 0 {
		return false, min(left, recheck)
	}
	p.last = now
	return true, 0
}
