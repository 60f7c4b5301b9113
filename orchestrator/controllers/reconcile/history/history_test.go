package history

import (
	"context"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func aTemplate(image string) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func owner(image string) Owner {
	return Owner{Object: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u", Annotations: map[string]string{
		"kubernetes.io/change-cause": "because", lastApplied: "{}"}}}, Kind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Selector: labels.SelectorFromSet(labels.Set{"app": "web"}), Template: aTemplate(image)}
}

func TestATemplateComesBackAsItWas(t *testing.T) {
	data, err := Data(aTemplate("v1"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"$patch":"replace"`) {
		t.Errorf("no strategic merge patch: %s", data)
	}
	got, err := Template(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: data}})
	if err != nil || !apiequality.Semantic.DeepEqual(got, aTemplate("v1")) {
		t.Errorf("%+v %v", got, err)
	}
	if Hash(data, nil) != Hash(data, nil) || Hash(data, nil) == Hash(data, ptr.To[int32](1)) {
		t.Error("hashes")
	}
	if _, err := Template(&appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte("x")}}); err == nil {
		t.Error("what is no template is taken for one")
	}
}

func TestRevisionsAreMadeOnceAndRenumbered(t *testing.T) {
	ctx, fake := context.Background(), reconciletest.New(nil)
	sync := func(image string) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision) {
		t.Helper()
		now, all, err := Sync(ctx, fake, owner(image))
		if err != nil {
			t.Fatal(err)
		}
		return now, all
	}
	first, _ := sync("v1")
	if again, all := sync("v1"); again.Name != first.Name || len(all) != 1 || fake.Creates("controllerrevisions") != 1 {
		t.Fatal("made twice")
	}
	if first.Revision != 1 || first.Name != "web-"+HashOf(first) || first.Labels["app"] != "web" || first.Annotations["kubernetes.io/change-cause"] != "because" ||
		first.Annotations[lastApplied] != "" || !metav1.IsControlledBy(first, owner("v1").Object) {
		t.Errorf("%+v", first)
	}
	second, _ := sync("v2")
	back, all := sync("v1")
	if second.Revision != 2 || back.Name != first.Name || back.Revision != 3 || len(all) != 2 || all[1].Name != first.Name {
		t.Errorf("%+v %+v", second, back)
	}
}

// The same template in other bytes, as another version may have written it, is no new revision.
func TestTemplatesAreComparedByMeaning(t *testing.T) {
	fake := reconciletest.New(nil)
	o := owner("v1")
	data := `{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"image":"v1","name":"c","resources":{}}],"someday":null},"metadata":{"creationTimestamp":null,"labels":{"app":"web"}}}}}`
	_, _ = fake.Create(context.Background(), reconcile.ControllerRevisions(), &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-orphan",
		Labels: map[string]string{"app": "web"}}, Revision: 4, Data: runtime.RawExtension{Raw: []byte(data)}})
	now, _, err := Sync(context.Background(), fake, o)
	if err != nil || now.Name != "web-orphan" || now.Revision != 4 || !metav1.IsControlledBy(now, o.Object) {
		t.Errorf("%+v %v", now, err)
	}
	if HashOf(now) != "orphan" {
		t.Errorf("its hash is %q", HashOf(now))
	}
}

func TestATakenNameIsACollisionUnlessItIsOurs(t *testing.T) {
	ctx, fake := context.Background(), reconciletest.New(nil)
	o := owner("v1")
	ours, err := newest(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fake.Create(ctx, reconcile.ControllerRevisions(), ours); err != nil {
		t.Fatal(err)
	}
	if err := taken(ctx, fake, o, ours); !apierrors.IsConflict(err) {
		t.Errorf("our own: %v", err)
	}
	other := owner("v2")
	if err := taken(ctx, fake, other, ours); !errors.Is(err, ErrCollision) {
		t.Errorf("another template: %v", err)
	}
}

func TestTheOldestOfTheIdleGo(t *testing.T) {
	var all []*appsv1.ControllerRevision
	for i := range int64(5) {
		all = append(all, &appsv1.ControllerRevision{Revision: i})
	}
	used := func(r *appsv1.ControllerRevision) bool { return r.Revision == 1 || r.Revision == 4 }
	for limit, want := range map[int32][]int64{0: {0, 2, 3}, 1: {0, 2}, 3: {}, 10: {}} {
		got := Excess(all, used, &limit)
		if len(got) != len(want) {
			t.Errorf("limit %d: %d go", limit, len(got))
			continue
		}
		for i := range got {
			if got[i].Revision != want[i] {
				t.Errorf("limit %d: %d goes", limit, got[i].Revision)
			}
		}
	}
	if got := Excess(all, used, nil); len(got) != 0 {
		t.Error("the default limit is 10")
	}
}
