package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pintle/pintle/runtime/nodeapi"
)

// Sentinel errors of engines. Engines wrap them with what they were doing.
var (
	ErrNotFound      = errors.New("not found")       // no such sandbox or container
	ErrImageNotFound = errors.New("image not found") // the image is not in the local store
	ErrImageFormat   = errors.New("image has no variant that this engine can run")
)

// Engine runs the containers of pods. The agent decides what should run; an engine acts.
// runtime/containerd and runtime/wasm implement it.
//
// All methods are safe for concurrent use, idempotent where they say so, and return when the
// thing is done or ctx ends. State of an engine survives a restart of the agent where the
// containers do: Sandboxes and Containers list what is there, with the labels it was created with.
type Engine interface {
	// Name is "containerd" or "wasm".
	Name() string
	// Run serves until ctx ends and returns when everything it started has ended. Containers of an
	// engine that can keep them (containerd) run on.
	Run(ctx context.Context) error
	// Ready is closed when the engine can be used.
	Ready() <-chan struct{}
	// Version is what kubectl get nodes -o wide prints, "containerd://1.6.20" say.
	Version() string

	// Image returns the image that ref names in the local store, or ErrImageNotFound.
	Image(ctx context.Context, ref string) (Image, error)
	Images(ctx context.Context) ([]Image, error)
	// ImportImages loads an OCI or Docker archive (tar, optionally gzipped).
	ImportImages(ctx context.Context, archive io.Reader) ([]Image, error)

	// CreateSandbox makes the namespaces that the pod's containers share, attaches the network and
	// returns its addresses. Idempotent by SandboxSpec.ID: a sandbox that is there is returned.
	// What a failure or a kill in the middle leaves behind RemoveSandbox removes.
	CreateSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error)
	// RemoveSandbox kills and removes its containers, detaches the network and removes everything. Idempotent.
	RemoveSandbox(ctx context.Context, id string) error
	Sandboxes(ctx context.Context) ([]Sandbox, error)

	// CreateContainer prepares a container in a sandbox, without starting it. Idempotent by ContainerSpec.ID.
	CreateContainer(ctx context.Context, spec ContainerSpec) error
	// StartContainer starts it. One that can't run is Exited afterwards, with code 128 and the error as its
	// message; after a failure of the engine itself it is Created still, and may be started again.
	StartContainer(ctx context.Context, id string) error
	// SignalContainer sends a signal ("SIGTERM") to the container's first process, or with "SIGKILL" to all.
	// A container that is not running is no error.
	SignalContainer(ctx context.Context, id, signal string) error
	// RemoveContainer kills it if need be and removes it, its writable layer included. Idempotent.
	RemoveContainer(ctx context.Context, id string) error
	Containers(ctx context.Context) ([]Container, error)
	// Events delivers a ContainerEvent for each exit, OOM and start until ctx ends. Exits that happened
	// while nobody listened are seen by Containers. The channel closes when ctx ends or the engine's
	// connection broke; the agent then lists and subscribes again.
	Events(ctx context.Context) (<-chan ContainerEvent, error)

	// Exec runs a command in a running container and returns its exit code.
	Exec(ctx context.Context, id string, cmd []string, s Streams) (exitCode int, err error)
	// Attach connects to the first process's streams until it exits or ctx ends.
	Attach(ctx context.Context, id string, s Streams) error
	// Dial connects to a TCP port inside the sandbox, for port-forward and probes.
	Dial(ctx context.Context, sandboxID string, port uint16) (net.Conn, error)
	// Stats returns what the containers use now.
	Stats(ctx context.Context, id string) (Stats, error)
}

// Image is an image in the local store.
type Image struct {
	ID     string   // config digest, "sha256:…"
	Digest string   // manifest digest
	Names  []string // references that name it
	Size   int64    // bytes
	User   string   // as in the image config: "", "uid", "uid:gid", "name"
	// Wasm is true when the image holds a WASI module instead of a root filesystem.
	Wasm bool
}

// SandboxSpec is what a pod's containers share.
type SandboxSpec struct {
	ID          string // pod UID
	Name        string // pod name
	Namespace   string
	Attempt     int
	Hostname    string
	HostNetwork bool
	HostPID     bool
	HostIPC     bool
	SharePID    bool // shareProcessNamespace
	Labels      map[string]string
	Annotations map[string]string
	DNS         DNSConfig
	PortMaps    []PortMap // hostPorts
	CgroupPath  string    // below the node's cgroup parent: "burstable/pod<uid>"
	Sysctls     map[string]string
	Resources   Resources // the pod's sum, for the pod's cgroup
}

