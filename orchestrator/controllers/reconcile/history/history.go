// Package history keeps what a workload's template was: a ControllerRevision for each, named, numbered and written as
// Kubernetes does, so that `kubectl rollout history` and `undo` read them.
//
// [Sync] makes the newest one, [Excess] chooses which may go; both are for StatefulSets and DaemonSets alike.
package history

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// ErrCollision says that the name of a new revision is taken by another template: raise the workload's collision count,
// and the next try has another name.
var ErrCollision = errors.New("the name of the new revision is taken")

// HashLabel holds a revision's hash on the revision itself.
const HashLabel = "controller.kubernetes.io/hash"

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Owner is the workload whose revisions are kept.
type Owner struct {
	Object     api.Object
	Kind       schema.GroupVersionKind
	Selector   labels.Selector
	Template   *corev1.PodTemplateSpec
	Collisions *int32 // its status's collision count
}

// patch is spec.template in a revision's data: the strategic merge patch that brings it back.
type patch struct {
	Spec struct {
		Template json.RawMessage `json:"template"`
	} `json:"spec"`
}

// Data encodes a template as a revision holds it.
func Data(t *corev1.PodTemplateSpec) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	fields["$patch"] = json.RawMessage(`"replace"`)
	var p patch
	if p.Spec.Template, err = json.Marshal(fields); err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	return json.Marshal(p)
}

// Template decodes what Data encoded.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var p patch
	if err := json.Unmarshal(r.Data.Raw, &p); err != nil {
		return nil, fmt.Errorf("decode revision %s: %w", r.Name, err)
	}
	t := &corev1.PodTemplateSpec{}
	if err := json.Unmarshal(p.Spec.Template, t); err != nil { // "$patch" is no field of it
		return nil, fmt.Errorf("decode revision %s: %w", r.Name, err)
	}
	return t, nil
}

// Hash names a template's data; the collision count makes another name for the same.
func Hash(data []byte, collisions *int32) string {
	h := fnv.New32a()
	h.Write(data)
	if collisions != nil {
		fmt.Fprintf(h, "/%d", *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// HashOf is the hash in a revision's name.
func HashOf(r *appsv1.ControllerRevision) string {
	return cmp.Or(r.Labels[HashLabel], r.Labels[appsv1.ControllerRevisionHashLabelKey], r.Name[strings.LastIndexByte(r.Name, '-')+1:])
}

// Sort orders revisions, oldest first.
func Sort(revisions []*appsv1.ControllerRevision) {
	slices.SortFunc(revisions, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// newest plans which of the sorted revisions holds the owner's template: one that there is (a copy with the highest
// number, where it came back from history), or a new one, which has no UID.
func newest(o Owner, sorted []*appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	next := int64(1)
	if n := len(sorted); n > 0 {
		next = sorted[n-1].Revision + 1
	}
	// Compared by meaning: a new version may write the same template in other bytes.
	for i := len(sorted) - 1; i >= 0; i-- {
		t, err := Template(sorted[i])
		if err != nil || !apiequality.Semantic.DeepEqual(t, o.Template) || sorted[i].DeletionTimestamp != nil {
			continue
		}
		r := sorted[i].DeepCopy()
		if i < len(sorted)-1 {
			r.Revision = next
		}
		return r, nil
	}
	data, err := Data(o.Template)
	if err != nil {
		return nil, err
	}
	hash := Hash(data, o.Collisions)
	name := o.Object.GetName()
	r := &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Object.GetNamespace(), Name: name[:min(len(name), 223)] + "-" + hash,
			Labels: maps.Clone(o.Template.Labels), Annotations: annotations(o.Object),
			OwnerReferences: []metav1.OwnerReference{reconcile.ControllerRef(o.Object, o.Kind)}},
		Data: runtime.RawExtension{Raw: data}, Revision: next,
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	r.Labels[HashLabel] = hash
	if o.Kind.Kind == "DaemonSet" {
		r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	}
	return r, nil
}

// annotations are those of the owner that a revision keeps: the cause of the change, for one.
func annotations(o api.Object) map[string]string {
	out := map[string]string{}
	for k, v := range o.GetAnnotations() {
		switch k {
		case lastApplied, api.AnnotationAutoRollback, api.AnnotationProgressDeadline, api.AnnotationRolledBackFrom:
		default:
			out[k] = v
		}
	}
	return out
}

// Sync returns the revision of o's template, made or renumbered where it wasn't the newest, and all revisions of o, that
// one among them, oldest first. Revisions that o's selector matches and nobody controls are adopted.
func Sync(ctx context.Context, c reconcile.Client, o Owner) (now *appsv1.ControllerRevision, all []*appsv1.ControllerRevision, err error) {
	objs, err := reconcile.Claim(ctx, c, reconcile.ControllerRevisions(), o.Object, o.Kind, o.Selector)
	if err != nil {
		return nil, nil, err
	}
	all = reconcile.As[*appsv1.ControllerRevision](objs)
	Sort(all)
	r, err := newest(o, all)
	if err != nil {
		return nil, nil, err
	}
	if r.UID == "" {
		got, err := c.Create(ctx, reconcile.ControllerRevisions(), r)
		if apierrors.IsAlreadyExists(err) {
			return nil, nil, taken(ctx, c, o, r)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("create revision %s: %w", r.Name, err)
		}
		now = got.(*appsv1.ControllerRevision)
		return now, append(all, now), nil
	}
	i := slices.IndexFunc(all, func(x *appsv1.ControllerRevision) bool { return x.Name == r.Name })
	if r.Revision != all[i].Revision {
		got, err := c.Update(ctx, reconcile.ControllerRevisions(), "", r)
		if err != nil {
			return nil, nil, fmt.Errorf("renumber revision %s: %w", r.Name, err)
		}
		r = got.(*appsv1.ControllerRevision)
		all[i] = r
		Sort(all)
	}
	return r, all, nil
}

// taken tells a revision that we made, and whose answer was lost, from one of another template or owner.
func taken(ctx context.Context, c reconcile.Client, o Owner, r *appsv1.ControllerRevision) error {
	have, err := reconcile.Get[*appsv1.ControllerRevision](ctx, c, reconcile.ControllerRevisions(), r.Namespace, r.Name)
	if err != nil {
		return err
	}
	if have != nil && metav1.IsControlledBy(have, o.Object) && have.DeletionTimestamp == nil {
		if t, err := Template(have); err == nil && apiequality.Semantic.DeepEqual(t, o.Template) {
			return fmt.Errorf("revision %s has just been made: %w", r.Name, apierrors.NewConflict(reconcile.ControllerRevisions().GroupResource(), r.Name, nil))
		}
	}
	return ErrCollision
}

// Excess returns the revisions that may go: the oldest of those that aren't in use, as far as there are more than limit.
func Excess(sorted []*appsv1.ControllerRevision, inUse func(*appsv1.ControllerRevision) bool, limit *int32) []*appsv1.ControllerRevision {
	keep := 10
	if limit != nil {
		keep = int(*limit)
	}
	var idle []*appsv1.ControllerRevision
	for _, r := range sorted {
		if !inUse(r) && r.DeletionTimestamp == nil {
			idle = append(idle, r)
		}
	}
	return idle[:max(0, len(idle)-keep)]
}

// Remove deletes revisions; one that is gone already is no error.
func Remove(ctx context.Context, c reconcile.Client, revisions []*appsv1.ControllerRevision) error {
	for _, r := range revisions {
		uid := r.UID
		err := c.Delete(ctx, reconcile.ControllerRevisions(), r.Namespace, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete revision %s: %w", r.Name, err)
		}
	}
	return nil
}
