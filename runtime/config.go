package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/runtime/cpus"
)

// Config says what an Agent is and what it works with. Client, NodeName and Engines are required.
type Config struct {
	// Client acts as system:node:NODENAME.
	Client   kubernetes.Interface
	NodeName string
	// DataDir holds volumes, logs and termination messages. "": a temporary folder that Run removes.
	DataDir string
	// VolumesDir holds the folders of the provisioner pintle.dev/local-path; "": DataDir/volumes. It is never removed.
	VolumesDir string
	// Engines run the containers. The first is the default; a pod goes to another one when its
	// RuntimeClass's handler is that engine's Name, or when its image holds a WASI module and
	// the engine's name is "wasm". The agent runs them: Run calls their Run.
	Engines []Engine
	// Devices; nil: the node has none.
	Devices Devices
	// CPUManagerPolicy is how CPUs are divided: CPUNone ("") shares all, CPUStatic gives containers of Guaranteed pods that ask
	// for whole CPUs these for themselves, near to their devices, with memory of the same NUMA nodes. ReservedCPUs are
	// then the system's, and not allocatable; 0: 1. Linux only.
	CPUManagerPolicy string
	ReservedCPUs     int
	// Drainer; nil: containers are signalled at once.
	Drainer Drainer

	ClusterDNS    []string // addresses for pods' resolv.conf; nil: pods get the host's
	ClusterDomain string   // "": cluster.local
	// PodCIDR is written to the Node's spec when it is registered and "" otherwise leaves it alone.
	PodCIDR string
	// Addresses of the node; nil: found from the machine's interfaces.
	Addresses []corev1.NodeAddress
	MaxPods   int               // 0: 110
	Labels    map[string]string // added to the Node's
	// Capacity overrides what is found on the machine, per resource.
	Capacity corev1.ResourceList
	// Port of the kubelet endpoint in the Node's status; 0: none, the API server dials another way.
	Port int32

	LogMaxBytes int64 // per log file before it is rotated, in bytes; 0: 10 MiB
	LogMaxFiles int   // per container; 0: 5
	// DrainTimeout bounds the wait for Drainer; 0: 2 s.
	DrainTimeout time.Duration
	// RefreshInterval is how often volumes of ConfigMaps, Secrets and the like are compared with
	// their objects, with up to a fifth of jitter; 0: 10 s.
	RefreshInterval time.Duration

	Logger  *slog.Logger // nil discards
	Clock   func() time.Time
	Metrics prometheus.Registerer // nil: none

	machine *cpus.Machine // nil: this one; for tests
}

// The policies for CPUs, with the kubelet's names.
const (
	CPUNone   = "none"
	CPUStatic = "static"
)

func (c *Config) complete() error {
	switch {
	case c.Client == nil:
		return errors.New("runtime: Config.Client is required")
	case c.NodeName == "":
		return errors.New("runtime: Config.NodeName is required")
	case len(c.Engines) == 0:
		return errors.New("runtime: Config.Engines needs at least one engine")
	}
	seen := map[string]bool{}
	for _, e := range c.Engines {
		if seen[e.Name()] {
			return fmt.Errorf("runtime: Config.Engines has %q twice", e.Name())
		}
		seen[e.Name()] = true
	}
	if c.DataDir != "" {
		dir, err := filepath.Abs(c.DataDir)
		if err != nil {
			return fmt.Errorf("runtime: Config.DataDir: %w", err)
		}
		c.DataDir = dir
	}
	if c.VolumesDir != "" {
		dir, err := filepath.Abs(c.VolumesDir)
		if err != nil {
			return fmt.Errorf("runtime: Config.VolumesDir: %w", err)
		}
		c.VolumesDir = dir
	}
	switch {
	case c.CPUManagerPolicy == "":
		c.CPUManagerPolicy = CPUNone
	case c.CPUManagerPolicy != CPUNone && c.CPUManagerPolicy != CPUStatic:
		return fmt.Errorf("runtime: Config.CPUManagerPolicy %q: give %s or %s", c.CPUManagerPolicy, CPUNone, CPUStatic)
	case c.ReservedCPUs < 0:
		return fmt.Errorf("runtime: Config.ReservedCPUs %d is negative", c.ReservedCPUs)
	}
	if c.CPUManagerPolicy == CPUStatic && c.ReservedCPUs == 0 {
		c.ReservedCPUs = 1
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.LogMaxBytes == 0 {
		c.LogMaxBytes = 10 << 20
	}
	if c.LogMaxFiles == 0 {
		c.LogMaxFiles = 5
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 2 * time.Second
	}
	if c.RefreshInterval == 0 {
		c.RefreshInterval = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return nil
}
