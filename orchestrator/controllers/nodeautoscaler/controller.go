package nodeautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	// Name is the controller's name in events and metrics.
	Name = "cluster-autoscaler"
	// atLeast is between two looks, and busy while nodes are being returned.
	atLeast    = time.Second
	busy       = 2 * time.Second
	maxBackOff = 30 * time.Minute
	// maxEmpty is how many empty nodes are given back in one look. Of others, it is one at a time.
	maxEmpty = 10
)

// rest is a group that failed.
type rest struct {
	until time.Time
	wait  time.Duration
}

// shell remembers between looks what may be forgotten: another leader starts its clocks anew.
type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
	cfg    Config

	// One worker touches what follows.
	looked   time.Time
	asked    time.Time            // when a node was asked for last
	unneeded map[string]time.Time // by node: since when
	resting  map[string]rest      // by group
	coming   map[string]int       // by group, at the last look
	since    map[string]time.Time // by group: since when no node that is coming has joined
	told     map[types.UID]string // pods: why nothing was asked for
}

// New makes the controller.
func New(env reconcile.Env, events *reconcile.Recorder, cfg Config) *reconcile.Controller {
	cfg.Options = cfg.Options.withDefaults()
	c := &shell{env: env.WithDefaults(), events: events, cfg: cfg, unneeded: map[string]time.Time{}, resting: map[string]rest{},
		coming: map[string]int{}, since: map[string]time.Time{}, told: map[types.UID]string{}}
	all := reconcile.Key{Name: "all"}
	return &reconcile.Controller{Name: Name, Workers: 1, Reconcile: c.reconcile, Start: []reconcile.Key{all}, Watches: []reconcile.Watch{
		{Resource: reconcile.Pods(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			p, ok := e.Object.(*corev1.Pod)
			if ok && e.Type != watch.Deleted && p.Spec.NodeName == "" && len(p.Status.Conditions) > 0 {
				enqueue(all)
			}
			return nil
		}},
		{Resource: reconcile.Nodes(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if e.Type != watch.Modified {
				enqueue(all)
			}
			return nil
		}},
	}}
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	now := c.env.Clock.Now()
	if left := c.looked.Add(atLeast).Sub(now); !c.looked.IsZero() && left > 0 {
		return left, nil
	}
	c.looked = now
	w, err := c.read(ctx, now)
	if err != nil {
		return 0, err
	}
	var errs []error
	errs = append(errs, c.awaited(ctx, w))
	grew, err := c.grow(ctx, w)
	errs = append(errs, err)
	returning, err := c.returnNodes(ctx, w)
	errs = append(errs, err)
	if !grew {
		started, err := c.shrink(ctx, w, returning)
		errs = append(errs, err)
		returning += started
	}
	if returning > 0 {
		return busy, errors.Join(errs...)
	}
	return c.cfg.Options.ScanInterval, errors.Join(errs...)
}

func (c *shell) read(ctx context.Context, now time.Time) (w *world, err error) {
	w = &world{now: now, options: c.cfg.Options, gangs: map[string]int{}, resting: map[string]bool{}}
	if w.groups, err = c.cfg.Provider.Groups(ctx); err != nil {
		return nil, fmt.Errorf("node groups: %w", err)
	}
	w.groups = slices.DeleteFunc(slices.Clone(w.groups), func(g Group) bool { return g.Template == nil })
	for _, g := range w.groups {
		w.resting[g.Name] = now.Before(c.resting[g.Name].until)
	}
	cl := c.env.Client
	if w.nodes, err = reconcile.List[*corev1.Node](ctx, cl, reconcile.Nodes(), "", nil); err != nil {
		return nil, err
	}
	if w.pods, err = reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), "", nil); err != nil {
		return nil, err
	}
	if w.namespaces, err = reconcile.List[*corev1.Namespace](ctx, cl, reconcile.Namespaces(), "", nil); err != nil {
		return nil, err
	}
	if w.budgets, err = reconcile.List[*policyv1.PodDisruptionBudget](ctx, cl, reconcile.PodDisruptionBudgets(), "", nil); err != nil {
		return nil, err
	}
	if w.claims, err = reconcile.List[*corev1.PersistentVolumeClaim](ctx, cl, reconcile.PersistentVolumeClaims(), "", nil); err != nil {
		return nil, err
	}
	if w.volumes, err = reconcile.List[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", nil); err != nil {
		return nil, err
	}
	if w.classes, err = reconcile.List[*storagev1.StorageClass](ctx, cl, reconcile.StorageClasses(), "", nil); err != nil {
		return nil, err
	}
	gangs, err := reconcile.List[*schedulingv1beta1.PodGroup](ctx, cl, schedulingv1beta1.SchemeGroupVersion.WithResource("podgroups"), "", nil)
	if err != nil {
		return nil, err
	}
	for _, g := range gangs {
		if p := g.Spec.SchedulingPolicy.Gang; p != nil {
			w.gangs[g.Namespace+"/"+g.Name] = int(p.MinCount)
		}
	}
	w.index()
	return w, nil
}

