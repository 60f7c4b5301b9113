package apiserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"k": "v"}}
}

// An informer opens with sendInitialEvents, and hangs where the bookmark that ends them doesn't come.
func TestInformersSyncAndFollowInJSONAndProtobuf(t *testing.T) {
	c := start(t, options{})
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			cfg := c.config()
			cfg.ContentType = contentType
			client := c.clientset(cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			name := strings.ReplaceAll(strings.TrimPrefix(contentType, "application/"), ".", "-")
			if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			factory := informers.NewSharedInformerFactory(client, 0)
			seen := make(chan string, 100)
			informer := factory.Core().V1().ConfigMaps().Informer()
			_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc:    func(o any) { seen <- "added " + o.(*corev1.ConfigMap).Name },
				UpdateFunc: func(_, o any) { seen <- "changed " + o.(*corev1.ConfigMap).Name },
				DeleteFunc: func(o any) { seen <- "deleted " + o.(*corev1.ConfigMap).Name },
			})
			if err != nil {
				t.Fatal(err)
			}
			factory.StartWithContext(ctx)
			if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				t.Fatal("not synced")
			}
			if _, err := client.CoreV1().ConfigMaps("default").Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"k":"w"}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := client.CoreV1().ConfigMaps("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"added " + name, "changed " + name, "deleted " + name} {
				for got := ""; got != want; {
					select {
					case got = <-seen:
					case <-ctx.Done():
						t.Fatal("never saw", want)
					}
				}
			}
			cancel()
			factory.Shutdown()
		})
	}
}

func TestWatchesWithoutARevisionBeginWithWhatThereIs(t *testing.T) {
	c := start(t, options{})
	client := c.admin()
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"", "0"} {
		timeout := int64(1)
		w, err := client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: revision, TimeoutSeconds: &timeout})
		if err != nil {
			t.Fatal(err)
		}
		var types []watch.EventType
		for e := range w.ResultChan() { // ends with timeoutSeconds
			types = append(types, e.Type)
		}
		if len(types) != 1 || types[0] != watch.Added {
			t.Errorf("resourceVersion %q: %v", revision, types)
		}
	}
}

func TestARevisionThatIsForgottenIs410(t *testing.T) {
	c := start(t, options{recentEvents: 4})
	maps := c.admin().CoreV1().ConfigMaps("default")
	first, err := maps.Create(t.Context(), configMap("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if _, err := maps.Patch(t.Context(), "a", types.MergePatchType, fmt.Appendf(nil, `{"data":{"k":"%d"}}`, i), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if err != nil {
		if !apierrors.IsResourceExpired(err) {
			t.Fatal(err)
		}
		return
	}
	defer w.Stop()
	e := <-w.ResultChan()
	if e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
		t.Fatal(e)
	}
}

func TestUnknownFieldsWarnAndAreDropped(t *testing.T) {
	c := start(t, options{})
	var warnings []string
	cfg := c.config()
	cfg.WarningHandler = collect(func(text string) { warnings = append(warnings, text) })
	client := c.clientset(cfg)
	got, err := client.CoreV1().RESTClient().Post().Resource("configmaps").Namespace("default").Param("fieldValidation", "Warn").
		Body([]byte(`{"metadata":{"name":"w"},"data":{"a":"b"},"dita":{}}`)).SetHeader("Content-Type", "application/json").Do(t.Context()).Raw()
	if err != nil || strings.Contains(string(got), "dita") || len(warnings) != 1 || warnings[0] != `unknown field "dita"` {
		t.Fatalf("%s %v %q", got, err, warnings)
	}
}

type collect func(string)

func (f collect) HandleWarningHeader(_ int, _ string, text string) { f(text) }

