package csi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/runtime/internal/mirror"
	"github.com/pintle/pintle/runtime/localpath"
)

func bytesQuantity(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.BinarySI) }

// external reports whether sidecars make the calls of a driver's controller.
func (m *Manager) external(ctx context.Context, d *driver) bool {
	if o, err := m.cfg.Client.StorageV1().CSIDrivers().Get(ctx, d.name, metav1.GetOptions{}); err == nil {
		switch o.Annotations[annotationController] {
		case "external":
			return true
		case "node":
			return false
		}
	}
	return sidecars(m.cfg.Pods(), filepath.Dir(d.endpoint))
}

// control makes the calls of controllers. It watches nothing until a driver has a controller.
type control struct {
	m           *Manager
	claims      *mirror.Mirror[*corev1.PersistentVolumeClaim]
	volumes     *mirror.Mirror[*corev1.PersistentVolume]
	classes     *mirror.Mirror[*storagev1.StorageClass]
	attachments *mirror.Mirror[*storagev1.VolumeAttachment]
	csiNodes    *mirror.Mirror[*storagev1.CSINode]
	nodes       *mirror.Mirror[*corev1.Node]
	changed     chan struct{}

	mu       sync.Mutex
	busy     map[string]bool
	failures map[string]controlFailure

	sidecars map[string]judged // the loop's alone
}

// judged is whether a driver is left to sidecars, and when that was looked at.
type judged struct {
	external bool
	at       time.Time
}

// judgeAgain is how long what was found of sidecars is taken for true.
const judgeAgain = 15 * time.Second

// settle is how long after an action the same isn't done again: the mirrors may not show yet that it was.
const settle = 250 * time.Millisecond

type controlFailure struct {
	pause time.Duration
	until time.Time
	said  string
}

func (m *Manager) newControl() *control {
	c := &control{m: m, changed: make(chan struct{}, 1), busy: map[string]bool{}, failures: map[string]controlFailure{}, sidecars: map[string]judged{}}
	core, storage := m.cfg.Client.CoreV1(), m.cfg.Client.StorageV1()
	c.claims = watched[*corev1.PersistentVolumeClaim](c, "claims", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return core.PersistentVolumeClaims("").List(ctx, o)
	}, core.PersistentVolumeClaims("").Watch)
	c.volumes = watched[*corev1.PersistentVolume](c, "volumes", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return core.PersistentVolumes().List(ctx, o)
	}, core.PersistentVolumes().Watch)
	c.classes = watched[*storagev1.StorageClass](c, "storage classes", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return storage.StorageClasses().List(ctx, o)
	}, storage.StorageClasses().Watch)
	c.attachments = watched[*storagev1.VolumeAttachment](c, "volume attachments", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return storage.VolumeAttachments().List(ctx, o)
	}, storage.VolumeAttachments().Watch)
	c.csiNodes = watched[*storagev1.CSINode](c, "CSINodes", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return storage.CSINodes().List(ctx, o)
	}, storage.CSINodes().Watch)
	c.nodes = watched[*corev1.Node](c, "nodes", func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return core.Nodes().List(ctx, o)
	}, core.Nodes().Watch)
	return c
}

func watched[T interface {
	metav1.Object
	runtime.Object
}](c *control, what string, list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watchFunc func(context.Context, metav1.ListOptions) (watch.Interface, error)) *mirror.Mirror[T] {
	return &mirror.Mirror[T]{What: what, Log: c.m.log, List: list, Watch: watchFunc, Change: func(context.Context, T, bool) { c.wake() }}
}

