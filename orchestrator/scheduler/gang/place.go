package gang

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Shortfall says why a gang has no nodes.
type Shortfall struct {
	Gang string
	// Could of Members can be placed, those that have nodes included, in Domain, which is the best one; Min are needed.
	Could, Members, Min int
	Domain              Domain
	Domains             int // how many there are to choose from; 0: no such label is asked for
	// Cause is why the first member that finds no node doesn't, nil where there aren't Min members.
	Cause error
}

// Error is "gang train: 62/64 members can be placed in rack=r2, the best of 4 domains: 0/9 nodes are available: …".
func (e *Shortfall) Error() string {
	switch {
	case e.Cause == nil:
		return fmt.Sprintf("gang %s: %d of %d pods have come", e.Gang, e.Members, e.Min)
	case e.Members == 0:
		return fmt.Sprintf("gang %s: %v", e.Gang, e.Cause)
	}
	text := fmt.Sprintf("gang %s: %d/%d members can be placed", e.Gang, e.Could, e.Members)
	if e.Min < e.Members {
		text += fmt.Sprintf(" (%d must be)", e.Min)
	}
	if e.Domain != (Domain{}) {
		text += " in " + e.Domain.String()
		if e.Domains > 1 {
			text += fmt.Sprintf(", the best of %d domains", e.Domains)
		}
	}
	return text + ": " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *Shortfall) Unwrap() error { return e.Cause }

// Place finds nodes for a gang's pending members, records them there, and returns where. With an error, a *Shortfall or
// what Cluster.Admit says, nothing is recorded.
//
// As many members as possible are placed. Of the domains in which all can be, the one that is left fullest is chosen, so
// that emptier ones stay whole for others; failing that the one that holds most, as long as they are Min.
func Place(c Cluster, g *Gang) (*Placement, error) {
	if g.Members() < g.Min {
		return nil, &Shortfall{Gang: g.Name, Members: g.Members(), Min: g.Min}
	}
	members := sortedBySize(g.Pending)
	var over []*framework.Pod
	if err := c.Admit(members); err != nil {
		need := max(g.Min-len(g.Placed), 1)
		if need >= len(members) || c.Admit(members[:need]) != nil {
			return nil, err
		}
		members, over = members[:need], members[need:]
	}
	need := 0 // all are tried, to tell how many can be placed
	if g.brief {
		need = g.Min - len(g.Placed)
	}
	var best *Placement
	var short *Shortfall
	for _, level := range levels(g) {
		domains, err := candidates(c, g, level, members)
		if err != nil {
			short = closer(short, &Shortfall{Gang: g.Name, Could: len(g.Placed), Members: g.Members(), Min: g.Min, Cause: err})
			continue
		}
		for i, d := range domains {
			if !d.enough(g) && (i > 0 || short != nil) {
				continue // it can't hold them; the one that could hold most is tried all the same, for what people are told
			}
			p, cause := try(c, members, d.Domain, need)
			if len(p.Left) == 0 {
				p.Left = over
				return p, nil
			}
			undo(c, p)
			could := len(g.Placed) + len(p.Placed)
			if could < g.Min || len(p.Placed) == 0 {
				short = closer(short, &Shortfall{Gang: g.Name, Could: could, Members: g.Members(), Min: g.Min, Domain: d.Domain, Domains: d.of, Cause: cause})
			} else if best == nil || len(p.Placed) > len(best.Placed) {
				best = p
			}
		}
	}
	if best == nil {
		return nil, short
	}
	// The same tries in the same order against the same cluster end the same way.
	p, _ := try(c, members, best.Domain, 0)
	p.Left = append(p.Left, over...)
	return p, nil
}

// closer is the shortfall that came nearer.
func closer(a, b *Shortfall) *Shortfall {
	if a == nil || b.Could > a.Could {
		return b
	}
	return a
}

// levels are the label keys by which the gang is tried, the narrowest wish first, what it insists on last.
func levels(g *Gang) []string {
	return append(slices.Clone(g.Prefer), g.Key)
}

// candidate is a domain that may hold the gang.
type candidate struct {
	Domain
	of     int // how many there are
	nodes  []*framework.Node
	atMost int // members that it has room for, bounded from above
	free   int64
}

func (d *candidate) enough(g *Gang) bool {
	return d.atMost > 0 && d.atMost+len(g.Placed) >= g.Min
}

