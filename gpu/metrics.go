package gpu

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/gpu/device"
)

// Metrics carry the names, units and labels of NVIDIA's DCGM exporter, so that its dashboards and alerts
// work. A label that doesn't apply is empty, which Prometheus takes as absent. A GPU that several pods share
// has a series for each, with the figures of the whole GPU.

var metricLabels = []string{"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION", "GPU_I_PROFILE", "GPU_I_ID", "container", "namespace", "pod"}

// figure is one metric: what of a reading it shows; false where the GPU doesn't tell.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(d *Device, r *device.Reading) (float64, bool)
}

type collector struct {
	m         *Manager
	figures   []figure
	xid       *prometheus.Desc
	unhealthy *prometheus.Desc
	used      *prometheus.Desc
	free      *prometheus.Desc
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, metricLabels, nil)
}

func get[T uint32 | uint64](v *T) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v), true
}

func scaled[T uint32 | uint64](v *T, by float64) (float64, bool) {
	f, ok := get(v)
	return f * by, ok
}

const mebibyte = 1.0 / (1 << 20)

func newCollector(m *Manager) *collector {
	c := &collector{m: m,
		xid:       desc("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered."),
		unhealthy: prometheus.NewDesc("pintle_gpu_unhealthy", "1 for each reason for which a GPU should not be used.", append(slices.Clone(metricLabels), "reason"), nil),
		used:      desc("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)."),
		free:      desc("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)."),
	}
	gauge := func(name, help string, value func(*Device, *device.Reading) (float64, bool)) {
		c.figures = append(c.figures, figure{desc(name, help), prometheus.GaugeValue, value})
	}
	counter := func(name, help string, value func(*Device, *device.Reading) (float64, bool)) {
		c.figures = append(c.figures, figure{desc(name, help), prometheus.CounterValue, value})
	}
	gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.SMClock) })
	gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.MemClock) })
	gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.Temperature) })
	gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.MemoryTemperature) })
	gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", func(_ *Device, r *device.Reading) (float64, bool) { return scaled(r.Power, 0.001) })
	counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.Energy) })
	counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.PCIeReplays) })
	gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.GPUUtil) })
	gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.MemUtil) })
	gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.EncUtil) })
	gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.DecUtil) })
	gauge("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", func(_ *Device, r *device.Reading) (float64, bool) { return scaled(r.MemoryReserved, mebibyte) })
	counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "Total number of single-bit volatile ECC errors.", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.ECCCorrected) })
	counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Total number of double-bit volatile ECC errors.", func(_ *Device, r *device.Reading) (float64, bool) { return get(r.ECCUncorrected) })
	rows := func(of func(*device.RemappedRows) float64) func(*Device, *device.Reading) (float64, bool) {
		return func(_ *Device, r *device.Reading) (float64, bool) {
			if r.Rows == nil {
				return 0, false
			}
			return of(r.Rows), true
		}
	}
	counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Number of remapped rows for uncorrectable errors", rows(func(r *device.RemappedRows) float64 { return float64(r.Uncorrectable) }))
	counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Number of remapped rows for correctable errors", rows(func(r *device.RemappedRows) float64 { return float64(r.Correctable) }))
	gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed", rows(func(r *device.RemappedRows) float64 {
		if r.Failed {
			return 1
		}
		return 0
	}))
	links := func(of func(device.LinkErrors) uint64) func(*Device, *device.Reading) (float64, bool) {
		return func(_ *Device, r *device.Reading) (float64, bool) {
			total := uint64(0)
			for _, l := range r.LinkErrors {
				total += of(l)
			}
			return float64(total), len(r.LinkErrors) > 0
		}
	}
	counter("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "Total number of NVLink flow-control CRC errors.", links(func(l device.LinkErrors) uint64 { return l.CRCFlits }))
	counter("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "Total number of NVLink retries.", links(func(l device.LinkErrors) uint64 { return l.Replay }))
	counter("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "Total number of NVLink recovery errors.", links(func(l device.LinkErrors) uint64 { return l.Recovery }))
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
	for _, d := range []*prometheus.Desc{c.xid, c.unhealthy, c.used, c.free} {
		out <- d
	}
}

// Collect implements prometheus.Collector. It asks no driver: the figures are the newest reading's.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	inv := c.m.Inventory()
	claims := c.m.Claims()
	c.m.mu.Lock()
	xids := make(map[string]uint64, len(c.m.xids))
	for uuid, xid := range c.m.xids {
		xids[uuid] = xid
	}
	c.m.mu.Unlock()
	for i := range inv.Devices {
		d := &inv.Devices[i]
		if d.UUID == "" {
			continue
		}
		for _, labels := range c.labels(inv, d, nil, claims) {
			send := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
				out <- constant(desc, kind, v, append(slices.Clone(labels), more...)...)
			}
			send(c.xid, prometheus.GaugeValue, float64(xids[d.UUID]))
			for _, kind := range reasonKinds(d.Reasons) {
				send(c.unhealthy, prometheus.GaugeValue, 1, string(kind))
			}
			if d.Reading == nil || d.Problem != "" {
				continue // old figures of a lost GPU would look alive
			}
			for _, f := range c.figures {
				if v, ok := f.value(d, d.Reading); ok {
					send(f.desc, f.kind, v)
				}
			}
			if v, ok := scaled(d.Reading.MemoryUsed, mebibyte); ok {
				send(c.used, prometheus.GaugeValue, v)
			}
			if v, ok := scaled(d.Reading.MemoryFree, mebibyte); ok {
				send(c.free, prometheus.GaugeValue, v)
			}
		}
		c.instances(inv, d, claims, out)
	}
}

