package policy

import (
	"context"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/policies/abi"
)

// Admit implements registry.Admitter.
func (e *Engine) Admit(ctx context.Context, req registry.Request) error {
	if exempt(&req) {
		return nil
	}
	t, err := e.synced(ctx)
	if err != nil || len(t.admission) == 0 {
		return err
	}
	w := write{Engine: e, req: &req}
	for _, p := range t.admission {
		if !p.match.matches(&req, e.namespaceLabels(ctx)) {
			continue
		}
		if err := w.put(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// synced is the table, once the stored policies have been read for the first time. Until then no write may pass that
// one of them would refuse.
func (e *Engine) synced(ctx context.Context) (*table, error) {
	t := e.table.Load()
	if t.synced {
		return t, nil
	}
	patience := time.NewTimer(e.cfg.Patience)
	defer patience.Stop()
	for !t.synced {
		select {
		case <-t.replaced:
			t = e.table.Load()
		case <-patience.C:
			return nil, apierrors.NewServiceUnavailable("the stored policies have not been read yet; please try again")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return t, nil
}

func (e *Engine) namespaceLabels(ctx context.Context) func(name string) labels.Set {
	return func(name string) labels.Set {
		client := e.client.Load()
		if client == nil {
			return nil
		}
		ns, err := (*client).Get(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", name)
		if err != nil {
			return nil
		}
		return labels.Set(ns.GetLabels())
	}
}

// write is one write on its way through the policies.
type write struct {
	*Engine
	req   *registry.Request
	asked *abi.AdmissionRequest // made for the first policy that matches
}

// put puts the write to one policy, and does what it says. An error refuses the write.
func (w *write) put(ctx context.Context, p *admissionEntry) error {
	now, err := w.ready(ctx, p)
	if err != nil {
		return err
	}
	if now == nil {
		return nil // it is gone
	}
	p = now
	if p.down != "" {
		return w.failed(ctx, p, "NotReady", fmt.Errorf("it is not ready: %s", p.down), apierrors.NewServiceUnavailable)
	}
	if w.asked == nil {
		w.asked = newRequest(w.req)
	}
	resp, _, err := w.host.Admit(ctx, p.name, w.asked)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if w.table.Load().admissionPolicy(p.name) == nil {
			return nil // it was deleted while it was asked
		}
		return w.failed(ctx, p, "Failed", err, internalError)
	}
	if resp.Allowed && len(resp.Patch) > 0 {
		if err := w.patch(p, resp); err != nil {
			return w.failed(ctx, p, "BadPatch", err, internalError)
		}
	}
	w.tell(ctx, p, resp)
	if resp.Allowed {
		w.metrics.decided(p.name, "allowed")
		return nil
	}
	return w.refused(ctx, p, resp)
}

// ready waits for a policy that is on its way, if the write can't pass without it. nil: it is gone.
func (w *write) ready(ctx context.Context, p *admissionEntry) (*admissionEntry, error) {
	if p.down == "" || !p.coming || !p.fail || p.mode != api.PolicyEnforce {
		return p, nil
	}
	patience := time.NewTimer(w.cfg.Patience)
	defer patience.Stop()
	for {
		t := w.table.Load()
		if p = t.admissionPolicy(p.name); p == nil || p.down == "" || !p.coming {
			return p, nil
		}
		select {
		case <-t.replaced:
		case <-patience.C:
			return p, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// patch has the object become what the policy makes of it, for the policies that follow and for the registry.
func (w *write) patch(p *admissionEntry, resp *abi.AdmissionResponse) error {
	switch {
	case !p.mutate:
		return fmt.Errorf("it answers with a patch, and its type is %s", api.PolicyValidate)
	case w.req.Object == nil:
		return fmt.Errorf("it answers with a patch, and there is no object")
	}
	next, err := patched(w.req.Object, resp)
	if err != nil || p.mode != api.PolicyEnforce {
		return err
	}
	if w.req.Subresource == "" && w.req.Kind.Default != nil {
		w.req.Kind.Default(next)
	}
	w.req.Replace(next)
	setObject(w.asked, w.req.Object)
	return nil
}

// tell hands on what the policy has to say beside its decision.
func (w *write) tell(ctx context.Context, p *admissionEntry, resp *abi.AdmissionResponse) {
	if p.mode != api.PolicyAudit {
		for _, warning := range resp.Warnings {
			registry.Warn(ctx, warning)
		}
	}
	if len(resp.Audit) > 0 || p.mode == api.PolicyAudit && (!resp.Allowed || len(resp.Warnings) > 0) {
		annotations := make(map[string]string, len(resp.Audit))
		for _, a := range resp.Audit {
			annotations[p.name+"/"+a.Key] = a.Value
		}
		w.audit(ctx, p, "allowed", resp.Allowed, "message", resp.Message, "annotations", annotations, "warnings", resp.Warnings)
	}
}

// audit writes down what a policy decided: nothing else in this program keeps a record of requests.
func (w *write) audit(ctx context.Context, p *admissionEntry, more ...any) {
	w.log.InfoContext(ctx, "policy audit", append([]any{"policy", p.name, "mode", string(p.mode), "operation", w.req.Operation,
		"resource", groupResource(w.req).String(), "subresource", w.req.Subresource, "namespace", w.req.Namespace, "name", w.req.Name,
		"user", w.req.User, "dryRun", w.req.DryRun}, more...)...)
}

func (w *write) refused(ctx context.Context, p *admissionEntry, resp *abi.AdmissionResponse) error {
	message := resp.Message
	if message == "" {
		message = "it gives no reason"
	}
	switch p.mode {
	case api.PolicyAudit:
		w.metrics.decided(p.name, "audited")
		return nil
	case api.PolicyWarn:
		w.metrics.decided(p.name, "warned")
		registry.Warn(ctx, fmt.Sprintf("admission policy %q would refuse this: %s", p.name, message))
		return nil
	}
	w.metrics.decided(p.name, "refused")
	code := int32(resp.Code)
	if code < http.StatusBadRequest || code >= 600 {
		code = http.StatusForbidden
	}
	reason := metav1.StatusReason(resp.Reason)
	if reason == "" && code == http.StatusForbidden {
		reason = metav1.StatusReasonForbidden
	}
	resource := groupResource(w.req)
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason,
		Details: &metav1.StatusDetails{Group: resource.Group, Kind: resource.Resource, Name: w.req.Name},
		Message: fmt.Sprintf("admission policy %q denied the request: %s", p.name, message),
	}}
}

func internalError(message string) *apierrors.StatusError {
	return apierrors.NewInternalError(fmt.Errorf("%s", message))
}

// failed is what becomes of a write about which a policy can't be asked.
func (w *write) failed(ctx context.Context, p *admissionEntry, why string, err error, answer func(string) *apierrors.StatusError) error {
	message := fmt.Sprintf("admission policy %q could not decide: %v", p.name, err)
	w.log.WarnContext(ctx, "a policy could not decide about a write", "policy", p.name, "why", why, "failurePolicy", failurePolicy(p.fail),
		"mode", string(p.mode), "resource", groupResource(w.req).String(), "namespace", w.req.Namespace, "name", w.req.Name, "error", err)
	switch {
	case p.mode == api.PolicyWarn:
		registry.Warn(ctx, message)
		fallthrough
	case p.mode == api.PolicyAudit, !p.fail:
		w.metrics.decided(p.name, "ignored")
		return nil
	}
	w.metrics.decided(p.name, "failed")
	return answer(message)
}

func failurePolicy(fail bool) string {
	if fail {
		return string(api.PolicyFail)
	}
	return string(api.PolicyIgnore)
}
