package apiserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/pintle/pintle/orchestrator/api"
)

const subScale = "scale"

func scaleGVK() schema.GroupVersionKind { return autoscalingv1.SchemeGroupVersion.WithKind("Scale") }

// scaleOf shows an object as a Scale.
func (c *call) scaleOf(obj api.Object) *autoscalingv1.Scale {
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: c.kind.Scale.SpecReplicas(obj)},
		Status: autoscalingv1.ScaleStatus{Replicas: c.kind.Scale.StatusReplicas(obj), Selector: c.kind.Scale.Selector(obj)},
	}
}

// scaleChange makes a Scale out of the stored one, whose managed fields are those of a Scale. tracked
// says that those of the result are as they should be.
type scaleChange func(live *autoscalingv1.Scale) (changed *autoscalingv1.Scale, tracked bool, err error)

func (c *call) scale(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable})
	if err != nil {
		return err
	}
	if c.info.verb == "get" {
		entry, err := c.registry.Get(r.Context(), c.gvr, c.namespace, c.name)
		if err != nil {
			return err
		}
		return c.writeScale(w, r, c.scaleOf(entry.Object()), neg)
	}
	kind := updateOptionsKind
	if c.info.verb == "patch" {
		kind = patchOptionsKind
	}
	opts, err := c.writeOptions(r, kind)
	if err != nil {
		return err
	}
	change, err := c.scaleChange(w, r, opts)
	if err != nil {
		return err
	}
	entry, err := c.modify(r.Context(), subScale, opts, func(live api.Object) (api.Object, error) {
		return c.rescaled(live, opts.manager, change)
	})
	if err != nil {
		return err
	}
	return c.writeScale(w, r, c.scaleOf(entry.Object()), neg)
}

// rescaled is live with the replicas of its changed Scale, and with who set them.
func (c *call) rescaled(live api.Object, manager string, change scaleChange) (api.Object, error) {
	fm, err := c.managers.getScale()
	if err != nil {
		return nil, err
	}
	fields := managedfields.NewScaleHandler(live.GetManagedFields(), c.kind.GroupVersionKind.GroupVersion(), managedfields.ResourcePathMappings{
		c.kind.GroupVersionKind.GroupVersion().String(): fieldpath.MakePathOrDie("spec", "replicas")})
	before := c.scaleOf(live)
	if before.ManagedFields, err = fields.ToSubresource(); err != nil {
		return nil, fmt.Errorf("managed fields of scale: %w", err)
	}
	scale, tracked, err := change(before.DeepCopy())
	if err != nil {
		return nil, err
	}
	if err := c.checkIdentity(scale); err != nil {
		return nil, err
	}
	if scale.Spec.Replicas < 0 {
		return nil, apierrors.NewInvalid(scaleGVK().GroupKind(), c.name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0")})
	}
	if scale.UID != "" && scale.UID != live.GetUID() {
		return nil, apierrors.NewConflict(c.gvr.GroupResource(), c.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", scale.UID, live.GetUID()))
	}
	version := scale.ResourceVersion
	if !tracked {
		after, err := fm.Update(before, withKind(scale, scaleGVK()), manager)
		if err != nil {
			return nil, fmt.Errorf("managed fields of scale: %w", err)
		}
		scale = after.(*autoscalingv1.Scale)
	}
	managed, err := fields.ToParent(scale.ManagedFields)
	if err != nil {
		return nil, fmt.Errorf("managed fields of scale: %w", err)
	}
	obj := live.DeepCopyObject().(api.Object)
	c.kind.Scale.SetReplicas(obj, scale.Spec.Replicas)
	obj.SetManagedFields(timed(managed, metav1.NewTime(c.clock.Now().UTC().Truncate(time.Second))))
	obj.SetResourceVersion(version)
	return obj, nil
}

// timed gives the entries that are new their time, which the way back from a Scale loses, and their place.
func timed(managed []metav1.ManagedFieldsEntry, now metav1.Time) []metav1.ManagedFieldsEntry {
	for i := range managed {
		if managed[i].Time == nil {
			managed[i].Time = &now
		}
	}
	slices.SortStableFunc(managed, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), a.Time.Compare(b.Time.Time), cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.Subresource, b.Subresource))
	})
	return managed
}

