package gpus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/runtime"
)

// Devices are the GPUs of a node. Make them with New. All methods are safe for concurrent use.
type Devices struct {
	cfg     Config
	manager *gpu.Manager
	metrics prometheus.Collector

	mu      sync.Mutex // guards the rest
	changed chan struct{}
	cdi     *gpu.CDISpec // of the inventory with this revision
	made    uint64
	began   time.Time // when Run began
	left    []string  // pods that are gone, whose claims could not be released yet
}

var _ runtime.Devices = (*Devices)(nil)

// New makes them. It asks no driver and starts nothing.
func New(cfg Config) (*Devices, error) {
	switch cfg.OnUnhealthy {
	case "", "evict", "finish", "tolerate":
	default:
		return nil, fmt.Errorf("gpus.Config.OnUnhealthy %q: give evict, finish or tolerate", cfg.OnUnhealthy)
	}
	if cfg.DriverRoot == "" {
		cfg.DriverRoot = "/"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m, err := gpu.New(cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Devices{cfg: cfg, manager: m, metrics: m.Collector(), changed: make(chan struct{})}, nil
}

// Describe and Collect implement prometheus.Collector: the agent shows what the GPUs say of its pods.
func (d *Devices) Describe(out chan<- *prometheus.Desc) { d.metrics.Describe(out) }

// Collect asks no driver.
func (d *Devices) Collect(out chan<- prometheus.Metric) { d.metrics.Collect(out) }

// Manager is what manages the GPUs: for what a node's owner does, as Divide, and for a look at Inventory. Leave its
// claims to the agent.
func (d *Devices) Manager() *gpu.Manager { return d.manager }

// Run implements runtime.Devices.
func (d *Devices) Run(ctx context.Context) error {
	d.mu.Lock()
	d.began = d.cfg.Now()
	d.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.manager.Run(ctx) })
	group.Go(func() error {
		select {
		case <-d.manager.Ready():
			d.signal()
		case <-ctx.Done():
		}
		for revision := d.manager.Inventory().Revision; ctx.Err() == nil; {
			soon, cancel := context.WithTimeout(ctx, releaseAgain)
			inv, err := d.manager.WaitChange(soon, revision)
			cancel()
			d.releaseLeft()
			if err == nil {
				revision = inv.Revision
				d.signal()
			}
		}
		return nil
	})
	return group.Wait()
}

// releaseAgain is how often what could not be released is tried again, and with each change.
const releaseAgain = time.Minute

// releaseLeft releases claims of pods that are gone, which Reconcile could not: their driver was away, say.
func (d *Devices) releaseLeft() {
	d.mu.Lock()
	left := d.left
	d.mu.Unlock()
	if len(left) == 0 {
		return
	}
	var still []string
	for _, pod := range left {
		if err := d.manager.Release(pod); err != nil {
			still = append(still, pod)
		}
	}
	d.mu.Lock()
	d.left = still
	d.mu.Unlock()
	if len(still) < len(left) {
		d.signal()
	}
}

func (d *Devices) signal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Ready implements runtime.Devices.
func (d *Devices) Ready() <-chan struct{} { return d.manager.Ready() }

// Changed implements runtime.Devices.
func (d *Devices) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// State implements runtime.Devices: extended resources, the labels of GPU feature discovery, and topology.NodeAnnotation.
func (d *Devices) State() runtime.DeviceState {
	s := stateOf(d.manager.Inventory(), d.manager.Claims())
	s.OnUnhealthy = d.cfg.OnUnhealthy
	return s
}

