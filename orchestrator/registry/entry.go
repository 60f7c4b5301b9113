package registry

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// Entry is one immutable version of one object. Its JSON and its protobuf are made on first need, by
// whoever needs them first, and then shared by everybody. Safe for concurrent use.
type Entry struct {
	obj      api.Object // with resourceVersion, apiVersion and kind
	revision int64
	key      string // within the resource: namespace/name, or name

	jsonOnce sync.Once // guards json
	json     []byte

	protoOnce sync.Once // guards proto, which is nil for kinds without that form
	proto     []byte

	mu    sync.Mutex // guards views
	views map[schema.GroupVersionKind]*Entry
}

// newEntry takes obj over.
func newEntry(obj api.Object, key string, revision int64) *Entry {
	if revision > 0 {
		obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	} else {
		obj.SetResourceVersion("")
	}
	return &Entry{obj: obj, key: key, revision: revision}
}

// Object is the decoded object, with resourceVersion, apiVersion and kind. It is shared: DeepCopyObject
// before changing it.
func (e *Entry) Object() api.Object { return e.obj }

// JSON is the object's encoding, with kind and apiVersion and without a trailing newline. It is shared
// and must not be changed. Nil if the object has no JSON form, which no validated object lacks.
func (e *Entry) JSON() []byte {
	e.jsonOnce.Do(func() { e.json, _ = json.Marshal(e.obj) })
	return e.json
}

// Protobuf is the object's protobuf message, without the envelope that names its kind. It is shared and
// must not be changed. Nil if the kind has no protobuf form.
func (e *Entry) Protobuf() []byte {
	e.protoOnce.Do(func() {
		if m, ok := e.obj.(interface{ Marshal() ([]byte, error) }); ok {
			e.proto, _ = m.Marshal()
		}
	})
	return e.proto
}

// Revision is the revision of the write that made this version; for the last version of a deleted
// object, of the deletion. 0 is the outcome of a dry run.
func (e *Entry) Revision() int64 { return e.revision }

// at is the entry with another revision: a deletion's event carries the deletion's.
func (e *Entry) at(revision int64) *Entry {
	return newEntry(e.obj.DeepCopyObject().(api.Object), e.key, revision)
}

// as is the entry as it is served under kind, which may be another than the stored one.
func (e *Entry) as(kind *api.Kind) (*Entry, error) {
	if kind.FromStored == nil || e.obj.GetObjectKind().GroupVersionKind() == kind.GroupVersionKind {
		return e, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := e.views[kind.GroupVersionKind]; v != nil {
		return v, nil
	}
	obj, err := kind.FromStored(e.obj)
	if err != nil {
		return nil, fmt.Errorf("registry: convert %s to %s: %w", e.key, kind.GroupVersionKind, err)
	}
	if obj == e.obj {
		obj = obj.DeepCopyObject().(api.Object)
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	v := newEntry(obj, e.key, e.revision)
	if e.views == nil {
		e.views = map[schema.GroupVersionKind]*Entry{}
	}
	e.views[kind.GroupVersionKind] = v
	return v, nil
}
