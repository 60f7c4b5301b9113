package opa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/cluster"
	"github.com/pintle/pintle/policies/compat/internal/review"
	"github.com/pintle/pintle/policies/guest"
)

// evaluator is one policy. It is safe for concurrent use.
type evaluator struct {
	adapter  *Adapter
	policy   string
	mode     Mode // "": each instance finds out
	settings []byte
	oneCall  bool // the module has opa_eval
	clock    bool
	reader   cluster.Reader
	granted  []cluster.Resource
	pool     *guest.Pool
}

// Close ends the policy once its calls have ended, or ctx has.
func (e *evaluator) Close(ctx context.Context) error { return e.pool.Close(ctx) }

func (e *evaluator) grants(capability string) bool {
	return slices.Contains(e.reader.Capabilities, capability)
}

// Admit asks the module. An answer that can't be understood is an error: the policy's failurePolicy decides.
func (e *evaluator) Admit(ctx context.Context, req *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error) {
	request, err := review.Append(nil, req)
	if err != nil {
		return nil, abi.Spent{}, err
	}
	var resp *abi.AdmissionResponse
	spent, err := e.pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		vm := in.State.(*machine)
		vm.current = &evaluation{ctx: ctx, e: e}
		if len(e.granted) > 0 {
			data, err := e.inventory(ctx, vm.mode)
			if err != nil {
				return err
			}
			if err := vm.load(ctx, in, data); err != nil {
				return err
			}
		}
		out, err := vm.eval(ctx, in, e.input(vm.mode, request), e.oneCall)
		if err != nil {
			return err
		}
		if err := in.CountOutput(len(out)); err != nil {
			return err
		}
		resp, err = answer(vm.mode, out)
		return err
	})
	if err != nil {
		return nil, spent, err
	}
	return resp, spent, nil
}

func (e *evaluator) input(mode Mode, request []byte) []byte {
	if mode == Gatekeeper {
		b := append([]byte(`{"parameters":`), e.settings...)
		return append(append(append(b, `,"review":`...), request...), '}')
	}
	return append(append([]byte(`{"request":`), request...), '}')
}

// ErrUndefined is a module whose entry point has no value for a request.
var ErrUndefined = errors.New("the module's answer is undefined")

// answer reads the result set: a list of at most one {"result": …}.
func answer(mode Mode, out []byte) (*abi.AdmissionResponse, error) {
	var results []struct{ Result json.RawMessage }
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("the module's answer: %w", err)
	}
	if len(results) == 0 || len(results[0].Result) == 0 {
		if mode == Gatekeeper {
			return &abi.AdmissionResponse{Allowed: true}, nil // no violation
		}
		return nil, ErrUndefined
	}
	result := results[0].Result
	switch {
	case mode == Gatekeeper, result[0] == '[':
		return violations(result)
	case result[0] == 't' || result[0] == 'f':
		if result[0] == 't' {
			return &abi.AdmissionResponse{Allowed: true}, nil
		}
		return &abi.AdmissionResponse{}, nil
	case result[0] == '{':
		return reviewed(result)
	}
	return nil, fmt.Errorf("the module's answer is %.40q: neither a review with a response, nor a list of violations, nor a boolean", result)
}

// violations refuses with all messages, in the module's order. A module whose entry point is its package has them
// under their rule's name.
func violations(result []byte) (*abi.AdmissionResponse, error) {
	var whole struct{ Violation json.RawMessage }
	if json.Unmarshal(result, &whole) == nil && whole.Violation != nil {
		result = whole.Violation
	}
	var list []json.RawMessage
	if err := json.Unmarshal(result, &list); err != nil {
		return nil, fmt.Errorf("the module's violations are no list: %.100q", result)
	}
	if len(list) == 0 {
		return &abi.AdmissionResponse{Allowed: true}, nil
	}
	var messages []string
	for _, v := range list {
		var s string
		var o struct{ Msg *string }
		if json.Unmarshal(v, &s) == nil {
			messages = append(messages, s)
		} else if err := json.Unmarshal(v, &o); err != nil {
			return nil, fmt.Errorf("one of the module's violations: %w", err)
		} else if o.Msg != nil {
			messages = append(messages, *o.Msg)
		}
	}
	return &abi.AdmissionResponse{Message: strings.Join(messages, ", ")}, nil
}

// reviewed reads an AdmissionReview, or the response within one.
func reviewed(result []byte) (*abi.AdmissionResponse, error) {
	var r struct {
		Response *struct {
			Allowed *bool
			Status  *struct {
				Message, Reason string
				Code            uint32
			}
			Patch            []byte // base64
			PatchType        string
			Warnings         []string
			AuditAnnotations map[string]string
		}
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return nil, fmt.Errorf("the module's review: %w", err)
	}
	if r.Response == nil || r.Response.Allowed == nil {
		return nil, errors.New("the module's review has no response.allowed")
	}
	resp := &abi.AdmissionResponse{
		Allowed: *r.Response.Allowed, Warnings: r.Response.Warnings, Audit: abi.Pairs(r.Response.AuditAnnotations),
	}
	if s := r.Response.Status; s != nil {
		resp.Message, resp.Reason, resp.Code = s.Message, s.Reason, s.Code
	}
	if len(r.Response.Patch) > 0 && resp.Allowed {
		if t := r.Response.PatchType; t != "" && t != "JSONPatch" {
			return nil, fmt.Errorf("the module's patch has type %q; JSONPatch is understood", t)
		}
		resp.Patch, resp.PatchType = r.Response.Patch, abi.JSONPatch
	}
	return resp, nil
}