func stateOf(inv *gpu.Inventory, claims []gpu.Claim) runtime.DeviceState {
	s := runtime.DeviceState{Capacity: corev1.ResourceList{}, Allocatable: corev1.ResourceList{}, Labels: inv.Labels(), Annotations: map[string]string{}, Unhealthy: map[string]string{}}
	for name, q := range inv.Resources() {
		s.Capacity[corev1.ResourceName(name)] = *resource.NewQuantity(int64(q.Capacity), resource.DecimalSI)
		s.Allocatable[corev1.ResourceName(name)] = *resource.NewQuantity(int64(q.Allocatable), resource.DecimalSI)
	}
	if node := inv.Node(claims); len(node.GPUs) > 0 {
		s.Annotations[topology.NodeAnnotation] = node.Format()
	}
	for i := range inv.Devices {
		if dev := &inv.Devices[i]; dev.UUID != "" && len(dev.Reasons) > 0 {
			s.Unhealthy[dev.UUID] = dev.Why()
		}
	}
	return s
}

// Manages implements runtime.Devices.
func (d *Devices) Manages(name corev1.ResourceName) bool {
	switch n := string(name); n {
	case topology.GPUResource, topology.ShareResource, topology.MemoryResource:
		return true
	default:
		return strings.HasPrefix(n, topology.MIGPrefix)
	}
}

// Wants implements runtime.Devices.
func (d *Devices) Wants(pod *corev1.Pod) bool {
	if pod.Annotations[topology.PodAnnotation] != "" {
		return true
	}
	wants := false
	eachContainer(pod, func(c *corev1.Container, _ bool) { wants = wants || !asked(c).none() })
	return wants
}

// eachContainer visits a pod's containers; first says that one ends before the others start.
func eachContainer(pod *corev1.Pod, visit func(c *corev1.Container, first bool)) {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		visit(c, c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways)
	}
	for i := range pod.Spec.Containers {
		visit(&pod.Spec.Containers[i], false)
	}
}

// mpsPatience is how long a claim waits for an MPS daemon that is starting.
const mpsPatience = 5 * time.Second

// Claim implements runtime.Devices.
func (d *Devices) Claim(ctx context.Context, pod *corev1.Pod) error {
	claim, err := claimOf(pod)
	if err == nil && d.claimed(pod.UID) == nil { // what it has was checked when it came; the Manager compares
		err = covers(pod, claim.Grants, d.manager.Inventory())
	}
	if err != nil {
		return err
	}
	err = d.manager.Claim(claim)
	for end := time.Now().Add(mpsPatience); errors.Is(err, gpu.ErrNoMPS) && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(100 * time.Millisecond)
		err = d.manager.Claim(claim)
	}
	if errors.Is(err, gpu.ErrTaken) {
		return fmt.Errorf("%w: %w", runtime.ErrDevicesTaken, err)
	}
	d.signal() // instances that were made are transient now
	return err
}

// claimOf reads what was chosen for a pod.
func claimOf(pod *corev1.Pod) (gpu.Claim, error) {
	grants, err := topology.ParseGrants(pod.Annotations[topology.PodAnnotation])
	if err != nil {
		return gpu.Claim{}, err
	}
	if len(grants) == 0 {
		return gpu.Claim{}, fmt.Errorf("the pod asks for GPUs, and its annotation %s names none: a scheduler that knows GPUs must bind it", topology.PodAnnotation)
	}
	claim := gpu.Claim{Pod: string(pod.UID), Name: pod.Namespace + "/" + pod.Name, Grants: grants}
	names := map[string]bool{}
	eachContainer(pod, func(c *corev1.Container, first bool) {
		names[c.Name] = true
		switch {
		case first:
			claim.Init = append(claim.Init, c.Name)
		case c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways: // a sidecar, or as if
			claim.Sidecars = append(claim.Sidecars, c.Name)
		}
	})
	for _, g := range grants {
		if g.Container != "" && !names[g.Container] {
			return gpu.Claim{}, fmt.Errorf("annotation %s: the pod has no container %s", topology.PodAnnotation, g.Container)
		}
	}
	return claim, nil
}