// awaited gives up nodes that were asked for and don't come.
func (c *shell) awaited(ctx context.Context, w *world) error {
	var errs []error
	for i := range w.groups {
		g := &w.groups[i]
		n := w.coming(*g)
		switch before, known := c.coming[g.Name]; {
		case n == 0:
			delete(c.since, g.Name)
			if known && before > 0 {
				delete(c.resting, g.Name)
				w.resting[g.Name] = false
			}
		case !known || n != before || c.since[g.Name].IsZero():
			c.since[g.Name] = w.now
		case w.now.Sub(c.since[g.Name]) >= c.cfg.Options.ProvisionTime:
			c.env.Logger.Warn("nodes that were asked for haven't joined", "group", g.Name, "nodes", n)
			c.fail(w, g.Name)
			if err := c.cfg.Provider.Cancel(ctx, g.Name, n); err != nil {
				errs = append(errs, fmt.Errorf("cancel %d nodes of group %s: %w", n, g.Name, err))
				break
			}
			g.Size -= n
			n = 0
		}
		c.coming[g.Name] = n
	}
	return errors.Join(errs...)
}

// fail leaves a group alone for a while.
func (c *shell) fail(w *world, group string) {
	r := c.resting[group]
	if r.wait = min(r.wait*2, maxBackOff); r.wait == 0 {
		r.wait = c.cfg.Options.BackOff
	}
	r.until = w.now.Add(r.wait)
	c.resting[group], w.resting[group] = r, true
}

func (c *shell) grow(ctx context.Context, w *world) (grew bool, err error) {
	plan := decideGrowth(ctx, w, c.cfg.Simulator)
	var errs []error
	for _, g := range plan.grow {
		if err := c.cfg.Provider.Request(ctx, g.group, g.nodes); err != nil {
			c.fail(w, g.group)
			errs = append(errs, fmt.Errorf("request %d nodes of group %s: %w", g.nodes, g.group, err))
			for _, p := range g.pods {
				c.tell(p, corev1.EventTypeWarning, "FailedScaleUp", fmt.Sprintf("group %s could not grow: %v", g.group, err))
			}
			continue
		}
		grew, c.asked = true, w.now
		at := slices.IndexFunc(w.groups, func(x Group) bool { return x.Name == g.group })
		w.groups[at].Size += g.nodes
		c.coming[g.group] += g.nodes
		c.since[g.group] = w.now
		c.env.Logger.Info("nodes asked for", "group", g.group, "from", g.from, "to", g.from+g.nodes)
		for _, p := range g.pods {
			delete(c.told, p.UID)
			c.tell(p, corev1.EventTypeNormal, "TriggeredScaleUp", fmt.Sprintf("pod triggered scale-up: [{%s %d->%d (max: %d)}]", g.group, g.from, g.from+g.nodes, g.max))
		}
	}
	for uid := range c.told {
		if _, still := plan.helpless[uid]; !still {
			delete(c.told, uid)
		}
	}
	for uid, why := range plan.helpless {
		if c.told[uid] != why {
			c.told[uid] = why
			c.tell(plan.pods[uid], corev1.EventTypeNormal, "NotTriggerScaleUp", "pod didn't trigger scale-up: "+why)
		}
	}
	return grew, errors.Join(errs...)
}

func (c *shell) tell(o api.Object, typ, reason, message string) {
	kind := "Pod"
	if _, ok := o.(*corev1.Node); ok {
		kind = "Node"
	}
	c.events.Emit(Name, o, corev1.SchemeGroupVersion.WithKind(kind), typ, reason, message)
}

// shrink starts to give nodes back that nobody has needed for long enough.
func (c *shell) shrink(ctx context.Context, w *world, returning int) (started int, err error) {
	found := decideUnneeded(ctx, w, c.cfg.Simulator)
	now := map[string]bool{}
	var errs []error
	empty := 0
	for _, f := range found {
		now[f.node.Name] = true
		if _, known := c.unneeded[f.node.Name]; !known {
			c.unneeded[f.node.Name] = w.now
		}
		if w.now.Sub(c.unneeded[f.node.Name]) < c.cfg.Options.UnneededFor || !c.asked.IsZero() && w.now.Sub(c.asked) < c.cfg.Options.AfterRequest {
			continue
		}
		if len(f.move) > 0 && returning+started > 0 || len(f.move) == 0 && empty >= maxEmpty {
			continue
		}
		n := f.node.DeepCopy()
		n.Spec.Unschedulable = true
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, annotationReturning, w.now.UTC().Format(time.RFC3339))
		if _, err := c.env.Client.Update(ctx, reconcile.Nodes(), "", n); err != nil {
			errs = append(errs, fmt.Errorf("cordon node %s: %w", n.Name, err))
			continue
		}
		started++
		if len(f.move) == 0 {
			empty++
		}
		c.tell(n, corev1.EventTypeNormal, "ScaleDown", fmt.Sprintf("nobody has needed the node for %s: marked it unschedulable, to drain and return it", c.cfg.Options.UnneededFor))
	}
	for name := range c.unneeded {
		if !now[name] {
			delete(c.unneeded, name)
		}
	}
	return started, errors.Join(errs...)
}

