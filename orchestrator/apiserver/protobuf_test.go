package apiserver_test

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// fetch answers a GET of the admin's.
func (c *cluster) fetch(path, accept string) (*http.Response, []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), "GET", "http://pintle.invalid"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	answer, err := c.http(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters}}).Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer, body
}

func TestProtobufSaysWhatJSONSays(t *testing.T) {
	c := start(t, options{})
	maps := c.admin().CoreV1().ConfigMaps("default")
	for i, size := range []int{0, 1, 100, 127, 128, 20000} {
		m := configMap("m" + strconv.Itoa(i))
		m.Data = map[string]string{"k": string(bytes.Repeat([]byte("x"), size))}
		if _, err := maps.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const protobuf = "application/vnd.kubernetes.protobuf"
	decode := scheme.Codecs.UniversalDeserializer().Decode
	for _, path := range []string{"/m0", "/m3", "/m5", "", "?limit=2", "?labelSelector=none"} {
		path = "/api/v1/namespaces/default/configmaps" + path
		answer, raw := c.fetch(path, protobuf)
		if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != protobuf {
			t.Fatalf("%s: %d %s", path, answer.StatusCode, answer.Header.Get("Content-Type"))
		}
		got, gvk, err := decode(raw, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_, text := c.fetch(path, "application/json")
		want, wantGVK, err := decode(text, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got.GetObjectKind().SetGroupVersionKind(*wantGVK)
		if list, ok := got.(*corev1.ConfigMapList); ok {
			for i := range list.Items {
				list.Items[i].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
			}
			if list.Items == nil {
				list.Items = []corev1.ConfigMap{}
			}
		}
		if *gvk != *wantGVK || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%v\nwant\n%v", path, gvk, got, want)
		}
	}
}