// Injection implements runtime.Devices.
func (d *Devices) Injection(pod *corev1.Pod, container string) (runtime.Injection, error) {
	var none runtime.Injection
	inv := d.manager.Inventory()
	i := d.claimed(pod.UID)
	if i == nil {
		if d.Wants(pod) {
			return none, errors.New("no GPU was given to the pod")
		}
		if len(inv.Devices) > 0 { // images of CUDA ask for all GPUs, and a runtime of NVIDIA's would obey
			none.Env = []string{"NVIDIA_VISIBLE_DEVICES=void"}
		}
		return none, nil
	}
	given, err := d.manager.Injection(string(pod.UID), container)
	if err != nil {
		return none, err
	}
	if len(given.CDI) == 0 {
		none.Env = []string{"NVIDIA_VISIBLE_DEVICES=void"}
		return none, nil
	}
	spec, err := d.spec(inv)
	if err != nil {
		return none, err
	}
	out, err := edited(spec, given, d.cfg.DriverRoot)
	for _, g := range i.Grants {
		out.Limited = out.Limited || (g.Container == "" || g.Container == container) && g.Share > 0 && g.Share < topology.Whole
	}
	return out, err
}

func (d *Devices) claimed(pod types.UID) *gpu.Claim {
	for _, c := range d.manager.Claims() {
		if c.Pod == string(pod) {
			return &c
		}
	}
	return nil
}

// spec is the machine's CDI specification, made once for each picture of its GPUs.
func (d *Devices) spec(inv *gpu.Inventory) (*gpu.CDISpec, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cdi != nil && d.made == inv.Revision {
		return d.cdi, nil
	}
	spec, err := inv.CDI(d.cfg.DriverRoot)
	if err != nil {
		return nil, err
	}
	d.cdi, d.made = spec, inv.Revision
	return spec, nil
}

// LimitMemory implements runtime.Devices.
func (d *Devices) LimitMemory(pod types.UID, container, cgroup string) error {
	return d.manager.LimitMemory(string(pod), container, cgroup)
}

// driverPatience is how long a driver may be away before that is held against the GPUs that pods have: it may be
// restarting.
const driverPatience = time.Minute

// Unhealthy implements runtime.Devices.
func (d *Devices) Unhealthy(pod types.UID) (string, time.Time) {
	claim := d.claimed(pod)
	if claim == nil {
		return "", time.Time{}
	}
	d.mu.Lock()
	began := d.began
	d.mu.Unlock()
	return trouble(d.manager.Inventory(), claim.Grants, began, d.cfg.Now())
}

// trouble is what is wrong with granted devices, and since when; began is when the GPUs were first looked at. It is pure.
func trouble(inv *gpu.Inventory, grants []gpu.Grant, began, now time.Time) (string, time.Time) {
	var words []string
	var since time.Time
	note := func(why string, at time.Time) {
		for _, w := range words {
			if w == why {
				return
			}
		}
		words = append(words, why)
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	for _, g := range grants {
		dev, ok := inv.Device(g.GPU)
		if !ok {
			if inv.Unavailable == "" && inv.Revision > 0 {
				note(fmt.Sprintf("GPU %s is not on this machine any more", g.GPU), began)
			}
			continue
		}
		for _, r := range dev.Reasons {
			if r.MIG != "" && r.MIG != g.MIG || inv.Unavailable != "" && now.Sub(r.Since) < driverPatience {
				continue
			}
			note(fmt.Sprintf("GPU %s: %s", g.GPU, r), r.Since)
		}
	}
	return strings.Join(words, "; "), since
}

// Release implements runtime.Devices.
func (d *Devices) Release(pod types.UID) error {
	if d.claimed(pod) == nil {
		return nil
	}
	defer d.signal()
	return d.manager.Release(string(pod))
}

// Reconcile implements runtime.Devices.
func (d *Devices) Reconcile(running []types.UID) error {
	pods := make([]string, len(running))
	for i, uid := range running {
		pods[i] = string(uid)
	}
	released, err := d.manager.Reconcile(pods)
	if err != nil {
		d.mu.Lock()
		for _, c := range d.manager.Claims() {
			if !slices.Contains(pods, c.Pod) { // no pod will have its UID again
				d.left = append(d.left, c.Pod)
			}
		}
		d.mu.Unlock()
	}
	if len(released) > 0 {
		d.signal()
	}
	return err
}
