package kubewarden

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/review"
	"github.com/pintle/pintle/policies/guest"
)

// Operations of a policy, as waPC names them. A WASI command has them as arguments, with "-" for "_".
const (
	opValidate         = "validate"
	opValidateSettings = "validate_settings"
	opProtocolVersion  = "protocol_version"
)

// evaluator is one policy. It is safe for concurrent use.
type evaluator struct {
	settings []byte
	host     hostCalls
	pool     *guest.Pool
	buffers  sync.Pool // of *[]byte, for payloads

	// ask runs one operation; read is given what the module answers, valid until it returns.
	ask func(ctx context.Context, operation string, payload []byte, read func(answer []byte) error) (abi.Spent, error)
}

// maxKept bounds a payload's buffer that is kept for the next one, in bytes.
const maxKept = 64 << 10

// Close ends the policy once its calls have ended, or ctx has.
func (e *evaluator) Close(ctx context.Context) error { return e.pool.Close(ctx) }

// validateSettings asks the module which protocol it speaks, if it can tell, and whether its settings are right.
func (e *evaluator) validateSettings(ctx context.Context, wapc bool) error {
	if wapc {
		_, err := e.ask(ctx, opProtocolVersion, nil, func(answer []byte) error {
			if v := string(bytes.Trim(answer, "\" \n")); v != "v1" {
				return &unsupported{v}
			}
			return nil
		})
		var refused *guestError
		if err != nil && !errors.As(err, &refused) { // a policy that registers no such function says so
			return err
		}
	}
	_, err := e.ask(ctx, opValidateSettings, e.settings, func(answer []byte) error {
		var r struct {
			Valid   *bool
			Message string
		}
		if err := json.Unmarshal(answer, &r); err != nil {
			return fmt.Errorf("the module's answer about its settings: %w", err)
		}
		switch {
		case r.Valid == nil:
			return errors.New("the module's answer about its settings doesn't say whether they are valid")
		case *r.Valid:
			return nil
		case r.Message == "":
			return errors.New("the module refuses its settings, and doesn't say why")
		}
		return fmt.Errorf("the module refuses its settings: %s", r.Message)
	})
	return err
}

type unsupported struct{ version string }

func (e *unsupported) Error() string {
	return fmt.Sprintf("the module speaks protocol version %q; v1 is understood", e.version)
}

// Admit asks the module. An answer that can't be understood, or an error of the module's, is an error: the policy's
// failurePolicy decides.
func (e *evaluator) Admit(ctx context.Context, req *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error) {
	buffer, _ := e.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	defer e.buffers.Put(buffer)
	payload, err := review.Append(append((*buffer)[:0], `{"request":`...), req)
	if err != nil {
		return nil, abi.Spent{}, err
	}
	payload = append(payload, `,"settings":`...)
	payload = append(append(payload, e.settings...), '}')
	if cap(payload) <= maxKept {
		*buffer = payload
	}
	var resp *abi.AdmissionResponse
	spent, err := e.ask(ctx, opValidate, payload, func(answer []byte) (err error) {
		resp, err = response(answer, req)
		return err
	})
	if err != nil {
		return nil, spent, err
	}
	return resp, spent, nil
}

// response reads a ValidationResponse.
func response(answer []byte, req *abi.AdmissionRequest) (*abi.AdmissionResponse, error) {
	if string(answer) == `{"accepted":true}` { // what most answers are
		return &abi.AdmissionResponse{Allowed: true}, nil
	}
	var r struct {
		Accepted         *bool
		Message          string
		Code             uint32
		MutatedObject    json.RawMessage   `json:"mutated_object"`
		AuditAnnotations map[string]string `json:"audit_annotations"`
		Warnings         []string
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, fmt.Errorf("the module's answer: %w", err)
	}
	if r.Accepted == nil {
		return nil, errors.New("the module's answer doesn't say whether it accepts")
	}
	out := &abi.AdmissionResponse{Allowed: *r.Accepted, Warnings: r.Warnings, Audit: abi.Pairs(r.AuditAnnotations)}
	if !out.Allowed {
		out.Message, out.Code = r.Message, r.Code
	}
	if len(r.MutatedObject) == 0 || string(r.MutatedObject) == "null" {
		return out, nil
	}
	if req.Object == nil {
		return &abi.AdmissionResponse{Message: "Incoming object is null, which happens only with DELETE operations, " +
			"but the policy is attempting a mutation. This is not allowed"}, nil
	}
	object, err := req.Object.Encoded(abi.JSON)
	if err != nil || !out.Allowed {
		return out, err
	}
	if changed, err := differ(object, r.MutatedObject); err != nil || !changed {
		return out, err
	}
	out.Patch, out.PatchType = bytes.Clone(r.MutatedObject), abi.WholeObject
	return out, nil
}

// differ compares JSON values, whatever order and white space they were written with.
func differ(a, b []byte) (bool, error) {
	if bytes.Equal(a, b) {
		return false, nil
	}
	var values [2]any
	for i, text := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			return false, fmt.Errorf("compare the mutated object: %w", err)
		}
	}
	if _, ok := values[1].(map[string]any); !ok {
		return false, errors.New("the module's mutated_object is no object")
	}
	return !reflect.DeepEqual(values[0], values[1]), nil
}
