package apiserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// wild makes JSON for a type: mostly of its shape, with odd values, and now and then of another shape.
func wild(r *rand.Rand, t reflect.Type, depth int) any {
	odd := []any{nil, "", "x", "-1", "a/b", strings.Repeat("z", 300), "\x00\u2028é", -1, 0, 1 << 40, 1e300, 0.5, true, []any{}, map[string]any{}, []any{nil}, map[string]any{"": nil}}
	if r.IntN(25) == 0 || depth < 0 {
		return odd[r.IntN(len(odd))]
	}
	for t.Kind() == reflect.Pointer {
		if r.IntN(4) == 0 {
			return nil
		}
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return []any{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000Z", "0001-01-01T00:00:00Z", "never"}[r.IntN(4)]
	case reflect.TypeFor[resource.Quantity]():
		return []any{"1", "-1", "1e400", "100m", "9999999999999999999Ei", "x", 5}[r.IntN(7)]
	case reflect.TypeFor[intstr.IntOrString]():
		return []any{1, -1, "10%", "-10%", "x", "101%", 1 << 31}[r.IntN(7)]
	}
	switch t.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range t.NumField() {
			f := t.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if strings.Contains(options, "inline") {
				if m, ok := wild(r, f.Type, depth).(map[string]any); ok {
					for k, v := range m {
						out[k] = v
					}
				}
				continue
			}
			if name != "" && name != "-" && r.IntN(3) == 0 {
				out[name] = wild(r, f.Type, depth-1)
			}
		}
		return out
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "YQ=="
		}
		out := []any{}
		for range r.IntN(3) {
			out = append(out, wild(r, t.Elem(), depth-1))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for range r.IntN(3) {
			out[[]string{"a", "b", "", "a.b/c", "$patch", "k"}[r.IntN(6)]] = wild(r, t.Elem(), depth-1)
		}
		return out
	case reflect.String:
		return []any{"a", "b", "", "Always", "None", "10.0.0.1", "TCP", "x y", "99999999", "/a", "a=b", "In"}[r.IntN(12)]
	case reflect.Bool:
		return r.IntN(2) == 0
	case reflect.Int32, reflect.Int64, reflect.Int:
		return []any{0, 1, -1, 80, 65536, 1 << 31, -(1 << 40)}[r.IntN(7)]
	}
	return odd[r.IntN(len(odd))]
}

// wildObject has a name and a kind that fit, so that it gets beyond the first checks.
func wildObject(r *rand.Rand, t *testing.T, k *api.Kind, name string) map[string]any {
	out, ok := wild(r, reflect.TypeOf(k.New()), 8).(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	base := sample(t, k, name).Object
	for key, value := range base {
		if r.IntN(2) == 0 || key == "kind" || key == "apiVersion" || key == "metadata" && r.IntN(3) > 0 {
			out[key] = value
		}
	}
	if spec, ok := out["spec"].(map[string]any); ok { // half of it right, half of it wild
		if good, ok := base["spec"].(map[string]any); ok {
			for key, value := range good {
				if r.IntN(2) == 0 {
					spec[key] = value
				}
			}
		}
	}
	if meta, ok := out["metadata"].(map[string]any); ok && r.IntN(10) > 0 {
		meta["name"] = name
	}
	return out
}

func TestNoManifestPanics(t *testing.T) {
	c := start(t, options{})
	client := c.http(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters}})
	r := rand.New(rand.NewPCG(1, 2))
	send := func(method, path, contentType string, body []byte) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, "http://pintle.invalid"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", contentType)
		answer, err := client.Do(q)
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", method, path, err, body)
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode >= 500 {
			t.Errorf("%s %s (%s): %d %s\n%s", method, path, contentType, answer.StatusCode, text, body)
		}
	}
	query := func() string {
		words := []string{"dryRun=All", "fieldValidation=Strict", "fieldValidation=Ignore", "fieldManager=m", "force=true", "pretty=1", "timeout=1s", "x=%zz", "limit=2", "fieldManager=%00", "gracePeriodSeconds=-5"}
		out := "?fieldManager=h"
		for range r.IntN(3) {
			out += "&" + words[r.IntN(len(words))]
		}
		return out
	}
	patches := []string{"application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/json-patch+json"}
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	for _, k := range c.registry.Kinds() {
		base := "/apis/" + k.GroupVersionKind.GroupVersion().String() + "/"
		if k.GroupVersionKind.Group == "" {
			base = "/api/v1/"
		}
		if k.Namespaced {
			base += "namespaces/default/"
		}
		base += k.Resource
		encode := func(v any) []byte {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		name := "hammered"
		send("POST", base+"?fieldManager=h", "application/json", encode(sample(t, k, name).Object))
		subs := []string{""}
		if k.Status != nil {
			subs = append(subs, "/status")
		}
		if k.Scale != nil {
			subs = append(subs, "/scale")
		}
		for i := range rounds {
			send("POST", base+query(), "application/json", encode(wildObject(r, t, k, fmt.Sprint("h", i))))
			for _, sub := range subs {
				path := base + "/" + name + sub
				send("PUT", path+query(), "application/json", encode(wildObject(r, t, k, name)))
				for _, patch := range patches {
					var body any = wildObject(r, t, k, name)
					if patch == "application/json-patch+json" {
						body = []any{map[string]any{"op": []string{"add", "remove", "replace", "test", "copy", "move", ""}[r.IntN(7)],
							"path": []string{"", "/", "/metadata", "/spec", "/spec/-", "/metadata/labels/a", "/x/9", "/status"}[r.IntN(8)], "from": "/spec", "value": wild(r, reflect.TypeOf(k.New()), 4)}}
					}
					send("PATCH", path+query(), patch, encode(body))
				}
			}
			send("GET", base+query()+"&labelSelector="+strings.Repeat("a%2C", i*20)+"b", "application/json", nil)
			send("DELETE", fmt.Sprint(base, "/h", i, query()), "application/json", encode(wild(r, reflect.TypeFor[metav1.DeleteOptions](), 3)))
		}
	}
}
