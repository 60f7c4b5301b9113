package api

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// fieldVerdicts parses fieldTable: by type, by JSON name.
func fieldVerdicts(t *testing.T) map[string]map[string]string {
	out := map[string]map[string]string{}
	var current string
	for _, line := range strings.Split(strings.TrimSpace(fieldTable), "\n") {
		rest, indented := strings.CutPrefix(line, "\t")
		if !indented {
			if current = line; out[current] != nil {
				t.Errorf("%s stands in the table twice", current)
			}
			out[current] = map[string]string{}
			continue
		}
		verdict, names, _ := strings.Cut(rest, ": ")
		for _, name := range strings.Fields(names) {
			if out[current][name] != "" {
				t.Errorf("%s.%s has two verdicts", current, name)
			}
			out[current][name] = verdict
		}
	}
	return out
}

func typeName(kind reflect.Type) string {
	parts := strings.Split(kind.PkgPath(), "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/") + "." + kind.Name()
}

// fieldName is the JSON name, or the Go name of an embedded struct.
func fieldName(f reflect.StructField) (name string, inline bool) {
	if name, _, _ = strings.Cut(f.Tag.Get("json"), ","); name == "" {
		return f.Name, true
	}
	return name, false
}

func isLeaf(kind reflect.Type) bool {
	for _, leaf := range []any{metav1.Time{}, metav1.MicroTime{}, resource.Quantity{}, intstr.IntOrString{}, runtime.RawExtension{}, metav1.ManagedFieldsEntry{}} {
		if kind == reflect.TypeOf(leaf) {
			return true
		}
	}
	return kind.Kind() != reflect.Struct
}

// step is one field on the way from an object to a leaf.
type step struct {
	index int
	path  string // "" when inline
	list  bool
}

type fieldWalk struct {
	visit func(owner reflect.Type, f reflect.StructField, name string, way []step) (deeper bool)
	stack []reflect.Type
}

func (w *fieldWalk) walk(kind reflect.Type, way []step) {
	if slices.Contains(w.stack, kind) {
		return
	}
	w.stack = append(w.stack, kind)
	defer func() { w.stack = w.stack[:len(w.stack)-1] }()
	for i := range kind.NumField() {
		f := kind.Field(i)
		if f.Type == reflect.TypeOf(metav1.TypeMeta{}) || len(way) == 0 && f.Name == "Status" {
			continue // what the cluster reports is not asked of it
		}
		name, inline := fieldName(f)
		s := step{index: i, path: name}
		if inline {
			s.path = ""
		}
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			s.list = s.list || elem.Kind() == reflect.Slice
			elem = elem.Elem()
		}
		further := append(slices.Clone(way), s)
		if w.visit(kind, f, name, further) && !isLeaf(elem) {
			w.walk(elem, further)
		}
	}
}

// codeOf is all the code of a part but its tests.
func codeOf(t *testing.T, part string) string {
	var out strings.Builder
	err := filepath.WalkDir(filepath.Join("../..", part), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		out.Write(b)
		return err
	})
	if err != nil {
		t.Fatalf("%q is no part of Pintle: %v", part, err)
	}
	return out.String()
}

// Every field of every kind is honoured by a part that names it in its code, is information by
// Kubernetes' own definition, or is refused by a message that names it. A field that a newer k8s.io/api
// brings fails this test until somebody decides.
func TestEveryFieldIsHonouredOrRefused(t *testing.T) {
	verdicts := fieldVerdicts(t)
	used := map[string]bool{}
	code := map[string]string{}
	valued := map[string]bool{}
	for _, c := range valuedCases {
		valued[c.field] = true
	}
	for _, k := range All() {
		w := &fieldWalk{}
		w.visit = func(owner reflect.Type, f reflect.StructField, name string, way []step) bool {
			id := typeName(owner)
			verdict := verdicts[id][name]
			first := !used[id+"."+name]
			used[id+"."+name] = true
			switch verdict {
			case "":
				if first {
					t.Errorf("%s.%s has no verdict in fieldTable", id, name)
				}
				return true
			case "refused":
				refusedField(t, k, way)
				return false
			case "valued":
				if !valued[id+"."+name] {
					t.Errorf("%s.%s is valued but has no case", id, name)
				}
				return true
			case "stored", "ours":
				return false
			case "inline", "library": // library: k8s.io's own code reads it
				return true
			}
			if _, ok := code[verdict]; !ok {
				code[verdict] = codeOf(t, verdict)
			}
			if first && !regexp.MustCompile(`\b`+f.Name+`\b`).MatchString(code[verdict]) {
				t.Errorf("%s.%s is said to be honoured by %s, whose code never names it", id, name, verdict)
			}
			return true
		}
		w.walk(reflect.TypeOf(k.New()).Elem(), nil)
	}
	for id, names := range verdicts {
		for name := range names {
			if !used[id+"."+name] {
				t.Errorf("%s.%s is in the table, but no kind has it", id, name)
			}
		}
	}
}

// refusedField submits the least object of the kind with the field set.
func refusedField(t *testing.T, k *Kind, way []step) {
	t.Helper()
	o := decode(t, k, minimalOf(k))
	v, path := reflect.ValueOf(o).Elem(), (*field.Path)(nil)
	for n, s := range way {
		v = v.Field(s.index)
		if s.path != "" {
			path = path.Child(s.path)
		}
		if n == len(way)-1 {
			break
		}
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
			switch {
			case v.Kind() == reflect.Pointer && v.IsNil():
				v.Set(reflect.New(v.Type().Elem()))
			case v.Kind() == reflect.Slice && v.Len() == 0:
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			if v.Kind() == reflect.Slice {
				v, path = v.Index(0), path.Index(0)
			} else {
				v = v.Elem()
			}
		}
	}
	fill(v, 3, 1)
	errs := problems(k, made(k, o))
	if !slices.ContainsFunc(errs, func(e *field.Error) bool { return strings.HasPrefix(e.Field, path.String()) }) {
		t.Errorf("%s: %s is accepted: %v", k.GroupVersionKind.Kind, path, errs.ToAggregate())
	}
}

func TestValuesThatAreNotHonouredAreRefusedByName(t *testing.T) {
	for _, c := range valuedCases {
		t.Run(c.field, func(t *testing.T) {
			k := kindOf(t, c.kind)
			if errs := problems(k, made(k, decode(t, k, c.accepted))); len(errs) > 0 {
				t.Errorf("%s gives %v", c.accepted, errs.ToAggregate())
			}
			errs := problems(k, made(k, decode(t, k, c.refused)))
			if !slices.ContainsFunc(errs, func(e *field.Error) bool { return e.Field == c.at }) {
				t.Errorf("%s gives %v", c.refused, errs.ToAggregate())
			}
		})
	}
}
