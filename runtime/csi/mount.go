package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/runtime/claims"
	"github.com/pintle/pintle/runtime/fsgroup"
)

// Volume is one that a pod wants: PV and Claim of a claim's, or Inline, the pod's own.
type Volume struct {
	Pod      *corev1.Pod
	Name     string // the pod's name for it
	PV       *corev1.PersistentVolume
	Claim    *corev1.PersistentVolumeClaim
	Inline   *corev1.CSIVolumeSource
	ReadOnly bool
}

// Mounted is a volume that a pod has.
type Mounted struct {
	Path string // on this machine
	// Republish, where the driver asks for it, is to be called again and again while the pod runs; else nil.
	Republish func(context.Context) error
}

// AttachError is what the attacher says.
type AttachError struct{ Volume, Message string }

func (e *AttachError) Error() string {
	return fmt.Sprintf("AttachVolume.Attach failed for volume %q : %s", e.Volume, e.Message)
}

// source is a Volume with both kinds made alike.
type source struct {
	driver, handle, name, fsType string
	readOnly, ephemeral          bool
	attributes                   map[string]string
	options                      []string
	modes                        []corev1.PersistentVolumeAccessMode
	stageSecret, publishSecret   *corev1.SecretReference
}

func sourceOf(v *Volume) source {
	if v.Inline != nil {
		s := source{driver: v.Inline.Driver, handle: inlineHandle(v.Pod.UID, v.Name), name: v.Name, ephemeral: true, attributes: v.Inline.VolumeAttributes,
			readOnly: v.ReadOnly || v.Inline.ReadOnly != nil && *v.Inline.ReadOnly}
		if v.Inline.FSType != nil {
			s.fsType = *v.Inline.FSType
		}
		if r := v.Inline.NodePublishSecretRef; r != nil {
			s.publishSecret = &corev1.SecretReference{Namespace: v.Pod.Namespace, Name: r.Name}
		}
		return s
	}
	c := v.PV.Spec.CSI
	return source{driver: c.Driver, handle: c.VolumeHandle, name: v.PV.Name, fsType: c.FSType, readOnly: v.ReadOnly || c.ReadOnly, attributes: c.VolumeAttributes,
		options: v.PV.Spec.MountOptions, modes: v.PV.Spec.AccessModes, stageSecret: c.NodeStageSecretRef, publishSecret: c.NodePublishSecretRef}
}

