package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/runtime/claims"
	"github.com/pintle/pintle/runtime/csi"
	"github.com/pintle/pintle/runtime/fsgroup"
)

// persistentVolumes are those of a pod's volumes that somebody else provides: claims' and CSI drivers'. They are made ready on a
// goroutine of their own, for a claim, an attachment or a driver may take minutes, and neither this pod's end nor another
// pod's start is to wait for that.
type persistentVolumes struct {
	w *worker

	mu      sync.Mutex
	busy    bool
	stop    context.CancelFunc // of the try that runs
	ended   bool               // no try is made any more
	err     error              // of the last try, until it was told
	mounted map[string]mountedVolume
}

// mountedVolume is where a volume lies on this machine.
type mountedVolume struct {
	path     string
	readOnly bool
	shared   bool // as Mount.HostVolume
	driver   bool // a driver's
	// claim and volume are the names of what it is, for a claim's.
	claim, volume string
	// republish makes the volume ready again, for drivers that ask for it; nil: nothing is to do.
	republish func(context.Context) error
}

// provided reports whether the pod has any such volume.
func provided(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if isProvided(pod, &pod.Spec.Volumes[i]) {
			return true
		}
	}
	return false
}

func isProvided(pod *corev1.Pod, v *corev1.Volume) bool {
	_, _, claimed := claims.Of(pod, v)
	return claimed || v.CSI != nil
}

// ready reports whether all volumes are ready. If not, and no try runs, it starts one, which wakes the worker when it ends; the
// error is that of the try that ended last, and is told once.
func (p *persistentVolumes) ready(ctx context.Context, pod *corev1.Pod, ran bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mounted != nil {
		return true, nil
	}
	if err := p.err; err != nil || p.busy || p.ended {
		p.err = nil
		return false, err
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.busy = true
	stop := p.stop
	p.w.wg.Go(func() {
		defer p.w.wake()
		defer stop()
		mounted, err := p.w.a.provide(ctx, pod, ran)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
		if err != nil {
			p.err = err
		} else {
			p.mounted = mounted
		}
	})
	return false, nil
}

// renew does what drivers ask for again and again: they publish anew, and grow what grew. It does nothing while that runs still.
func (p *persistentVolumes) renew(ctx context.Context, pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || p.ended || p.mounted == nil {
		return
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.busy = true
	stop, mounted := p.stop, p.mounted
	p.w.wg.Go(func() {
		defer p.w.wake()
		defer stop()
		for name, m := range mounted {
			var errs []error
			if m.republish != nil {
				errs = append(errs, m.republish(ctx))
			}
			if m.driver && m.claim != "" {
				errs = append(errs, p.w.a.growFilesystem(ctx, pod, m))
			}
			if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
				p.w.event(pod, corev1.EventTypeWarning, "FailedMount", (&volumeError{name, err}).Error())
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
	})
}

// renewed reports whether there is anything to renew.
func (p *persistentVolumes) renewed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mounted {
		if m.driver {
			return true
		}
	}
	return false
}

// end cancels what runs and reports whether nothing does any more. Nothing starts afterwards.
func (p *persistentVolumes) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.busy {
		p.stop()
	}
	return !p.busy
}

// any reports whether volumes are ready, or about to be.
func (p *persistentVolumes) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy || p.mounted != nil && !p.ended
}

func (p *persistentVolumes) get(volume string) (mountedVolume, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.mounted[volume]
	return m, ok
}

// volumeOf is the volume that the pod has for a claim; "": not known yet.
func (p *persistentVolumes) volumeOf(claim string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mounted {
		if m.claim == claim {
			return m.volume
		}
	}
	return ""
}

// volumeError says which volume isn't ready, and why.
type volumeError struct {
	volume string
	err    error
}

func (e *volumeError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.volume, e.err)
}

func (e *volumeError) Unwrap() error { return e.err }

