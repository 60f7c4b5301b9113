package framework

import (
	"maps"
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Node is one node with the pods that are bound to it or about to be.
type Node struct {
	Node        *corev1.Node // nil while only pods of it are known
	Name        string
	Allocatable Resource
	Requested   Resource
	Scored      Resource // Requested, with defaults for containers that ask for nothing
	Pods        map[types.UID]*Pod
	Version     uint64 // another one after each change of the node or its pods
	Row         int    // its place in the State's columns while Node isn't nil; -1 otherwise
	ports       map[HostPort]int
	ledgers     map[string]Ledger
	levels      []level // what pods of each priority ask for, least important first
}

// level sums the pods of one priority.
type level struct {
	priority int32
	pods     int
	request  Resource
}

// HostPort is one port of a node that a pod holds.
type HostPort struct {
	Protocol corev1.Protocol
	IP       string // "0.0.0.0" covers every address
	Port     int32
}

// Below is how many pods of the node are less important than priority, and what they ask for together.
func (n *Node) Below(priority int32) (pods int, request Resource) {
	for i := range n.levels {
		if n.levels[i].priority >= priority {
			break
		}
		pods += n.levels[i].pods
		request.Add(n.levels[i].request, 1)
	}
	return pods, request
}

func (n *Node) addLevel(p *Pod, sign int) {
	priority := int32(0)
	if p.Spec.Priority != nil {
		priority = *p.Spec.Priority
	}
	i := 0
	for i < len(n.levels) && n.levels[i].priority < priority {
		i++
	}
	if i == len(n.levels) || n.levels[i].priority != priority {
		n.levels = slices.Insert(n.levels, i, level{priority: priority})
	}
	n.levels[i].request.Add(p.Request, int64(sign))
	if n.levels[i].pods += sign; n.levels[i].pods == 0 {
		n.levels = slices.Delete(n.levels, i, i+1)
	}
}

// Pod is a pod with what the scheduler derives from it once.
type Pod struct {
	*corev1.Pod
	Request  Resource
	Scored   Resource
	Ports    []HostPort
	Affinity Affinity
	shape    string
	kind     string // which pods match the same selectors as this one
	group    *group // while it occupies a node: those of its kind
	extended bool
}

// AsksExtended says whether any container asks for more than cpu, memory and local storage.
func (p *Pod) AsksExtended() bool { return p.extended }

func (p *Pod) asksExtended() bool {
	if len(p.Request.Scalar) > 0 {
		return true
	}
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range containers {
			for name := range containers[i].Resources.Limits { // not every pod comes through the API, where limits become requests
				if name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage {
					return true
				}
			}
		}
	}
	return false
}

// NewPod derives it. The pod isn't changed and must not be changed afterwards.
func NewPod(pod *corev1.Pod) *Pod {
	p := &Pod{Pod: pod, Request: requestOf(pod)}
	p.Scored = scoredRequestOf(pod, p.Request)
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if port.HostPort <= 0 {
					continue
				}
				held := HostPort{Protocol: port.Protocol, IP: port.HostIP, Port: port.HostPort}
				if held.Protocol == "" {
					held.Protocol = corev1.ProtocolTCP
				}
				if held.IP == "" {
					held.IP = "0.0.0.0"
				}
				p.Ports = append(p.Ports, held)
			}
		}
	}
	p.Affinity = affinityOf(pod)
	p.extended = p.asksExtended()
	p.setShape()
	return p
}

// WithAnnotations is a copy of the pod that has these annotations, too.
func (p *Pod) WithAnnotations(add map[string]string) *Pod {
	if len(add) == 0 {
		return p
	}
	object, out := *p.Pod, *p
	object.Annotations = maps.Clone(object.Annotations)
	if object.Annotations == nil {
		object.Annotations = map[string]string{}
	}
	maps.Copy(object.Annotations, add)
	out.Pod = &object
	return &out
}

// PortsTaken says whether any of the ports is in use on the node.
func (n *Node) PortsTaken(wanted []HostPort) bool {
	for _, want := range wanted {
		for have := range n.ports {
			if have.Protocol == want.Protocol && have.Port == want.Port &&
				(have.IP == want.IP || have.IP == "0.0.0.0" || want.IP == "0.0.0.0") {
				return true
			}
		}
	}
	return false
}

