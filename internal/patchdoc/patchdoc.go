// Package patchdoc applies patches that somebody else wrote to JSON documents, in bounded memory and time. Its errors
// are apimachinery's.
package patchdoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// maxPatchOperations bounds a JSON patch, as in Kubernetes: each operation may walk the whole object.
	maxPatchOperations = 10000
	// maxPatchCopies bounds the copies in one, which are applied one by one to watch what they add.
	maxPatchCopies = 100
	// maxCopied is how many bytes they may add in all: each may double the object, so that 30 of them
	// would fill the memory.
	maxCopied = 3 << 20
)

// JSON is RFC 6902.
func JSON(doc, patch []byte) ([]byte, error) {
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	if len(operations) > maxPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(operations)))
	}
	copied, copies := 0, 0
	for len(operations) > 0 {
		n, isCopy := untilCopy(operations)
		before := len(doc)
		if doc, err = operations[:n].Apply(doc); err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
		operations = operations[n:]
		if !isCopy {
			continue
		}
		if copies++; copies > maxPatchCopies {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum copy operations in a JSON patch is %d", maxPatchCopies))
		}
		if copied += max(0, len(doc)-before); copied > maxCopied {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The copy operations of a JSON patch may add %d bytes", maxCopied))
		}
	}
	return doc, nil
}

// untilCopy is how many operations to apply at once: all before the next copy, or that one alone.
func untilCopy(operations jsonpatch.Patch) (n int, isCopy bool) {
	for i, operation := range operations {
		if operation.Kind() != "copy" {
			continue
		}
		if i == 0 {
			return 1, true
		}
		return i, false
	}
	return len(operations), false
}

// Merge is RFC 7386, on decoded values: encoding each level again, as libraries do, takes
// seconds for a patch that nests deeply.
func Merge(doc, patch []byte) ([]byte, error) {
	decode := func(raw []byte) (out any, err error) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber() // numbers pass as they are written
		return out, d.Decode(&out)
	}
	change, err := decode(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	target, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("decode the object to patch: %w", err)
	}
	return json.Marshal(merged(target, change))
}

func merged(target, change any) any {
	fields, ok := change.(map[string]any)
	if !ok {
		return change
	}
	out, ok := target.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for key, value := range fields {
		if value == nil {
			delete(out, key)
			continue
		}
		out[key] = merged(out[key], value)
	}
	return out
}
