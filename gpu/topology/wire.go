package topology

import (
	"encoding/json"
	"fmt"
)

// What a node and whoever schedules tell each other, as annotations: the node what there is, the scheduler,
// with the binding, what it chose. Both are JSON.
const (
	NodeAnnotation = "gpu.pintle.dev/node"    // of a Node: a NodeGPUs
	PodAnnotation  = "gpu.pintle.dev/devices" // of a Pod: a list of Grants
)

// How a container asks for GPUs, in its limits: whole ones, of a machine whose GPUs are shared shares, as
// nvidia.com/gpu; MIG instances as nvidia.com/mig-<profile>; or a part of one by these two, of which either is enough.
const (
	GPUResource    = "nvidia.com/gpu"
	MIGPrefix      = "nvidia.com/mig-"
	ShareResource  = "gpu.pintle.dev/share"  // thousandths of a GPU
	MemoryResource = "gpu.pintle.dev/memory" // bytes of a GPU's memory

	// SoftAnnotation, "true" on a pod, says that a memory limit that nothing enforces is enough.
	SoftAnnotation = "gpu.pintle.dev/soft"
)

// Grant is one device, or a part of one, for one container.
type Grant struct {
	Container string `json:"container,omitempty"` // "": every container of the pod
	GPU       string `json:"gpu"`                 // UUID

	// MIG is the UUID of an instance that exists. Or Profile and Start ask for one that is made for the pod
	// and destroyed with its claim; MIG is then filled in.
	MIG     string `json:"mig,omitempty"`
	Profile string `json:"profile,omitempty"`
	Start   int    `json:"start,omitempty"` // the memory slice where it begins

	// Share, in thousandths of the GPU, and Memory, in bytes, are for the mode Fractions. Without Memory it is
	// the share's part of the GPU's. The driver enforces memory where it can (NodeGPU.MemoryLimits); nothing enforces the share of time.
	Share  int   `json:"share,omitempty"`
	Memory int64 `json:"memory,omitempty"`
	// Soft says that a memory limit that nothing enforces is enough.
	Soft bool `json:"soft,omitempty"`

	// Claim is the namespace/name of the ResourceClaim that the device comes from, "" where it is none. The claim holds
	// the device then, and not the pod: several pods may share it, and it may outlive them.
	Claim string `json:"claim,omitempty"`
}

// Device is the UUID of what is given: the MIG instance's, or the GPU's.
func (g Grant) Device() string {
	if g.MIG != "" {
		return g.MIG
	}
	return g.GPU
}

// Part is what the grant takes of a GPU with that much memory that is shared by fractions.
func (g Grant) Part(gpuMemory int64) Share {
	memory := g.Memory
	if memory == 0 {
		memory = gpuMemory / Whole * int64(max(0, g.Share))
	}
	return Share{Milli: g.Share, Memory: memory}
}

// ParseGrants reads a PodAnnotation; of "" it makes none.
func ParseGrants(annotation string) (grants []Grant, err error) {
	return grants, parse(PodAnnotation, annotation, &grants)
}

// FormatGrants writes a PodAnnotation.
func FormatGrants(grants []Grant) string { return format(grants) }

// NodeGPUs is what a node says of its GPUs: all that the choice of devices needs.
type NodeGPUs struct {
	// Mode is how the GPUs are shared, as gpu.SharingMode has it; Replicas by how many pods, where they take turns or
	// share by MPS.
	Mode     string    `json:"mode,omitempty"`
	Replicas int       `json:"replicas,omitempty"`
	GPUs     []NodeGPU `json:"gpus,omitempty"`
	// Links are the scores (Link.Score) of pairs i < j of GPUs, row by row: 0-1, 0-2, … 1-2 …
	Links []int `json:"links,omitempty"`
}

// NodeGPU is one GPU of a node.
type NodeGPU struct {
	UUID   string `json:"uuid"`
	Model  string `json:"model,omitempty"`
	Memory int64  `json:"memory,omitempty"` // bytes
	NUMA   int    `json:"numa"`             // -1: unknown
	// Unhealthy says why it must not be used; "": it may.
	Unhealthy string `json:"unhealthy,omitempty"`
	// MemoryLimits says that the driver keeps pods to an amount of memory.
	MemoryLimits bool `json:"memoryLimits,omitempty"`

	// Divided says that the GPU is in MIG mode: it is none of nvidia.com/gpu. Layout is then what it can be
	// divided into, Instances those that exist; one made for a pod is there as long as the pod.
	Divided   bool           `json:"divided,omitempty"`
	Layout    Layout         `json:"layout,omitempty"`
	Instances []NodeInstance `json:"instances,omitempty"`
}

// NodeInstance is a MIG instance of a node.
type NodeInstance struct {
	UUID      string    `json:"uuid"`
	Profile   string    `json:"profile"`
	Placement Placement `json:"placement"`
	Unhealthy string    `json:"unhealthy,omitempty"`
	// Transient says that it was made for a pod and goes with it.
	Transient bool `json:"transient,omitempty"`
}

// ParseNodeGPUs reads a NodeAnnotation; of "" it makes an empty one.
func ParseNodeGPUs(annotation string) (n NodeGPUs, err error) {
	return n, parse(NodeAnnotation, annotation, &n)
}

// Format writes a NodeAnnotation.
func (n *NodeGPUs) Format() string { return format(n) }

func parse(name, annotation string, into any) error {
	if annotation == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(annotation), into); err != nil {
		return fmt.Errorf("annotation %s: %w", name, err)
	}
	return nil
}

func format(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("topology: " + err.Error()) // these types have no value that JSON can't hold
	}
	return string(b)
}
