package patchdoc

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestAMergePatchIsRFC7386(t *testing.T) {
	for _, tc := range [][3]string{ // its appendix
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{"a":"foo"}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{}`, `{"a":12345678901234567890,"b":1.50}`, `{"a":12345678901234567890,"b":1.50}`},
	} {
		got, err := Merge([]byte(tc[0]), []byte(tc[1]))
		if err != nil || !sameJSON(t, string(got), tc[2]) {
			t.Errorf("%s with %s: %s %v", tc[0], tc[1], got, err)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

func TestAPatchCanNotFillTheMemoryOrTheTime(t *testing.T) {
	doc := []byte(`{"data":{"a":"` + strings.Repeat("x", 1000) + `"}}`)
	var double, small []string
	for i := range 60 {
		double = append(double, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/x%d"}`, i))
	}
	for i := range maxPatchCopies + 1 {
		small = append(small, fmt.Sprintf(`{"op":"copy","from":"/data/a","path":"/data/y%d"}`, i))
	}
	for name, patch := range map[string][]string{"doubling": double, "many copies": small} {
		if _, err := JSON(doc, []byte("["+strings.Join(patch, ",")+"]")); !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	patch := `[{"op":"add","path":"/data/b","value":"1"},` + strings.Join(small[:3], ",") + `,{"op":"remove","path":"/data/y0"},{"op":"test","path":"/data/b","value":"1"}]`
	out, err := JSON(doc, []byte(patch))
	if err != nil || strings.Count(string(out), "xxxx") == 0 || strings.Contains(string(out), `"y0"`) || !strings.Contains(string(out), `"y2"`) {
		t.Errorf("%.300s %v", out, err)
	}
	const deep = 9000
	if _, err := Merge(doc, []byte(strings.Repeat(`{"a":`, deep)+"1"+strings.Repeat("}", deep))); err != nil {
		t.Error(err)
	}
}
