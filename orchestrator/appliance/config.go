package appliance

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/controllers/consolidation"
	"github.com/pintle/pintle/orchestrator/metrics"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/runtime"
)

// Engine names what runs containers.
type Engine string

// The engines. Auto takes containerd where it can run.
const (
	Auto       Engine = ""
	Containerd Engine = "containerd"
	Wasm       Engine = "wasm"
)

// Config is what an Appliance needs. DataDir is required.
type Config struct {
	Name    string // cluster name, a DNS label; "" means "pintle"
	DataDir string // all state lives here
	Node    string // the node's name; "" is the machine's host name

	// Address is the API's TLS port; "" is ":6443". ":0" picks a free one.
	Address string
	// HTTPAddress and HTTPSAddress are the ingress's; "" is ":80" and ":443" with containerd, and free
	// ports of 127.0.0.1 with wasm. A port that is taken is an error.
	HTTPAddress, HTTPSAddress string

	// Join makes this appliance part of a cluster that is there: a member of the control plane with a node of its own,
	// or, with Worker, a node alone. The token is for the one or the other. Nil starts a cluster, or goes on with
	// that of the data folder. What a node that joins makes on its machine (containerd namespace, cgroups, bridge,
	// nft table) is named for the cluster and the node, so that nodes of one cluster may share a kernel.
	Join   *orchestrator.Join
	Worker bool
	// MemberAddress is where the other members and the nodes reach this one's port, "host:port"; "" is found as
	// orchestrator.Config says.
	MemberAddress string
	// NodeAddress is the node's address, over which other nodes reach its pods. Zero: the machine's first.
	NodeAddress netip.Addr

	Engine Engine
	// ContainerdAddress is the socket of a containerd that is there; "" runs a private one.
	ContainerdAddress string
	// PodCIDR and ServiceCIDR are the cluster's networks. Zero: chosen by the cluster's name so that
	// they collide neither with the machine's networks nor, most likely, with another appliance's, and
	// remembered in DataDir.
	PodCIDR, ServiceCIDR netip.Prefix

	// KeyProvider seals the stored state, and Backups backs it up: see orchestrator.Config.
	KeyProvider raftstore.KeyProvider
	Backups     raftstore.BackupSchedule

	// GPUs are the node's: gpus.Config{}, of the package orchestrator/appliance/gpus, are those of NVIDIA that the machine
	// has. Nil: pods get none, and the program links nothing for them.
	GPUs DeviceMaker
	// Devices are the node's in place of GPUs; nil: none.
	Devices runtime.Devices
	// CPUManagerPolicy and ReservedCPUs are runtime.Config's: "static" gives Guaranteed pods that ask for whole CPUs these
	// for themselves, on the NUMA nodes of their GPUs.
	CPUManagerPolicy string
	ReservedCPUs     int
	// VolumesDir holds the folders that claims of the class local-path are given, on a disk of their own perhaps; "" is below
	// DataDir. It isn't removed with anything but the claims.
	VolumesDir string
	// MaxPods is how many pods the node takes; 0 is 110.
	MaxPods int

	// Consolidation moves pods that have parts of GPUs together where pods wait for whole ones. The zero value: never.
	Consolidation consolidation.Config

	Admission registry.Admitter // asked before the policies; nil: none

	// PolicyAdapters run modules of other ABIs than pintle/v1; nil: Kubewarden's, kube-scheduler's and OPA's do, see
	// policies/compat. PolicyFiles holds the modules that the program brings along. What is compiled lies in the folder
	// policies of DataDir.
	PolicyAdapters []policies.Adapter
	PolicyFiles    fs.FS
	Policy         scheduler.Policy // takes part in scheduling in place of those; nil: they do

	// HPASync, CustomMetrics and ExternalMetrics are the autoscalers': see orchestrator.Config.
	HPASync         time.Duration
	CustomMetrics   metrics.Custom
	ExternalMetrics metrics.External

	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none. What Run registers there it takes out again at its end

	// host is what links, tables, cgroups and folders on this machine are named for: see hostName.
	host string
}

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "pintle"
	}
	if c.DataDir == "" {
		return c, errors.New("appliance: Config.DataDir is empty: say where its state shall live")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, fmt.Errorf("appliance: Config.DataDir: %w", err)
	}
	c.DataDir = dir
	if c.Node == "" {
		if c.Node, err = os.Hostname(); err != nil {
			return c, fmt.Errorf("appliance: the machine has no host name: set Config.Node: %w", err)
		}
		c.Node = strings.ToLower(c.Node)
	}
	if c.Worker && c.Join == nil {
		return c, errors.New("appliance: Config.Worker needs Config.Join: say which cluster to work for")
	}
	if c.Join != nil && len(c.Join.Addresses) == 0 {
		return c, errors.New("appliance: Config.Join.Addresses is empty: name a member of the control plane")
	}
	if c.GPUs != nil && c.Devices != nil {
		return c, errors.New("appliance: Config.GPUs and Config.Devices are both set: give one")
	}
	if c.Address == "" {
		c.Address = ":6443"
	}
	switch c.Engine {
	case Auto, Containerd, Wasm:
	default:
		return c, fmt.Errorf("appliance: Config.Engine %q: give containerd, wasm, or nothing", c.Engine)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// ingressAddresses are the defaults of an engine where the config says nothing.
func (c Config) ingressAddresses(wasm bool) (http, https string) {
	http, https = c.HTTPAddress, c.HTTPSAddress
	if http == "" {
		if http = ":80"; wasm {
			http = "127.0.0.1:0"
		}
	}
	if https == "" {
		if https = ":443"; wasm {
			https = "127.0.0.1:0"
		}
	}
	return http, https
}

// dnsServiceIP is where pods ask for names.
func (c Config) dnsServiceIP() netip.Addr { return orchestrator.DNSServiceIP(c.ServiceCIDR) }
