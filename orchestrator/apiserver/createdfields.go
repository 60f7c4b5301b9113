package apiserver

import (
	"encoding/binary"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pintle/pintle/orchestrator/api"
)

// createdFields remembers which fields the creators of objects own. Who creates an object owns what it has, and the names of
// that are the same for objects with the same outline: pods of one template, say. An outline is found in microseconds,
// where the names take a tenth of a millisecond.
type createdFields struct {
	mu    sync.Mutex                  // guards known
	known map[string]*metav1.FieldsV1 // by kind and outline; nil: no field
}

// Bounds of what is remembered.
const (
	maxOutlines = 1024
	maxOutline  = 8 << 10 // bytes
)

// track is FieldManager.Update of an object that is created, which otherwise does when the outline is new.
func (f *createdFields) track(kind *api.Kind, obj api.Object, manager string, otherwise func() (runtime.Object, error)) (runtime.Object, error) {
	if obj.GetManagedFields() != nil {
		return otherwise()
	}
	var space [2 << 10]byte
	gvk := kind.GroupVersionKind
	outline, ok := outlineOf(append(append(append(space[:0], gvk.Kind...), gvk.Group...), gvk.Version...), obj)
	if !ok {
		return otherwise()
	}
	f.mu.Lock()
	fields, known := f.known[string(outline)]
	f.mu.Unlock()
	if !known {
		out, err := otherwise()
		if tracked, ok := out.(api.Object); ok && err == nil {
			f.remember(string(outline), tracked.GetManagedFields())
		}
		return out, err
	}
	if fields == nil {
		return obj, nil
	}
	if manager == "" {
		manager = "unknown"
	}
	now := metav1.NewTime(time.Now().UTC())
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: gvk.GroupVersion().String(),
		Time: &now, FieldsType: "FieldsV1", FieldsV1: fields}})
	return obj, nil
}

func (f *createdFields) remember(outline string, managed []metav1.ManagedFieldsEntry) {
	if len(managed) > 1 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxOutlines {
		clear(f.known)
	}
	if f.known == nil {
		f.known = map[string]*metav1.FieldsV1{}
	}
	f.known[outline] = nil
	if len(managed) == 1 {
		f.known[outline] = managed[0].FieldsV1
	}
}

// outlineOf appends what decides which fields an object has: which are set, how long lists are, the keys of maps, and in lists
// the values themselves, by which their items may be named. More than that decides is no harm. false: it can't be said.
func outlineOf(b []byte, obj api.Object) ([]byte, bool) {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	o := outliner{b: append(b, 0)}
	o.add(v.Elem(), false)
	return o.b, !o.failed && len(o.b) <= maxOutline
}

type outliner struct {
	b      []byte
	failed bool
}

func (o *outliner) text(s string) {
	o.b = append(append(o.b, byte(len(s)), byte(len(s)>>8), byte(len(s)>>16)), s...)
}

func (o *outliner) flag(set bool) {
	if set {
		o.b = append(o.b, 1)
	} else {
		o.b = append(o.b, 0)
	}
}

// add outlines a value; inList says that it is an item of a list, or a field of one.
func (o *outliner) add(v reflect.Value, inList bool) {
	if o.failed || len(o.b) > maxOutline {
		o.failed = true
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		o.flag(!v.IsNil())
		if !v.IsNil() {
			o.add(v.Elem(), inList)
		}
	case reflect.Struct:
		o.structure(v, inList)
	case reflect.Slice:
		o.flag(v.IsNil())
		if v.Type().Elem().Kind() == reflect.Uint8 {
			o.flag(v.Len() > 0)
			return
		}
		o.b = append(o.b, byte(v.Len()), byte(v.Len()>>8), byte(v.Len()>>16))
		for i := range v.Len() {
			o.add(v.Index(i), true)
		}
	case reflect.Map:
		o.mapping(v)
	case reflect.String:
		if inList {
			o.text(v.String())
		} else {
			o.flag(v.Len() > 0)
		}
	case reflect.Bool:
		o.flag(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if inList {
			o.b = binary.LittleEndian.AppendUint64(o.b, uint64(v.Int()))
		} else {
			o.flag(v.Int() != 0)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		o.flag(!v.IsZero())
		o.failed = o.failed || inList // none of Kubernetes' lists has items that are named so
	default:
		o.failed = true
	}
}

// structure outlines a struct's fields. One that is written by a method of its own is a value: a quantity, a time.
func (o *outliner) structure(v reflect.Value, inList bool) {
	t := v.Type()
	if t == reflect.TypeFor[runtime.RawExtension]() || t == reflect.TypeFor[metav1.FieldsV1]() {
		o.failed = true // any fields may be in there
		return
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		o.flag(v.IsZero())
		if !inList {
			return
		}
		text, err := json.Marshal(v.Interface())
		o.text(string(text))
		o.failed = o.failed || err != nil
		return
	}
	for i := range v.NumField() {
		o.add(v.Field(i), inList)
	}
}

// mapping outlines a map by its keys, which are text, in order.
func (o *outliner) mapping(v reflect.Value) {
	o.flag(v.IsNil())
	if v.Type().Key().Kind() != reflect.String {
		o.failed = true
		return
	}
	o.b = append(o.b, byte(v.Len()), byte(v.Len()>>8), byte(v.Len()>>16))
	if v.Len() == 0 {
		return
	}
	type entry struct {
		key   string
		value reflect.Value
	}
	entries := make([]entry, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		entries = append(entries, entry{it.Key().String(), it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range entries {
		o.text(e.key)
		o.add(e.value, false)
	}
}
