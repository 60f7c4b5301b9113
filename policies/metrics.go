package policies

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the tallies when it is asked: calls pay nothing for metrics, and a policy that is removed takes its
// rows along.
type collector struct {
	host                               *Host
	calls, fuel, duration, open, ready *prometheus.Desc
}

func newCollector(h *Host) *collector {
	labels := []string{"kind", "policy"}
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("pintle_policy_"+name, help, append(labels[:2:2], more...), nil)
	}
	return &collector{
		host:     h,
		calls:    desc("calls_total", "Calls of a policy, by how they ended.", "result"),
		fuel:     desc("fuel_total", "Instructions that a policy's calls used."),
		duration: desc("duration_seconds", "How long a policy's calls took."),
		open:     desc("circuit_open", "1 while a policy isn't asked because it failed repeatedly."),
		ready:    desc("ready", "1 while a policy can be asked."),
	}
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.calls, c.fuel, c.duration, c.open, c.ready} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for key, p := range *c.host.policies.Load() {
		kind, t := string(key.kind), &p.tally
		send := func(d *prometheus.Desc, typ prometheus.ValueType, v float64, more ...string) {
			to <- prometheus.MustNewConstMetric(d, typ, v, append([]string{kind, key.name}, more...)...)
		}
		// Calls that end meanwhile may be counted in one of these and not yet in another.
		rejected, failed := t.rejections.Load(), t.errors.Load()
		send(c.calls, prometheus.CounterValue, float64(rejected), "rejected")
		send(c.calls, prometheus.CounterValue, float64(failed), "error")
		send(c.calls, prometheus.CounterValue, float64(max(t.calls.Load(), rejected+failed)-rejected-failed), "allowed")
		send(c.fuel, prometheus.CounterValue, float64(t.fuel.Load()))
		send(c.open, prometheus.GaugeValue, oneIf(p.breaker.open()))
		send(c.ready, prometheus.GaugeValue, oneIf(p.current.Load() != nil))
		var count uint64
		buckets := make(map[float64]uint64, len(bounds))
		for i := range t.buckets {
			count += t.buckets[i].Load()
			if i < len(bounds) {
				buckets[bounds[i].Seconds()] = count
			}
		}
		sum := time.Duration(t.nanos.Load()).Seconds()
		to <- prometheus.MustNewConstHistogram(c.duration, count, sum, buckets, kind, key.name)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
