// Package review writes Kubernetes' AdmissionRequest as JSON, as an API server sends it to a webhook and policy-server
// hands it on.
package review

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/pintle/pintle/policies/abi"
)

// Append writes req to the end of b. An error is an object's, which can't be encoded as JSON.
func Append(b []byte, req *abi.AdmissionRequest) ([]byte, error) {
	object, err := encoded(req.Object)
	if err != nil {
		return b, err
	}
	old, err := encoded(req.OldObject)
	if err != nil {
		return b, err
	}
	b = text(append(b, `{"uid":`...), req.UID)
	b = kind(append(b, `,"kind":`...), req.Kind)
	b = resource(append(b, `,"resource":`...), req.Resource)
	b = optional(b, `,"subResource":`, req.Subresource)
	b = kind(append(b, `,"requestKind":`...), req.Kind)
	b = resource(append(b, `,"requestResource":`...), req.Resource)
	b = optional(b, `,"requestSubResource":`, req.Subresource)
	b = optional(b, `,"name":`, req.Name)
	b = optional(b, `,"namespace":`, req.Namespace)
	b = text(append(b, `,"operation":`...), req.Operation.String())
	b = user(append(b, `,"userInfo":`...), &req.User)
	if object != nil {
		b = append(append(b, `,"object":`...), object...)
	}
	if old != nil {
		b = append(append(b, `,"oldObject":`...), old...)
	}
	if req.DryRun {
		b = append(b, `,"dryRun":true`...)
	} else {
		b = append(b, `,"dryRun":false`...)
	}
	if options := options(req.Operation); options != "" {
		b = append(append(append(b, `,"options":{"kind":"`...), options...), `","apiVersion":"meta.k8s.io/v1"}`...)
	}
	return append(b, '}'), nil
}

func options(o abi.Operation) string {
	switch o {
	case abi.Create:
		return "CreateOptions"
	case abi.Update:
		return "UpdateOptions"
	case abi.Delete:
		return "DeleteOptions"
	}
	return ""
}

func encoded(o abi.Object) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	return o.Encoded(abi.JSON)
}

func kind(b []byte, k abi.GroupVersionKind) []byte {
	b = text(append(b, `{"group":`...), k.Group)
	b = text(append(b, `,"version":`...), k.Version)
	return append(text(append(b, `,"kind":`...), k.Kind), '}')
}

func resource(b []byte, r abi.GroupVersionResource) []byte {
	b = text(append(b, `{"group":`...), r.Group)
	b = text(append(b, `,"version":`...), r.Version)
	return append(text(append(b, `,"resource":`...), r.Resource), '}')
}

func user(b []byte, u *abi.UserInfo) []byte {
	b = text(append(b, `{"username":`...), u.Username)
	b = optional(b, `,"uid":`, u.UID)
	if len(u.Groups) > 0 {
		b = append(b, `,"groups":[`...)
		for i, g := range u.Groups {
			if i > 0 {
				b = append(b, ',')
			}
			b = text(b, g)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func optional(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return text(append(b, key...), s)
}

// text writes s as a JSON string; most need no escape.
func text(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s)
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
