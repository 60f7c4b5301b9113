package persistentvolume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "persistentvolume-controller"

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
	index  *index // nil: everything is looked at
}

// New makes the controller. Its keys name claims and volumes.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env.WithDefaults(), events, newIndex()}
	return &reconcile.Controller{Name: name, Workers: workers, AfterSync: true, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.PersistentVolumeClaims(), Map: c.claimChanged}, {Resource: reconcile.PersistentVolumes(), Map: c.volumeChanged},
		{Resource: reconcile.StorageClasses(), Map: c.classChanged}, {Resource: reconcile.Pods(), Map: c.podChanged},
	}}
}

func claimKey(namespace, name string) reconcile.Key {
	return reconcile.Key{Resource: reconcile.PersistentVolumeClaims(), Namespace: namespace, Name: name}
}

func volumeKey(name string) reconcile.Key {
	return reconcile.Key{Resource: reconcile.PersistentVolumes(), Name: name}
}

// claimChanged looks at the claim, and at the volumes that name it, or that it names.
func (s *shell) claimChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	c, ok := e.Object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return nil
	}
	old, _ := e.Old.(*corev1.PersistentVolumeClaim)
	if e.Type != watch.Deleted {
		s.index.claim(old, c)
		enqueue(claimKey(c.Namespace, c.Name))
	} else {
		s.index.claim(c, nil)
		for _, v := range s.index.naming(nameOf(c)) {
			enqueue(volumeKey(v))
		}
	}
	if c.Spec.VolumeName != "" {
		enqueue(volumeKey(c.Spec.VolumeName))
	}
	return nil
}

// volumeChanged looks at the volume and its claim; one that has become free wakes the claims that may have it.
func (s *shell) volumeChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	v, ok := e.Object.(*corev1.PersistentVolume)
	if !ok {
		return nil
	}
	old, _ := e.Old.(*corev1.PersistentVolume)
	gone := e.Type == watch.Deleted
	if gone {
		s.index.volume(old, nil)
		s.index.volume(v, nil)
	} else {
		s.index.volume(old, v)
		enqueue(volumeKey(v.Name))
	}
	wake := func(classes ...string) {
		for _, c := range s.index.claimsFor(v.Name, classes...) {
			enqueue(claimKey(c.Namespace, c.Name))
		}
	}
	switch ref := v.Spec.ClaimRef; {
	case ref != nil:
		enqueue(claimKey(ref.Namespace, ref.Name))
		if gone || old == nil {
			wake() // those that name it
		}
	case gone:
		wake()
	case !free(v):
	case old == nil || !free(old) || api.VolumeClass(old) != api.VolumeClass(v) || !apiequality.Semantic.DeepEqual(old.Spec, v.Spec) || !apiequality.Semantic.DeepEqual(old.Labels, v.Labels):
		classes := []string{api.VolumeClass(v)}
		if classes[0] == "" {
			classes = append(classes, noClass)
		}
		wake(classes...)
	}
	return nil
}

func free(v *corev1.PersistentVolume) bool {
	return v.Spec.ClaimRef == nil && v.Status.Phase == corev1.VolumeAvailable
}

// classChanged wakes the claims that wait for the class, or for a default one.
func (s *shell) classChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	class, ok := e.Object.(*storagev1.StorageClass)
	if !ok || e.Type == watch.Deleted {
		return nil
	}
	classes := []string{class.Name}
	if api.IsDefaultStorageClass(class) {
		classes = append(classes, noClass)
	}
	for _, c := range s.index.claimsFor("", classes...) {
		enqueue(claimKey(c.Namespace, c.Name))
	}
	return nil
}

// podChanged has claims say which pod they wait for.
func (s *shell) podChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	s.index.pod(pod, e.Type == watch.Deleted)
	if e.Type == watch.Added && pod.Spec.NodeName == "" {
		for _, u := range volumes.Uses(pod) {
			enqueue(claimKey(pod.Namespace, u.Claim))
		}
	}
	return nil
}

func (s *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	if k.Resource == reconcile.PersistentVolumes() {
		return 0, s.volume(ctx, k)
	}
	return 0, s.claim(ctx, k)
}

func (s *shell) claim(ctx context.Context, k reconcile.Key) error {
	cl := s.env.Client
	c, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, cl, reconcile.PersistentVolumeClaims(), k.Namespace, k.Name)
	if err != nil || c == nil {
		return err
	}
	var lookup error
	todo := decideClaim(c, s.view(ctx, c, &lookup))
	if lookup != nil {
		return lookup
	}
	if todo.event != nil && (todo.phase != corev1.ClaimLost || c.Status.Phase != corev1.ClaimLost) {
		s.events.Emit(name, c, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), todo.event.typ, todo.event.reason, todo.event.message)
	}
	if todo.bind != nil {
		v, err := reconcile.Get[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", todo.bind.Name)
		if err != nil {
			return err
		}
		if v == nil || v.Spec.ClaimRef != nil && !volumes.BoundTo(v, c) { // it was a moment ago: decide again
			return apierrors.NewConflict(reconcile.PersistentVolumes().GroupResource(), todo.bind.Name, errors.New("it was given to another claim, or deleted, meanwhile"))
		}
		return s.bind(ctx, c, v)
	}
	if todo.class != "" || todo.provisioner != "" && (c.Annotations[volumes.StorageProvisioner] != todo.provisioner || c.Annotations[volumes.BetaStorageProvisioner] != todo.provisioner) {
		m := c.DeepCopy()
		if todo.class != "" {
			m.Spec.StorageClassName = &todo.class
		} else {
			metav1.SetMetaDataAnnotation(&m.ObjectMeta, volumes.StorageProvisioner, todo.provisioner)
			metav1.SetMetaDataAnnotation(&m.ObjectMeta, volumes.BetaStorageProvisioner, todo.provisioner)
		}
		updated, err := cl.Update(ctx, reconcile.PersistentVolumeClaims(), "", m)
		if err != nil {
			return ignoreGone(fmt.Errorf("write claim %s: %w", k, err))
		}
		c = updated.(*corev1.PersistentVolumeClaim)
	}
	return s.claimPhase(ctx, c, todo.phase, nil)
}