// DNSConfig is what the pod's resolv.conf says.
type DNSConfig struct {
	Servers, Searches, Options []string
}

// PortMap publishes a container port on the host.
type PortMap struct {
	Protocol      string // "tcp", "udp", "sctp"
	HostIP        string // "": all
	HostPort      uint16
	ContainerPort uint16
}

// Sandbox is one that exists.
type Sandbox struct {
	ID        string
	Name      string
	Namespace string
	IPs       []netip.Addr // empty with HostNetwork
	Ready     bool         // false: its namespaces or network are gone (after a reboot, say); remove and create anew
	CreatedAt time.Time
	Labels    map[string]string
}

// ContainerSpec is one container, with everything resolved: the engine looks nothing up.
type ContainerSpec struct {
	ID          string // unique on the node; the agent makes it: <pod uid>-<container name>-<restart>
	SandboxID   string
	Name        string
	Attempt     int      // restart count
	Image       string   // reference or image ID in the local store
	Command     []string // overrides the image's entrypoint if non-nil
	Args        []string // overrides the image's cmd if non-nil
	Env         []string // "K=V", the agent's; the engine puts the image's own first
	WorkingDir  string   // "": the image's
	Mounts      []Mount
	Devices     []Device
	CDIDevices  []string // CDI names: "nvidia.com/gpu=GPU-…"
	Labels      map[string]string
	Annotations map[string]string
	LogPath     string // file in CRI log format that the engine appends to; rotated by the agent through ReopenLog
	LogMaxBytes int64  // the engine rotates LogPath to LogPath.1 … past this size; 0: never
	LogMaxFiles int
	Stdin       bool
	StdinOnce   bool
	TTY         bool
	Resources   Resources
	Security    Security
	CgroupPath  string // the pod's, as in SandboxSpec
	StopSignal  string // "" : the image's, else SIGTERM
	// Ports are the TCP ports that the container declares, in order. An engine whose containers can't
	// open sockets pre-opens listeners for them; others need not look.
	Ports []uint16
}

// Mount is a bind mount of a host folder or file, or a tmpfs when HostPath is "".
type Mount struct {
	HostPath, ContainerPath string
	ReadOnly                bool
	Propagation             string   // "", "HostToContainer", "Bidirectional"
	Options                 []string // further ones: "nosuid"
	SizeLimit               int64    // bytes, tmpfs only; 0: none
	HostVolume              bool     // a hostPath volume: it is not the pod's alone
}

// Device is a host device node to expose.
type Device struct {
	HostPath, ContainerPath, Permissions string
}

// Resources are cgroup limits. Zero means none.
type Resources struct {
	CPUShares   uint64
	CPUQuota    int64 // µs per CPUPeriod
	CPUPeriod   uint64
	MemoryLimit int64  // bytes
	CPUSet      string // CPUs, "0-3,8"; "": all
	MemSet      string // NUMA nodes of its memory; "": all
	OOMScoreAdj int
	HugePages   map[string]int64
}

// Security is the resolved security context.
type Security struct {
	User               string // "": the image's; "uid" or "uid:gid"
	SupplementalGroups []int64
	Privileged         bool
	ReadOnlyRootfs     bool
	NoNewPrivileges    bool
	AddCaps, DropCaps  []string
	Seccomp            string // "", "RuntimeDefault", "Unconfined", "Localhost/<path>"
	AppArmor           string
	MaskedPaths        bool // false with procMount Unmasked
}

// ContainerState is where a container is.
type ContainerState int

// The states, in order.
const (
	Created ContainerState = iota
	Running
	Exited
)

// Container is one that exists, running or not.
type Container struct {
	ID, SandboxID, Name string
	Attempt             int
	State               ContainerState
	CreatedAt           time.Time
	StartedAt           time.Time
	FinishedAt          time.Time
	ExitCode            int
	Signal              int
	OOMKilled           bool
	Message             string // why it could not start, or its termination message
	ImageID             string
	Labels              map[string]string
	PID                 int
}

// ContainerEvent says that a container's state changed; the agent reads the state itself.
type ContainerEvent struct {
	ContainerID, SandboxID string
	Type                   string // "start", "exit", "oom"
}

// Streams are the ends of an exec or attach session. They are nodeapi's, which knows nothing of this
// package and serves any Engine.
type Streams = nodeapi.Streams

// Size is a terminal's, in characters.
type Size = nodeapi.Size

// Stats is one container's consumption.
type Stats struct {
	CPUNanos    uint64 // total since start
	MemoryBytes uint64 // working set
	MemoryRSS   uint64
	Time        time.Time
}
