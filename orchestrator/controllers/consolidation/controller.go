package consolidation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "gpu-consolidation-controller"

// What is planned, and was done, stands in this ConfigMap, under the key status, as JSON: a Status.
const (
	StatusNamespace = "kube-system"
	StatusName      = "gpu-consolidation"
	statusKey       = "status"
)

// Config of the controller. The zero value is off.
type Config struct {
	Enabled bool
	DryRun  bool // plans and writes the plan down, and moves nobody
	// Always has pods moved also while no pod waits for whole GPUs.
	Always   bool
	Interval time.Duration // between two looks; 0 is 1 minute
	MaxMoves int           // pods that are moved at a look at most; 0 is 5
	// Cooldown is how long no further pod of a controller is moved after one was; 0 is 10 minutes.
	Cooldown time.Duration
}

func (c Config) withDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = time.Minute
	}
	if c.MaxMoves <= 0 {
		c.MaxMoves = 5
	}
	if c.Cooldown <= 0 {
		c.Cooldown = 10 * time.Minute
	}
	return c
}

// Status is what the ConfigMap says.
type Status struct {
	DryRun bool `json:"dryRun,omitempty"`
	// For is the pod that waits for GPUs, "namespace/name", and Node where they become free; "": for whoever comes.
	For   string `json:"for,omitempty"`
	Node  string `json:"node,omitempty"`
	Moves []Move `json:"moves,omitempty"` // that are planned, or were made, at the last look that planned any
	Why   string `json:"why,omitempty"`   // nothing was planned at the last look
	Moved int    `json:"moved"`           // pods in all
}

// Move is one pod that is ended. To is where there is room for the one that its controller makes; where that goes the scheduler decides.
type Move struct {
	Pod  string `json:"pod"` // namespace/name
	From string `json:"from"`
	To   string `json:"to"`
}

type shell struct {
	cfg    Config
	env    reconcile.Env
	events *reconcile.Recorder
	moved  map[types.UID]time.Time // by controller; only reconcile, which is one at a time, touches it
}

// New makes the controller.
func New(env reconcile.Env, events *reconcile.Recorder, cfg Config) *reconcile.Controller {
	c := &shell{cfg.withDefaults(), env.WithDefaults(), events, map[types.UID]time.Time{}}
	return &reconcile.Controller{Name: Name, Workers: 1, Start: []reconcile.Key{{Name: "cluster"}}, Reconcile: c.reconcile}
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	in, err := c.look(ctx)
	if err != nil {
		return 0, err
	}
	p := decide(in)
	done := 0
	if !c.cfg.DryRun {
		for _, m := range p.moves {
			if err = c.move(ctx, m, &p); err != nil { // those that come after may need what this one would have freed
				err = fmt.Errorf("move pod %s/%s: %w", m.pod.Namespace, m.pod.Name, err)
				break
			}
			done++
		}
	}
	return c.cfg.Interval, errors.Join(err, c.report(ctx, &p, done))
}

func (c *shell) look(ctx context.Context) (in input, err error) {
	cl := c.env.Client
	in = input{now: c.env.Clock.Now(), most: c.cfg.MaxMoves, always: c.cfg.Always}
	for owner, at := range c.moved {
		if in.now.Sub(at) >= c.cfg.Cooldown {
			delete(c.moved, owner)
		}
	}
	in.resting = func(owner types.UID) bool { _, ok := c.moved[owner]; return ok }
	if in.nodes, err = reconcile.List[*corev1.Node](ctx, cl, reconcile.Nodes(), "", nil); err != nil {
		return in, err
	}
	if in.pods, err = reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), "", nil); err != nil {
		return in, err
	}
	in.budgets, err = reconcile.List[*policyv1.PodDisruptionBudget](ctx, cl, reconcile.PodDisruptionBudgets(), "", nil)
	return in, err
}