func (s *shell) view(ctx context.Context, c *corev1.PersistentVolumeClaim, failed *error) view {
	cl := s.env.Client
	note := func(err error) { *failed = errors.Join(*failed, err) }
	return view{
		volumes: func(reservedOnly bool) []*corev1.PersistentVolume {
			if s.index != nil {
				return s.index.volumesFor(c, reservedOnly)
			}
			all, err := reconcile.List[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", nil)
			note(err)
			return all
		},
		volume: func(name string) *corev1.PersistentVolume {
			v, err := reconcile.Get[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", name)
			note(err)
			return v
		},
		class: func(name string) *storagev1.StorageClass {
			if name == "" {
				return nil
			}
			class, err := reconcile.Get[*storagev1.StorageClass](ctx, cl, reconcile.StorageClasses(), "", name)
			note(err)
			return class
		},
		classes: func() []*storagev1.StorageClass {
			all, err := reconcile.List[*storagev1.StorageClass](ctx, cl, reconcile.StorageClasses(), "", nil)
			note(err)
			return all
		},
		waiting: func() []string {
			if s.index == nil {
				return nil
			}
			names := s.index.waiting(c)
			slices.Sort(names)
			return names
		},
	}
}

// bind makes volume and claim name each other, the volume first: who has that write has the volume.
func (s *shell) bind(ctx context.Context, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	cl := s.env.Client
	if m := volumes.BindVolume(v, c); m != nil {
		updated, err := cl.Update(ctx, reconcile.PersistentVolumes(), "", m)
		if err != nil {
			return fmt.Errorf("bind volume %s to claim %s/%s: %w", v.Name, c.Namespace, c.Name, err)
		}
		v = updated.(*corev1.PersistentVolume)
	}
	if err := s.volumePhase(ctx, v, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if m := volumes.BindClaim(c, v); m != nil {
		updated, err := cl.Update(ctx, reconcile.PersistentVolumeClaims(), "", m)
		if err != nil {
			return ignoreGone(fmt.Errorf("bind claim %s/%s to volume %s: %w", c.Namespace, c.Name, v.Name, err))
		}
		c = updated.(*corev1.PersistentVolumeClaim)
	}
	return s.claimPhase(ctx, c, corev1.ClaimBound, v)
}

// claimPhase writes a claim's phase, and what it got where that is new.
func (s *shell) claimPhase(ctx context.Context, c *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, v *corev1.PersistentVolume) error {
	m := c.DeepCopy()
	m.Status.Phase = phase
	switch {
	case v == nil && phase == corev1.ClaimPending:
		m.Status.AccessModes, m.Status.Capacity = nil, nil
	case v != nil:
		m.Status.AccessModes = v.Spec.AccessModes
		if c.Status.Phase != corev1.ClaimBound || len(c.Status.Capacity) == 0 { // of one that is bound, who resizes it says its capacity
			m.Status.Capacity = v.Spec.Capacity.DeepCopy()
		}
	}
	if apiequality.Semantic.DeepEqual(m.Status, c.Status) {
		return nil
	}
	if _, err := s.env.Client.Update(ctx, reconcile.PersistentVolumeClaims(), "status", m); err != nil {
		return ignoreGone(fmt.Errorf("write the phase of claim %s/%s: %w", c.Namespace, c.Name, err))
	}
	return nil
}

func (s *shell) volumePhase(ctx context.Context, v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) error {
	if v.Status.Phase == phase && v.Status.Message == message {
		return nil
	}
	m := v.DeepCopy()
	if m.Status.Phase != phase || m.Status.LastPhaseTransitionTime == nil {
		now := metav1.NewTime(s.env.Clock.Now())
		m.Status.LastPhaseTransitionTime = &now
	}
	m.Status.Phase, m.Status.Message = phase, message
	if _, err := s.env.Client.Update(ctx, reconcile.PersistentVolumes(), "status", m); err != nil {
		return ignoreGone(fmt.Errorf("write the phase of volume %s: %w", v.Name, err))
	}
	return nil
}

func (s *shell) volume(ctx context.Context, k reconcile.Key) error {
	cl := s.env.Client
	v, err := reconcile.Get[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", k.Name)
	if err != nil || v == nil {
		return err
	}
	var c *corev1.PersistentVolumeClaim
	if ref := v.Spec.ClaimRef; ref != nil {
		if c, err = reconcile.Get[*corev1.PersistentVolumeClaim](ctx, cl, reconcile.PersistentVolumeClaims(), ref.Namespace, ref.Name); err != nil {
			return err
		}
	}
	todo := decideVolume(v, c)
	if todo.event != nil {
		s.events.Emit(name, v, corev1.SchemeGroupVersion.WithKind("PersistentVolume"), todo.event.typ, todo.event.reason, todo.event.message)
	}
	if todo.unbind {
		updated, err := cl.Update(ctx, reconcile.PersistentVolumes(), "", volumes.UnbindVolume(v))
		if err != nil {
			return ignoreGone(fmt.Errorf("free volume %s: %w", v.Name, err))
		}
		v = updated.(*corev1.PersistentVolume)
	}
	if err := s.volumePhase(ctx, v, todo.phase, todo.message); err != nil {
		return err
	}
	if todo.claim {
		return s.claim(ctx, claimKey(c.Namespace, c.Name))
	}
	return nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
