package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	leaseNamespace = "kube-node-lease"
	leaseSeconds   = 40
	leaseRenew     = 10 * time.Second
	statusEvery    = 5 * time.Minute // a heartbeat of the status itself, though nothing changed
	look           = 10 * time.Second
)

// runNode registers the node and keeps its Lease and status fresh.
func (a *Agent) runNode(ctx context.Context) {
	pause := 50 * time.Millisecond
	for {
		err := a.register(ctx)
		if err == nil {
			break
		}
		a.log.Debug("register node", "error", err)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 2*time.Second)
	}
	for _, e := range a.cfg.Engines {
		select {
		case <-e.Ready():
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-a.pods.First():
	case <-ctx.Done():
		return
	}
	// Engines are ready now: the node is, too.
	for a.writeNode(ctx, true) != nil {
		if !sleep(ctx, 200*time.Millisecond) {
			return
		}
	}
	a.mu.Lock()
	select {
	case <-a.ready:
	default:
		close(a.ready)
	}
	a.mu.Unlock()
	t := time.NewTicker(look)
	defer t.Stop()
	last := time.Now()
	var renewed time.Time
	for {
		if time.Since(renewed) >= leaseRenew-time.Second {
			if err := a.renew(ctx); err != nil {
				a.log.Debug("renew lease", "error", err)
			} else {
				renewed = time.Now()
			}
		}
		var devices <-chan struct{}
		if a.cfg.Devices != nil {
			devices = a.cfg.Devices.Changed()
		}
		force := time.Since(last) > statusEvery
		if err := a.writeNode(ctx, force); err != nil {
			a.log.Debug("write node status", "error", err)
		} else if force {
			last = time.Now()
		}
		wait := look
		if renewed.IsZero() {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-time.After(wait):
		case <-devices:
		}
	}
}

// sleepOr waits for a time or a signal, and returns false when ctx ends.
func sleepOr(ctx context.Context, d time.Duration, signal <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-signal:
	}
	return ctx.Err() == nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (a *Agent) register(ctx context.Context) error {
	nodes := a.cfg.Client.CoreV1().Nodes()
	labels := map[string]string{corev1.LabelHostname: a.cfg.NodeName, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
		"beta.kubernetes.io/os": goruntime.GOOS, "beta.kubernetes.io/arch": goruntime.GOARCH}
	maps.Copy(labels, a.cfg.Labels)
	node, err := nodes.Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName, Labels: labels}}
		if a.cfg.PodCIDR != "" {
			node.Spec.PodCIDR, node.Spec.PodCIDRs = a.cfg.PodCIDR, []string{a.cfg.PodCIDR}
		}
		node.Status = a.nodeStatus(ctx, nil)
		node, err = nodes.Create(ctx, node, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create node: %w", err)
		}
		a.events.send(corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}, corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	} else if err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	changed := false
	for k, v := range labels {
		if node.Labels[k] != v {
			if node.Labels == nil {
				node.Labels = map[string]string{}
			}
			node.Labels[k], changed = v, true
		}
	}
	if node.Spec.PodCIDR == "" && a.cfg.PodCIDR != "" {
		node.Spec.PodCIDR, node.Spec.PodCIDRs, changed = a.cfg.PodCIDR, []string{a.cfg.PodCIDR}, true
	}
	if changed {
		if node, err = nodes.Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("label node: %w", err)
		}
	}
	a.mu.Lock()
	a.node = node
	a.mu.Unlock()
	if err := a.renew(ctx); err != nil {
		a.log.Debug("renew lease", "error", err) // the namespace may still be coming
	}
	return a.writeNode(ctx, true)
}

func (a *Agent) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	leases := a.cfg.Client.CoordinationV1().Leases(leaseNamespace)
	now := metav1.NewMicroTime(a.cfg.Clock())
	seconds := int32(leaseSeconds)
	l, err := leases.Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		l = &coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName, Namespace: leaseNamespace}}
		a.mu.Lock()
		if a.node != nil {
			l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: a.node.Name, UID: a.node.UID}}
		}
		a.mu.Unlock()
		l.Spec = coordv1.LeaseSpec{HolderIdentity: &a.cfg.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now}
		_, err = leases.Create(ctx, l, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	l = l.DeepCopy()
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &a.cfg.NodeName, &seconds, &now
	_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	return err
}

// writeNode updates the status if anything but heartbeats changed, or if forced.
func (a *Agent) writeNode(ctx context.Context, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nodes := a.cfg.Client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return a.register(ctx) // somebody deleted it
		}
		return err
	}
	if node, err = a.writeDevices(ctx, node); err != nil {
		return err
	}
	st := a.nodeStatus(ctx, node)
	if !force && sameStatus(&node.Status, &st) {
		return nil
	}
	node = node.DeepCopy()
	node.Status = st
	node, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	if err == nil {
		a.mu.Lock()
		a.node = node
		a.mu.Unlock()
	}
	return err
}

