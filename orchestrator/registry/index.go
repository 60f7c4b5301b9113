package registry

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxLabelIndexes bounds how many label keys of one kind are indexed: clients choose what they select by.
	maxLabelIndexes = 8
	// scanned is how many objects are matched one by one rather than indexed.
	scanned = 64
)

// indexes find objects without a look at all of them. Those of orphans and labels are made for who asks first. They belong to
// a resource and share its lock.
type indexes struct {
	owners  map[types.UID]map[string]*Entry             // by every owner that is named
	orphans map[string]map[string]*Entry                // by namespace: what no controller owns; nil until somebody asks
	labels  map[string]map[labelValue]map[string]*Entry // by label key
}

type labelValue struct{ namespace, value string }

func (x *indexes) insert(e *Entry) {
	for _, ref := range e.obj.GetOwnerReferences() {
		put(x.owners, ref.UID, e)
	}
	if x.orphans != nil && metav1.GetControllerOfNoCopy(e.obj) == nil {
		put(x.orphans, namespaceOf(e.key), e)
	}
	for key, index := range x.labels {
		if value, ok := e.obj.GetLabels()[key]; ok {
			put(index, labelValue{namespaceOf(e.key), value}, e)
		}
	}
}

func (x *indexes) remove(e *Entry) {
	for _, ref := range e.obj.GetOwnerReferences() {
		drop(x.owners, ref.UID, e)
	}
	if x.orphans != nil {
		drop(x.orphans, namespaceOf(e.key), e)
	}
	for key, index := range x.labels {
		if value, ok := e.obj.GetLabels()[key]; ok {
			drop(index, labelValue{namespaceOf(e.key), value}, e)
		}
	}
}

// clear empties them; what is indexed stays so.
func (x *indexes) clear() {
	x.owners = map[types.UID]map[string]*Entry{}
	if x.orphans != nil {
		x.orphans = map[string]map[string]*Entry{}
	}
	for key := range x.labels {
		x.labels[key] = map[labelValue]map[string]*Entry{}
	}
}

func put[K comparable](index map[K]map[string]*Entry, at K, e *Entry) {
	if index[at] == nil {
		index[at] = map[string]*Entry{}
	}
	index[at][e.key] = e
}

func drop[K comparable](index map[K]map[string]*Entry, at K, e *Entry) {
	delete(index[at], e.key)
	if len(index[at]) == 0 {
		delete(index, at)
	}
}

// owned returns the objects of every namespace that name owner in an ownerReference.
func (c *resource) owned(owner types.UID) []*Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.indexes.owners[owner]), byKey)
}

// orphaned returns the objects of a namespace that no controller owns.
func (c *resource) orphaned(namespace string) []*Entry {
	c.mu.RLock()
	if c.indexes.orphans == nil {
		c.mu.RUnlock()
		c.indexOrphans()
		c.mu.RLock()
	}
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.indexes.orphans[namespace]), byKey)
}

func (c *resource) indexOrphans() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.indexes.orphans != nil {
		return
	}
	c.indexes.orphans = map[string]map[string]*Entry{}
	for _, e := range c.sorted {
		if metav1.GetControllerOfNoCopy(e.obj) == nil {
			put(c.indexes.orphans, namespaceOf(e.key), e)
		}
	}
}

// candidates returns, in order, at least the objects of a namespace that sel matches, and the revision of the last change: all
// of them, or those that have one of the labels that sel asks for.
func (c *resource) candidates(namespace string, sel labels.Selector) (entries []*Entry, lastMod int64) {
	wanted := equalities(sel)
	if namespace == "" || len(wanted) == 0 {
		entries, _, lastMod = c.snapshot(namespace)
		return entries, lastMod
	}
	c.mu.RLock()
	all := c.namespaces[namespace]
	found, missing := c.indexes.fewest(namespace, wanted, len(all))
	if missing != "" && len(c.indexes.labels) < maxLabelIndexes {
		c.mu.RUnlock()
		c.indexLabel(missing)
		c.mu.RLock()
		all = c.namespaces[namespace]
		found, _ = c.indexes.fewest(namespace, wanted, len(all))
	}
	defer c.mu.RUnlock()
	if found == nil || len(found) > len(all)/4 { // to sort them costs more than to match all
		return slices.Clone(all), c.lastMod
	}
	return slices.SortedFunc(maps.Values(found), byKey), c.lastMod
}

// fewest is the smallest set of objects with one of the labels, empty but not nil where none has it, nil where no key is
// indexed; and a key that would be worth an index, if even that set is large.
func (x *indexes) fewest(namespace string, wanted []label, all int) (found map[string]*Entry, missing string) {
	best := all
	for _, l := range wanted {
		index, ok := x.labels[l.key]
		if !ok {
			if missing == "" {
				missing = l.key
			}
			continue
		}
		set := index[labelValue{namespace, l.value}]
		if set == nil {
			return map[string]*Entry{}, ""
		}
		if found == nil || len(set) < best {
			found, best = set, len(set)
		}
	}
	if best <= scanned {
		missing = ""
	}
	return found, missing
}

func (c *resource) indexLabel(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.indexes.labels[key] != nil || len(c.indexes.labels) >= maxLabelIndexes {
		return
	}
	index := map[labelValue]map[string]*Entry{}
	for _, e := range c.sorted {
		if value, ok := e.obj.GetLabels()[key]; ok {
			put(index, labelValue{namespaceOf(e.key), value}, e)
		}
	}
	if c.indexes.labels == nil {
		c.indexes.labels = map[string]map[labelValue]map[string]*Entry{}
	}
	c.indexes.labels[key] = index
}

type label struct{ key, value string }

// equalities are the labels that whatever sel matches must have.
func equalities(sel labels.Selector) (all []label) {
	if sel == nil {
		return nil
	}
	requirements, _ := sel.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if values := r.ValuesUnsorted(); len(values) == 1 {
				all = append(all, label{r.Key(), values[0]})
			}
		}
	}
	return all
}