// candidates are the domains of one level, in the order in which they are tried: those that may hold all members first, of
// these the fullest first; then those that may hold most. What the gang insists on holds at every level.
func candidates(c Cluster, g *Gang, level string, members []*framework.Pod) ([]*candidate, error) {
	fixed := map[string]string{} // what members that have nodes have settled, by key
	for _, key := range []string{g.Key, level} {
		if key == "" {
			continue
		}
		value, err := settled(c, g, key)
		if err != nil {
			if key == g.Key {
				return nil, err
			}
			return nil, nil
		}
		if value != "" {
			fixed[key] = value
		}
	}
	byValue := map[string]*candidate{}
	insisted := map[string]bool{}
	for _, n := range c.Nodes() {
		value, ok := n.Node.Labels[level]
		if level != "" && !ok {
			continue
		}
		if have, labelled := n.Node.Labels[g.Key]; g.Key != "" && (!labelled || fixed[g.Key] != "" && have != fixed[g.Key]) {
			continue
		}
		if want, ok := fixed[level]; ok && value != want {
			continue
		}
		// A preferred domain that spans several of those that the gang insists on is tried in each.
		id := value
		if g.Key != "" && level != g.Key {
			id += "\x00" + n.Node.Labels[g.Key]
		}
		if byValue[id] == nil {
			byValue[id] = &candidate{Domain: Domain{level, value}}
		}
		byValue[id].nodes = append(byValue[id].nodes, n)
		insisted[id] = true
	}
	if level == "" {
		for _, d := range byValue {
			d.Domain = Domain{}
		}
	}
	if g.Key != "" && level != g.Key {
		byValue = nested(byValue)
	}
	if len(byValue) == 0 && level != "" {
		return nil, fmt.Errorf("no node has the label %s", level)
	}
	if len(byValue) == 0 {
		byValue[""] = &candidate{}
	}
	return ordered(byValue, members), nil
}

// nested keeps, of domains that lie in several of those that the gang insists on, none: a domain is one label's value.
func nested(byID map[string]*candidate) map[string]*candidate {
	seen, out := map[string]int{}, map[string]*candidate{}
	for _, d := range byID {
		seen[d.Value]++
	}
	for id, d := range byID {
		if seen[d.Value] == 1 {
			out[id] = d
		}
	}
	return out
}

// settled is the value of a label that the members which have nodes share; "" while none has one.
func settled(c Cluster, g *Gang, key string) (string, error) {
	if len(g.Placed) == 0 {
		return "", nil
	}
	at := map[string]bool{}
	for _, name := range g.Placed {
		at[name] = true
	}
	values := map[string]bool{}
	for _, n := range c.Nodes() {
		if at[n.Name] {
			values[n.Node.Labels[key]] = true
		}
	}
	var value string
	for v := range values {
		value = v
	}
	if len(values) > 1 || len(values) == 1 && value == "" {
		return "", fmt.Errorf("members that have nodes don't share a value of the label %s", key)
	}
	return value, nil
}

func ordered(domains map[string]*candidate, members []*framework.Pod) []*candidate {
	smallest, wanted := least(members), total(members)
	tightest := dominant(domains, wanted)
	out := make([]*candidate, 0, len(domains))
	for _, d := range domains {
		d.of = len(domains)
		d.atMost = atMost(d.nodes, smallest, len(members))
		for _, n := range d.nodes {
			d.free += free(n, tightest)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *candidate) int {
		if c := cmp.Compare(b.atMost, a.atMost); c != 0 {
			return c
		}
		if c := cmp.Compare(a.free, b.free); c != 0 {
			return c
		}
		return cmp.Compare(a.Value, b.Value)
	})
	return out
}

// dominant is the resource of which the gang wants the largest part of what is free.
func dominant(domains map[string]*candidate, wanted map[corev1.ResourceName]int64) (tightest corev1.ResourceName) {
	var most float64
	for name, want := range wanted {
		var have int64
		for _, d := range domains {
			for _, n := range d.nodes {
				have += free(n, name)
			}
		}
		part := float64(want) / float64(max(1, have))
		if part > most || part == most && name < tightest {
			most, tightest = part, name
		}
	}
	return tightest
}

// try records the members in the domain as far as they find nodes there; cause is why the first that doesn't does not.
// It gives up when fewer than need would.
func try(c Cluster, members []*framework.Pod, in Domain, need int) (p *Placement, cause error) {
	p = &Placement{Domain: in}
	for i, m := range members {
		if len(p.Placed)+len(members)-i < need {
			p.Left = append(p.Left, members[i:]...)
			return p, cause
		}
		node, err := c.Place(m, in)
		if err != nil {
			if p.Left = append(p.Left, m); cause == nil {
				cause = err
			}
			continue
		}
		p.Placed = append(p.Placed, Assigned{m, node})
	}
	return p, cause
}

func undo(c Cluster, p *Placement) {
	for i := range slices.Backward(p.Placed) {
		c.Remove(p.Placed[i].Pod.UID)
	}
}