func (c *control) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *control) run(ctx context.Context) {
	for {
		drivers, changed := c.m.all()
		if slices.ContainsFunc(drivers, func(d *driver) bool { return d.controller }) {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.claims.Run(ctx) })
	wg.Go(func() { c.volumes.Run(ctx) })
	wg.Go(func() { c.classes.Run(ctx) })
	wg.Go(func() { c.attachments.Run(ctx) })
	wg.Go(func() { c.csiNodes.Run(ctx) })
	wg.Go(func() { c.nodes.Run(ctx) })
	for _, first := range []<-chan struct{}{c.claims.First(), c.volumes.First(), c.classes.First(), c.attachments.First(), c.csiNodes.First(), c.nodes.First()} {
		select {
		case <-first:
		case <-ctx.Done():
			return
		}
	}
	for {
		wait := 30 * time.Second
		v, changed := c.view(ctx)
		now := time.Now()
		for _, a := range v.decide() {
			key := a.key()
			c.mu.Lock()
			f := c.failures[key]
			skip := c.busy[key]
			if d := f.until.Sub(now); d > 0 {
				wait, skip = min(wait, d), true
			}
			if !skip {
				c.busy[key] = true
			}
			c.mu.Unlock()
			if skip {
				continue
			}
			// A driver that hangs on one volume holds up no other.
			wg.Go(func() { c.attempt(ctx, v, a, key) })
		}
		c.mu.Lock()
		for key, f := range c.failures { // of what is over
			if now.Sub(f.until) > 10*time.Minute || f.pause == 0 && now.After(f.until) {
				delete(c.failures, key)
			}
		}
		c.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-c.changed:
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func (c *control) view(ctx context.Context) (*view, <-chan struct{}) {
	all, changed := c.m.all()
	v := &view{node: c.m.cfg.NodeName, drivers: map[string]*driver{}, claims: c.claims.Snapshot(), volumes: c.volumes.Snapshot(), classes: map[string]*storagev1.StorageClass{},
		attachments: c.attachments.Snapshot(), csiNodes: map[string]*storagev1.CSINode{}, ready: map[string]bool{}}
	for _, d := range all {
		if d.controller && !c.external(ctx, d) {
			v.drivers[d.name] = d
		}
	}
	for _, s := range c.classes.Snapshot() {
		v.classes[s.Name] = s
	}
	for _, n := range c.csiNodes.Snapshot() {
		v.csiNodes[n.Name] = n
	}
	for _, n := range c.nodes.Snapshot() {
		for _, x := range n.Status.Conditions {
			if x.Type == corev1.NodeReady && x.Status == corev1.ConditionTrue {
				v.ready[n.Name] = true
			}
		}
	}
	return v, changed
}

// external reports whether a driver is left to sidecars; where that changes, the CSINode says so, too.
func (c *control) external(ctx context.Context, d *driver) bool {
	old, ok := c.sidecars[d.name]
	if ok && time.Since(old.at) < judgeAgain {
		return old.external
	}
	now := judged{c.m.external(ctx, d), time.Now()}
	c.sidecars[d.name] = now
	if ok && old.external != now.external {
		if err := c.m.publishDriver(ctx, d); err != nil {
			c.m.once(d.name, err)
		}
	}
	return now.external
}

func (c *control) attempt(ctx context.Context, v *view, a controlAction, key string) {
	err := c.do(ctx, v, a)
	c.mu.Lock()
	f := c.failures[key]
	tell := false
	if err != nil {
		f.pause = min(max(2*f.pause, time.Second), 5*time.Minute)
		f.until = time.Now().Add(f.pause)
		tell = f.said != err.Error()
		f.said = err.Error()
		c.failures[key] = f
	} else {
		c.failures[key] = controlFailure{until: time.Now().Add(settle)} // until the mirrors show what was done
	}
	delete(c.busy, key)
	c.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		c.m.log.Debug("storage driver's controller", "action", a.kind.String(), "of", key, "error", err)
		if tell {
			c.tell(ctx, a, err)
		}
	}
	c.wake()
}

func claimRef(c *corev1.PersistentVolumeClaim) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion}
}

// tell says what failed, where people look: in events, and in a VolumeAttachment's status.
func (c *control) tell(ctx context.Context, a controlAction, err error) {
	switch a.kind {
	case createVolume:
		c.m.cfg.Event(claimRef(a.claim), corev1.EventTypeWarning, "ProvisioningFailed", fmt.Sprintf("failed to provision volume with StorageClass %q: %v", a.class.Name, err))
	case expandVolume:
		c.m.cfg.Event(claimRef(a.claim), corev1.EventTypeWarning, "VolumeResizeFailed", fmt.Sprintf("resize volume %q by resizer %q failed: %v", a.volume.Name, a.driver.name, err))
	case deleteVolume, releaseVolume:
		c.m.cfg.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolume", Name: a.volume.Name, UID: a.volume.UID}, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
	case attachVolume, detachVolume:
		said := &storagev1.VolumeError{Time: metav1.Now(), Message: err.Error()}
		_ = c.status(ctx, a.attachment.Name, func(s *storagev1.VolumeAttachmentStatus) {
			if a.kind == attachVolume {
				s.AttachError = said
			} else {
				s.DetachError = said
			}
		})
	}
}

