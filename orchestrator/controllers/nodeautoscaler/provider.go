package nodeautoscaler

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// GroupLabel is the label of a node that says which group it is of. Whoever makes the nodes sets it.
const GroupLabel = "pintle.dev/node-group"

// Provider makes nodes and takes them back. Its methods are called by one goroutine of the leading member at a time;
// how many nodes there are is the Provider's to know, so that a new leader asks for none twice.
type Provider interface {
	// Groups are the kinds of node that there may be.
	Groups(ctx context.Context) ([]Group, error)
	// Request raises a group's Size by count. It returns as soon as that is certain; the nodes join when they are ready.
	Request(ctx context.Context, group string, count int) error
	// Cancel lowers a group's Size by count nodes that were requested and haven't joined.
	Cancel(ctx context.Context, group string, count int) error
	// Return lowers a group's Size by a node that has been drained, and returns once nothing runs on it any more. The
	// Node object is deleted then.
	Return(ctx context.Context, group, node string) error
}

// Group is nodes that are alike.
type Group struct {
	Name string
	// Min and Max bound Size.
	Min, Max int
	// Size is how many nodes there are, those included that were requested and haven't joined.
	Size int
	// Template is what a new node will be: labels, taints, and allocatable resources with the number of pods.
	Template *corev1.Node
}

// Options are times and bounds; the zero value is Cluster Autoscaler's defaults.
type Options struct {
	ScanInterval  time.Duration // between looks when nothing happens; 0 is 10 s
	ProvisionTime time.Duration // that a requested node may take to join; 0 is 15 minutes
	BackOff       time.Duration // of a group that failed, doubled each time up to 30 minutes; 0 is 5 minutes
	UnneededFor   time.Duration // before a node is given back; 0 is 10 minutes
	AfterRequest  time.Duration // in which no node is given back after one was asked for; 0 is 10 minutes
	DrainTime     time.Duration // that a node's pods may take to go; 0 is 10 minutes
	Utilization   float64       // of its allocatable resources, below which a node may be given back; 0 is 0.5, negative: only empty ones
	LeastPriority *int32        // pods below it neither ask for nodes nor keep them; nil is -10
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.ScanInterval, 10*time.Second)
	set(&o.ProvisionTime, 15*time.Minute)
	set(&o.BackOff, 5*time.Minute)
	set(&o.UnneededFor, 10*time.Minute)
	set(&o.AfterRequest, 10*time.Minute)
	set(&o.DrainTime, 10*time.Minute)
	if o.Utilization == 0 {
		o.Utilization = 0.5
	}
	if o.LeastPriority == nil {
		least := int32(-10)
		o.LeastPriority = &least
	}
	return o
}

// Simulator is the scheduler's decision without the scheduler. A new one knows nothing.
type Simulator interface {
	SetNamespace(name string, labels map[string]string)
	// SetStorage records a PersistentVolume, a claim for one, or a StorageClass.
	SetStorage(o runtime.Object)
	SetNode(node *corev1.Node)
	RemoveNode(name string)
	// SetPod records a pod on the node that its spec names; RemovePod forgets one.
	SetPod(pod *corev1.Pod)
	RemovePod(pod *corev1.Pod)
	// Place finds a node for a pod and records it there; "" and the reasons of the nodes if none would do.
	Place(ctx context.Context, pod *corev1.Pod) (node string, reasons []string)
}

// Config is what the controller needs beside its Env.
type Config struct {
	Provider Provider
	Options  Options
	// Simulator makes one.
	Simulator func() Simulator
	// Evict deletes a pod if its budget allows that, and is answered TooManyRequests otherwise.
	Evict func(ctx context.Context, namespace, name string) error
}
