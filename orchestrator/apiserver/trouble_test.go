package apiserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func (c *cluster) http(user *authn.User) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if user == nil {
			return c.memory.Dial(ctx, nil)
		}
		return c.memory.Dial(ctx, user)
	}}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestWrongRequestsGetTheStatusAndWordsOfKubernetes(t *testing.T) {
	c := start(t, options{})
	client := c.http(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters}})
	const pods, deployments = "/api/v1/namespaces/default/pods", "/apis/apps/v1/namespaces/default/deployments"
	if _, err := c.admin().CoordinationV1().Leases("default").Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	deployment := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}%s}}`
	for _, tc := range []struct {
		name, method, path, contentType, body string
		accept, header                        string
		code                                  int
		says                                  string
	}{
		{name: "malformed JSON", method: "POST", path: pods, body: `{"kind":`, code: 400, says: "unexpected end of JSON input"},
		{name: "malformed YAML", method: "POST", path: pods, contentType: "application/yaml", body: "a: [", code: 400, says: "yaml"},
		{name: "empty body", method: "POST", path: pods, code: 400, says: "the body of the request is empty"},
		{name: "malformed protobuf", method: "POST", path: pods, contentType: "application/vnd.kubernetes.protobuf", body: "k8s\x00\xff\xff\xff", code: 400},
		{name: "wrong type", method: "POST", path: deployments, body: fmt.Sprintf(deployment, `,"replicas":"three"`), code: 400, says: `Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field`},
		{name: "unknown field, strict", method: "POST", path: deployments + "?fieldValidation=Strict", body: fmt.Sprintf(deployment, `,"foo":1`), code: 400, says: `strict decoding error: unknown field "spec.foo"`},
		{name: "wrong fieldValidation", method: "POST", path: pods + "?fieldValidation=Maybe", body: "{}", code: 422, says: `CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\"`},
		{name: "wrong field manager", method: "POST", path: pods + "?fieldManager=" + strings.Repeat("a", 129), body: "{}", code: 422, says: "fieldManager: Too long"},
		{name: "wrong propagation policy", method: "DELETE", path: pods + "/x", body: `{"propagationPolicy":"Foo"}`, code: 422, says: `DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy`},
		{name: "match without a version", method: "GET", path: pods + "?resourceVersionMatch=Exact", code: 422, says: "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{name: "exactly any version", method: "GET", path: pods + "?resourceVersionMatch=Exact&resourceVersion=0", code: 422, says: "is forbidden for resourceVersion"},
		{name: "initial events of a list", method: "GET", path: pods + "?sendInitialEvents=true", code: 422, says: "sendInitialEvents is forbidden for list"},
		{name: "list at nonsense", method: "GET", path: pods + "?resourceVersion=x", code: 400, says: "invalid resource version"},
		{name: "get at nonsense", method: "GET", path: "/api/v1/namespaces/default?resourceVersion=x", code: 400, says: "invalid resource version"},
		{name: "get of the future", method: "GET", path: "/api/v1/namespaces/default?resourceVersion=7777777", code: 504, says: "Too large resource version"},
		{name: "field label of a kind without", method: "GET", path: "/api/v1/configmaps?fieldSelector=a%3Dx", code: 400, says: `\"a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"`},
		{name: "all namespaces deleted", method: "DELETE", path: "/api/v1/namespaces", code: 405, says: "does not allow this method"},
		{name: "a collection of all namespaces deleted", method: "DELETE", path: "/api/v1/pods", code: 405, says: "does not allow this method"},
		{name: "duplicate field in a merge patch, strict", method: "PATCH", path: "/api/v1/namespaces/default?fieldValidation=Strict", contentType: "application/merge-patch+json", body: `{"metadata":{"labels":{"a":"b","a":"c"}}}`, code: 422, says: `duplicate field \"metadata.labels.a\"`},
		{name: "duplicate field in a strategic patch, strict", method: "PATCH", path: "/api/v1/namespaces/default?fieldValidation=Strict", contentType: "application/strategic-merge-patch+json", body: `{"metadata":{"labels":{"a":"b","a":"c"}}}`, code: 422, says: `duplicate field \"metadata.labels.a\"`},
		{name: "duplicate field in an apply, strict", method: "PATCH", path: "/api/v1/namespaces/default?fieldManager=m&fieldValidation=Strict", contentType: "application/apply-patch+yaml", body: "apiVersion: v1\nkind: Namespace\nmetadata: {labels: {a: b, a: c}}", code: 400, says: "already set in map"},
		{name: "CustomResourceDefinitions created", method: "POST", path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body: "{}", code: 404},
		{name: "another kind", method: "POST", path: pods, body: fmt.Sprintf(deployment, ""), code: 400},
		{name: "a body over 3 MiB", method: "POST", path: pods, body: `{"x":"` + strings.Repeat("a", 3<<20) + `"}`, code: 413, says: "limit is 3145728"},
		{name: "media type", method: "POST", path: pods, contentType: "text/plain", body: "x", code: 415, says: "accepted media types include"},
		{name: "patch media type", method: "PATCH", path: pods + "/x", contentType: "application/json", body: "{}", code: 415},
		{name: "not acceptable", method: "GET", path: pods, accept: "image/png", code: 406, says: "only the following media types are accepted"},
		{name: "no such object", method: "GET", path: deployments + "/x", code: 404, says: `deployments.apps \"x\" not found`},
		{name: "no such kind", method: "GET", path: "/api/v1/namespaces/default/replicationcontrollers", code: 404, says: "could not find the requested resource"},
		{name: "no such subresource", method: "GET", path: deployments + "/x/log", code: 404},
		{name: "no such path", method: "GET", path: "/nothing", code: 404},
		{name: "method", method: "POST", path: pods + "/x", body: "{}", code: 405, says: "does not allow this method"},
		{name: "name that is no label", method: "POST", path: "/api/v1/namespaces", body: `{"metadata":{"name":"A_b"}}`, code: 422, says: "RFC 1123"},
		{name: "label selector", method: "GET", path: pods + "?labelSelector=a%3D%3D%3Db", code: 400, says: "labelSelector"},
		{name: "field label", method: "GET", path: pods + "?fieldSelector=spec.foo%3Dx", code: 400, says: "field label not supported: spec.foo"},
		{name: "continue", method: "GET", path: pods + "?limit=1&continue=nonsense", code: 400},
		{name: "dryRun", method: "POST", path: pods + "?dryRun=Some", body: "{}", code: 422, says: "dryRun"},
		{name: "other namespace", method: "POST", path: pods, body: `{"metadata":{"name":"x","namespace":"other"}}`, code: 400, says: "does not match the namespace"},
		{name: "apply without a manager", method: "PATCH", path: pods + "/x", contentType: "application/apply-patch+yaml", body: "{}", code: 422, says: "fieldManager"},
		{name: "apply of nothing", method: "PATCH", path: pods + "/x?fieldManager=m", contentType: "application/apply-patch+yaml", body: "3", code: 400},
		{name: "watch from nonsense", method: "GET", path: pods + "?watch=1&resourceVersion=x", code: 422, says: "resourceVersion"},
		{name: "initial events without match", method: "GET", path: pods + "?watch=1&sendInitialEvents=true", code: 422, says: "resourceVersionMatch"},
		{name: "json patch nonsense", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/json-patch+json", body: `{"a":1}`, code: 400},
		{name: "json patch null operation", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/json-patch+json", body: `[null]`, code: 422},
		{name: "json patch test fails", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/json-patch+json", body: `[{"op":"test","path":"/metadata/name","value":"x"}]`, code: 422},
		{name: "merge patch of a list", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/merge-patch+json", body: `[]`, code: 400},
		{name: "strategic patch of a scalar", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/strategic-merge-patch+json", body: `7`, code: 400},
		{name: "patch renames", method: "PATCH", path: "/api/v1/namespaces/default", contentType: "application/merge-patch+json", body: `{"metadata":{"name":"x"}}`, code: 400, says: "does not match the name on the URL"},
		{name: "groups without a user impersonated", method: "GET", path: pods, header: "Impersonate-Group", code: 400, says: "without impersonating a user name"},
		{name: "stale resourceVersion", method: "PUT", path: "/api/v1/namespaces/default", body: `{"metadata":{"name":"default","resourceVersion":"77777"}}`, code: 409, says: "please apply your changes to the latest version"},
		{name: "a lease without its version", method: "PUT", path: "/apis/coordination.k8s.io/v1/namespaces/default/leases/l", body: `{"metadata":{"name":"l"}}`, code: 422,
			says: `Lease.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`},
		{name: "a PUT of what isn't there", method: "PUT", path: "/api/v1/namespaces/default/configmaps/none", body: `{"metadata":{"name":"none"}}`, code: 404, says: `configmaps "none" not found`},
		{name: "a PUT of a version that is gone", method: "PUT", path: "/api/v1/namespaces/default/endpoints/none", body: `{"metadata":{"name":"none","resourceVersion":"7"}}`, code: 404},
		{name: "an event without a time", method: "POST", path: "/apis/events.k8s.io/v1/namespaces/default/events", body: `{"metadata":{"name":"e"},"reason":"r"}`, code: 422,
			says: `Event.events.k8s.io "e" is invalid: eventTime: Required value`},
		{name: "an event of a new time and an old one", method: "POST", path: "/apis/events.k8s.io/v1/namespaces/default/events", code: 422, says: `count: Invalid value: "": needs to be unset`,
			body: `{"metadata":{"name":"e"},"eventTime":"2026-01-01T00:00:00.000000Z","reason":"r","action":"a","reportingController":"c","reportingInstance":"i","type":"Normal","deprecatedCount":1}`},
		{name: "logs without a way to nodes", method: "GET", path: pods + "/x/log", code: 503},
		{name: "review without a name", method: "GET", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", code: 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://pintle.invalid"+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if tc.contentType == "" && tc.body != "" {
				tc.contentType = "application/json"
			}
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			if tc.accept != "" {
				r.Header.Set("Accept", tc.accept)
			}
			if tc.header != "" {
				r.Header.Set(tc.header, "x")
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, _ := io.ReadAll(answer.Body)
			if answer.StatusCode != tc.code || !strings.Contains(unquoted(string(body)), unquoted(tc.says)) {
				t.Errorf("%d, want %d with %q:\n%.600s", answer.StatusCode, tc.code, tc.says, body)
			}
			if !strings.Contains(string(body), `"kind":"Status"`) {
				t.Errorf("no Status: %.300s", body)
			}
		})
	}
}

// unquoted takes the marks away with which JSON, and messages in it, quote.
func unquoted(s string) string { return strings.NewReplacer(`\`, "", `"`, "").Replace(s) }

func TestKubectlLearnsThatThereAreNoCustomResources(t *testing.T) {
	c := start(t, options{})
	_, body := c.fetch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "")
	if !strings.Contains(string(body), `"kind":"CustomResourceDefinitionList"`) || !strings.Contains(string(body), `"items":[]`) {
		t.Errorf("%s", body)
	}
}

func TestAnonymousCallersGetHealthAndVersionOnly(t *testing.T) {
	c := start(t, options{})
	client := c.http(nil)
	for path, code := range map[string]int{
		"/healthz": 200, "/readyz?verbose": 200, "/livez": 200, "/version": 200,
		"/api": 403, "/apis": 403, "/api/v1/pods": 403, "/openapi/v3": 403, "/metrics": 403,
	} {
		answer, err := client.Get("http://pintle.invalid" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != code {
			t.Errorf("%s: %d, want %d: %s", path, answer.StatusCode, code, body)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://pintle.invalid/healthz", nil)
	r.Header.Set("Authorization", "Bearer wrong")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 401 {
		t.Errorf("a wrong token: %d, want 401", answer.StatusCode)
	}
}
