package localpath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/runtime/internal/mirror"
)

// Config is what a Provisioner works with. Client, NodeName and Dir are required.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	Hostname string // the node's label kubernetes.io/hostname; "": NodeName
	Dir      string // holds the folders
	// Quota holds folders to their size; nil: that of the filesystem below Dir, if it has one.
	Quota Quota
	// InUse reports whether a pod of this machine still uses a volume as that of a claim, "namespace/name"; nil: none does.
	// A later claim of the same name has another volume.
	InUse func(claim, volume string) bool
	// Free is what may be promised yet, in bytes; nil: what is free on the filesystem.
	Free func() (int64, error)
	// Event writes an event about an object; nil: nobody is told.
	Event  func(about corev1.ObjectReference, kind, reason, message string)
	Logger *slog.Logger // nil discards
	Clock  func() time.Time
}

// Provisioner makes, grows and removes the node's folders. Make it with New.
type Provisioner struct {
	cfg     Config
	log     *slog.Logger
	claims  *mirror.Mirror[*corev1.PersistentVolumeClaim]
	volumes *mirror.Mirror[*corev1.PersistentVolume]
	classes *mirror.Mirror[*storagev1.StorageClass]
	changed chan struct{}
	lacking string // why there is no quota

	mu      sync.Mutex
	folders *Folders // nil until Run has opened it

	failures map[string]failure // by volume; the loop's alone
}

// failure says when a volume is tried again.
type failure struct {
	pause time.Duration
	until time.Time
	said  string
}

// The pauses after failures, and how often everything is looked at without a reason.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	period     = 30 * time.Second
)

// New checks the configuration and starts nothing.
func New(cfg Config) (*Provisioner, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Dir == "" {
		return nil, errors.New("localpath: Config.Client, NodeName and Dir are required")
	}
	if cfg.Hostname == "" {
		cfg.Hostname = cfg.NodeName
	}
	if cfg.InUse == nil {
		cfg.InUse = func(string, string) bool { return false }
	}
	if cfg.Event == nil {
		cfg.Event = func(corev1.ObjectReference, string, string, string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	p := &Provisioner{cfg: cfg, log: cfg.Logger, changed: make(chan struct{}, 1), failures: map[string]failure{}}
	core, storage := cfg.Client.CoreV1(), cfg.Client.StorageV1()
	p.claims = &mirror.Mirror[*corev1.PersistentVolumeClaim]{What: "claims", Log: p.log,
		List: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return core.PersistentVolumeClaims("").List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return core.PersistentVolumeClaims("").Watch(ctx, o)
		},
		Keep: func(c *corev1.PersistentVolumeClaim) bool {
			return c.Annotations[AnnotationSelectedNode] == cfg.NodeName
		},
		Change: func(context.Context, *corev1.PersistentVolumeClaim, bool) { p.wake() },
	}
	p.volumes = &mirror.Mirror[*corev1.PersistentVolume]{What: "volumes", Log: p.log,
		List: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return core.PersistentVolumes().List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return core.PersistentVolumes().Watch(ctx, o)
		},
		Keep:   func(v *corev1.PersistentVolume) bool { return Ours(v, cfg.Hostname) },
		Change: func(context.Context, *corev1.PersistentVolume, bool) { p.wake() },
	}
	p.classes = &mirror.Mirror[*storagev1.StorageClass]{What: "storage classes", Log: p.log,
		List: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return storage.StorageClasses().List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return storage.StorageClasses().Watch(ctx, o)
		},
		Keep:   func(c *storagev1.StorageClass) bool { return c.Provisioner == Name },
		Change: func(context.Context, *storagev1.StorageClass, bool) { p.wake() },
	}
	return p, nil
}

func (p *Provisioner) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Run provisions until ctx ends. It returns an error if the folders or their records can't be read.
func (p *Provisioner) Run(ctx context.Context) error {
	quota, lacking := p.cfg.Quota, ""
	if quota == nil {
		quota, lacking = DetectQuota(p.cfg.Dir)
	}
	folders, err := OpenFolders(p.cfg.Dir, quota)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.folders, p.lacking = folders, lacking
	p.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { p.claims.Run(ctx); return nil })
	g.Go(func() error { p.volumes.Run(ctx); return nil })
	g.Go(func() error { p.classes.Run(ctx); return nil })
	g.Go(func() error {
		// Without complete lists a folder that is in use would seem to be nobody's.
		for _, first := range []<-chan struct{}{p.claims.First(), p.volumes.First(), p.classes.First()} {
			select {
			case <-first:
			case <-ctx.Done():
				return nil
			}
		}
		p.loop(ctx)
		return nil
	})
	return g.Wait()
}

