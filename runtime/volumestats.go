package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/runtime/claims"
	"github.com/pintle/pintle/runtime/csi"
)

// volumeStatsAge is how long statistics of volumes are kept: to get them, folders may have to be walked.
const volumeStatsAge = time.Minute

// volumeStats gathers what claims' volumes hold, with the kubelet's metrics.
type volumeStats struct {
	a       *Agent
	metrics []volumeMetric

	asked chan struct{} // holds one question

	mu   sync.Mutex
	at   time.Time
	last []csi.Stats
	news chan struct{} // closed when last is replaced
}

// volumeStatsWait is how long a question waits for statistics that are being gathered; then the last ones have to do.
const volumeStatsWait = 2 * time.Second

func newVolumeStats(a *Agent) *volumeStats {
	return &volumeStats{a: a, metrics: volumeMetrics(), asked: make(chan struct{}, 1), news: make(chan struct{})}
}

// run gathers when somebody asks, until ctx ends. Whoever asks doesn't wait for a folder of millions of files, or for a driver
// that hangs.
func (v *volumeStats) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.asked:
		}
		all := v.gather(ctx)
		v.mu.Lock()
		v.last, v.at = all, time.Now()
		close(v.news)
		v.news = make(chan struct{})
		v.mu.Unlock()
	}
}

// volumeMetric is one of the metrics, and which of the statistics it is.
type volumeMetric struct {
	desc *prometheus.Desc
	of   func(csi.Stats) int64
}

func volumeMetrics() []volumeMetric {
	return []volumeMetric{
		{volumeDesc("capacity_bytes", "Capacity in bytes of the volume"), func(s csi.Stats) int64 { return s.Capacity }},
		{volumeDesc("available_bytes", "Number of available bytes in the volume"), func(s csi.Stats) int64 { return s.Available }},
		{volumeDesc("used_bytes", "Number of used bytes in the volume"), func(s csi.Stats) int64 { return s.Used }},
		{volumeDesc("inodes", "Maximum number of inodes in the volume"), func(s csi.Stats) int64 { return s.Inodes }},
		{volumeDesc("inodes_free", "Number of free inodes in the volume"), func(s csi.Stats) int64 { return s.InodesFree }},
		{volumeDesc("inodes_used", "Number of used inodes in the volume"), func(s csi.Stats) int64 { return s.InodesUsed }},
	}
}

func volumeDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("kubelet_volume_stats_"+name, help, []string{"namespace", "persistentvolumeclaim"}, nil)
}

// Describe implements prometheus.Collector.
func (v *volumeStats) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range v.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (v *volumeStats) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, s := range v.get(ctx) {
		for _, m := range v.metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(m.of(s)), s.Namespace, s.Claim)
		}
	}
}

// get returns the statistics, of a minute ago or, where gathering takes long, older ones.
func (v *volumeStats) get(ctx context.Context) []csi.Stats {
	v.mu.Lock()
	last, old, news := v.last, time.Since(v.at) >= volumeStatsAge, v.news
	v.mu.Unlock()
	if !old {
		return last
	}
	select {
	case v.asked <- struct{}{}:
	default:
	}
	t := time.NewTimer(volumeStatsWait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-news:
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

func (v *volumeStats) gather(ctx context.Context) (out []csi.Stats) {
	seen := map[string]bool{}
	add := func(s csi.Stats) {
		if key := s.Namespace + "/" + s.Claim; s.Claim != "" && !seen[key] {
			seen[key] = true
			out = append(out, s)
		}
	}
	v.a.mu.Lock()
	folders, drivers := v.a.folders, v.a.csi
	v.a.mu.Unlock()
	if drivers != nil {
		for _, s := range drivers.Usage(ctx) {
			add(s)
		}
	}
	for _, w := range v.a.allWorkers() {
		pod := w.pod()
		for i := range pod.Spec.Volumes {
			name, _, ok := claims.Of(pod, &pod.Spec.Volumes[i])
			if !ok {
				continue
			}
			m, ok := w.provided.get(pod.Spec.Volumes[i].Name)
			if !ok || m.path == "" || m.driver {
				continue
			}
			s := csi.Stats{Namespace: pod.Namespace, Claim: name}
			total, free, inodes, inodesFree, err := filesystem(m.path)
			if err != nil {
				continue
			}
			s.Capacity, s.Available, s.Used = total, free, total-free
			s.Inodes, s.InodesFree, s.InodesUsed = inodes, inodesFree, inodes-inodesFree
			if folders != nil {
				// A folder of the provisioner's has a size of its own.
				if used, limit, ok := folders.Usage(ctx, m.volume); ok {
					s.Capacity, s.Used, s.Available = limit, used, max(0, min(limit-used, free))
				}
			}
			add(s)
		}
	}
	return out
}

// tellOverCapacity says, once a time, which claims hold more than they asked for: no quota keeps them from it.
func (a *Agent) tellOverCapacity(ctx context.Context) {
	said := map[string]bool{}
	for sleep(ctx, 5*volumeStatsAge) {
		now := map[string]bool{}
		for _, s := range a.volumeStats.get(ctx) {
			if s.Capacity <= 0 || s.Used <= s.Capacity {
				continue
			}
			key := s.Namespace + "/" + s.Claim
			if now[key] = true; !said[key] {
				a.events.send(corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: s.Namespace, Name: s.Claim}, corev1.EventTypeWarning,
					"VolumeOverCapacity", "The volume holds more than the claim asked for, and the node's filesystem has no quota that would keep it from that")
			}
		}
		said = now
	}
}

// podVolume is a claim's volume in the kubelet's summary.
type podVolume struct {
	Name       string    `json:"name"`
	Claim      claimRef  `json:"pvcRef"`
	Time       time.Time `json:"time"`
	Capacity   int64     `json:"capacityBytes"`
	Used       int64     `json:"usedBytes"`
	Available  int64     `json:"availableBytes"`
	Inodes     int64     `json:"inodes"`
	InodesUsed int64     `json:"inodesUsed"`
	InodesFree int64     `json:"inodesFree"`
}

type claimRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// podVolumes are the claims' volumes of a pod, by all statistics.
func (a *Agent) podVolumes(pod *corev1.Pod, all []csi.Stats) (out []podVolume) {
	for i := range pod.Spec.Volumes {
		claim, _, ok := claims.Of(pod, &pod.Spec.Volumes[i])
		if !ok {
			continue
		}
		for _, s := range all {
			if s.Namespace == pod.Namespace && s.Claim == claim {
				out = append(out, podVolume{pod.Spec.Volumes[i].Name, claimRef{claim, pod.Namespace}, a.cfg.Clock(), s.Capacity, s.Used, s.Available, s.Inodes, s.InodesUsed, s.InodesFree})
			}
		}
	}
	return out
}
