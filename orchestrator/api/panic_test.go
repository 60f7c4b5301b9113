package api

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fill sets everything below v, lists to one element, pointers to something, up to a depth. Numbers are n.
func fill(v reflect.Value, depth int, n int64) {
	if depth < 0 || !v.CanSet() {
		return
	}
	switch v.Interface().(type) {
	case metav1.Time:
		v.Set(reflect.ValueOf(metav1.NewTime(time.Unix(1_700_000_000, 0).UTC())))
		return
	case metav1.MicroTime:
		v.Set(reflect.ValueOf(metav1.NewMicroTime(time.Unix(1_700_000_000, 0).UTC())))
		return
	case resource.Quantity:
		v.Set(reflect.ValueOf(*resource.NewQuantity(n, resource.DecimalSI)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth-1, n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth-1, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth-1, n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth-1, n)
		fill(value, depth-1, n)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(n)
	case reflect.Bool:
		v.SetBool(n > 0)
	}
}

// scatter fills v at random: nil or set, empty or odd, each by a throw of the dice.
func scatter(r *rand.Rand, v reflect.Value, depth int) {
	if depth < 0 || !v.CanSet() || r.IntN(3) == 0 {
		return
	}
	switch v.Interface().(type) {
	case metav1.Time, metav1.MicroTime, resource.Quantity:
		fill(v, 1, int64(r.IntN(5)-2))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		scatter(r, v.Elem(), depth-1)
	case reflect.Struct:
		for i := range v.NumField() {
			scatter(r, v.Field(i), depth-1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		for i := range v.Len() {
			scatter(r, v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			scatter(r, key, depth-1)
			scatter(r, value, depth-1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		odd := []string{"", "x", "*", "None", "a/b", "..", "-1", "25%", "120%", "%", "\x00", "Always", "RollingUpdate", "ClientIP", "ExternalName", "cpu", "hugepages-2Mi", "::1", "10.0.0.1", "localhost/x", "TCP", "In", "Exists"}
		v.SetString(odd[r.IntN(len(odd))])
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{-1 << 31, -1, 0, 1, 80, 1<<31 - 1}[r.IntN(6)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	}
}

func TestEmptyAndFullObjectsDoNotPanic(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		exercise(k, k.New(), k.New())
		for depth := range 12 {
			for _, n := range []int64{-1, 0, 1} {
				o := k.New()
				fill(reflect.ValueOf(o).Elem(), depth, n)
				exercise(k, o, k.New())
				exercise(k, o, o.DeepCopyObject().(Object))
			}
		}
	})
}

func TestOddObjectsDoNotPanic(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		for seed := range uint64(300) {
			r := rand.New(rand.NewPCG(seed, 1))
			o, old := k.New(), k.New()
			scatter(r, reflect.ValueOf(o).Elem(), 10)
			scatter(r, reflect.ValueOf(old).Elem(), 10)
			func() {
				defer func() {
					if p := recover(); p != nil {
						t.Errorf("seed %d: %v", seed, p)
						panic(p)
					}
				}()
				exercise(k, o, old)
			}()
		}
	})
}

// FuzzDecodedObjects decodes what it is given as every kind and calls everything on what decodes.
func FuzzDecodedObjects(f *testing.F) {
	f.Add(`{"metadata":{"name":"x"},"spec":{"containers":[{"name":"c","ports":[{}]}],"volumes":[{}]}}`)
	f.Add(`{"spec":{"template":{"spec":{"containers":[null],"affinity":{}}},"selector":{},"strategy":{"rollingUpdate":{}}}}`)
	f.Add(`{"spec":{"ports":[{"targetPort":"x"}],"rules":[{"http":{"paths":[{}]}}]},"subsets":[{}],"endpoints":[{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range All() {
			o := k.New()
			if json.Unmarshal([]byte(text), o) == nil {
				exercise(k, o, k.New())
			}
		}
	})
}