// Mount attaches, stages and publishes a volume, and returns where it is. A *claims.Waiting says that it may come yet. It
// may be called again, after an error and after a restart.
func (m *Manager) Mount(ctx context.Context, v Volume) (Mounted, error) {
	var none Mounted
	s := sourceOf(&v)
	d, ok := m.driver(s.driver)
	if !ok {
		return none, &claims.Waiting{Message: fmt.Sprintf("kubernetes.io/csi: driver name %s not found in the list of registered CSI drivers", s.driver)}
	}
	object, err := m.cfg.Client.StorageV1().CSIDrivers().Get(ctx, s.driver, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		object, err = nil, nil
	}
	if err != nil {
		return none, fmt.Errorf("get CSIDriver %s: %w", s.driver, err)
	}
	spec := driverSpec(object)
	lifecycle := storagev1.VolumeLifecyclePersistent
	if s.ephemeral {
		lifecycle = storagev1.VolumeLifecycleEphemeral
	}
	if !slices.Contains(spec.VolumeLifecycleModes, lifecycle) {
		return none, fmt.Errorf("kubernetes.io/csi: mounter.SetUpAt failed: volume mode %q not supported by driver %s (only supports %q)", lifecycle, s.driver, spec.VolumeLifecycleModes)
	}
	var published map[string]string
	attachment := ""
	if *spec.AttachRequired && !s.ephemeral {
		attachment = AttachmentName(s.driver, s.handle, m.cfg.NodeName)
		if published, err = m.attached(ctx, s.name, attachment); err != nil {
			return none, err
		}
	}
	unlock, err := m.locks.lock(ctx, s.driver+"^"+s.handle)
	if err != nil {
		return none, err
	}
	defer unlock()
	group := ""
	if sc := v.Pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil && d.groups {
		group = fmt.Sprint(*sc.FSGroup)
	}
	mode := csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	if len(s.modes) > 0 {
		mode = AccessMode(s.modes[0], d.single)
	}
	use := capability(mode, s.fsType, s.options, group)
	rec := record{Driver: s.driver, Handle: s.handle, Attachment: attachment, Name: s.name, Lifecycle: string(lifecycle)}
	if v.Claim != nil {
		rec.Namespace, rec.Claim = v.Claim.Namespace, v.Claim.Name
	}
	if attachment != "" {
		dir := m.paths.published(string(v.Pod.UID), s.name)
		if err := writeRecord(dir, rec); err != nil {
			return none, err
		}
		if err := m.cfg.Report(ctx); err != nil {
			return none, fmt.Errorf("report volume %q in use: %w", s.name, err)
		}
		// Had it been wanted away in the meantime, it would go now.
		if _, err := m.attached(ctx, s.name, attachment); err != nil {
			return none, err
		}
	}
	staging := ""
	if d.stages && !s.ephemeral {
		if staging, err = m.stage(ctx, d, &s, rec, use, published); err != nil {
			return none, err
		}
	}
	publish := func(ctx context.Context) error {
		return m.publish(ctx, d.name, &v, &s, &spec, rec, use, published, staging)
	}
	if err := publish(ctx); err != nil {
		return none, err
	}
	path := filepath.Join(m.paths.published(string(v.Pod.UID), s.name), "mount")
	if sc := v.Pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil && !d.groups && !s.readOnly && ownsFiles(*spec.FSGroupPolicy, s.fsType, s.modes) {
		if err := fsgroup.Apply(ctx, path, *sc.FSGroup, false, sc.FSGroupChangePolicy); err != nil {
			return none, err
		}
	}
	out := Mounted{Path: path}
	if *spec.RequiresRepublish {
		out.Republish = publish
	}
	return out, nil
}

// attached returns what the driver said when the volume was attached to this node.
func (m *Manager) attached(ctx context.Context, volume, name string) (map[string]string, error) {
	a, err := m.cfg.Client.StorageV1().VolumeAttachments().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &claims.Waiting{Message: fmt.Sprintf("waiting for volume %q to be attached: there is no VolumeAttachment yet", volume)}
	case err != nil:
		return nil, fmt.Errorf("get VolumeAttachment %s: %w", name, err)
	case a.Status.AttachError != nil && !a.Status.Attached:
		return nil, errors.Join(&AttachError{volume, a.Status.AttachError.Message}, &claims.Waiting{Message: "it is tried again"})
	case !a.Status.Attached || a.DeletionTimestamp != nil:
		return nil, &claims.Waiting{Message: fmt.Sprintf("waiting for volume %q to be attached to the node", volume)}
	}
	return a.Status.AttachmentMetadata, nil
}

// stage makes the volume ready for the pods of the node. The caller has its lock.
func (m *Manager) stage(ctx context.Context, d *driver, s *source, rec record, use *csipb.VolumeCapability, published map[string]string) (string, error) {
	dir := m.paths.staged(s.driver, s.handle)
	point := filepath.Join(dir, "globalmount")
	m.mu.Lock()
	done := m.staged[dir]
	m.mu.Unlock()
	if done {
		return point, nil
	}
	secrets, err := m.secret(ctx, s.stageSecret)
	if err != nil {
		return "", err
	}
	if err := writeRecord(dir, rec); err != nil {
		return "", err
	}
	if err := os.MkdirAll(point, 0o750); err != nil { // the interface has the caller make it
		return "", fmt.Errorf("make staging folder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	_, err = d.node().NodeStageVolume(ctx, &csipb.NodeStageVolumeRequest{VolumeId: s.handle, PublishContext: published, StagingTargetPath: m.paths.view(point, d.endpoint),
		VolumeCapability: use, Secrets: secrets, VolumeContext: s.attributes})
	if err != nil {
		return "", fmt.Errorf("MountVolume.MountDevice failed for volume %q : %w", s.name, told(err))
	}
	m.mu.Lock()
	m.staged[dir] = true
	m.mu.Unlock()
	return point, nil
}