// scaleChange reads an update or a patch of a Scale.
func (c *call) scaleChange(w http.ResponseWriter, r *http.Request, opts writeOptions) (scaleChange, error) {
	switch c.info.verb {
	case "update":
		var scale autoscalingv1.Scale
		if _, err := c.readBeside(w, r, scaleGVK(), &scale, opts); err != nil {
			return nil, err
		}
		return func(*autoscalingv1.Scale) (*autoscalingv1.Scale, bool, error) { return scale.DeepCopy(), false, nil }, nil
	case "patch":
		kind, patch, err := readPatch(w, r)
		if err != nil {
			return nil, err
		}
		if kind == types.ApplyYAMLPatchType {
			return c.scaleApply(w, patch, opts)
		}
		return func(live *autoscalingv1.Scale) (*autoscalingv1.Scale, bool, error) {
			live.ResourceVersion = "" // so that only a version in the patch is a condition
			doc, err := json.Marshal(live)
			if err != nil {
				return nil, false, fmt.Errorf("encode scale: %w", err)
			}
			raw, err := patchJSON(kind, doc, patch, autoscalingv1.Scale{})
			if err != nil {
				return nil, false, err
			}
			var scale autoscalingv1.Scale
			if err := c.codecs.decode(discardHeaders{}, raw, formatJSON, scaleGVK(), &scale, opts.validation); err != nil {
				return nil, false, err
			}
			return &scale, false, nil
		}, nil
	}
	return nil, errMethod()
}

// scaleApply applies the replicas of a Scale for a field manager.
func (c *call) scaleApply(w http.ResponseWriter, patch []byte, opts writeOptions) (scaleChange, error) {
	manager, force, err := c.applyOptions()
	if err != nil {
		return nil, err
	}
	applied, err := c.readApplied(w, patch, opts.validation, scaleGVK(), func() runtime.Object { return &autoscalingv1.Scale{} })
	if err != nil {
		return nil, err
	}
	fm, err := c.managers.getScale()
	if err != nil {
		return nil, err
	}
	return func(live *autoscalingv1.Scale) (*autoscalingv1.Scale, bool, error) {
		merged, err := fm.Apply(live, applied.DeepCopy(), manager, force)
		var status apierrors.APIStatus
		switch {
		case errors.As(err, &status):
			return nil, false, err
		case err != nil:
			return nil, false, apierrors.NewBadRequest(err.Error())
		}
		scale, ok := merged.(*autoscalingv1.Scale)
		if !ok {
			return nil, false, fmt.Errorf("merge of scale gave a %T", merged)
		}
		scale.ResourceVersion = applied.GetResourceVersion()
		return scale, true, nil
	}, nil
}

func (c *call) writeScale(w http.ResponseWriter, r *http.Request, scale *autoscalingv1.Scale, neg negotiated) error {
	if neg.as != asTable {
		return c.writeObject(w, r, http.StatusOK, scale, neg)
	}
	raw, err := json.Marshal(metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: asPartial, APIVersion: "meta.k8s.io/v1"}, ObjectMeta: scale.ObjectMeta})
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	return c.writeObject(w, r, http.StatusOK, &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: asTable, APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: scale.ResourceVersion},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: "Name of the object."},
			{Name: "Desired", Type: "integer", Description: "How many replicas there should be."},
			{Name: "Available", Type: "integer", Description: "How many replicas were observed."},
			{Name: "Age", Type: "string", Description: "Time since the object was created."},
		},
		Rows: []metav1.TableRow{{
			Cells:  []any{scale.Name, scale.Spec.Replicas, scale.Status.Replicas, api.RenderCell(scale.CreationTimestamp, c.clock.Now().Truncate(time.Second))},
			Object: runtime.RawExtension{Raw: raw},
		}},
	}, neg)
}
