package policy

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"

	"github.com/pintle/pintle/internal/patchdoc"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
)

// patched is obj with a policy's patch, another object of the same type. What names the object, and what only the
// registry writes, a patch can't change. obj stays as it is.
func patched(obj api.Object, resp *abi.AdmissionResponse) (out api.Object, err error) {
	defer func() { // the patch library indexes into what a module wrote
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("its patch can't be applied: %v", p)
		}
	}()
	out = reflect.New(reflect.TypeOf(obj).Elem()).Interface().(api.Object)
	doc := resp.Patch
	if m, ok := out.(interface{ Unmarshal([]byte) error }); ok && resp.PatchType == abi.WholeObject && !isJSON(doc) {
		if err := m.Unmarshal(doc); err != nil {
			return nil, fmt.Errorf("its object can't be read as a %T: %w", obj, err)
		}
		return settled(out, obj)
	}
	if resp.PatchType != abi.WholeObject {
		before, err := json.Marshal(obj)
		if err != nil {
			return nil, err
		}
		switch resp.PatchType {
		case abi.JSONPatch:
			doc, err = patchdoc.JSON(before, resp.Patch)
		case abi.MergePatch:
			doc, err = patchdoc.Merge(before, resp.Patch)
		default:
			err = fmt.Errorf("there is no patch type %d", resp.PatchType)
		}
		if err != nil {
			return nil, fmt.Errorf("its patch can't be applied: %w", err)
		}
	}
	problems, err := kjson.UnmarshalStrict(doc, out)
	if err == nil && len(problems) > 0 {
		err = runtime.NewStrictDecodingError(problems)
	}
	if err != nil {
		return nil, fmt.Errorf("its patch makes no %T of the object: %w", obj, err)
	}
	return settled(out, obj)
}

func isJSON(doc []byte) bool {
	return len(doc) > 0 && doc[0] == '{' // which begins no protobuf message
}

// settled carries over what a policy may not change, and refuses another identity.
func settled(out, obj api.Object) (api.Object, error) {
	if out.GetName() != obj.GetName() || out.GetNamespace() != obj.GetNamespace() || out.GetGenerateName() != obj.GetGenerateName() {
		return nil, fmt.Errorf("its patch gives the object another name or namespace (%s/%s)", out.GetNamespace(), out.GetName())
	}
	was, is := obj.GetObjectKind().GroupVersionKind(), out.GetObjectKind().GroupVersionKind()
	if is != was && !is.Empty() {
		return nil, fmt.Errorf("its patch makes a %s of a %s", is, was)
	}
	out.GetObjectKind().SetGroupVersionKind(was)
	out.SetUID(obj.GetUID())
	out.SetResourceVersion(obj.GetResourceVersion())
	out.SetGeneration(obj.GetGeneration())
	out.SetCreationTimestamp(obj.GetCreationTimestamp())
	out.SetDeletionTimestamp(obj.GetDeletionTimestamp())
	out.SetDeletionGracePeriodSeconds(obj.GetDeletionGracePeriodSeconds())
	out.SetManagedFields(obj.GetManagedFields())
	out.SetSelfLink("")
	return out, nil
}