func TestAFieldOfAnotherManagerIsAConflict(t *testing.T) {
	c := start(t, options{})
	maps := c.admin().CoreV1().ConfigMaps("default")
	apply := func(manager, value string, force bool) error {
		_, err := maps.Apply(t.Context(), corev1apply.ConfigMap("a", "default").WithData(map[string]string{"k": value}), metav1.ApplyOptions{FieldManager: manager, Force: force})
		return err
	}
	if err := apply("one", "1", false); err != nil {
		t.Fatal(err)
	}
	err := apply("two", "2", false)
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .data.k`) {
		t.Fatal(err)
	}
	if err := apply("two", "2", true); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Apply(t.Context(), corev1apply.ConfigMap("a", "default"), metav1.ApplyOptions{FieldManager: "two"}); err != nil {
		t.Fatal(err)
	}
	if got, err := maps.Get(t.Context(), "a", metav1.GetOptions{}); err != nil || len(got.Data) != 0 {
		t.Fatal("what its only manager no longer applies stays:", got.Data, err)
	}
}

func TestPagesAddUpAndCollectionsAreDeletedByLabel(t *testing.T) {
	c := start(t, options{})
	maps := c.admin().CoreV1().ConfigMaps("other")
	for i := range 7 {
		m := configMap(fmt.Sprintf("m%d", i))
		m.Labels = map[string]string{"odd": fmt.Sprint(i%2 == 1)}
		if _, err := maps.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	opts := metav1.ListOptions{Limit: 3}
	for {
		page, err := maps.List(t.Context(), opts)
		if err != nil || len(page.Items) > 3 {
			t.Fatal(page, err)
		}
		for _, m := range page.Items {
			names = append(names, m.Name)
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			break
		}
	}
	if strings.Join(names, " ") != "m0 m1 m2 m3 m4 m5 m6" {
		t.Error(names)
	}
	if err := maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=true"}); err != nil {
		t.Fatal(err)
	}
	if left, err := maps.List(t.Context(), metav1.ListOptions{}); err != nil || len(left.Items) != 4 {
		t.Error(len(left.Items), err)
	}
}

func TestDiscoveryListsEveryKindInBothForms(t *testing.T) {
	c := start(t, options{})
	for _, aggregated := range []bool{true, false} {
		client, err := discovery.NewDiscoveryClientForConfig(c.config())
		if err != nil {
			t.Fatal(err)
		}
		client.UseLegacyDiscovery = !aggregated
		_, lists, err := client.ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, l := range lists {
			for _, r := range l.APIResources {
				found[l.GroupVersion+"/"+r.Name] = true
			}
		}
		for _, k := range api.All() {
			if !found[k.GroupVersionKind.GroupVersion().String()+"/"+k.Resource] {
				t.Errorf("aggregated %v: %s is missing", aggregated, k.Resource)
			}
		}
		for _, more := range []string{"v1/pods/exec", "apps/v1/deployments/scale", "authorization.k8s.io/v1/selfsubjectaccessreviews"} {
			if !aggregated && !found[more] {
				t.Errorf("%s is missing", more)
			}
		}
		if v, err := client.ServerVersion(); err != nil || v.GitVersion != "v1.37.2+pintle" || v.Minor != "37" {
			t.Error(v, err)
		}
	}
}

func TestTablesHaveTheKindsColumnsAndAges(t *testing.T) {
	c := start(t, options{})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://pintle.invalid/api/v1/namespaces", nil)
	r.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	answer, err := c.http(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	for _, want := range []string{`"kind":"Table"`, `"name":"Age"`, `"cells":["default","Active","`, `"kind":"PartialObjectMetadata"`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in %.500s", want, body)
		}
	}
	lister, err := metadata.NewForConfig(c.config())
	if err != nil {
		t.Fatal(err)
	}
	list, err := lister.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) < 2 || list.Items[0].Name == "" {
		t.Fatal(list, err)
	}
}