func (c *collector) instances(inv *Inventory, d *Device, claims []Claim, out chan<- prometheus.Metric) {
	if d.Reading == nil || d.Problem != "" {
		return
	}
	for i := range d.MIG.Instances {
		m := &d.MIG.Instances[i]
		memory, ok := d.Reading.MIGMemory[m.UUID]
		if !ok {
			continue
		}
		for _, labels := range c.labels(inv, d, m, claims) {
			out <- constant(c.used, prometheus.GaugeValue, float64(memory.Used)*mebibyte, labels...)
			out <- constant(c.free, prometheus.GaugeValue, float64(memory.Free)*mebibyte, labels...)
		}
	}
}

// constant is a metric, or, with a label that is no UTF-8, the error in its place.
func constant(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) prometheus.Metric {
	metric, err := prometheus.NewConstMetric(desc, kind, v, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return metric
}

func reasonKinds(reasons []Reason) []ReasonKind {
	var out []ReasonKind
	for _, r := range reasons {
		if !slices.Contains(out, r.Kind) {
			out = append(out, r.Kind)
		}
	}
	return out
}

// labels are the label values of a GPU or an instance, once for each container that has it, or once without.
func (c *collector) labels(inv *Inventory, d *Device, m *device.MIGInstance, claims []Claim) [][]string {
	base := []string{strconv.Itoa(d.Index), d.UUID, d.PCI.BusID, fmt.Sprintf("nvidia%d", d.Minor), d.Name, c.m.cfg.Host, inv.System.DriverVersion, "", ""}
	if m != nil {
		base[7], base[8] = m.Profile, strconv.Itoa(m.GI)
	}
	var out [][]string
	for _, claim := range claims {
		namespace, name := podName(claim)
		var seen []string
		for _, g := range claim.Grants {
			mine := m == nil && g.MIG == "" && g.Profile == "" && g.GPU == d.UUID || m != nil && g.MIG == m.UUID
			if mine && !slices.Contains(seen, g.Container) {
				seen = append(seen, g.Container)
				out = append(out, append(slices.Clone(base), g.Container, namespace, name))
			}
		}
	}
	if out == nil {
		out = append(out, append(base, "", "", ""))
	}
	return out
}

// Collector collects the metrics for another registry than Config.Metrics: the node shows its pods' there.
func (m *Manager) Collector() prometheus.Collector { return newCollector(m) }

// registerMetrics registers for as long as Run runs.
func (m *Manager) registerMetrics() (unregister func(), err error) {
	if m.cfg.Metrics == nil {
		return func() {}, nil
	}
	c := newCollector(m)
	if err := m.cfg.Metrics.Register(c); err != nil {
		return nil, fmt.Errorf("register the GPU metrics: %w", err)
	}
	return func() { m.cfg.Metrics.Unregister(c) }, nil
}
