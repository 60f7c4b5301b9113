package attachdetach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "attachdetach-controller"

type shell struct {
	env         reconcile.Env
	events      *reconcile.Recorder
	users       reconcile.Groups // by claim: pods
	attachments reconcile.Groups // by volume
	onNodes     reconcile.Groups // by node: volumes that are attached
}

// New makes the controller. Its keys name PersistentVolumes.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events}
	return &reconcile.Controller{Name: name, Workers: 1, AfterSync: true, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Pods(), Map: c.podChanged}, {Resource: reconcile.VolumeAttachments(), Map: c.attachmentChanged},
		{Resource: reconcile.PersistentVolumes(), Map: volumeChanged}, {Resource: reconcile.Nodes(), Map: c.nodeChanged},
		{Resource: reconcile.CSIDrivers(), Map: c.driverChanged}, {Resource: reconcile.PersistentVolumeClaims(), Map: claimChanged},
	}}
}

func key(volume string) reconcile.Key { return reconcile.Key{Name: volume} }

// podChanged looks at the volumes of a pod that has come to a node, has ended, or is gone.
func (s *shell) podChanged(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	for _, u := range volumes.Uses(pod) {
		if claim := (reconcile.Key{Namespace: pod.Namespace, Name: u.Claim}); e.Type == watch.Deleted {
			s.users.Drop(claim, reconcile.KeyOf(pod))
		} else {
			s.users.Put(claim, reconcile.KeyOf(pod))
		}
	}
	if old, ok := e.Old.(*corev1.Pod); ok && e.Type == watch.Modified && old.Spec.NodeName == pod.Spec.NodeName && reconcile.PodTerminal(old) == reconcile.PodTerminal(pod) {
		return nil
	}
	var errs []error
	for _, u := range volumes.Uses(pod) {
		c, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, s.env.Client, reconcile.PersistentVolumeClaims(), pod.Namespace, u.Claim)
		if errs = append(errs, err); c != nil && c.Spec.VolumeName != "" {
			enqueue(key(c.Spec.VolumeName))
		}
	}
	return errors.Join(errs...)
}

// attachmentChanged says that one is attached, and looks at its volume.
func (s *shell) attachmentChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	a, ok := e.Object.(*storagev1.VolumeAttachment)
	if !ok || a.Spec.Source.PersistentVolumeName == nil {
		return nil
	}
	volume := key(*a.Spec.Source.PersistentVolumeName)
	if e.Type == watch.Deleted {
		s.attachments.Drop(volume, reconcile.KeyOf(a))
		s.onNodes.Drop(key(a.Spec.NodeName), volume)
	} else {
		s.attachments.Put(volume, reconcile.KeyOf(a))
		s.onNodes.Put(key(a.Spec.NodeName), volume)
	}
	enqueue(volume)
	return nil
}

func volumeChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	if v, ok := e.Object.(*corev1.PersistentVolume); ok && v.Spec.CSI != nil && e.Type != watch.Modified {
		enqueue(key(v.Name))
	}
	return nil
}

// claimChanged looks at the volume that a claim has just got: a pod may be on its node already.
func claimChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	c, ok := e.Object.(*corev1.PersistentVolumeClaim)
	if old, before := e.Old.(*corev1.PersistentVolumeClaim); ok && c.Spec.VolumeName != "" && (!before || old.Spec.VolumeName == "") {
		enqueue(key(c.Spec.VolumeName))
	}
	return nil
}

// nodeChanged looks at what is attached to a node that is gone, or uses other volumes, or isn't ready.
func (s *shell) nodeChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	n, ok := e.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	if old, ok := e.Old.(*corev1.Node); ok && e.Type == watch.Modified && slices.Equal(old.Status.VolumesInUse, n.Status.VolumesInUse) &&
		readyOf(old).ready == readyOf(n).ready && readyOf(old).out() == readyOf(n).out() {
		return nil
	}
	for _, volume := range s.onNodes.Of(key(n.Name)) {
		enqueue(volume)
	}
	return nil
}

func (s *shell) driverChanged(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	all, err := reconcile.List[*corev1.PersistentVolume](ctx, s.env.Client, reconcile.PersistentVolumes(), "", nil)
	for _, v := range all {
		if v.Spec.CSI != nil && v.Spec.CSI.Driver == e.Object.GetName() {
			enqueue(key(v.Name))
		}
	}
	return err
}

func readyOf(n *corev1.Node) node {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return node{n, c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time}
		}
	}
	return node{Node: n}
}