func (n *Node) add(p *Pod, sign int) {
	n.Requested.Add(p.Request, int64(sign))
	n.Scored.Add(p.Scored, int64(sign))
	for _, port := range p.Ports {
		if n.ports[port] += sign; n.ports[port] == 0 {
			delete(n.ports, port)
		}
	}
	n.addLevel(p, sign)
	if sign > 0 {
		n.Pods[p.UID] = p
	} else {
		delete(n.Pods, p.UID)
	}
	for _, l := range n.ledgers {
		if sign > 0 {
			l.AddPod(p)
		} else {
			l.RemovePod(p)
		}
	}
}

// State is the cluster as the scheduler knows it: nodes, the pods on them, the labels of namespaces. Beside the
// nodes themselves it keeps columns of numbers (Columns), of labels (LabelColumn) and of pods that match something
// (Census), indexed by Node.Row, and a log of which rows have changed.
type State struct {
	nodes      map[string]*Node
	pods       map[types.UID]placedPod
	namespaces map[string]labels.Set
	list       []*Node // usable nodes by name; nil: to be made
	version    uint64  // of the node that changed last
	keepers    []Keeper

	rows    []*Node // by Row; nil: free
	free    []int
	live    []bool // by Row
	columns Columns
	log     changeLog
	labels  map[string]*LabelColumn
	index   index
	images  map[string]*image
}

type placedPod struct {
	pod  *Pod
	node *Node
}

// NewState returns an empty one.
func NewState() *State {
	return &State{nodes: map[string]*Node{}, pods: map[types.UID]placedPod{}, namespaces: map[string]labels.Set{},
		labels: map[string]*LabelColumn{}, index: newIndex(), images: map[string]*image{}}
}

func (s *State) node(name string) *Node {
	n := s.nodes[name]
	if n == nil {
		n = &Node{Name: name, Row: -1, Pods: map[types.UID]*Pod{}, ports: map[HostPort]int{}}
		s.nodes[name] = n
		for _, k := range s.keepers {
			n.keep(k)
		}
	}
	return n
}

// changed records that a node or the pods on it are others now; object, that the node itself is.
func (s *State) changed(n *Node, object bool) {
	s.version++
	n.Version = s.version
	if n.Row >= 0 {
		s.columns.write(n)
		s.log.add(n.Row, object)
	}
}

// SetNode adds or replaces a node.
func (s *State) SetNode(node *corev1.Node) {
	n := s.node(node.Name)
	before := n.Node
	n.Node = node
	n.Allocatable = FromList(node.Status.Allocatable)
	for _, l := range n.ledgers {
		l.SetNode(node)
	}
	if before == nil {
		s.enter(n)
	}
	s.setImages(n, before)
	s.changed(n, true)
	if before == nil || !maps.Equal(before.Labels, node.Labels) || before.Spec.Unschedulable != node.Spec.Unschedulable ||
		!slices.EqualFunc(before.Spec.Taints, node.Spec.Taints, func(a, b corev1.Taint) bool { return a.MatchTaint(&b) && a.Value == b.Value }) {
		s.relabel(n, before == nil)
	}
}

// enter gives a node its row.
func (s *State) enter(n *Node) {
	s.list = nil
	if last := len(s.free) - 1; last >= 0 {
		n.Row, s.free = s.free[last], s.free[:last]
		s.rows[n.Row], s.live[n.Row] = n, true
		return
	}
	n.Row = len(s.rows)
	s.rows, s.live = append(s.rows, n), append(s.live, true)
	s.columns.grow()
}

// RemoveNode forgets a node; pods that are still bound to it are kept in case it returns.
func (s *State) RemoveNode(name string) {
	n := s.nodes[name]
	if n == nil || n.Node == nil {
		return
	}
	before, row := n.Node, n.Row
	n.Node = nil
	for _, l := range n.ledgers {
		l.SetNode(nil)
	}
	s.setImages(n, before)
	s.relabel(n, false)
	s.changed(n, true)
	n.Row = -1
	s.rows[row], s.live[row], s.list = nil, false, nil
	s.free = append(s.free, row)
	s.dropIfEmpty(n)
}

