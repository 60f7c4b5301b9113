package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// CDIKind is the kind of devices in the specification: a container asks for nvidia.com/gpu=UUID.
const CDIKind = "nvidia.com/gpu"

// cdiVersion is the oldest that has what is used here, among it device names that begin with a digit.
const cdiVersion = "0.5.0"

// CDISpec is a specification of the Container Device Interface, as far as GPUs need it.
type CDISpec struct {
	Version string      `json:"cdiVersion"`
	Kind    string      `json:"kind"`
	Devices []CDIDevice `json:"devices"`
	Edits   CDIEdits    `json:"containerEdits"` // for every container with any of the devices
}

// CDIDevice is a device by name.
type CDIDevice struct {
	Name  string   `json:"name"`
	Edits CDIEdits `json:"containerEdits"`
}

// CDIEdits are what a container gets.
type CDIEdits struct {
	Env         []string   `json:"env,omitempty"`
	DeviceNodes []CDINode  `json:"deviceNodes,omitempty"`
	Mounts      []CDIMount `json:"mounts,omitempty"`
}

// CDINode is a device file.
type CDINode struct {
	Path     string `json:"path"`
	HostPath string `json:"hostPath,omitempty"`
}

// CDIMount is a bind mount.
type CDIMount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Options       []string `json:"options"`
}

// CDI writes down what containers need of this machine: for each GPU and each MIG instance its device files,
// under its UUID and its index (0, or 0:1 for an instance), under "all" everything, and for every container
// the driver's libraries and programs. Root is where the host's file system is, "/" usually.
//
// No hook runs in the container, so nothing of NVIDIA's container toolkit is needed: each library is mounted
// under its SONAME in the folders that loaders search by default, Debian's and Red Hat's, and the cache of
// ld.so isn't rebuilt. Images with another libc, or that look elsewhere, must be told with LD_LIBRARY_PATH.
func (inv *Inventory) CDI(root string) (*CDISpec, error) {
	if inv.Unavailable != "" {
		return nil, fmt.Errorf("make the CDI specification: %s", inv.Unavailable)
	}
	h := hostFiles{root: root}
	spec := &CDISpec{Version: cdiVersion, Kind: CDIKind, Devices: []CDIDevice{}}
	spec.Edits.Env = []string{"NVIDIA_VISIBLE_DEVICES=void"}
	for _, node := range []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"} {
		if h.exists(node) {
			spec.Edits.DeviceNodes = append(spec.Edits.DeviceNodes, h.node(node))
		}
	}
	if len(spec.Edits.DeviceNodes) == 0 {
		return nil, errors.New("make the CDI specification: there is no /dev/nvidiactl; nvidia-modprobe -u -c 0 makes the device files")
	}
	mounts, err := h.libraries(inv.System.DriverVersion)
	if err != nil {
		return nil, err
	}
	spec.Edits.Mounts = append(mounts, h.programs()...)
	all := CDIEdits{}
	add := func(edits CDIEdits, names ...string) {
		for _, name := range names {
			spec.Devices = append(spec.Devices, CDIDevice{Name: name, Edits: edits})
		}
		for _, n := range edits.DeviceNodes {
			if !hasNode(all.DeviceNodes, n) {
				all.DeviceNodes = append(all.DeviceNodes, n)
			}
		}
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		if d.UUID == "" || d.Minor < 0 {
			continue
		}
		gpu := h.node(fmt.Sprintf("/dev/nvidia%d", d.Minor))
		if !d.MIG.Enabled {
			add(CDIEdits{DeviceNodes: []CDINode{gpu}}, d.UUID, strconv.Itoa(d.Index))
			continue
		}
		for j := range d.MIG.Instances {
			m := &d.MIG.Instances[j]
			caps, err := h.capabilities(d.Minor, m.GI, m.CI)
			if err != nil {
				return nil, err
			}
			add(CDIEdits{DeviceNodes: append([]CDINode{gpu}, caps...)}, m.UUID, fmt.Sprintf("%d:%d", d.Index, j))
		}
	}
	if len(all.DeviceNodes) > 0 {
		spec.Devices = append(spec.Devices, CDIDevice{Name: "all", Edits: all})
	}
	return spec, nil
}

func hasNode(nodes []CDINode, n CDINode) bool {
	for _, o := range nodes {
		if o == n {
			return true
		}
	}
	return false
}

// Write puts the specification into a folder that runtimes read, /var/run/cdi or /etc/cdi, in one step, and
// returns its path. The name has the vendor and the class, so that NVIDIA's own isn't overwritten.
func (s *CDISpec) Write(folder, owner string) (string, error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the CDI specification: %w", err)
	}
	path := filepath.Join(folder, owner+"-nvidia.com-gpu.json")
	if err := replaceFile(path, append(raw, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write the CDI specification: %w", err)
	}
	return path, nil
}