// provide makes the pod's persistent volumes ready, or says what all of them lack.
func (a *Agent) provide(ctx context.Context, pod *corev1.Pod, ran bool) (map[string]mountedVolume, error) {
	out := map[string]mountedVolume{}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !isProvided(pod, v) {
			continue
		}
		m, err := a.provideOne(ctx, pod, v, ran)
		if err != nil {
			errs = append(errs, &volumeError{v.Name, err})
			continue
		}
		out[v.Name] = m
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func (a *Agent) provideOne(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, ran bool) (mountedVolume, error) {
	var none mountedVolume
	name, _, claimed := claims.Of(pod, v)
	if !claimed {
		return a.mountDriver(ctx, csi.Volume{Pod: pod, Name: v.Name, Inline: v.CSI})
	}
	core := a.cfg.Client.CoreV1()
	claim, err := core.PersistentVolumeClaims(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return none, fmt.Errorf("error processing PVC %s/%s: failed to fetch PVC from API server: %w", pod.Namespace, name, err)
	}
	if err := claims.Claimed(pod, v, claim, ran); err != nil {
		return none, err
	}
	pv, err := core.PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return none, fmt.Errorf("failed to fetch PV %s from API server: %w", claim.Spec.VolumeName, err)
	}
	a.mu.Lock()
	node := a.node
	a.mu.Unlock()
	m, err := claims.Decide(pod, v, claim, pv, node)
	if err != nil {
		return none, err
	}
	if claims.Exclusive(claim) {
		if err := a.reserve(pod, claim); err != nil {
			return none, err
		}
	}
	if m.CSI != nil {
		return a.mountDriver(ctx, csi.Volume{Pod: pod, Name: v.Name, PV: pv, Claim: claim, ReadOnly: m.ReadOnly})
	}
	m.Path = a.hostPath(m.Path)
	if m.HostPath != nil {
		if err := checkHostPath(&corev1.HostPathVolumeSource{Path: m.Path, Type: m.HostPath}); err != nil {
			return none, err
		}
	} else if info, err := os.Stat(m.Path); err != nil {
		return none, fmt.Errorf("MountVolume.NewMounter initialization failed for volume %q : path %q does not exist", pv.Name, m.Path)
	} else if !info.IsDir() {
		return none, fmt.Errorf("local volume %s: %q is no folder, and devices are not formatted and mounted by this node: mount it and name the folder", pv.Name, m.Path)
	}
	if g := fsGroup(pod); g != nil && !m.Shared && !m.ReadOnly {
		if err := fsgroup.Apply(ctx, m.Path, *g, false, pod.Spec.SecurityContext.FSGroupChangePolicy); err != nil {
			return none, err
		}
	}
	return mountedVolume{path: m.Path, readOnly: m.ReadOnly, shared: m.Shared, claim: name, volume: pv.Name}, nil
}

// reserve gives a claim with the access mode ReadWriteOncePod to one pod of this node, until the pod's volumes are gone.
func (a *Agent) reserve(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) error {
	for _, w := range a.allWorkers() {
		if w.uid == pod.UID || w.namespace != pod.Namespace || !w.hasSandbox() || !w.names(claim.Name) {
			continue // what those without a sandbox reserved is in exclusive
		}
		return &claims.Waiting{Message: fmt.Sprintf("volume uses the ReadWriteOncePod access mode and is already in use by another pod (%s)", w.name)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.exclusive == nil {
		a.exclusive = map[types.UID]types.UID{}
	}
	if by, ok := a.exclusive[claim.UID]; ok && by != pod.UID {
		return &claims.Waiting{Message: "volume uses the ReadWriteOncePod access mode and is already in use by another pod"}
	}
	a.exclusive[claim.UID] = pod.UID
	return nil
}

// hasSandbox reports whether the pod has one, and with it its volumes.
func (w *worker) hasSandbox() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.box != nil
}

// names reports whether the pod names the claim.
func (w *worker) names(claim string) bool { return slices.Contains(claims.Names(w.pod()), claim) }

// release takes back what the pod reserved.
func (a *Agent) release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for claim, by := range a.exclusive {
		if by == uid {
			delete(a.exclusive, claim)
		}
	}
}

// How soon the volumes that wait for somebody are looked at again, and how often the same is said.
const (
	mountRetry = 300 * time.Millisecond
	mountSaid  = 30 * time.Second
)

// tellMount says in events why the volumes aren't ready, and chooses when to try again.
func (w *worker) tellMount(pod *corev1.Pod, err error) {
	reason, message := "FailedMount", err.Error()
	var attach *csi.AttachError
	if errors.As(err, &attach) {
		reason, message = "FailedAttachVolume", attach.Error()
	}
	now := w.a.cfg.Clock()
	if key := "mount/" + message; now.Sub(w.said[key]) > mountSaid {
		w.said[key] = now
		w.event(pod, corev1.EventTypeWarning, reason, message)
	}
	if errors.As(err, new(*claims.Waiting)) {
		w.retry[""] = now.Add(mountRetry)
		return
	}
	w.fail("", 500*time.Millisecond)
}
