package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

func parse[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

// gpuNode has two GPUs, told of in its annotation and in a slice.
func gpuNode(t testing.TB, f *fakeClient, name string) {
	n := node(name, "8")
	told := topology.NodeGPUs{GPUs: []topology.NodeGPU{{UUID: "GPU-" + name + "-0", Memory: 80 << 30}, {UUID: "GPU-" + name + "-1", Memory: 80 << 30}}, Links: []int{100}}
	n.Annotations = map[string]string{topology.NodeAnnotation: told.Format()}
	n.Status.Allocatable[topology.GPUResource] = resource.MustParse("2")
	f.put("nodes", n, watch.Added)
	var devices []string
	for i := range 2 {
		devices = append(devices, fmt.Sprintf("{name: gpu-%d, attributes: {type: {string: gpu}, uuid: {string: GPU-%s-%d}, index: {int: %d}}}", i, name, i, i))
	}
	f.put("resourceslices", parse[resourcev1.ResourceSlice](t, fmt.Sprintf(`{metadata: {name: %s, uid: slice-%s}, spec: {driver: gpu.nvidia.com, nodeName: %s, pool: {name: %s, generation: 1, resourceSliceCount: 1}, devices: [%s]}}`,
		name, name, name, name, strings.Join(devices, ", "))), watch.Added)
}

func gpuClass(t testing.TB, f *fakeClient) {
	f.put("deviceclasses", parse[resourcev1.DeviceClass](t, `{metadata: {name: gpu.nvidia.com, uid: class}, spec: {selectors: [{cel: {expression: "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"}}]}}`), watch.Added)
}

func claimObject(t testing.TB, name, request string) *resourcev1.ResourceClaim {
	return parse[resourcev1.ResourceClaim](t, fmt.Sprintf(`{metadata: {namespace: default, name: %s, uid: claim-%s}, spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com, %s}}]}}}`, name, name, request))
}

func claiming(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: &claim}}
		p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "mine"}}
	}
}

func wholeGPUs(n string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{topology.GPUResource: resource.MustParse(n)}
		p.Spec.Containers[0].Resources.Requests[topology.GPUResource] = resource.MustParse(n)
	}
}

// updateClaim stores a claim's new version, if it follows from the one there is.
func (f *fakeClient) updateClaim(obj api.Object) (api.Object, error) {
	key := obj.GetNamespace() + "/" + obj.GetName()
	if have := f.objects["resourceclaims"][key]; have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, apierrors.NewConflict(claimsResource.GroupResource(), obj.GetName(), nil)
	}
	f.store("resourceclaims", obj, watch.Modified)
	return f.objects["resourceclaims"][key], nil
}

func (f *fakeClient) claim(name string) *resourcev1.ResourceClaim {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, _ := f.objects["resourceclaims"]["default/"+name].(*resourcev1.ResourceClaim)
	return c
}

func (f *fakeClient) boundPod(name string) *corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, _ := f.objects["pods"]["default/"+name].(*corev1.Pod)
	return p
}

func devicesOf(c *resourcev1.ResourceClaim) string {
	if c == nil || c.Status.Allocation == nil {
		return "none"
	}
	var out []string
	for _, r := range c.Status.Allocation.Devices.Results {
		out = append(out, r.Pool+"/"+r.Device)
	}
	return strings.Join(out, ",")
}

func withGPUs(c *Config) {
	c.Plugins = append([]framework.Plugin{plugins.NewGPU(plugins.GPUOptions{})}, plugins.Default()...)
}

// failure waits until a pod isn't scheduled for that reason, and returns the whole message.
func failure(t *testing.T, f *fakeClient, why string) string {
	t.Helper()
	var all []string
	for end := time.After(10 * time.Second); ; {
		select {
		case e := <-f.events:
			if e.Reason == "FailedScheduling" && strings.Contains(e.Message, why) {
				return e.Message
			}
			all = append(all, e.Message)
		case <-end:
			t.Fatalf("no pod fails for %q: %q", why, all)
		}
	}
}

func TestAPodIsBoundWithItsClaimsDevices(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	gpuNode(t, client, "a")
	client.put("resourceclaims", claimObject(t, "c", `selectors: [{cel: {expression: "device.attributes['gpu.nvidia.com'].index == 1"}}]`), watch.Added)
	client.put("pods", pod("p", "1", claiming("c")), watch.Added)
	start(t, client, withGPUs)
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
	c := client.claim("c")
	if devicesOf(c) != "a/gpu-1" || len(c.Status.ReservedFor) != 1 || c.Status.ReservedFor[0].UID != client.boundPod("p").UID || c.Status.ReservedFor[0].Resource != "pods" ||
		len(c.Finalizers) != 1 || c.Finalizers[0] != resourcev1.Finalizer {
		t.Errorf("%+v", c)
	}
	grants, err := topology.ParseGrants(client.boundPod("p").Annotations[topology.PodAnnotation])
	if err != nil || len(grants) != 1 || grants[0].GPU != "GPU-a-1" || grants[0].Claim != "default/c" || grants[0].Container != client.boundPod("p").Spec.Containers[0].Name {
		t.Errorf("%+v %v", grants, err)
	}
}