// publish makes the volume ready for one pod. The driver is looked up anew: it may have been registered again since.
func (m *Manager) publish(ctx context.Context, driver string, v *Volume, s *source, spec *storagev1.CSIDriverSpec, rec record, use *csipb.VolumeCapability, published map[string]string, staging string) error {
	d, ok := m.driver(driver)
	if !ok {
		return &claims.Waiting{Message: fmt.Sprintf("kubernetes.io/csi: driver name %s not found in the list of registered CSI drivers", driver)}
	}
	secrets, err := m.secret(ctx, s.publishSecret)
	if err != nil {
		return err
	}
	attributes := map[string]string{}
	for k, x := range s.attributes {
		attributes[k] = x
	}
	if *spec.PodInfoOnMount {
		for k, x := range podInfo(v.Pod, s.ephemeral) {
			attributes[k] = x
		}
	}
	if len(spec.TokenRequests) > 0 {
		tokens, err := m.tokens(ctx, v.Pod, spec.TokenRequests)
		if err != nil {
			return err
		}
		if *spec.ServiceAccountTokenInSecrets {
			if secrets == nil {
				secrets = map[string]string{}
			}
			secrets[tokensKey] = tokens
		} else {
			attributes[tokensKey] = tokens
		}
	}
	dir := m.paths.published(string(v.Pod.UID), s.name)
	if err := writeRecord(dir, rec); err != nil {
		return err
	}
	req := &csipb.NodePublishVolumeRequest{VolumeId: s.handle, PublishContext: published, TargetPath: m.paths.view(filepath.Join(dir, "mount"), d.endpoint),
		VolumeCapability: use, Readonly: s.readOnly, Secrets: secrets, VolumeContext: attributes}
	if staging != "" {
		req.StagingTargetPath = m.paths.view(staging, d.endpoint)
	}
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	if _, err := d.node().NodePublishVolume(ctx, req); err != nil {
		return told(err)
	}
	return nil
}

func (m *Manager) tokens(ctx context.Context, pod *corev1.Pod, requests []storagev1.TokenRequest) (string, error) {
	if m.cfg.Token == nil {
		return "", errors.New("the driver asks for tokens, and none are issued here")
	}
	out := map[string]authv1.TokenRequestStatus{}
	for _, r := range requests {
		token, expires, err := m.cfg.Token(ctx, pod, r.Audience, r.ExpirationSeconds)
		if err != nil {
			return "", fmt.Errorf("token for audience %q: %w", r.Audience, err)
		}
		out[r.Audience] = authv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	}
	return tokenJSON(out)
}