func (c *control) do(ctx context.Context, v *view, a controlAction) error {
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	switch a.kind {
	case createVolume:
		return c.create(ctx, v, a)
	case deleteVolume:
		return c.delete(ctx, a)
	case releaseVolume:
		return c.unhold(ctx, a.volume.Name)
	case attachVolume:
		return c.attach(ctx, v, a)
	case detachVolume:
		return c.detach(ctx, v, a)
	case expandVolume:
		return c.expand(ctx, a)
	}
	return nil
}

func (c *control) create(ctx context.Context, v *view, a controlAction) error {
	claim, err := c.m.cfg.Client.CoreV1().PersistentVolumeClaims(a.claim.Namespace).Get(ctx, a.claim.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (claim.UID != a.claim.UID || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil) {
		return nil
	}
	if err != nil {
		return err
	}
	// What is watched may be older than what was made here last.
	if _, err := c.m.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, "pvc-"+string(claim.UID), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	p, err := parametersOf(a.class)
	if err != nil {
		return err
	}
	if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return errors.New("volumeMode Block is not supported by this cluster's nodes")
	}
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil {
		return errors.New("dataSource is not supported: volumes start empty")
	}
	name := "pvc-" + string(claim.UID)
	ref, err := p.secretRef("provisioner", claim, name)
	if err != nil {
		return err
	}
	secrets, err := c.m.secret(ctx, ref)
	if err != nil {
		return err
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	req := &csipb.CreateVolumeRequest{Name: name, CapacityRange: &csipb.CapacityRange{RequiredBytes: size.Value()}, Parameters: p.driver, Secrets: secrets}
	single := a.driver.can(csipb.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)
	for _, mode := range claim.Spec.AccessModes {
		req.VolumeCapabilities = append(req.VolumeCapabilities, capability(AccessMode(mode, single), p.own["fstype"], a.class.MountOptions, ""))
	}
	selected := claim.Annotations[annotationSelectedNode]
	if a.driver.constrained {
		labels := map[string]map[string]string{}
		for _, n := range c.nodes.Snapshot() {
			labels[n.Name] = n.Labels
		}
		req.AccessibilityRequirements = requirements(a.driver.name, selected, v.csiNodes, labels)
	}
	c.m.cfg.Event(claimRef(claim), corev1.EventTypeNormal, "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", claim.Namespace+"/"+claim.Name))
	answer, err := a.driver.control().CreateVolume(ctx, req)
	if err != nil {
		if status.Code(err) == codes.ResourceExhausted && waits(a.class) && selected != "" {
			// There is no room where the pod was to go: the scheduler is to choose again.
			return errors.Join(told(err), c.reschedule(ctx, claim))
		}
		return told(err)
	}
	pv, err := volumeOf(a.driver, c.m.cfg.NodeName, claim, a.class, p, answer.GetVolume())
	if err != nil {
		_, derr := a.driver.control().DeleteVolume(ctx, &csipb.DeleteVolumeRequest{VolumeId: answer.GetVolume().GetVolumeId(), Secrets: secrets})
		return errors.Join(err, derr)
	}
	if _, err := c.m.cfg.Client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err // made again under the same name, which gives the same volume
	}
	c.m.cfg.Event(claimRef(claim), corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume "+name)
	return nil
}

func (c *control) reschedule(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	claim = claim.DeepCopy()
	delete(claim.Annotations, annotationSelectedNode)
	_, err := c.m.cfg.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
	return err
}

