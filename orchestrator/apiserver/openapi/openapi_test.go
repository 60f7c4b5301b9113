package openapi

import (
	"encoding/json"
	"mime"
	"net/http/httptest"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

func TestDocumentsDescribeTheKinds(t *testing.T) {
	h, err := Handler(Config{Version: "v1.37", Kinds: []*api.Kind{
		{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: "pods", Namespaced: true, Status: &api.Status{},
			New: func() api.Object { return &corev1.Pod{} }, NewList: func() runtime.Object { return &corev1.PodList{} }},
		{GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("Deployment"), Resource: "deployments", Namespaced: true, Scale: &api.Scale{},
			New: func() api.Object { return &appsv1.Deployment{} }, NewList: func() runtime.Object { return &appsv1.DeploymentList{} }},
		{GroupVersionKind: schema.GroupVersionKind{Group: "x.pintle.dev", Version: "v1", Kind: "Own"}, Resource: "owns",
			New: func() api.Object { return &own{} }, NewList: func() runtime.Object { return &ownList{} }},
	}, Reviews: []Review{
		{GroupVersionKind: authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), Resource: "tokenreviews", New: func() runtime.Object { return &authenticationv1.TokenReview{} }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	get := func(url, accept string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", url, nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		h.ServeHTTP(w, r)
		return w
	}
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(get("/openapi/v3", "").Body.Bytes(), &index); err != nil || len(index.Paths) != 4 {
		t.Fatalf("%v %v", index, err)
	}
	for root, p := range index.Paths {
		w := get(p.ServerRelativeURL, "application/json")
		checkRefs(t, root, w.Body.Bytes(), refPrefixV3, "schemas")
		if !strings.Contains(w.Body.String(), "x-kubernetes-group-version-kind") || w.Header().Get("ETag") == "" {
			t.Errorf("%s: no kinds or no ETag", root)
		}
		w = get(p.ServerRelativeURL, protoV3)
		if w.Code != 200 {
			t.Errorf("%s as protobuf: %s", root, w.Body)
		}
		if _, _, err := mime.ParseMediaType(w.Header().Get("Content-Type")); err != nil {
			t.Errorf("clients can't parse the media type %q: %v", w.Header().Get("Content-Type"), err)
		}
	}
	v2 := get("/openapi/v2", "")
	checkRefs(t, "v2", v2.Body.Bytes(), refPrefixV2, "definitions")
	if !strings.Contains(v2.Body.String(), `"/apis/authentication.k8s.io/v1/tokenreviews"`) {
		t.Error("no tokenreviews in v2")
	}
	w := get("/openapi/v2", protoV2)
	doc := &openapi_v2.Document{}
	if err := proto.Unmarshal(w.Body.Bytes(), doc); err != nil || len(doc.GetDefinitions().GetAdditionalProperties()) < 50 {
		t.Fatalf("%d %v", w.Code, err)
	}
}

func checkRefs(t *testing.T, name string, raw []byte, prefix, key string) {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatalf("%s: %v: %.200s", name, err, raw)
	}
	defs, _ := doc[key].(map[string]any)
	if c, ok := doc["components"].(map[string]any); ok {
		defs = c[key].(map[string]any)
	}
	var walk func(v any)
	walk = func(v any) {
		switch x := v.(type) {
		case map[string]any:
			if ref, ok := x["$ref"].(string); ok {
				if model, ok := strings.CutPrefix(ref, prefix); !ok || defs[model] == nil {
					t.Errorf("%s: dangling %s", name, ref)
				}
			}
			for _, c := range x {
				walk(c)
			}
		case []any:
			for _, c := range x {
				walk(c)
			}
		}
	}
	walk(doc)
}

type own struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Extra             map[string][]int `json:"extra"`
}

func (o *own) DeepCopyObject() runtime.Object { c := *o; return &c }

type ownList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []own `json:"items"`
}

func (o *ownList) DeepCopyObject() runtime.Object { c := *o; return &c }