func (m *Manager) secret(ctx context.Context, ref *corev1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	s, err := m.cfg.Client.CoreV1().Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("fetch secret %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	out := map[string]string{}
	for k, b := range s.Data {
		out[k] = string(b)
	}
	return out, nil
}

// told is what a driver says, without the transport's words where there are its own.
func told(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unavailable {
		return fmt.Errorf("rpc error: code = %s desc = %s", s.Code(), s.Message())
	}
	return err
}

// Unmount unpublishes what a pod has, and unstages what no other pod of the node has. It may be called again, and does nothing for
// a pod without volumes. The pod's containers must have ended.
func (m *Manager) Unmount(ctx context.Context, podUID string) error {
	records, err := m.paths.publications(podUID)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range records {
		if r.Attachment != "" {
			defer m.reported(ctx)
			break
		}
	}
	for dir, r := range records {
		if err := m.unpublish(ctx, dir, r); err != nil {
			errs = append(errs, fmt.Errorf("UnmountVolume.TearDown failed for volume %q : %w", r.Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	// A folder without a record is from before the driver was asked for anything.
	empty, _ := filepath.Glob(filepath.Join(escape(m.paths.published(podUID, "")), "*"))
	for _, dir := range empty {
		if err := forget(dir, "mount"); err != nil {
			return err
		}
	}
	for _, d := range []string{filepath.Join(m.paths.pods(), podUID, "volumes", "kubernetes.io~csi"), filepath.Join(m.paths.pods(), podUID, "volumes"), filepath.Join(m.paths.pods(), podUID)} {
		_ = os.Remove(d) // whatever is in it stays
	}
	return nil
}

func (m *Manager) unpublish(ctx context.Context, dir string, r record) error {
	unlock, err := m.locks.lock(ctx, r.Driver+"^"+r.Handle)
	if err != nil {
		return err
	}
	defer unlock()
	d, ok := m.driver(r.Driver)
	if !ok {
		return fmt.Errorf("kubernetes.io/csi: driver name %s not found in the list of registered CSI drivers", r.Driver)
	}
	call, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	point := filepath.Join(dir, "mount")
	if _, err := d.node().NodeUnpublishVolume(call, &csipb.NodeUnpublishVolumeRequest{VolumeId: r.Handle, TargetPath: m.paths.view(point, d.endpoint)}); err != nil && status.Code(err) != codes.NotFound {
		return told(err)
	}
	if err := forget(dir, "mount"); err != nil {
		return err
	}
	return m.unstageIfUnused(ctx, d, r)
}

// unstage takes the volume off the node. The caller has its lock, and no pod has the volume.
func (m *Manager) unstage(ctx context.Context, d *driver, handle string) error {
	dir := m.paths.staged(d.name, handle)
	if _, err := os.Stat(dir); err != nil {
		return nil // never staged
	}
	call, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	point := filepath.Join(dir, "globalmount")
	if d.stages {
		if _, err := d.node().NodeUnstageVolume(call, &csipb.NodeUnstageVolumeRequest{VolumeId: handle, StagingTargetPath: m.paths.view(point, d.endpoint)}); err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("UnmountDevice failed: %w", told(err))
		}
	}
	m.mu.Lock()
	delete(m.staged, dir)
	m.mu.Unlock()
	return forget(dir, "globalmount")
}

// reported says what is in use now. The node's next status says it, too, so an error is no harm.
func (m *Manager) reported(ctx context.Context) {
	if err := m.cfg.Report(ctx); err != nil {
		m.log.Debug("report volumes in use", "error", err)
	}
}

// unstageUnused unstages what no pod has: an unstaging that failed, or that nobody was left to ask for.
func (m *Manager) unstageUnused(ctx context.Context) error {
	dirs, _ := filepath.Glob(filepath.Join(escape(m.paths.root), "plugins", "kubernetes.io", "csi", "*", "*"))
	var errs []error
	for _, dir := range dirs {
		r, err := readRecord(dir)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		d, ok := m.driver(r.Driver)
		if !ok {
			continue
		}
		errs = append(errs, m.unstageOne(ctx, d, r))
	}
	return errors.Join(errs...)
}

func (m *Manager) unstageOne(ctx context.Context, d *driver, r record) error {
	unlock, err := m.locks.lock(ctx, r.Driver+"^"+r.Handle)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.unstageIfUnused(ctx, d, r); err != nil {
		return err
	}
	if _, err := os.Stat(m.paths.staged(r.Driver, r.Handle)); err != nil && r.Attachment != "" {
		m.reported(ctx)
	}
	return nil
}

// unstageIfUnused has the volume's lock, so no pod is about to get it.
func (m *Manager) unstageIfUnused(ctx context.Context, d *driver, r record) error {
	all, err := m.paths.publications("")
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Driver == r.Driver && other.Handle == r.Handle {
			return nil
		}
	}
	return m.unstage(ctx, d, r.Handle)
}

// InUse are the attached volumes that a Node's status.volumesInUse names: they must not be detached from it.
func (m *Manager) InUse() []corev1.UniqueVolumeName {
	records, _ := m.paths.publications("")
	var out []corev1.UniqueVolumeName
	for _, r := range records {
		if r.Attachment != "" {
			out = append(out, inUse(r.Driver, r.Handle))
		}
	}
	staged, _ := filepath.Glob(filepath.Join(escape(m.paths.root), "plugins", "kubernetes.io", "csi", "*", "*"))
	for _, dir := range staged {
		if r, err := readRecord(dir); err == nil && r.Attachment != "" {
			out = append(out, inUse(r.Driver, r.Handle))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Stats are a volume's, in bytes and in files; what the driver doesn't say is 0.
type Stats struct {
	Namespace, Claim               string // "" for inline volumes
	Capacity, Used, Available      int64
	Inodes, InodesUsed, InodesFree int64
}

// Usage asks the drivers what the published volumes hold.
func (m *Manager) Usage(ctx context.Context) (out []Stats) {
	records, _ := m.paths.publications("")
	for dir, r := range records {
		d, ok := m.driver(r.Driver)
		if !ok || !d.measures {
			continue
		}
		call, cancel := context.WithTimeout(ctx, shortCall)
		req := &csipb.NodeGetVolumeStatsRequest{VolumeId: r.Handle, VolumePath: m.paths.view(filepath.Join(dir, "mount"), d.endpoint)}
		if d.stages {
			req.StagingTargetPath = m.paths.view(filepath.Join(m.paths.staged(r.Driver, r.Handle), "globalmount"), d.endpoint)
		}
		answer, err := d.node().NodeGetVolumeStats(call, req)
		cancel()
		if err != nil {
			m.once("statistics of "+r.Name, told(err))
			continue
		}
		s := Stats{Namespace: r.Namespace, Claim: r.Claim}
		for _, u := range answer.GetUsage() {
			switch u.GetUnit() {
			case csipb.VolumeUsage_BYTES:
				s.Capacity, s.Used, s.Available = u.GetTotal(), u.GetUsed(), u.GetAvailable()
			case csipb.VolumeUsage_INODES:
				s.Inodes, s.InodesUsed, s.InodesFree = u.GetTotal(), u.GetUsed(), u.GetAvailable()
			}
		}
		out = append(out, s)
	}
	return out
}

// Expand grows a published volume's filesystem to the size, in bytes. grown is false if the driver isn't here or has nothing to
// do on nodes.
func (m *Manager) Expand(ctx context.Context, podUID string, pv *corev1.PersistentVolume, size int64) (grown bool, err error) {
	c := pv.Spec.CSI
	d, ok := m.driver(c.Driver)
	if !ok || !d.expands {
		return false, nil
	}
	unlock, err := m.locks.lock(ctx, c.Driver+"^"+c.VolumeHandle)
	if err != nil {
		return false, err
	}
	defer unlock()
	call, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	secrets, err := m.secret(ctx, c.NodeExpandSecretRef)
	if err != nil {
		return false, err
	}
	mode := csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	if len(pv.Spec.AccessModes) > 0 {
		mode = AccessMode(pv.Spec.AccessModes[0], d.single)
	}
	req := &csipb.NodeExpandVolumeRequest{VolumeId: c.VolumeHandle, VolumePath: m.paths.view(filepath.Join(m.paths.published(podUID, pv.Name), "mount"), d.endpoint),
		CapacityRange: &csipb.CapacityRange{RequiredBytes: size}, VolumeCapability: capability(mode, c.FSType, pv.Spec.MountOptions, ""), Secrets: secrets}
	if d.stages {
		req.StagingTargetPath = m.paths.view(filepath.Join(m.paths.staged(c.Driver, c.VolumeHandle), "globalmount"), d.endpoint)
	}
	if _, err := d.node().NodeExpandVolume(call, req); err != nil {
		return false, told(err)
	}
	return true, nil
}
