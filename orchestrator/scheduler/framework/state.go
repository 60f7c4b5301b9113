package framework

import (
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
	ports       map[HostPort]int
	required    int // pods with required anti-affinity
	affine      int // pods with terms that count for scores
}

// HostPort is one port of a node that a pod holds.
type HostPort struct {
	Protocol corev1.Protocol
	IP       string // "0.0.0.0" covers every address
	Port     int32
}

// Pod is a pod with what the scheduler derives from it once.
type Pod struct {
	*corev1.Pod
	Request  Resource
	Scored   Resource
	Ports    []HostPort
	Affinity Affinity
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
	return p
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

// HasRequiredAntiAffinity says whether a pod on the node keeps others away.
func (n *Node) HasRequiredAntiAffinity() bool { return n.required > 0 }

// HasAffinity says whether a pod on the node would rather have, or not have, others near it.
func (n *Node) HasAffinity() bool { return n.affine > 0 }

func (n *Node) add(p *Pod, sign int) {
	n.Requested.Add(p.Request, int64(sign))
	n.Scored.Add(p.Scored, int64(sign))
	for _, port := range p.Ports {
		if n.ports[port] += sign; n.ports[port] == 0 {
			delete(n.ports, port)
		}
	}
	if len(p.Affinity.RequiredAnti) > 0 {
		n.required += sign
	}
	if a := &p.Affinity; len(a.Required)+len(a.Preferred)+len(a.PreferredAnti) > 0 {
		n.affine += sign
	}
	if sign > 0 {
		n.Pods[p.UID] = p
	} else {
		delete(n.Pods, p.UID)
	}
}

// State is the cluster as the scheduler knows it: nodes, the pods on them, the labels of namespaces.
type State struct {
	nodes      map[string]*Node
	podNode    map[types.UID]string
	namespaces map[string]labels.Set
	list       []*Node // usable nodes by name; nil: to be made
	version    uint64  // of the node that changed last
}

func (s *State) changed(n *Node) {
	s.version++
	n.Version = s.version
}

// NewState returns an empty one.
func NewState() *State {
	return &State{nodes: map[string]*Node{}, podNode: map[types.UID]string{}, namespaces: map[string]labels.Set{}}
}

func (s *State) node(name string) *Node {
	n := s.nodes[name]
	if n == nil {
		n = &Node{Name: name, Pods: map[types.UID]*Pod{}, ports: map[HostPort]int{}}
		s.nodes[name] = n
	}
	return n
}

// SetNode adds or replaces a node.
func (s *State) SetNode(node *corev1.Node) {
	n := s.node(node.Name)
	n.Node = node
	n.Allocatable = FromList(node.Status.Allocatable)
	s.changed(n)
	s.list = nil
}

// RemoveNode forgets a node; pods that are still bound to it are kept in case it returns.
func (s *State) RemoveNode(name string) {
	n := s.nodes[name]
	if n == nil {
		return
	}
	n.Node = nil
	s.list = nil
	s.dropIfEmpty(n)
}

func (s *State) dropIfEmpty(n *Node) {
	if n.Node == nil && len(n.Pods) == 0 {
		delete(s.nodes, n.Name)
	}
}

// SetPod records that pod occupies node, replacing what was recorded of the same UID.
func (s *State) SetPod(pod *Pod, node string) {
	s.RemovePod(pod.UID)
	n := s.node(node)
	n.add(pod, 1)
	s.changed(n)
	s.podNode[pod.UID] = node
}

// RemovePod forgets a pod.
func (s *State) RemovePod(uid types.UID) {
	name, ok := s.podNode[uid]
	if !ok {
		return
	}
	n := s.nodes[name]
	n.add(n.Pods[uid], -1)
	s.changed(n)
	delete(s.podNode, uid)
	s.dropIfEmpty(n)
}

// NodeOf is the node that a pod occupies, or "".
func (s *State) NodeOf(uid types.UID) string { return s.podNode[uid] }

// Pod is what is recorded of a pod that occupies a node, nil if none does.
func (s *State) Pod(uid types.UID) *Pod {
	if n := s.nodes[s.podNode[uid]]; n != nil {
		return n.Pods[uid]
	}
	return nil
}

// Node returns the node of that name, nil when nothing is known of it.
func (s *State) Node(name string) *Node { return s.nodes[name] }

// SetNamespace records a namespace's labels.
func (s *State) SetNamespace(name string, l labels.Set) { s.namespaces[name] = l }

// RemoveNamespace forgets a namespace.
func (s *State) RemoveNamespace(name string) { delete(s.namespaces, name) }

// NamespaceLabels are the labels of a namespace, for namespace selectors.
func (s *State) NamespaceLabels(name string) labels.Set { return s.namespaces[name] }

// Nodes returns the nodes that exist, by name. The slice is the State's own.
func (s *State) Nodes() []*Node {
	if s.list == nil {
		s.list = make([]*Node, 0, len(s.nodes))
		for _, n := range s.nodes {
			if n.Node != nil {
				s.list = append(s.list, n)
			}
		}
		sort.Slice(s.list, func(i, j int) bool { return s.list[i].Name < s.list[j].Name })
	}
	return s.list
}