// move takes one disruption from the pod's budget and ends it. A pod that has changed too much meanwhile is left alone, with an error.
func (c *shell) move(ctx context.Context, m move, p *plan) error {
	cl, now := c.env.Client, c.env.Clock.Now()
	pod, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), m.pod.Namespace, m.pod.Name)
	if err != nil {
		return err
	}
	if pod == nil || pod.UID != m.pod.UID || pod.Spec.NodeName != m.from {
		return errors.New("it isn't there any more")
	}
	if why := stays(pod); why != "" {
		return errors.New(why)
	}
	budgets, err := reconcile.List[*policyv1.PodDisruptionBudget](ctx, cl, reconcile.PodDisruptionBudgets(), pod.Namespace, nil)
	if err != nil {
		return err
	}
	if covering := covering(pod, budgets); len(covering) > 1 {
		return errors.New("it has more than one PodDisruptionBudget")
	} else if len(covering) == 1 {
		if err := c.takeDisruption(ctx, covering[0], pod, now); err != nil {
			return err
		}
	}
	reason := "Moved to free a whole GPU on " + m.from
	if p.for1 != nil {
		reason += fmt.Sprintf(", for pod %s/%s", p.for1.Namespace, p.for1.Name)
	}
	changed := pod.DeepCopy()
	changed.Status.Conditions = slices.DeleteFunc(changed.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
	changed.Status.Conditions = append(changed.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "GPUConsolidation", Message: reason, LastTransitionTime: metav1.NewTime(now)})
	if _, err := cl.Update(ctx, reconcile.Pods(), "status", changed); err != nil {
		return fmt.Errorf("mark it: %w", err)
	}
	uid := pod.UID
	if err := cl.Delete(ctx, reconcile.Pods(), pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
		return err
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		c.moved[owner.UID] = now
	}
	c.events.Emit(Name, pod, corev1.SchemeGroupVersion.WithKind("Pod"), corev1.EventTypeNormal, "GPUConsolidation", reason)
	return nil
}

// takeDisruption takes the budget's counter down, as the eviction API does, so that two never share one disruption.
func (c *shell) takeDisruption(ctx context.Context, b *policyv1.PodDisruptionBudget, pod *corev1.Pod, now time.Time) error {
	if allowed(b) <= 0 {
		return fmt.Errorf("its disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	}
	changed := b.DeepCopy()
	changed.Status.DisruptionsAllowed--
	if changed.Status.DisruptedPods == nil {
		changed.Status.DisruptedPods = map[string]metav1.Time{}
	}
	changed.Status.DisruptedPods[pod.Name] = metav1.NewTime(now.Truncate(time.Second))
	if _, err := c.env.Client.Update(ctx, reconcile.PodDisruptionBudgets(), "status", changed); err != nil {
		return fmt.Errorf("count on its disruption budget %s: %w", b.Name, err)
	}
	return nil
}

// report writes the Status where it is another one.
func (c *shell) report(ctx context.Context, p *plan, done int) error {
	cl := c.env.Client
	have, err := reconcile.Get[*corev1.ConfigMap](ctx, cl, reconcile.ConfigMaps(), StatusNamespace, StatusName)
	if err != nil {
		return err
	}
	s := Status{}
	if have != nil {
		_ = json.Unmarshal([]byte(have.Data[statusKey]), &s) // somebody else's text is written over
	}
	s.DryRun, s.Why = c.cfg.DryRun, p.why
	s.Moved += done
	if len(p.moves) > 0 {
		s.For, s.Node, s.Moves = "", p.node, nil
		if p.for1 != nil {
			s.For = p.for1.Namespace + "/" + p.for1.Name
		}
		for _, m := range p.moves {
			s.Moves = append(s.Moves, Move{m.pod.Namespace + "/" + m.pod.Name, m.from, m.to})
		}
	} else if c.cfg.DryRun {
		s.For, s.Node, s.Moves = "", "", nil
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	switch {
	case have == nil:
		_, err = cl.Create(ctx, reconcile.ConfigMaps(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: StatusNamespace, Name: StatusName}, Data: map[string]string{statusKey: string(text)}})
	case have.Data[statusKey] != string(text):
		changed := have.DeepCopy()
		changed.Data = map[string]string{statusKey: string(text)}
		_, err = cl.Update(ctx, reconcile.ConfigMaps(), "", changed)
	}
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("write the status: %w", err)
	}
	return nil
}