func TestAServiceAccountMayDoWhatItsBindingsSayAndNoMore(t *testing.T) {
	c := start(t, options{})
	admin := c.admin()
	user := &authn.User{Name: "system:serviceaccount:default:app", Groups: append(authn.ServiceAccountGroups("default"), authn.GroupAuthenticated)}
	app := c.clientset(c.configAs(user))
	list := func() error {
		_, err := app.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
		return err
	}
	if err := list(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "system:serviceaccount:default:app" cannot list resource "configmaps" in API group "" in the namespace "default"`) {
		t.Fatal(err)
	}
	rules := []rbacv1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}, {Verbs: []string{"*"}, APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"roles"}, ResourceNames: nil}}
	rules[1].Verbs = []string{"create", "update"}
	if _, err := admin.RbacV1().Roles("default").Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "app", Namespace: "default"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := list(); err != nil {
		t.Fatal(err)
	}
	grant := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}}}
	if _, err := app.RbacV1().Roles("default").Create(t.Context(), grant, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held") {
		t.Fatal("granted more than it holds:", err)
	}
	cfg := c.config()
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user.Name}
	if _, err := c.clientset(cfg).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Fatal("impersonation kept the rights of the impersonator:", err)
	}
}

func TestScaleBindingAndEviction(t *testing.T) {
	c := start(t, options{})
	client := c.admin()
	ctx := t.Context()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "a"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"chosen": "gpu-0"}}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	if err := client.CoreV1().Pods("default").Bind(ctx, bind, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Pods("default").Bind(ctx, bind, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
		t.Fatal("bound twice:", err)
	}
	if bound, err := client.CoreV1().Pods("default").Get(ctx, "p", metav1.GetOptions{}); err != nil || bound.Annotations["chosen"] != "gpu-0" {
		t.Fatal("what the binding says of the pod:", bound.Annotations, err)
	}
	if list, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n"}); err != nil || len(list.Items) != 1 {
		t.Fatal(list, err)
	}
	status := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := client.CoreV1().Pods("default").Patch(ctx, "p", types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	one := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}}}
	budget, err := client.PolicyV1().PodDisruptionBudgets("default").Create(ctx, budget, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	setAllowed := func(n int32) {
		t.Helper()
		if budget, err = client.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "b", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: n, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}
		if budget, err = client.PolicyV1().PodDisruptionBudgets("default").UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	evict := func() error {
		return client.CoreV1().Pods("default").EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}})
	}
	setAllowed(0)
	if err := evict(); !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget.") {
		t.Fatal(err)
	}
	target := func() (reason string) {
		p, err := client.CoreV1().Pods("default").Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range p.Status.Conditions {
			if x.Type == corev1.DisruptionTarget {
				reason = x.Reason
			}
		}
		return reason
	}
	setAllowed(1)
	dry := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}}
	if err := client.CoreV1().Pods("default").EvictV1(ctx, dry); err != nil || target() != "" {
		t.Fatalf("a dry run: %v, %q", err, target())
	}
	if b, err := client.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "b", metav1.GetOptions{}); err != nil || b.Status.DisruptionsAllowed != 1 {
		t.Fatal("a dry run took a disruption", err)
	}
	other := types.UID("another")
	stale := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}}}
	if err := client.CoreV1().Pods("default").EvictV1(ctx, stale); !apierrors.IsConflict(err) {
		t.Fatal("a pod of another UID was evicted:", err)
	}
	if err := evict(); err != nil || target() != "EvictionByEvictionAPI" {
		t.Fatalf("%v, disrupted by %q", err, target())
	}
	if b, err := client.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "b", metav1.GetOptions{}); err != nil || b.Status.DisruptionsAllowed != 0 {
		t.Fatal(b.Status, err)
	}

	deployment := sample(t, api.ByGVR(api.All(), deployments()), "d")
	if _, err := dynamicFor(c).Resource(deployments()).Namespace("default").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scale, err := client.AppsV1().Deployments("default").GetScale(ctx, "d", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 1 || scale.Status.Selector != "app=a" {
		t.Fatal(scale, err)
	}
	scale.Spec.Replicas = 4
	if _, err := client.AppsV1().Deployments("default").UpdateScale(ctx, "d", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AppsV1().Deployments("default").UpdateScale(ctx, "d", scale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Fatal("a stale scale was taken:", err)
	}
	d, err := client.AppsV1().Deployments("default").Patch(ctx, "d", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{}, "scale")
	if err != nil {
		t.Fatal(err, d)
	}
	if d, err := client.AppsV1().Deployments("default").Get(ctx, "d", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 5 || d.Generation != 3 {
		t.Fatal(d.Spec.Replicas, d.Generation, err)
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestThePortSpeaksHTTP2OverTLSAndEndsItsWatches(t *testing.T) {
	pair, pool := certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, options{listener: listener, tls: &tls.Config{Certificates: []tls.Certificate{pair}}})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + c.server.Addr().String() + "/version")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.ProtoMajor != 2 {
		t.Error(answer.Proto)
	}
	client, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: "https://" + c.server.Addr().String(), BearerToken: "admin-token"}, &http.Client{Transport: bearer{transport}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().Namespaces().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	for range w.ResultChan() {
	}
}

type bearer struct{ http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer admin-token")
	return b.RoundTripper.RoundTrip(r)
}
