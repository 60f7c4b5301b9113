package framework

import corev1 "k8s.io/api/core/v1"

// Ledger is what a plugin keeps of one node, beside what the State keeps: which of its devices are taken, say. The State
// tells it of every change, before anybody asks the plugin about the node again. A call must not keep the State.
type Ledger interface {
	// SetNode tells that the node has come or changed; nil, that it's gone while pods of it remain.
	SetNode(node *corev1.Node)
	// AddPod tells of a pod that occupies the node from now on, bound or assumed (with the annotations that Reserve gave);
	// it may come before the node itself does. RemovePod is told the same pointer when it leaves.
	AddPod(pod *Pod)
	RemovePod(pod *Pod)
}

// Keeper is a Plugin that keeps a Ledger of every node. Node.Ledger(Name()) finds it again.
type Keeper interface {
	Plugin
	NewLedger(node string) Ledger
}

// Reserver is a Plugin that has something to choose on the node that was chosen: devices, say.
type Reserver interface {
	Plugin
	// Reserve returns the annotations that the binding adds to the pod (nil: none), which its assumed copy has at once. It
	// changes nothing itself: the plugin's Ledger learns of the choice by AddPod. An error refuses the node, worded
	// to follow a count of nodes, and the next best is tried.
	Reserve(pod *Pod, n *Node) (annotations map[string]string, err error)
}

// Ledger is what the plugin of that name keeps of the node, nil if it keeps none.
func (n *Node) Ledger(plugin string) Ledger { return n.ledgers[plugin] }

// Keep has a Ledger of every node kept for the plugin. A second plugin of the same name shares the first one's. A Keeper that
// has a method Kept(*State) is told by whom.
func (s *State) Keep(k Keeper) {
	for _, have := range s.keepers {
		if have.Name() == k.Name() {
			return
		}
	}
	s.keepers = append(s.keepers, k)
	if k, ok := k.(interface{ Kept(*State) }); ok {
		k.Kept(s)
	}
	for _, n := range s.nodes {
		n.keep(k)
	}
}

func (n *Node) keep(k Keeper) {
	if n.ledgers == nil {
		n.ledgers = map[string]Ledger{}
	}
	l := k.NewLedger(n.Name)
	n.ledgers[k.Name()] = l
	if n.Node != nil {
		l.SetNode(n.Node)
	}
	for _, p := range n.Pods {
		l.AddPod(p)
	}
}

// Keeper is the plugin of that name whose ledgers are kept, nil if none are.
func (s *State) Keeper(plugin string) Keeper {
	for _, k := range s.keepers {
		if k.Name() == plugin {
			return k
		}
	}
	return nil
}

// Touch tells that what a ledger of the node says has changed without a pod or the node itself changing.
func (s *State) Touch(node string) {
	if n := s.nodes[node]; n != nil {
		s.changed(n, true)
	}
}