func TestWhyAClaimCannotBeHad(t *testing.T) {
	for name, tt := range map[string]struct {
		claim *resourcev1.ResourceClaim
		want  string
	}{
		"it isn't there":   {nil, `resourceclaim "c" not found`},
		"too many devices": {claimObject(t, "c", "count: 3"), "cannot allocate all claims"},
		"no such class": {parse[resourcev1.ResourceClaim](t, `{metadata: {namespace: default, name: c, uid: c}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: nix}}]}}}`),
			"request r: device class nix does not exist"},
		"an expression that fails": {claimObject(t, "c", `selectors: [{cel: {expression: "device.attributes['gpu.nvidia.com'].nothing == 1"}}]`), "no such key: nothing"},
		"allocated elsewhere": {parse[resourcev1.ResourceClaim](t, `{metadata: {namespace: default, name: c, uid: c}, status: {allocation: {nodeSelector: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b]}]}]}}}}`),
			"resourceclaim not available on the node"},
	} {
		t.Run(name, func(t *testing.T) {
			client := newFakeClient()
			gpuClass(t, client)
			gpuNode(t, client, "a")
			if tt.claim != nil {
				client.put("resourceclaims", tt.claim, watch.Added)
			}
			client.put("pods", pod("p", "1", claiming("c")), watch.Added)
			start(t, client, withGPUs)
			if got := failure(t, client, tt.want); !strings.HasPrefix(got, "0/1 nodes are available: 1 ") {
				t.Error(got)
			}
		})
	}
}

// A pod waits for its claim, for a device, and is woken when it comes.
func TestAPodIsTriedAgainWhenItsClaimOrADeviceComes(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	client.put("nodes", node("a", "8"), watch.Added)
	client.put("pods", pod("p", "1", claiming("c")), watch.Added)
	start(t, client, withGPUs)
	failure(t, client, `resourceclaim "c" not found`)
	client.put("resourceclaims", claimObject(t, "c", ""), watch.Added)
	failure(t, client, "cannot allocate all claims")
	gpuNode(t, client, "a")
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
}

// Claims and nvidia.com/gpu draw on the same two GPUs: each is given once, whoever asks, and what one gives back the other gets.
func TestTwoInterfacesCompeteForOneDevice(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	gpuNode(t, client, "a")
	start(t, client, withGPUs)
	client.put("pods", pod("whole", "1", wholeGPUs("1")), watch.Added)
	<-client.bound
	client.put("resourceclaims", claimObject(t, "c", ""), watch.Added)
	client.put("pods", pod("claiming", "1", claiming("c")), watch.Added)
	<-client.bound
	grants, err := topology.ParseGrants(client.boundPod("whole").Annotations[topology.PodAnnotation])
	if err != nil || len(grants) != 1 {
		t.Fatal(grants, err)
	}
	mine, _ := topology.ParseGrants(client.boundPod("claiming").Annotations[topology.PodAnnotation])
	if len(mine) != 1 || mine[0].GPU == grants[0].GPU {
		t.Fatalf("%+v and %+v", grants, mine)
	}
	// Nothing is left, for either.
	client.put("resourceclaims", claimObject(t, "d", ""), watch.Added)
	client.put("pods", pod("claims too", "1", claiming("d")), watch.Added)
	failure(t, client, "cannot allocate all claims")
	client.put("pods", pod("whole too", "1", wholeGPUs("1")), watch.Added)
	failure(t, client, "nvidia.com/gpu")
	// The claim is given back, without a pod that leaves: it is the GPU's for whoever comes first.
	back := client.claim("c").DeepCopy()
	back.Status = resourcev1.ResourceClaimStatus{}
	client.put("resourceclaims", back, watch.Modified)
	first := <-client.bound
	if first != "whole too→a" && first != "claims too→a" {
		t.Fatal(first)
	}
	select {
	case second := <-client.bound:
		t.Fatalf("%s, and then %s: one GPU is given twice", first, second)
	case <-time.After(300 * time.Millisecond):
	}
}

func TestPodsShareAClaim(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	gpuNode(t, client, "a")
	gpuNode(t, client, "b")
	client.put("resourceclaims", claimObject(t, "c", ""), watch.Added)
	for i := range 5 {
		client.put("pods", pod(fmt.Sprint("p", i), "1", claiming("c")), watch.Added)
	}
	start(t, client, withGPUs)
	where := map[string]bool{}
	for range 5 {
		_, node, _ := strings.Cut(<-client.bound, "→")
		where[node] = true
	}
	c := client.claim("c")
	if len(where) != 1 || len(c.Status.ReservedFor) != 5 || len(c.Status.Allocation.Devices.Results) != 1 {
		t.Errorf("%v %+v", where, c.Status)
	}
}