func (s *State) dropIfEmpty(n *Node) {
	if n.Node == nil && len(n.Pods) == 0 {
		delete(s.nodes, n.Name)
	}
}

// SetPod records that pod occupies node, replacing what was recorded of the same UID.
func (s *State) SetPod(pod *Pod, node string) {
	if have, ok := s.pods[pod.UID]; ok {
		if have.node.Name == node && s.swap(have, pod) {
			return
		}
		s.RemovePod(pod.UID)
	}
	n := s.node(node)
	n.add(pod, 1)
	s.pods[pod.UID] = placedPod{pod, n}
	s.index.add(s, pod, n, 1)
	s.changed(n, false)
}

// swap replaces a pod by one that differs from it in nothing that a decision sees.
func (s *State) swap(have placedPod, pod *Pod) bool {
	old := have.pod
	if old.shape != pod.shape || old.Spec.Affinity != nil || pod.Spec.Affinity != nil || old.kind != pod.kind || !maps.Equal(old.Annotations, pod.Annotations) || !sameStart(old.Pod, pod.Pod) {
		return false
	}
	pod.group = old.group
	s.pods[pod.UID] = placedPod{pod, have.node}
	have.node.Pods[pod.UID] = pod
	for _, l := range have.node.ledgers {
		l.RemovePod(old)
		l.AddPod(pod)
	}
	return true
}

func sameStart(a, b *corev1.Pod) bool {
	return a.Status.StartTime.Equal(b.Status.StartTime) && a.Status.Phase == b.Status.Phase
}

// RemovePod forgets a pod.
func (s *State) RemovePod(uid types.UID) {
	placed, ok := s.pods[uid]
	if !ok {
		return
	}
	n, pod := placed.node, placed.pod
	n.add(pod, -1)
	delete(s.pods, uid)
	s.index.add(s, pod, n, -1)
	s.changed(n, false)
	s.dropIfEmpty(n)
}

// EachPod visits every pod that occupies a node, known or not, in no order.
func (s *State) EachPod(visit func(*Pod)) {
	for _, p := range s.pods {
		visit(p.pod)
	}
}

// NodeOf is the node that a pod occupies, or "".
func (s *State) NodeOf(uid types.UID) string {
	if placed, ok := s.pods[uid]; ok {
		return placed.node.Name
	}
	return ""
}

// Pod is what is recorded of a pod that occupies a node, nil if none does.
func (s *State) Pod(uid types.UID) *Pod {
	if placed, ok := s.pods[uid]; ok {
		return placed.pod
	}
	return nil
}

// Node returns the node of that name, nil when nothing is known of it.
func (s *State) Node(name string) *Node { return s.nodes[name] }

// SetNamespace records a namespace's labels.
func (s *State) SetNamespace(name string, l labels.Set) {
	have, known := s.namespaces[name]
	s.namespaces[name] = l
	if !known || !maps.Equal(have, l) {
		s.index.forget(s)
	}
}

// RemoveNamespace forgets a namespace.
func (s *State) RemoveNamespace(name string) {
	delete(s.namespaces, name)
	s.index.forget(s)
}

// NamespaceLabels are the labels of a namespace, for namespace selectors.
func (s *State) NamespaceLabels(name string) labels.Set { return s.namespaces[name] }

// Nodes returns the nodes that exist, by name. The slice is the State's own.
func (s *State) Nodes() []*Node {
	if s.list == nil {
		s.list = make([]*Node, 0, len(s.rows))
		for _, n := range s.rows {
			if n != nil {
				s.list = append(s.list, n)
			}
		}
		sort.Slice(s.list, func(i, j int) bool { return s.list[i].Name < s.list[j].Name })
	}
	return s.list
}

// Len is the number of nodes.
func (s *State) Len() int { return len(s.rows) - len(s.free) }

// Rows are the nodes by Row, nil where a row is free; Live says the same. The slices are the State's own, and good until it
// changes.
func (s *State) Rows() []*Node { return s.rows }

// Live says of each row whether there is a node.
func (s *State) Live() []bool { return s.live }

// Columns are the nodes' amounts by Row.
func (s *State) Columns() *Columns { return &s.columns }
