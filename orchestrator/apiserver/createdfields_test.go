package apiserver

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/api"
)

// filler makes objects up: every field may be set.
type filler struct{ *rand.Rand }

func (f filler) fill(v reflect.Value, depth int) {
	switch p := v.Addr().Interface().(type) {
	case *metav1.Time:
		if f.IntN(2) == 0 {
			*p = metav1.Unix(int64(f.IntN(1000)), 0)
		}
		return
	case *metav1.MicroTime:
		return
	case *resource.Quantity:
		if f.IntN(2) == 0 {
			*p = *resource.NewQuantity(int64(f.IntN(3)), resource.DecimalSI)
		}
		return
	case *intstr.IntOrString:
		if f.IntN(2) == 0 {
			*p = intstr.FromInt32(int32(f.IntN(3)))
		}
		return
	case *runtime.RawExtension, *metav1.FieldsV1:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if depth > 0 && f.IntN(3) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.fill(v.Field(i), depth)
			}
		}
	case reflect.Slice:
		if depth == 0 || f.IntN(3) > 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(3), 3))
		for i := range v.Len() {
			f.fill(v.Index(i), depth-1)
		}
	case reflect.Map:
		if depth == 0 || f.IntN(3) > 0 || v.Type().Key().Kind() != reflect.String {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for i := range f.IntN(3) {
			value := reflect.New(v.Type().Elem()).Elem()
			f.fill(value, depth-1)
			v.SetMapIndex(reflect.ValueOf(fmt.Sprint("k", i)).Convert(v.Type().Key()), value)
		}
	case reflect.String:
		if f.IntN(2) == 0 {
			v.SetString(string(rune('a' + f.IntN(3))))
		}
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.IntN(3)))
	}
}

// change gives single values another one, here and there.
func (f filler) change(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.change(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.change(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.change(v.Index(i))
		}
	case reflect.String:
		if v.Len() > 0 && f.IntN(2) == 0 {
			v.SetString(v.String() + "x")
		}
	case reflect.Int32, reflect.Int64:
		if v.Int() != 0 && f.IntN(2) == 0 {
			v.SetInt(v.Int() + 1)
		}
	}
}

// Objects of one outline have the same fields, whatever the values; that of the second is what is remembered of the first.
func TestObjectsOfOneOutlineHaveTheSameFields(t *testing.T) {
	managers := newFieldManagers(api.Scheme(), api.All())
	f := filler{rand.New(rand.NewPCG(1, 2))}
	same := 0
	for _, kind := range api.All() {
		fm, err := managers.get(kind, "")
		if err != nil {
			t.Fatal(err)
		}
		fieldsOf := func(o api.Object) (string, bool) {
			out, err := fm.Update(withKind(kind.New(), kind.GroupVersionKind), o.DeepCopyObject(), "m")
			if err != nil { // such an object is refused anyway
				return "", false
			}
			managed := out.(api.Object).GetManagedFields()
			if len(managed) == 0 {
				return "", true
			}
			return string(managed[0].FieldsV1.Raw), true
		}
		for range 60 {
			o := withKind(kind.New(), kind.GroupVersionKind).(api.Object)
			f.fill(reflect.ValueOf(o).Elem(), 5)
			o.SetManagedFields(nil)
			withKind(o, kind.GroupVersionKind)
			outline, ok := outlineOf(nil, o)
			if !ok {
				continue
			}
			first, ok := fieldsOf(o)
			if !ok {
				continue
			}
			for range 4 {
				other := o.DeepCopyObject().(api.Object)
				f.change(reflect.ValueOf(other).Elem())
				withKind(other, kind.GroupVersionKind)
				if again, ok := outlineOf(nil, other); !ok || string(again) != string(outline) {
					// Values of lists count. Let only the others change.
					continue
				}
				same++
				if second, ok := fieldsOf(other); ok && second != first {
					t.Fatalf("%s: one outline, and the fields of\n%+v\nare\n%s, of\n%+v\n%s", kind.Resource, o, first, other, second)
				}
			}
		}
	}
	t.Logf("%d pairs", same)
	if same < 500 {
		t.Errorf("only %d pairs of one outline", same)
	}
}

// What is remembered gives the same entry as making it anew, for each who creates.
func TestCreatedObjectsAreTrackedAsBefore(t *testing.T) {
	var kind *api.Kind
	for _, k := range api.All() {
		if k.Resource == "pods" {
			kind = k
		}
	}
	managers := newFieldManagers(api.Scheme(), api.All())
	fm, err := managers.get(kind, "")
	if err != nil {
		t.Fatal(err)
	}
	pod := func(name, image string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": name}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image, Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}}}}
		if change != nil {
			change(p)
		}
		return withKind(p, kind.GroupVersionKind).(*corev1.Pod)
	}
	made := 0
	for i, p := range []*corev1.Pod{
		pod("a", "x:1", nil), pod("b", "x:1", nil), pod("a", "x:1", nil),
		pod("a", "x:1", func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 81 }),
		pod("a", "x:1", func(p *corev1.Pod) { p.Labels["more"] = "1" }),
		pod("a", "x:1", func(p *corev1.Pod) { p.Spec.NodeName = "n" }),
		pod("a", "x:1", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["memory"] = resource.MustParse("1Gi") }),
		pod("a", "x:1", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2") }),
	} {
		want, err := fm.Update(withKind(kind.New(), kind.GroupVersionKind), p.DeepCopy(), "me")
		if err != nil {
			t.Fatal(err)
		}
		got, err := managers.created.track(kind, p.DeepCopy(), "me", func() (runtime.Object, error) {
			made++
			return fm.Update(withKind(kind.New(), kind.GroupVersionKind), p.DeepCopy(), "somebody")
		})
		if err != nil {
			t.Fatal(err)
		}
		w, g := want.(api.Object).GetManagedFields(), got.(api.Object).GetManagedFields()
		if len(w) != 1 || len(g) != 1 || string(w[0].FieldsV1.Raw) != string(g[0].FieldsV1.Raw) || w[0].APIVersion != g[0].APIVersion || w[0].Operation != g[0].Operation ||
			g[0].Time == nil || g[0].FieldsType != w[0].FieldsType {
			t.Errorf("pod %d: %+v, want %+v", i, g, w)
		}
	}
	if made != 5 { // the first three are alike, and the last but for an amount
		t.Errorf("%d outlines, want 5", made)
	}
}