func (s *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := s.env.Client
	v, err := reconcile.Get[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", k.Name)
	if err != nil || v == nil || v.Spec.CSI == nil { // of a volume that is gone whoever attached it detaches it
		return 0, err
	}
	driver, err := reconcile.Get[*storagev1.CSIDriver](ctx, cl, reconcile.CSIDrivers(), "", v.Spec.CSI.Driver)
	if err != nil {
		return 0, err
	}
	var lookup error
	var have []*storagev1.VolumeAttachment
	for _, k := range s.attachments.Of(k) {
		a, err := reconcile.Get[*storagev1.VolumeAttachment](ctx, cl, reconcile.VolumeAttachments(), "", k.Name)
		if err != nil {
			return 0, err
		}
		if a != nil {
			have = append(have, a)
		}
	}
	slices.SortFunc(have, func(a, b *storagev1.VolumeAttachment) int { return strings.Compare(a.Name, b.Name) })
	if !needsAttach(driver) && len(have) == 0 {
		return 0, nil
	}
	var wishes []wish
	if needsAttach(driver) {
		if wishes, err = s.wishes(ctx, v); err != nil {
			return 0, err
		}
	}
	todo := decide(v, wishes, have, func(name string) node {
		n, err := reconcile.Get[*corev1.Node](ctx, cl, reconcile.Nodes(), "", name)
		if lookup = errors.Join(lookup, err); n == nil {
			return node{}
		}
		return readyOf(n)
	}, s.env.Clock.Now())
	if lookup != nil {
		return 0, lookup
	}
	for _, e := range todo.events {
		s.events.Emit(name, e.pod, corev1.SchemeGroupVersion.WithKind("Pod"), e.typ, e.reason, e.message)
	}
	var errs []error
	for _, a := range todo.detach {
		uid := a.UID
		if err := cl.Delete(ctx, reconcile.VolumeAttachments(), "", a.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("detach volume %s from %s: %w", v.Name, a.Spec.NodeName, err))
		}
	}
	for _, a := range todo.attach {
		if _, err := cl.Create(ctx, reconcile.VolumeAttachments(), a); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("attach volume %s to %s: %w", v.Name, a.Spec.NodeName, err))
		}
	}
	s.tell(v, wishes, have)
	return todo.after, errors.Join(errs...)
}

// tell says to pods that their volume is attached, or why it isn't.
func (s *shell) tell(v *corev1.PersistentVolume, wishes []wish, have []*storagev1.VolumeAttachment) {
	for _, a := range have {
		for _, w := range wishes {
			if w.pod.Spec.NodeName != a.Spec.NodeName || w.pod.Status.Phase != corev1.PodPending {
				continue
			}
			gvk := corev1.SchemeGroupVersion.WithKind("Pod")
			switch e := a.Status.AttachError; {
			case a.Status.Attached:
				s.events.Emit(name, w.pod, gvk, corev1.EventTypeNormal, "SuccessfulAttachVolume", fmt.Sprintf("AttachVolume.Attach succeeded for volume %q ", v.Name))
			case e != nil:
				s.events.Emit(name, w.pod, gvk, corev1.EventTypeWarning, "FailedAttachVolume", fmt.Sprintf("AttachVolume.Attach failed for volume %q : %s", v.Name, e.Message))
			}
		}
	}
}

// wishes are the pods on nodes that use the volume.
func (s *shell) wishes(ctx context.Context, v *corev1.PersistentVolume) (out []wish, err error) {
	ref := v.Spec.ClaimRef
	if ref == nil {
		return nil, nil
	}
	c, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, s.env.Client, reconcile.PersistentVolumeClaims(), ref.Namespace, ref.Name)
	if err != nil || c == nil || c.Spec.VolumeName != v.Name || c.UID != ref.UID {
		return nil, err
	}
	for _, k := range s.users.Of(reconcile.KeyOf(c)) {
		p, err := reconcile.Get[*corev1.Pod](ctx, s.env.Client, reconcile.Pods(), k.Namespace, k.Name)
		if err != nil {
			return nil, err
		}
		if p == nil || p.Spec.NodeName == "" || reconcile.PodTerminal(p) {
			continue
		}
		if slices.ContainsFunc(volumes.Uses(p), func(u volumes.Use) bool { return u.Claim == c.Name }) {
			out = append(out, wish{p, v})
		}
	}
	slices.SortFunc(out, func(a, b wish) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	return out, nil
}