func sameStatus(a, b *corev1.NodeStatus) bool {
	strip := func(s *corev1.NodeStatus) *corev1.NodeStatus {
		s = s.DeepCopy()
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return s
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

func (a *Agent) nodeStatus(ctx context.Context, old *corev1.Node) corev1.NodeStatus {
	var st corev1.NodeStatus
	if old != nil {
		st = *old.Status.DeepCopy()
	}
	total, available := machineMemory()
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(total, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(a.cfg.MaxPods), resource.DecimalSI),
	}
	diskTotal, diskFree, diskErr := diskSpace(cmp.Or(a.dir, a.cfg.DataDir, os.TempDir()))
	if diskErr == nil {
		capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(diskTotal, resource.BinarySI)
	}
	alloc := capacity.DeepCopy()
	if devices, known := a.deviceState(); known {
		maps.Copy(capacity, devices.Capacity)
		maps.Copy(alloc, devices.Allocatable)
	} else if old != nil { // what was said before stays until there is something to say
		keep := func(to, from corev1.ResourceList) {
			for n, q := range from {
				if a.cfg.Devices.Manages(n) {
					to[n] = q
				}
			}
		}
		keep(capacity, old.Status.Capacity)
		keep(alloc, old.Status.Allocatable)
	}
	maps.Copy(capacity, a.cfg.Capacity)
	maps.Copy(alloc, a.cfg.Capacity)
	if a.pins != nil {
		q := capacity[corev1.ResourceCPU]
		q.Sub(*resource.NewQuantity(int64(len(a.pins.reserved)), resource.DecimalSI))
		alloc[corev1.ResourceCPU] = q
	}
	st.Capacity, st.Allocatable = capacity, alloc
	if d := a.drivers(); d != nil {
		st.VolumesInUse = d.InUse()
	}
	a.mu.Lock()
	a.alloc = alloc
	a.mu.Unlock()
	st.Addresses = a.addresses()
	st.DaemonEndpoints.KubeletEndpoint.Port = a.cfg.Port
	var version []string
	engines := true
	var waiting []string
	for _, e := range a.cfg.Engines {
		select {
		case <-e.Ready():
			version = append(version, e.Version())
		default:
			engines = false
			waiting = append(waiting, e.Name())
		}
	}
	st.NodeInfo = corev1.NodeSystemInfo{MachineID: firstLine("/etc/machine-id"), SystemUUID: firstLine("/sys/class/dmi/id/product_uuid"),
		BootID: firstLine("/proc/sys/kernel/random/boot_id"), KernelVersion: cmp.Or(firstLine("/proc/sys/kernel/osrelease"), "unknown"),
		OSImage: osImage(), OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		KubeletVersion: "v1.37.2-pintle", KubeProxyVersion: ""}
	if len(version) > 0 {
		st.NodeInfo.ContainerRuntimeVersion = version[0]
	} else {
		st.NodeInfo.ContainerRuntimeVersion = a.cfg.Engines[0].Name() + "://unknown"
	}
	st.Images = nil
	if engines {
		st.Images = a.nodeImages(ctx)
	}
	now := metav1.NewTime(a.cfg.Clock()).Rfc3339Copy()
	set := func(t corev1.NodeConditionType, status bool, reason, message string) {
		c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
		if status {
			c.Status = corev1.ConditionTrue
		}
		for i := range st.Conditions {
			if st.Conditions[i].Type == t {
				if st.Conditions[i].Status == c.Status {
					c.LastTransitionTime = st.Conditions[i].LastTransitionTime
				}
				st.Conditions[i] = c
				return
			}
		}
		st.Conditions = append(st.Conditions, c)
	}
	if total > 0 && available >= 0 && available < 100<<20 {
		set(corev1.NodeMemoryPressure, true, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
	} else {
		set(corev1.NodeMemoryPressure, false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	}
	if diskErr == nil && diskTotal > 0 && diskFree < diskTotal/20 && diskFree < 1<<30 {
		set(corev1.NodeDiskPressure, true, "KubeletHasDiskPressure", "kubelet has disk pressure")
	} else {
		set(corev1.NodeDiskPressure, false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	}
	if used, limit := pids(); limit > 0 && used > limit*95/100 {
		set(corev1.NodePIDPressure, true, "KubeletHasInsufficientPID", "kubelet has insufficient PID available")
	} else {
		set(corev1.NodePIDPressure, false, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	}
	if engines {
		set(corev1.NodeReady, true, "KubeletReady", "kubelet is posting ready status")
	} else {
		set(corev1.NodeReady, false, "KubeletNotReady", "container runtime is not ready: "+strings.Join(waiting, ", "))
	}
	return st
}

func (a *Agent) nodeImages(ctx context.Context) []corev1.ContainerImage {
	var out []corev1.ContainerImage
	for _, e := range a.cfg.Engines {
		imgs, err := e.Images(ctx)
		if err != nil {
			a.log.Debug("list images", "engine", e.Name(), "error", err)
			continue
		}
		for _, i := range imgs {
			names := slices.Sorted(slices.Values(i.Names))
			out = append(out, corev1.ContainerImage{Names: names, SizeBytes: i.Size})
		}
	}
	slices.SortFunc(out, func(x, y corev1.ContainerImage) int {
		return cmp.Or(cmp.Compare(y.SizeBytes, x.SizeBytes), slices.Compare(x.Names, y.Names))
	})
	return out[:min(len(out), 50)]
}

func (a *Agent) addresses() []corev1.NodeAddress {
	if a.cfg.Addresses != nil {
		return slices.Clone(a.cfg.Addresses)
	}
	ip := "127.0.0.1"
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, x := range addrs {
			n, ok := x.(*net.IPNet)
			if ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				ip = n.IP.String()
				break
			}
		}
	}
	return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: a.cfg.NodeName}}
}

// hostIPs are the node's internal addresses, as last written.
func (a *Agent) hostIPs() []string {
	a.mu.Lock()
	n := a.node
	a.mu.Unlock()
	var addrs []corev1.NodeAddress
	if n != nil {
		addrs = n.Status.Addresses
	} else {
		addrs = a.addresses()
	}
	var out []string
	for _, x := range addrs {
		if x.Type == corev1.NodeInternalIP {
			out = append(out, x.Address)
		}
	}
	return out
}

func (a *Agent) allocatable() corev1.ResourceList {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alloc
}

func (a *Agent) memory() int64 {
	q := a.allocatable()[corev1.ResourceMemory]
	return q.Value()
}
