package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/internal/patchdoc"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

func yamlToJSON(raw []byte) ([]byte, error) { return yaml.YAMLToJSONStrict(raw) }

// readPatch reads the body and says which of the four kinds it is.
func readPatch(w http.ResponseWriter, r *http.Request) (types.PatchType, []byte, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", nil, errMediaType(acceptedPatchTypes)
	}
	switch kind := types.PatchType(media); kind {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
		raw, err := readBody(w, r)
		return kind, raw, err
	}
	return "", nil, errMediaType(acceptedPatchTypes)
}

// patchJSON applies a patch to a document. like is a value of the document's Go type.
func patchJSON(kind types.PatchType, doc, patch []byte, like any) (out []byte, err error) {
	defer func() { // the patch libraries index into what a client wrote
		if p := recover(); p != nil {
			err = apierrors.NewBadRequest(fmt.Sprintf("the patch cannot be applied: %v", p))
		}
	}()
	switch kind {
	case types.JSONPatchType:
		return patchdoc.JSON(doc, patch)
	case types.MergePatchType:
		if !isObject(patch) {
			return nil, apierrors.NewBadRequest("error decoding patch: a JSON object was expected")
		}
		return patchdoc.Merge(doc, patch)
	default:
		if !isObject(patch) {
			return nil, apierrors.NewBadRequest("error decoding patch: a JSON object was expected")
		}
		out, err := strategicpatch.StrategicMergePatch(doc, patch, like)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return out, nil
	}
}

func isObject(raw []byte) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && raw[0] == '{' && json.Valid(raw)
}

func (c *call) patch(w http.ResponseWriter, r *http.Request, subresource string) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	opts, err := c.writeOptions(r, patchOptionsKind)
	if err != nil {
		return err
	}
	patchType, patch, err := readPatch(w, r)
	if err != nil {
		return err
	}
	var entry *registry.Entry
	code := http.StatusOK
	if patchType == types.ApplyYAMLPatchType {
		var created bool
		entry, created, err = c.apply(w, r, subresource, patch, opts)
		if created {
			code = http.StatusCreated
		}
	} else {
		if c.query.Get("force") != "" {
			return invalidOptions(patchOptionsKind, field.ErrorList{field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch")})
		}
		quiet := w // warnings are wanted once, also where the patch is tried again
		entry, err = c.modify(r.Context(), subresource, opts, func(live api.Object) (api.Object, error) {
			obj, err := c.patched(quiet, patchType, patch, live, opts.validation)
			quiet = discardHeaders{}
			return obj, err
		})
	}
	if err != nil {
		return err
	}
	return c.writeEntry(w, r, code, entry, neg)
}

// discardHeaders takes warnings that have been given already.
type discardHeaders struct{ http.ResponseWriter }

func (discardHeaders) Header() http.Header { return http.Header{} }

// applyOptions are who applies, and whether they take over what is others'.
func (c *call) applyOptions() (manager string, force bool, err error) {
	if manager = c.query.Get("fieldManager"); manager == "" {
		err = invalidOptions(patchOptionsKind, field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
	}
	return manager, isTrue(c.query.Get("force")), err
}

// patched returns a new object: live with the patch. Its resourceVersion is "" unless the patch sets one.
func (c *call) patched(w http.ResponseWriter, kind types.PatchType, patch []byte, live api.Object, v fieldValidation) (api.Object, error) {
	doc, err := json.Marshal(withKind(live.DeepCopyObject(), c.kind.GroupVersionKind))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.kind.Resource, err)
	}
	if err := checkDuplicates(w, kind, patch, v); err != nil {
		return nil, err
	}
	raw, err := patchJSON(kind, doc, patch, c.kind.New())
	if err != nil {
		return nil, err
	}
	obj := c.kind.New()
	if err := c.codecs.decode(w, raw, formatJSON, c.kind.GroupVersionKind, obj, v); err != nil {
		return nil, invalidPatch(patch, message(err))
	}
	if err := c.checkIdentity(obj); err != nil {
		return nil, err
	}
	if obj.GetResourceVersion() == live.GetResourceVersion() && !bytes.Contains(patch, []byte("resourceVersion")) {
		obj.SetResourceVersion("")
	}
	c.setDefaults(obj)
	return obj, nil
}

func invalidPatch(patch []byte, why string) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), string(patch), why)})
}

// checkDuplicates tells of fields that stand twice in a patch, which its application would hide.
func checkDuplicates(w http.ResponseWriter, kind types.PatchType, patch []byte, v fieldValidation) error {
	if kind == types.JSONPatchType || v == validateIgnore {
		return nil
	}
	var into map[string]any
	problems, err := kjson.UnmarshalStrict(patch, &into)
	if err != nil || len(problems) == 0 {
		return nil // the application says what is wrong
	}
	if v == validateStrict {
		return invalidPatch(patch, runtime.NewStrictDecodingError(problems).Error())
	}
	for _, problem := range problems {
		addWarning(w, problem.Error())
	}
	return nil
}

