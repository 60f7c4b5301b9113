package attachdetach

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func volume(modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{AccessModes: modes, ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "c"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d.x", VolumeHandle: "h"}}}}
}

func podOn(name, at string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: at,
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}}}
}

func attachment(at string) *storagev1.VolumeAttachment {
	name := "v"
	return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-" + at}, Spec: storagev1.VolumeAttachmentSpec{Attacher: "d.x", NodeName: at, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}}}
}

func TestDecideWhereAVolumeIsAttached(t *testing.T) {
	now := time.Now()
	alive := func(name string, inUse bool) node {
		n := node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, ready: true}
		if inUse {
			n.Status.VolumesInUse = []corev1.UniqueVolumeName{"kubernetes.io/csi/d.x^h"}
		}
		return n
	}
	lost := func(name string, ago time.Duration, taints ...corev1.Taint) node {
		n := alive(name, true)
		n.ready, n.since, n.Spec.Taints = false, now.Add(-ago), taints
		return n
	}
	rwo, rwx := volume(corev1.ReadWriteOnce), volume(corev1.ReadWriteMany)
	for name, tt := range map[string]struct {
		volume *corev1.PersistentVolume
		pods   []*corev1.Pod
		have   []string
		nodes  []node
		want   string
	}{
		"a pod comes":                        {rwo, []*corev1.Pod{podOn("p", "a")}, nil, []node{alive("a", false)}, "+a"},
		"two pods of one node":               {rwo, []*corev1.Pod{podOn("p", "a"), podOn("q", "a")}, nil, []node{alive("a", false)}, "+a"},
		"it is there":                        {rwo, []*corev1.Pod{podOn("p", "a")}, []string{"a"}, []node{alive("a", true)}, ""},
		"the pod is gone":                    {rwo, nil, []string{"a"}, []node{alive("a", false)}, "-a"},
		"the pod is gone, it is mounted yet": {rwo, nil, []string{"a"}, []node{alive("a", true)}, ""},
		"another node's pod waits":           {rwo, []*corev1.Pod{podOn("p", "a"), podOn("q", "b")}, []string{"a"}, []node{alive("a", true), alive("b", false)}, `!q Multi-Attach error for volume "v" Volume is already used by pod(s) p`},
		"another node's pod comes meanwhile": {rwo, []*corev1.Pod{podOn("q", "b")}, []string{"a"}, []node{alive("a", true), alive("b", false)}, `!q Multi-Attach error for volume "v" Volume is already exclusively attached to one node and can't be attached to another`},
		"two nodes may have it":              {rwx, []*corev1.Pod{podOn("p", "a"), podOn("q", "b")}, []string{"a"}, []node{alive("a", true), alive("b", false)}, "+b"},
		"two nodes at once":                  {rwo, []*corev1.Pod{podOn("p", "a"), podOn("q", "b")}, nil, []node{alive("a", false), alive("b", false)}, `+a !q Multi-Attach error for volume "v" Volume is already used by pod(s) p`},
		"its node is gone":                   {rwo, []*corev1.Pod{podOn("p", "a")}, []string{"a"}, nil, "-a"},
		"its node is silent":                 {rwo, nil, []string{"a"}, []node{lost("a", 2*time.Minute)}, "in 4m0s"},
		"its node was silent for long":       {rwo, nil, []string{"a"}, []node{lost("a", 7*time.Minute)}, "-a"},
		"its node is silent, its pod there":  {rwo, []*corev1.Pod{podOn("p", "a")}, []string{"a"}, []node{lost("a", 7*time.Minute)}, ""},
		"its node is out of service":         {rwo, nil, []string{"a"}, []node{lost("a", time.Second, corev1.Taint{Key: "node.kubernetes.io/out-of-service", Effect: corev1.TaintEffectNoExecute})}, "-a"},
	} {
		t.Run(name, func(t *testing.T) {
			var wishes []wish
			for _, p := range tt.pods {
				wishes = append(wishes, wish{p, tt.volume})
			}
			var have []*storagev1.VolumeAttachment
			for _, at := range tt.have {
				have = append(have, attachment(at))
			}
			todo := decide(tt.volume, wishes, have, func(name string) node {
				if i := slices.IndexFunc(tt.nodes, func(n node) bool { return n.Name == name }); i >= 0 {
					return tt.nodes[i]
				}
				return node{}
			}, now)
			var got []string
			for _, a := range todo.detach {
				got = append(got, "-"+a.Spec.NodeName)
			}
			for _, a := range todo.attach {
				got = append(got, "+"+a.Spec.NodeName)
				if a.Name != attachmentName("d.x", "h", a.Spec.NodeName) || len(a.Name) != 4+64 {
					t.Error(a.Name)
				}
			}
			for _, e := range todo.events {
				got = append(got, "!"+e.pod.Name+" "+e.message)
			}
			if todo.after > 0 {
				got = append(got, fmt.Sprint("in ", todo.after))
			}
			if all := strings.Join(got, " "); all != tt.want {
				t.Errorf("%s, want %s", all, tt.want)
			}
		})
	}
}

func TestAVolumeFollowsItsPod(t *testing.T) {
	fake := reconciletest.New(nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	env := reconcile.Env{Client: fake}
	go func() { ended <- New(env, nil).Run(ctx, env, nil) }()
	defer func() { stop(); <-ended }()
	create := func(gvr schema.GroupVersionResource, o api.Object) api.Object {
		t.Helper()
		out, err := fake.Create(ctx, gvr, o)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	attached := func(want int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			all, err := fake.List(ctx, reconcile.VolumeAttachments(), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d attachments, want %d", len(all), want)
			}
		}
	}
	remove := func(pod string) {
		t.Helper()
		zero := int64(0)
		if err := fake.Delete(ctx, reconcile.Pods(), "ns", pod, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	claim := create(reconcile.PersistentVolumeClaims(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v"}})
	v := volume(corev1.ReadWriteOnce)
	v.Spec.ClaimRef.UID = claim.GetUID()
	create(reconcile.PersistentVolumes(), v)
	create(reconcile.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	create(reconcile.Pods(), podOn("p", "a"))
	attached(1)
	create(reconcile.Pods(), podOn("q", "a"))
	remove("p")
	attached(1)
	remove("q")
	attached(0)
	if n := fake.Creates("volumeattachments"); n != 1 {
		t.Errorf("it was attached %d times", n)
	}
	// A driver that needs no attachment gets none, and loses what there is.
	create(reconcile.Pods(), podOn("r", "a"))
	attached(1)
	no := false
	create(reconcile.CSIDrivers(), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d.x"}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}})
	attached(0)
}

func TestANodeThatUsesAnotherVolumeInsteadIsSeen(t *testing.T) {
	c := &shell{}
	c.onNodes.Put(key("a"), key("v"))
	using := func(name corev1.UniqueVolumeName) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{VolumesInUse: []corev1.UniqueVolumeName{name}}}
	}
	for now, want := range map[corev1.UniqueVolumeName]int{"x": 0, "y": 1} {
		seen := 0
		e := reconcile.Event{Type: watch.Modified, Old: using("x"), Object: using(now)}
		if err := c.nodeChanged(t.Context(), e, func(reconcile.Key) { seen++ }); err != nil || seen != want {
			t.Errorf("from x to %s: %d volumes are looked at, want %d (%v)", now, seen, want, err)
		}
	}
}
