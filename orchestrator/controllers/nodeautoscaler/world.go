package nodeautoscaler

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// world is what is decided from.
type world struct {
	now        time.Time
	options    Options
	nodes      []*corev1.Node
	pods       []*corev1.Pod
	namespaces []*corev1.Namespace
	budgets    []*policyv1.PodDisruptionBudget
	claims     []*corev1.PersistentVolumeClaim
	volumes    []*corev1.PersistentVolume
	classes    []*storagev1.StorageClass
	groups     []Group
	gangs      map[string]int           // by namespace/name: how many pods must run together
	resting    map[string]bool          // groups that failed a moment ago
	onNode     map[string][]*corev1.Pod // that haven't ended; see index
	pinned     map[string]bool          // hosts that have a claim's volume; see index
}

func (w *world) index() {
	w.onNode = map[string][]*corev1.Pod{}
	for _, p := range w.pods {
		if p.Spec.NodeName != "" && !reconcile.PodTerminal(p) {
			w.onNode[p.Spec.NodeName] = append(w.onNode[p.Spec.NodeName], p)
		}
	}
	w.pinned = map[string]bool{}
	for _, v := range w.volumes {
		if v.Spec.ClaimRef == nil {
			continue
		}
		for _, host := range hostsOf(v) {
			w.pinned[host] = true
		}
	}
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// starting says that a node has joined and isn't ready yet: it counts as one that is coming.
func (w *world) starting(n *corev1.Node) bool {
	return !nodeReady(n) && w.now.Sub(n.CreationTimestamp.Time) < w.options.ProvisionTime
}

// joined counts a group's nodes that are there, starting ones aside.
func (w *world) joined(group string) (n int) {
	for _, node := range w.nodes {
		if node.Labels[GroupLabel] == group && !w.starting(node) {
			n++
		}
	}
	return n
}

// coming is how many nodes of a group are expected.
func (w *world) coming(g Group) int { return max(0, g.Size-w.joined(g.Name)) }

func (w *world) expendable(p *corev1.Pod) bool {
	return p.Spec.Priority != nil && *p.Spec.Priority < *w.options.LeastPriority
}

// pending are the pods that the scheduler found no node for, most important first, then largest.
func (w *world) pending() (pods []*corev1.Pod) {
	for _, p := range w.pods {
		if p.Spec.NodeName != "" || p.DeletionTimestamp != nil || reconcile.PodTerminal(p) || p.Status.NominatedNodeName != "" || w.expendable(p) {
			continue
		}
		if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
		}) {
			pods = append(pods, p)
		}
	}
	priority := func(p *corev1.Pod) int32 {
		if p.Spec.Priority == nil {
			return 0
		}
		return *p.Spec.Priority
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		if x, y := priority(a), priority(b); x != y {
			return int(max(-1, min(1, int64(y)-int64(x))))
		}
		x, y := api.PodRequests(a), api.PodRequests(b)
		if c := y.Cpu().Cmp(*x.Cpu()); c != 0 {
			return c
		}
		return y.Memory().Cmp(*x.Memory())
	})
	return pods
}

// unit is pods that are helped together: one, or those of a gang.
type unit struct {
	pods []*corev1.Pod
	need int
}

func (w *world) units(pods []*corev1.Pod) (units []*unit) {
	gangs := map[string]*unit{}
	for _, p := range pods {
		name := api.PodGroupOf(p)
		if name == "" {
			units = append(units, &unit{pods: []*corev1.Pod{p}, need: 1})
			continue
		}
		key := p.Namespace + "/" + name
		u := gangs[key]
		if u == nil {
			u = &unit{need: w.gangs[key]}
			for _, other := range w.pods {
				if other.Namespace == p.Namespace && api.PodGroupOf(other) == name && other.Spec.NodeName != "" && !reconcile.PodTerminal(other) {
					u.need--
				}
			}
			gangs[key] = u
			units = append(units, u)
		}
		u.pods = append(u.pods, p)
	}
	for _, u := range units {
		u.need = max(u.need, 1)
	}
	return units
}

