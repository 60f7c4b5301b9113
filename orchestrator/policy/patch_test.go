package policy

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/policies/abi"
)

func somePod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func TestPatchesOfEachType(t *testing.T) {
	whole := somePod()
	whole.Labels["x"] = "y"
	asJSON, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	asProto, err := whole.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, resp := range map[string]*abi.AdmissionResponse{
		"JSON patch":            {Patch: []byte(`[{"op":"add","path":"/metadata/labels/x","value":"y"}]`), PatchType: abi.JSONPatch},
		"merge patch":           {Patch: []byte(`{"metadata":{"labels":{"x":"y"}}}`), PatchType: abi.MergePatch},
		"the object":            {Patch: asJSON, PatchType: abi.WholeObject},
		"the object, protobuf":  {Patch: asProto, PatchType: abi.WholeObject},
		"what it can't change":  {Patch: []byte(`{"metadata":{"labels":{"x":"y"},"uid":"other","resourceVersion":"1","generation":9,"creationTimestamp":"2001-01-01T00:00:00Z"}}`), PatchType: abi.MergePatch},
		"without its type meta": {Patch: []byte(strings.ReplaceAll(strings.ReplaceAll(string(asJSON), `"kind":"Pod",`, ""), `"apiVersion":"v1",`, "")), PatchType: abi.WholeObject},
	} {
		before := somePod()
		out, err := patched(before, resp)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := somePod()
		want.Labels["x"] = "y"
		got, _ := json.Marshal(out)
		if wanted, _ := json.Marshal(want); string(got) != string(wanted) {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, wanted)
		}
		if len(before.Labels) != 1 {
			t.Errorf("%s: the object itself changed", name)
		}
	}
}

func TestBadPatchesAreErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		patch string
		kind  abi.PatchType
		want  string
	}{
		"no JSON":              {`nonsense`, abi.JSONPatch, "can't be applied"},
		"no path":              {`[{"op":"replace","path":"/spec/nothing/there","value":1}]`, abi.JSONPatch, "can't be applied"},
		"another name":         {`{"metadata":{"name":"q"}}`, abi.MergePatch, "another name or namespace"},
		"another namespace":    {`{"metadata":{"namespace":"q"}}`, abi.MergePatch, "another name or namespace"},
		"another kind":         {`{"kind":"Secret"}`, abi.MergePatch, "makes a /v1, Kind=Secret"},
		"an unknown field":     {`{"spec":{"conatiners":[]}}`, abi.MergePatch, `unknown field "spec.conatiners"`},
		"a field of its type":  {`{"spec":{"containers":"many"}}`, abi.MergePatch, "makes no *v1.Pod"},
		"an unknown type":      {`{}`, 7, "no patch type 7"},
		"half an object":       {`{"metadata":`, abi.WholeObject, "makes no *v1.Pod"},
		"no protobuf":          {"\xff\xff\xff", abi.WholeObject, "can't be read"},
		"a bomb":               {`[` + strings.Repeat(`{"op":"copy","from":"/metadata","path":"/metadata/annotations/a"},`, 200) + `{"op":"test","path":"/kind","value":"Pod"}]`, abi.JSONPatch, "can't be applied"},
		"an object of nothing": {`{}`, abi.WholeObject, "another name or namespace"},
	} {
		if _, err := patched(somePod(), &abi.AdmissionResponse{Patch: []byte(tc.patch), PatchType: tc.kind}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
