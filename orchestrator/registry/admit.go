package registry

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// admit asks the configured Admitter, and fills in what defaults its changes need.
func (r *Registry) admit(ctx context.Context, req Request) error {
	if r.cfg.Admitter == nil {
		return nil
	}
	if err := r.cfg.Admitter.Admit(ctx, req); err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return err
		}
		return apierrors.NewForbidden(groupResource(req.Kind), req.Name, err)
	}
	if req.Object != nil && req.Subresource == "" && req.Kind.Default != nil {
		req.Kind.Default(req.Object)
	}
	return nil
}