func (c *control) delete(ctx context.Context, a controlAction) error {
	api := c.m.cfg.Client.CoreV1().PersistentVolumes()
	pv, err := api.Get(ctx, a.volume.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (pv.UID != a.volume.UID || pv.Status.Phase != corev1.VolumeReleased || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete) {
		return nil
	}
	if err != nil {
		return err
	}
	var ref *corev1.SecretReference
	if n := pv.Annotations[annotationDeleteName]; n != "" {
		ref = &corev1.SecretReference{Name: n, Namespace: pv.Annotations[annotationDeleteNS]}
	}
	secrets, err := c.m.secret(ctx, ref)
	if err != nil {
		return err
	}
	if _, err := a.driver.control().DeleteVolume(ctx, &csipb.DeleteVolumeRequest{VolumeId: pv.Spec.CSI.VolumeHandle, Secrets: secrets}); err != nil && status.Code(err) != codes.NotFound {
		return told(err)
	}
	if err := api.Delete(ctx, pv.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return c.unhold(ctx, pv.Name)
}

// unhold lets a PersistentVolume go.
func (c *control) unhold(ctx context.Context, name string) error {
	api := c.m.cfg.Client.CoreV1().PersistentVolumes()
	pv, err := api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !slices.Contains(pv.Finalizers, finalizerVolume) {
		return nil
	}
	if err != nil {
		return err
	}
	pv = pv.DeepCopy()
	pv.Finalizers = slices.DeleteFunc(pv.Finalizers, func(f string) bool { return f == finalizerVolume })
	if _, err = api.Update(ctx, pv, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		err = nil
	}
	return err
}

func (c *control) expand(ctx context.Context, a controlAction) error {
	core := c.m.cfg.Client.CoreV1()
	pv, err := core.PersistentVolumes().Get(ctx, a.volume.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	asked := a.claim.Spec.Resources.Requests[corev1.ResourceStorage]
	size, onNode := asked, a.driver.expands
	if a.driver.can(csipb.ControllerServiceCapability_RPC_EXPAND_VOLUME) {
		secrets, err := c.m.secret(ctx, pv.Spec.CSI.ControllerExpandSecretRef)
		if err != nil {
			return err
		}
		mode := csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
		if len(pv.Spec.AccessModes) > 0 {
			mode = AccessMode(pv.Spec.AccessModes[0], a.driver.can(csipb.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER))
		}
		answer, err := a.driver.control().ControllerExpandVolume(ctx, &csipb.ControllerExpandVolumeRequest{VolumeId: pv.Spec.CSI.VolumeHandle,
			CapacityRange: &csipb.CapacityRange{RequiredBytes: asked.Value()}, Secrets: secrets, VolumeCapability: capability(mode, pv.Spec.CSI.FSType, pv.Spec.MountOptions, "")})
		if err != nil {
			return told(err)
		}
		onNode = answer.GetNodeExpansionRequired()
		if n := answer.GetCapacityBytes(); n > asked.Value() {
			size = bytesQuantity(n)
		}
	}
	pv = pv.DeepCopy()
	pv.Spec.Capacity[corev1.ResourceStorage] = size
	if !onNode {
		if err := c.grown(ctx, a.claim, size, false); err != nil {
			return err
		}
	} else if err := c.grown(ctx, a.claim, size, true); err != nil {
		return err
	}
	if _, err := core.PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if onNode {
		c.m.cfg.Event(claimRef(a.claim), corev1.EventTypeNormal, "FileSystemResizeRequired", "Require file system resize of volume on node")
	} else {
		c.m.cfg.Event(claimRef(a.claim), corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	}
	return nil
}

// grown writes into the claim's status that its volume has grown, or that its filesystem is to grow on the node yet.
func (c *control) grown(ctx context.Context, a *corev1.PersistentVolumeClaim, size resource.Quantity, pending bool) error {
	api := c.m.cfg.Client.CoreV1().PersistentVolumeClaims(a.Namespace)
	claim, err := api.Get(ctx, a.Name, metav1.GetOptions{})
	if err != nil || claim.UID != a.UID {
		return err
	}
	has := claim.Status.Capacity[corev1.ResourceStorage]
	claim = localpath.Grown(claim, size)
	if pending {
		claim.Status.Capacity[corev1.ResourceStorage] = has
		claim.Status.Conditions = append(claim.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: corev1.PersistentVolumeClaimFileSystemResizePending,
			Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), Message: "Waiting for user to (re-)start a pod to finish file system resize of volume on node."})
		if claim.Status.AllocatedResourceStatuses == nil {
			claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{}
		}
		claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] = corev1.PersistentVolumeClaimNodeResizePending
	}
	_, err = api.UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	return err
}