func (p *Provisioner) loop(ctx context.Context) {
	for {
		wait := period
		now := p.cfg.Clock()
		for _, a := range Decide(p.state()) {
			if ctx.Err() != nil {
				return
			}
			f := p.failures[a.Name]
			if d := f.until.Sub(now); d > 0 {
				wait = min(wait, d)
				continue
			}
			if err := p.do(ctx, a); err != nil {
				f.pause = min(max(2*f.pause, firstPause), lastPause)
				f.until = p.cfg.Clock().Add(f.pause)
				wait = min(wait, f.pause)
				if said := err.Error(); said != f.said {
					f.said = said
					p.tell(a, err)
				}
				p.failures[a.Name] = f
				p.log.Debug("volume", "action", a.Kind.String(), "volume", a.Name, "error", err)
				continue
			}
			delete(p.failures, a.Name)
		}
		for name, f := range p.failures { // of what is over
			if now.Sub(f.until) > 2*lastPause {
				delete(p.failures, name)
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-p.changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func (p *Provisioner) state() *State {
	s := &State{Node: p.cfg.NodeName, Claims: p.claims.Snapshot(), Volumes: p.volumes.Snapshot(), Classes: map[string]*storagev1.StorageClass{},
		Records: p.folders.Records()}
	for _, c := range p.classes.Snapshot() {
		s.Classes[c.Name] = c
	}
	return s
}

// tell writes the event of a failure.
func (p *Provisioner) tell(a Action, err error) {
	switch a.Kind {
	case Provision:
		p.cfg.Event(claimRef(a.Claim), corev1.EventTypeWarning, "ProvisioningFailed",
			fmt.Sprintf("failed to provision volume with StorageClass %q: %v", a.Class.Name, err))
	case Expand:
		p.cfg.Event(claimRef(a.Claim), corev1.EventTypeWarning, "VolumeResizeFailed", fmt.Sprintf("resize volume %q failed: %v", a.Name, err))
	case Remove:
		p.cfg.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolume", Name: a.Name, UID: a.Volume.UID}, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
	default:
		p.log.Warn("volume", "action", a.Kind.String(), "volume", a.Name, "error", err)
	}
}

func claimRef(c *corev1.PersistentVolumeClaim) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion}
}

// do carries one action out. What the mirrors said may be old: before something is lost the API is asked again.
func (p *Provisioner) do(ctx context.Context, a Action) error {
	switch a.Kind {
	case Provision:
		return p.provision(ctx, a)
	case Confirm:
		return p.folders.Confirm(a.Name)
	case Abandon:
		v, err := p.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, a.Name, metav1.GetOptions{})
		if err == nil && Ours(v, p.cfg.Hostname) {
			return nil // the mirror will say so, too
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return p.remove(a.Name)
	case Remove:
		return p.delete(ctx, a)
	case Keep:
		return p.unhold(ctx, a.Name, func(v *corev1.PersistentVolume) bool {
			return v.DeletionTimestamp != nil && v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete
		})
	case Expand:
		return p.expand(ctx, a)
	}
	return nil
}

func (p *Provisioner) remove(name string) error {
	if r, ok := p.folders.Record(name); ok && p.cfg.InUse(r.Claim, name) {
		return fmt.Errorf("persistentvolume %s is still used by a pod of this node", name)
	}
	if err := p.folders.Remove(name); err != nil {
		return err
	}
	return p.folders.Forget(name)
}

func (p *Provisioner) provision(ctx context.Context, a Action) error {
	if a.Refusal != "" {
		return errors.New(a.Refusal)
	}
	core := p.cfg.Client.CoreV1()
	claim, err := core.PersistentVolumeClaims(a.Claim.Namespace).Get(ctx, a.Claim.Name, metav1.GetOptions{})
	if err != nil || claim.UID != a.Claim.UID || claim.DeletionTimestamp != nil || claim.Annotations[AnnotationSelectedNode] != p.cfg.NodeName {
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return err // the mirror will say so, too
	}
	asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if free, err := p.free(); err == nil && asked.Value() > free {
		// The scheduler is to choose again, another node perhaps.
		err := fmt.Errorf("not enough free space on node %s: %s is asked for, %d MiB are free", p.cfg.NodeName, asked.String(), free>>20)
		claim = claim.DeepCopy()
		delete(claim.Annotations, AnnotationSelectedNode)
		_, uerr := core.PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
		return errors.Join(err, uerr)
	}
	if p.failures[a.Name].pause == 0 {
		p.cfg.Event(claimRef(claim), corev1.EventTypeNormal, "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", claim.Namespace+"/"+claim.Name))
	}
	limited, err := p.folders.Make(Record{Name: a.Name, Claim: claim.Namespace + "/" + claim.Name, UID: string(claim.UID), Bytes: asked.Value()})
	if err != nil {
		return err
	}
	if limited != "project" && p.lacking != "" {
		limited = "none: " + p.lacking
	}
	v := Volume(claim, a.Class, p.folders.Path(a.Name), p.cfg.Hostname, limited)
	if _, err := core.PersistentVolumes().Create(ctx, v, metav1.CreateOptions{}); err != nil {
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		old, gerr := core.PersistentVolumes().Get(ctx, v.Name, metav1.GetOptions{})
		if gerr != nil {
			return gerr
		}
		if !Ours(old, p.cfg.Hostname) {
			// Another node was selected before, and was quicker: that folder is the claim's, and this one nobody's.
			return p.remove(a.Name)
		}
		return p.folders.Confirm(a.Name)
	}
	if err := p.folders.Confirm(a.Name); err != nil {
		return err
	}
	p.cfg.Event(claimRef(claim), corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume "+a.Name)
	return nil
}

func (p *Provisioner) delete(ctx context.Context, a Action) error {
	api := p.cfg.Client.CoreV1().PersistentVolumes()
	v, err := api.Get(ctx, a.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.UID != a.Volume.UID || !Ours(v, p.cfg.Hostname) || !removable(v) {
		return nil
	}
	if ref := v.Spec.ClaimRef; ref != nil {
		claim, err := p.cfg.Client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && claim.UID == ref.UID {
			return fmt.Errorf("claim %s/%s is still there", ref.Namespace, ref.Name)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if ref := v.Spec.ClaimRef; ref != nil && p.cfg.InUse(ref.Namespace+"/"+ref.Name, a.Name) {
		return fmt.Errorf("persistentvolume %s is still used by a pod of this node", a.Name)
	}
	if err := p.folders.Remove(a.Name); err != nil {
		return err
	}
	if err := api.Delete(ctx, a.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &v.UID}}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err := p.unhold(ctx, a.Name, func(*corev1.PersistentVolume) bool { return true }); err != nil {
		return err
	}
	return p.folders.Forget(a.Name)
}

// unhold takes the finalizer off a volume that is still as it was meant to be.
func (p *Provisioner) unhold(ctx context.Context, name string, still func(*corev1.PersistentVolume) bool) error {
	api := p.cfg.Client.CoreV1().PersistentVolumes()
	v, err := api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (!still(v) || !slices.Contains(v.Finalizers, Finalizer)) {
		return nil
	}
	if err != nil {
		return err
	}
	v = v.DeepCopy()
	v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == Finalizer })
	if _, err = api.Update(ctx, v, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		err = nil
	}
	return err
}

func (p *Provisioner) expand(ctx context.Context, a Action) error {
	core := p.cfg.Client.CoreV1()
	asked := a.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
	v, err := core.PersistentVolumes().Get(ctx, a.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	has := v.Spec.Capacity[corev1.ResourceStorage]
	if more := asked.Value() - has.Value(); more > 0 {
		if free, err := p.free(); err == nil && more > free {
			return fmt.Errorf("not enough free space on node %s: %d MiB more are asked for, %d MiB are free", p.cfg.NodeName, more>>20, free>>20)
		}
		if err := p.folders.Resize(a.Name, asked.Value()); err != nil {
			return err
		}
		v = v.DeepCopy()
		v.Spec.Capacity[corev1.ResourceStorage] = asked
		if _, err := core.PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	claim, err := core.PersistentVolumeClaims(a.Claim.Namespace).Get(ctx, a.Claim.Name, metav1.GetOptions{})
	if err != nil || claim.UID != a.Claim.UID {
		return err
	}
	claim = Grown(claim, asked)
	if _, err := core.PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{}); err != nil {
		return err
	}
	p.cfg.Event(claimRef(claim), corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}

// Grown is the claim whose volume has grown: nothing of its resizing is left to do.
func Grown(c *corev1.PersistentVolumeClaim, to resource.Quantity) *corev1.PersistentVolumeClaim {
	c = c.DeepCopy()
	if c.Status.Capacity == nil {
		c.Status.Capacity = corev1.ResourceList{}
	}
	c.Status.Capacity[corev1.ResourceStorage] = to
	if c.Status.AllocatedResources != nil {
		c.Status.AllocatedResources[corev1.ResourceStorage] = to
	}
	delete(c.Status.AllocatedResourceStatuses, corev1.ResourceStorage)
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(x corev1.PersistentVolumeClaimCondition) bool {
		switch x.Type {
		case corev1.PersistentVolumeClaimResizing, corev1.PersistentVolumeClaimFileSystemResizePending,
			corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError:
			return true
		}
		return false
	})
	return c
}

func (p *Provisioner) free() (int64, error) {
	if p.cfg.Free != nil {
		return p.cfg.Free()
	}
	return freeBytes(p.cfg.Dir)
}

// Usage is what a volume of this node holds, in bytes, and what it may hold. ok is false for volumes of others.
func (p *Provisioner) Usage(ctx context.Context, volume string) (used, limit int64, ok bool) {
	p.mu.Lock()
	f := p.folders
	p.mu.Unlock()
	if f == nil {
		return 0, 0, false
	}
	r, ok := f.Record(volume)
	if !ok {
		return 0, 0, false
	}
	used, err := f.Usage(ctx, volume)
	return used, r.Bytes, err == nil
}
