package podautoscaler

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/pintle/pintle/orchestrator/api"
)

// recommendation is a size that the metrics asked for at some time.
type recommendation struct {
	at       time.Time
	replicas int32
}

// step is a change of the size that was made at some time.
type step struct {
	at     time.Time
	change int32 // above 0: how many were added
}

// history is what an autoscaler remembers of its recent past.
type history struct {
	recommendations []recommendation
	steps           []step
}

// The longest that rules may look back: what is older is forgotten.
const (
	longestStabilization = time.Hour
	longestPeriod        = 30 * time.Minute
)

// forget drops what no rule looks back on any more.
func (h history) forget(now time.Time) history {
	return history{
		recommendations: slices.DeleteFunc(slices.Clone(h.recommendations), func(r recommendation) bool { return now.Sub(r.at) > longestStabilization }),
		steps:           slices.DeleteFunc(slices.Clone(h.steps), func(s step) bool { return now.Sub(s.at) > longestPeriod }),
	}
}

// rules are an autoscaler's behaviour with its defaults.
type rules struct {
	up, down             autoscalingv2.HPAScalingRules
	upWindow, downWindow time.Duration
	tolerances           tolerances
}

// rulesOf fills in the controller's defaults: a window for scaling down, and tolerances.
func rulesOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior, downWindow time.Duration, tolerance float64) rules {
	r := rules{up: api.DefaultHPAScaleUp(), down: api.DefaultHPAScaleDown(), downWindow: downWindow, tolerances: tolerances{tolerance, tolerance}}
	if b == nil {
		return r
	}
	if b.ScaleUp != nil {
		r.up = *b.ScaleUp
		if w := b.ScaleUp.StabilizationWindowSeconds; w != nil {
			r.upWindow = time.Duration(*w) * time.Second
		}
		if t := b.ScaleUp.Tolerance; t != nil {
			r.tolerances.up = t.AsApproximateFloat64()
		}
	}
	if b.ScaleDown != nil {
		r.down = *b.ScaleDown
		if w := b.ScaleDown.StabilizationWindowSeconds; w != nil {
			r.downWindow = time.Duration(*w) * time.Second
		}
		if t := b.ScaleDown.Tolerance; t != nil {
			r.tolerances.down = t.AsApproximateFloat64()
		}
	}
	return r
}

// stabilized is what of a desired size the recommendations of the windows allow: no more than the lowest of the one for
// scaling up, no less than the highest of the one for scaling down.
func (r rules) stabilized(h history, desired, current int32, now time.Time) int32 {
	up, down := desired, desired
	for _, one := range h.recommendations {
		if now.Sub(one.at) < r.upWindow {
			up = min(up, one.replicas)
		}
		if now.Sub(one.at) < r.downWindow {
			down = max(down, one.replicas)
		}
	}
	return min(max(current, up), down)
}

// limits are the most and the fewest replicas that the policies allow now.
func (r rules) limits(h history, current int32, now time.Time) (most, fewest int32) {
	most = limit(r.up, h, current, now, func(start int32, p autoscalingv2.HPAScalingPolicy) float64 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return float64(start) + float64(p.Value)
		}
		return math.Ceil(float64(start)*(1+float64(p.Value)/100) - 1e-9)
	}, true)
	fewest = limit(r.down, h, current, now, func(start int32, p autoscalingv2.HPAScalingPolicy) float64 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return float64(start) - float64(p.Value)
		}
		return math.Floor(float64(start)*(1-float64(p.Value)/100) + 1e-9)
	}, false)
	return max(most, current), max(min(fewest, current), 0)
}

// limit is the policies' choice. Each counts from the size at the start of its period.
func limit(rules autoscalingv2.HPAScalingRules, h history, current int32, now time.Time, propose func(start int32, p autoscalingv2.HPAScalingPolicy) float64, up bool) int32 {
	selected := autoscalingv2.MaxChangePolicySelect
	if rules.SelectPolicy != nil {
		selected = *rules.SelectPolicy
	}
	if selected == autoscalingv2.DisabledPolicySelect || len(rules.Policies) == 0 {
		return current
	}
	largest := up == (selected == autoscalingv2.MaxChangePolicySelect) // of the proposed sizes
	var out float64
	for i, p := range rules.Policies {
		start := current
		for _, s := range h.steps {
			if now.Sub(s.at) < time.Duration(p.PeriodSeconds)*time.Second {
				start -= s.change
			}
		}
		n := propose(start, p)
		switch {
		case i == 0:
			out = n
		case largest:
			out = max(out, n)
		default:
			out = min(out, n)
		}
	}
	return int32(min(max(out, math.MinInt32), math.MaxInt32))
}