// returnNodes goes on with the nodes that are being returned.
func (c *shell) returnNodes(ctx context.Context, w *world) (returning int, err error) {
	var errs []error
	for _, n := range w.nodes {
		text, marked := n.Annotations[annotationReturning]
		if !marked || n.DeletionTimestamp != nil {
			continue
		}
		since, err := time.Parse(time.RFC3339, text)
		known := slices.ContainsFunc(w.groups, func(g Group) bool { return g.Name == n.Labels[GroupLabel] })
		left, problem := c.drain(ctx, w, n)
		switch {
		case err != nil || !known || !n.Spec.Unschedulable:
			problem = errors.New("somebody has changed the node")
		case problem == nil && w.keepsVolume(n):
			problem = errors.New("a volume of a claim is on it")
		case problem == nil && left > 0 && w.now.Sub(since) > c.cfg.Options.DrainTime:
			problem = fmt.Errorf("%d pods are still on it after %s", left, c.cfg.Options.DrainTime)
		}
		if problem == nil && left == 0 {
			if err := c.cfg.Provider.Return(ctx, n.Labels[GroupLabel], n.Name); err != nil {
				errs = append(errs, fmt.Errorf("return node %s: %w", n.Name, err))
				if w.now.Sub(since) > c.cfg.Options.DrainTime {
					problem = err
				} else {
					returning++
					continue
				}
			}
		}
		switch {
		case problem != nil:
			errs = append(errs, c.keep(ctx, n, problem))
		case left > 0:
			returning++
		default:
			c.tell(n, corev1.EventTypeNormal, "ScaleDown", "the node is drained and returned")
			delete(c.unneeded, n.Name)
			uid := n.UID
			err := c.env.Client.Delete(ctx, reconcile.Nodes(), "", n.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("delete node %s: %w", n.Name, err))
			}
			at := slices.IndexFunc(w.groups, func(g Group) bool { return g.Name == n.Labels[GroupLabel] })
			w.groups[at].Size--
			w.nodes = slices.DeleteFunc(slices.Clone(w.nodes), func(x *corev1.Node) bool { return x == n })
		}
	}
	return returning, errors.Join(errs...)
}

// drain evicts what has to leave the node, and counts it. The error is a reason to keep the node.
func (c *shell) drain(ctx context.Context, w *world, n *corev1.Node) (left int, err error) {
	for _, p := range w.onNode[n.Name] {
		if daemon(p) {
			continue
		}
		if p.DeletionTimestamp != nil {
			left++
			continue
		}
		if p.Annotations[annotationSafe] == "false" || p.Annotations[annotationSafe] != "true" && metav1.GetControllerOfNoCopy(p) == nil && !w.expendable(p) {
			return 0, fmt.Errorf("pod %s/%s came to it, which may not be evicted", p.Namespace, p.Name)
		}
	}
	for _, p := range w.onNode[n.Name] {
		if daemon(p) || p.DeletionTimestamp != nil {
			continue
		}
		left++
		switch err := c.cfg.Evict(ctx, p.Namespace, p.Name); {
		case err == nil:
			c.tell(p, corev1.EventTypeNormal, "ScaleDown", "deleting pod for node scale down")
		case apierrors.IsNotFound(err):
			left--
		default: // its budget, or a race: again at the next look
			c.env.Logger.Debug("a pod can't be evicted yet", "pod", p.Namespace+"/"+p.Name, "error", err)
		}
	}
	return left, nil
}

// keep takes back what shrink did.
func (c *shell) keep(ctx context.Context, n *corev1.Node, why error) error {
	delete(c.unneeded, n.Name)
	m := n.DeepCopy()
	m.Spec.Unschedulable = false
	delete(m.Annotations, annotationReturning)
	if _, err := c.env.Client.Update(ctx, reconcile.Nodes(), "", m); err != nil {
		return fmt.Errorf("uncordon node %s: %w", n.Name, err)
	}
	c.tell(n, corev1.EventTypeWarning, "ScaleDownFailed", "the node is not returned: "+why.Error())
	return nil
}