func message(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

// apply merges a configuration by field manager, and creates the object if there is none.
func (c *call) apply(w http.ResponseWriter, r *http.Request, subresource string, patch []byte, opts writeOptions) (entry *registry.Entry, created bool, err error) {
	manager, force, err := c.applyOptions()
	if err != nil {
		return nil, false, err
	}
	applied, err := c.readApplied(w, patch, opts.validation, c.kind.GroupVersionKind, func() runtime.Object { return c.kind.New() })
	if err != nil {
		return nil, false, err
	}
	fm, err := c.managers.get(c.kind, subresource)
	if err != nil {
		return nil, false, err
	}
	merge := func(live api.Object) (api.Object, error) {
		live = withKind(live.DeepCopyObject(), c.kind.GroupVersionKind).(api.Object)
		merged, err := fm.Apply(live, applied.DeepCopy(), manager, force)
		if err != nil {
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				return nil, err
			}
			return nil, apierrors.NewBadRequest(err.Error())
		}
		obj, ok := merged.(api.Object)
		if !ok {
			return nil, fmt.Errorf("merge of %s gave a %T", c.kind.Resource, merged)
		}
		c.setDefaults(obj)
		return obj, nil
	}
	for attempt := 1; ; attempt++ {
		entry, created, err = c.applyOnce(r.Context(), subresource, opts, applied, merge)
		retry := apierrors.IsConflict(err) && !isApplyConflict(err) && applied.GetResourceVersion() == "" ||
			apierrors.IsAlreadyExists(err) || created && apierrors.IsNotFound(err)
		if !retry || attempt == maxAttempts || r.Context().Err() != nil {
			return entry, created && err == nil, err
		}
	}
}

func (c *call) applyOnce(ctx context.Context, subresource string, opts writeOptions, applied *unstructured.Unstructured, merge func(api.Object) (api.Object, error)) (*registry.Entry, bool, error) {
	current, err := c.registry.Get(ctx, c.gvr, c.namespace, c.name)
	if apierrors.IsNotFound(err) && subresource == "" {
		entry, err := c.applyNew(ctx, opts, applied, merge)
		return entry, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	live := current.Object()
	obj, err := merge(live)
	if err != nil {
		return nil, false, err
	}
	if rv := applied.GetResourceVersion(); rv != "" && rv != live.GetResourceVersion() {
		return nil, false, apierrors.NewConflict(c.gvr.GroupResource(), c.name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	obj.SetResourceVersion(live.GetResourceVersion())
	if equality.Semantic.DeepEqual(withoutKind(obj), withoutKind(live)) {
		return current, false, nil
	}
	entry, err := c.write(ctx, subresource, opts, obj, live)
	return entry, false, err
}

// applyNew creates what is applied and isn't there: that needs the right to create.
func (c *call) applyNew(ctx context.Context, opts writeOptions, applied *unstructured.Unstructured, merge func(api.Object) (api.Object, error)) (*registry.Entry, error) {
	if applied.GetUID() != "" || applied.GetResourceVersion() != "" {
		return nil, apierrors.NewConflict(c.gvr.GroupResource(), c.name, errors.New("the object that the configuration names by uid or resourceVersion does not exist"))
	}
	if err := c.mayCreate(ctx); err != nil {
		return nil, err
	}
	empty := c.kind.New()
	empty.SetName(c.name)
	empty.SetNamespace(c.namespace)
	obj, err := merge(empty)
	if err != nil {
		return nil, err
	}
	if err := c.restrictNode(ctx, obj); err != nil {
		return nil, err
	}
	if err := c.checkEscalation(ctx, obj, nil); err != nil {
		return nil, err
	}
	return c.registry.Create(ctx, c.gvr, obj, c.createOptions(opts))
}

// readApplied reads a configuration: YAML or JSON of the kind gvk, that fits the URL. made is an empty
// object of that kind.
func (c *call) readApplied(w http.ResponseWriter, patch []byte, v fieldValidation, gvk schema.GroupVersionKind, made func() runtime.Object) (*unstructured.Unstructured, error) {
	raw, err := yaml.YAMLToJSON(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	applied := &unstructured.Unstructured{}
	if !isObject(raw) {
		return nil, apierrors.NewBadRequest("error decoding YAML: an object was expected")
	}
	if err := json.Unmarshal(raw, &applied.Object); err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	got := applied.GroupVersionKind()
	if got.Kind == "" || got.Version == "" {
		return nil, apierrors.NewBadRequest("the configuration must set apiVersion and kind")
	}
	if got.GroupVersion() != gvk.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("Incorrect version specified in apply patch. Specified patch version: %s, expected: %s", got.GroupVersion(), gvk.GroupVersion()))
	}
	// Decoded strictly from what came, so that duplicate fields are told of, too.
	if err := c.codecs.decode(w, patch, formatYAML, gvk, made(), v); err != nil {
		return nil, err
	}
	if len(applied.GetManagedFields()) > 0 {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	if applied.GetName() == "" {
		applied.SetName(c.name)
	}
	if c.kind.Namespaced && applied.GetNamespace() == "" {
		applied.SetNamespace(c.namespace)
	}
	return applied, c.checkIdentity(&metav1.ObjectMeta{Name: applied.GetName(), Namespace: applied.GetNamespace()})
}

// isApplyConflict reports whether fields of other managers stood in the way, which trying again
// doesn't change.
func isApplyConflict(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)
}

func withoutKind(obj api.Object) runtime.Object {
	out := obj.DeepCopyObject()
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return out
}