// A binding that fails gives the devices back, and the pod gets them again.
func TestAFailedBindingGivesTheDevicesBack(t *testing.T) {
	client := newFakeClient()
	client.conflict = 1
	gpuClass(t, client)
	gpuNode(t, client, "a")
	client.put("resourceclaims", claimObject(t, "c", "count: 2"), watch.Added)
	client.put("pods", pod("p", "1", claiming("c")), watch.Added)
	start(t, client, withGPUs)
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
	if c := client.claim("c"); devicesOf(c) != "a/gpu-0,a/gpu-1" || len(c.Status.ReservedFor) != 1 {
		t.Errorf("%+v", c.Status)
	}
}

// Many pods of both kinds, more than there are GPUs: no GPU has two owners, at no time, and all are used.
func TestNoGPUIsGivenTwice(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	for i := range 5 {
		gpuNode(t, client, fmt.Sprint("n", i))
	}
	start(t, client, withGPUs)
	for i := range 8 {
		claim := fmt.Sprint("c", i)
		client.put("resourceclaims", claimObject(t, claim, ""), watch.Added)
		client.put("pods", pod(fmt.Sprint("claiming", i), "1", claiming(claim)), watch.Added)
		client.put("pods", pod(fmt.Sprint("whole", i), "1", wholeGPUs("1")), watch.Added)
	}
	owners := map[string]string{}
	for range 10 {
		select {
		case got := <-client.bound:
			name, _, _ := strings.Cut(got, "→")
			grants, err := topology.ParseGrants(client.boundPod(name).Annotations[topology.PodAnnotation])
			if err != nil || len(grants) != 1 {
				t.Fatalf("%s: %+v %v", got, grants, err)
			}
			if other := owners[grants[0].GPU]; other != "" {
				t.Fatalf("%s has two owners: %s, %s", grants[0].GPU, other, name)
			}
			owners[grants[0].GPU] = name
		case <-time.After(10 * time.Second):
			t.Fatalf("only %d of 10 GPUs are used", len(owners))
		}
	}
	select {
	case got := <-client.bound:
		t.Fatalf("an eleventh pod has one of 10 GPUs: %s", got)
	case <-time.After(200 * time.Millisecond):
	}
}

// What is decided twice for one pod, on two nodes, holds for the one where it is assumed; and what others took meanwhile is not
// had any more.
func TestADecisionHoldsWhereThePodIsAssumed(t *testing.T) {
	d := NewDecider(Profile{Plugins: []framework.Plugin{plugins.NewGPU(plugins.GPUOptions{}), plugins.NewDynamicResources()}})
	dra := claimsOf(d)
	f := newFakeClient()
	gpuClass(t, f)
	for _, name := range []string{"a", "b"} {
		gpuNode(t, f, name)
	}
	for _, o := range f.objects["nodes"] {
		d.SetNode(o.(*corev1.Node))
	}
	for _, o := range f.objects["resourceslices"] {
		dra.SetSlice(o.(*resourcev1.ResourceSlice))
	}
	dra.SetClass(f.objects["deviceclasses"]["/gpu.nvidia.com"].(*resourcev1.DeviceClass))
	one, two := claimObject(t, "one", "count: 2"), claimObject(t, "two", "count: 2")
	dra.SetClaim(one)
	dra.SetClaim(two)
	p, q := framework.NewPod(pod("p", "1", claiming("one"))), framework.NewPod(pod("q", "1", claiming("two")))
	onA, err := dra.Reserve(p, d.State().Node("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dra.Reserve(p, d.State().Node("b")); err != nil {
		t.Fatal(err)
	}
	d.Assume(p, Decision{Node: "a", Annotations: onA})
	plans, ok := dra.Plans(p.UID)
	if !ok || plans[0].Allocation.Devices.Results[0].Pool != "a" {
		t.Fatalf("%v %v", plans, ok)
	}
	dra.Done(p.UID)
	d.Forget(p.UID)
	// q takes a's GPUs; p, decided before, can't have them.
	if onA, err = dra.Reserve(p, d.State().Node("a")); err != nil {
		t.Fatal(err)
	}
	qOnA, err := dra.Reserve(q, d.State().Node("a"))
	if err != nil {
		t.Fatal(err)
	}
	d.Assume(q, Decision{Node: "a", Annotations: qOnA})
	d.Assume(p, Decision{Node: "a", Annotations: onA})
	if _, ok := dra.Plans(p.UID); ok {
		t.Error("two pods hold the same devices")
	}
	if _, ok := dra.Plans(q.UID); !ok {
		t.Error("the first doesn't hold them")
	}
}