// daemon says that a pod is on its node because the node is there.
func daemon(p *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(p)
	_, mirror := p.Annotations["kubernetes.io/config.mirror"]
	return mirror || ref != nil && ref.Kind == "DaemonSet" || p.Annotations["cluster-autoscaler.kubernetes.io/daemonset-pod"] == "true"
}

// simulation is the world as the scheduler sees it, with the nodes that are coming.
func (w *world) simulation(fresh func() Simulator) *simulation {
	s := &simulation{w: w, Simulator: fresh()}
	for _, n := range w.namespaces {
		s.SetNamespace(n.Name, n.Labels)
	}
	w.storage(s, nil)
	for _, n := range w.nodes {
		if n.Labels[GroupLabel] == "" || !w.starting(n) {
			s.SetNode(n)
		}
	}
	for _, p := range w.pods {
		if p.Spec.NodeName != "" && !reconcile.PodTerminal(p) {
			s.SetPod(p)
		}
	}
	for _, g := range w.groups {
		for range w.coming(g) {
			s.addNode(g)
		}
	}
	return s
}

// storage tells a Simulator of volumes and claims: of all, or of those that matter to one pod.
func (w *world) storage(s Simulator, only *corev1.Pod) {
	wants := func(namespace, name string) bool { return true }
	if only != nil {
		uses := volumes.Uses(only)
		if len(uses) == 0 {
			return
		}
		wants = func(namespace, name string) bool {
			return namespace == only.Namespace && slices.ContainsFunc(uses, func(u volumes.Use) bool { return u.Claim == name })
		}
	}
	for _, c := range w.classes {
		s.SetStorage(c)
	}
	for _, c := range w.claims {
		if wants(c.Namespace, c.Name) {
			s.SetStorage(c)
		}
	}
	for _, v := range w.volumes {
		if ref := v.Spec.ClaimRef; ref == nil || wants(ref.Namespace, ref.Name) {
			s.SetStorage(v)
		}
	}
}

// simulation is a Simulator with nodes that don't exist.
type simulation struct {
	Simulator
	w      *world
	serial int
}

// addNode adds a new node of a group, with the pods that DaemonSets will put on it.
func (s *simulation) addNode(g Group) (name string) {
	s.serial++
	n := g.Template.DeepCopy()
	n.Name = fmt.Sprintf("%s-new-%d", g.Name, s.serial)
	n.Spec.Unschedulable = false
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[GroupLabel], n.Labels[corev1.LabelHostname] = g.Name, n.Name
	if len(n.Status.Conditions) == 0 {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	}
	s.SetNode(n)
	for _, p := range s.w.daemons(g) {
		copied := p.DeepCopy()
		copied.Name, copied.UID, copied.Spec.NodeName = p.Name+"-"+n.Name, types.UID(string(p.UID)+"/"+n.Name), n.Name
		s.SetPod(copied)
	}
	return n.Name
}

// daemons is one pod of each DaemonSet that a node of the group will have: those of a node of the group that is there,
// or else of any node.
func (w *world) daemons(g Group) (pods []*corev1.Pod) {
	of := func(node string) (pods []*corev1.Pod) {
		for _, p := range w.onNode[node] {
			if daemon(p) && p.DeletionTimestamp == nil {
				pods = append(pods, p)
			}
		}
		return pods
	}
	for _, n := range w.nodes {
		if n.Labels[GroupLabel] == g.Name && nodeReady(n) {
			return of(n.Name)
		}
	}
	seen := map[types.UID]bool{}
	for _, n := range w.nodes {
		for _, p := range of(n.Name) {
			if ref := metav1.GetControllerOfNoCopy(p); ref != nil && !seen[ref.UID] {
				seen[ref.UID] = true
				pods = append(pods, p)
			}
		}
	}
	return pods
}
